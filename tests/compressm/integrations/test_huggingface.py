"""The callback of transformers: steps of the optimizer, and checkpoints that need nothing more."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from compressm import CheckpointError, Every, KeepEnergy, Rollback, SequenceModel, States
from compressm.integrations.huggingface import CompressionCallback
from tests.compressm.helpers import is_unchanged, parameters_of


class Classifier(nn.Module):
    """A model as the trainer wants it: it returns its loss."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.model = SequenceModel(2, 3, d_model=4, d_state=16, n_layers=2, dropout=0.0)
        self.snapshots = []

    def forward(self, u, labels):
        self.snapshots.append([p.detach().clone() for p in self.parameters()])
        logits = self.model(u)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def data(n=48):
    generator = torch.Generator().manual_seed(1)
    u, labels = torch.randn(n, 20, 2, generator=generator), torch.arange(n) % 3
    return [{"u": u[i], "labels": labels[i]} for i in range(n)]


def trainer_of(folder, model, callback, **options):
    defaults = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    arguments = transformers.TrainingArguments(str(folder), **{**defaults, **options})
    return transformers.Trainer(model, arguments, train_dataset=data(), callbacks=[callback])


def losses(trainer):
    return {x["step"]: x["loss"] for x in trainer.state.log_history if "loss" in x}


def test_it_steps_with_the_optimizer_and_logs_what_it_did(tmp_path):
    model = Classifier()
    callback = CompressionCallback(policy=States(6), schedule=Every(2, stop=2))
    trainer = trainer_of(tmp_path, model, callback, gradient_accumulation_steps=3)
    trainer.train()
    assert trainer.state.global_step == 4  # of 12 batches
    (event,) = callback.events
    assert event.step == 2 and [(c.after, c.skipped) for c in event.layers] == [(6, None)] * 2
    assert [cut.gramians for cut in event.layers] == ["input"] * 2
    (entry,) = [x for x in trainer.state.log_history if "model.blocks.0.layer/states" in x]
    assert entry["step"] == 2 and entry["model.blocks.1.layer/states"] == 6
    assert entry["model.blocks.1.layer/energy_kept"] == event.layers[1].energy_kept
    shapes = [[p.shape for p in snapshot] for snapshot in model.snapshots]
    assert shapes[5] == shapes[0] and shapes[6] != shapes[5] and shapes[11] == shapes[6]
    before, after = model.snapshots[6], model.snapshots[9]
    assert all((p != q).any() for p, q in zip(before, after, strict=True))


def whole_and_resumed(folder, callback):
    """The model of a whole run and the events of both, whose ends are equal."""

    def parts(seed, **options):
        model, own = Classifier(seed), callback()
        return model, own, trainer_of(folder, model, own, **options)

    whole, first, trainer = parts(0, save_strategy="steps", save_steps=4)
    trainer.train()
    resumed, second, other = parts(1)
    other.train(resume_from_checkpoint=str(folder / "checkpoint-4"))
    assert list(map(str, second.events)) == list(map(str, first.events[1:]))
    assert losses(other) == losses(trainer)
    assert is_unchanged(resumed, parameters_of(whole))
    return whole, first.events, parts


def test_a_checkpoint_of_a_compressed_model_resumes_to_the_same_run(tmp_path):
    def callback():
        return CompressionCallback(policy=KeepEnergy(0.9), schedule=Every(3, stop=9))

    whole, events, _ = whole_and_resumed(tmp_path, callback)
    assert [event.step for event in events] == [3, 6, 9]
    assert whole.model.blocks[0].layer.d_state < 16


@pytest.mark.parametrize(("world_size", "n_gpu"), [(2, 1), (1, 4)])
def test_several_processes_are_refused(world_size, n_gpu):
    arguments = SimpleNamespace(world_size=world_size, n_gpu=n_gpu)
    callback = CompressionCallback(policy=States(6), schedule=Every(2))
    with pytest.raises(ValueError, match=f"got {world_size} processes with {n_gpu} devices"):
        callback.on_train_begin(arguments, None, None, model=Classifier())


def test_a_cut_is_taken_back_also_by_a_run_that_resumes_within_the_window(tmp_path):
    def callback():
        rollback = Rollback(lambda m: m.model.blocks[0].layer.d_state, 0, window=3)
        return CompressionCallback(policy=States(6), schedule=Every(3, stop=6), rollback=rollback)

    _, events, parts = whole_and_resumed(tmp_path, callback)
    assert [(event.step, event.layers[0].after) for event in events] == [(3, 6), (6, 16)]
    (tmp_path / "checkpoint-4" / "compressor.safetensors").unlink()
    _, _, trainer = parts(1)
    with pytest.raises(CheckpointError, match="there is no file"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
