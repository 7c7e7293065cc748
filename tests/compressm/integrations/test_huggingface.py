"""The callback of transformers: steps of the optimizer, and checkpoints that need nothing more."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy

from compressm import CheckpointError, Every, KeepEnergy, Rollback, SequenceModel, States
from compressm.integrations.huggingface import CompressionCallback
from compressm.systems.find import selective_layers, stored_states
from tests.compressm.helpers import is_unchanged, parameters_of
from tests.compressm.selective_layers import language_model


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
    return transformers.Trainer(
        model, arguments, train_dataset=data(), eval_dataset=data(6), callbacks=[callback]
    )


def losses(trainer):
    return {x["step"]: x["loss"] for x in trainer.state.log_history if "loss" in x}


def test_it_steps_with_the_optimizer_and_logs_what_it_did(tmp_path):
    model = Classifier()
    callback = CompressionCallback(
        policy=States(6),
        schedule=lambda step: step in (2, 5),  # the last would come after the end
    )
    trainer = trainer_of(tmp_path, model, callback, gradient_accumulation_steps=3)
    trainer.train()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
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


class Foreign(nn.Module):
    """A model with a layer of transformers, whose loss the test sets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = transformers.MambaConfig(
            vocab_size=8, hidden_size=4, state_size=6, num_hidden_layers=2
        )
        self.backbone, self.head = transformers.MambaModel(config), nn.Linear(4, 3)

    def forward(self, u, labels):
        y = self.backbone(inputs_embeds=torch.cat([u, u], -1)).last_hidden_state
        logits = self.head(y.mean(1))
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def sizes(model):
    return [stored_states(layer) for _, layer in selective_layers(model)]


def test_a_foreign_model_resumes_at_its_sizes(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "seed": 1}
    first = trainer_of(tmp_path, Foreign(), two_states(), **options)
    first.train()
    second = trainer_of(tmp_path / "again", Foreign(), two_states(), **options)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert sizes(first.model) == sizes(second.model) == [2, 2]
    for x, y in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize("best, expected", [(2, [6, 6]), (8, [2, 2])])
def test_the_best_foreign_model_is_loaded_whatever_its_size(tmp_path, best, expected):
    trainer = trainer_of(
        tmp_path, Foreign(), two_states(), save_strategy="steps", save_steps=2, max_steps=8,
        eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
        metric_for_best_model="score", greater_is_better=True,
    )  # fmt: skip
    trainer.compute_metrics = lambda _: {"score": float(trainer.state.global_step == best)}
    trainer.train()
    assert sizes(trainer.model) == expected
    assert trainer.model(**{k: v[None] for k, v in data(1)[0].items()})["loss"].isfinite()


@pytest.mark.parametrize(
    "name", ["Mamba2", *(pytest.param(x, marks=pytest.mark.slow) for x in ("Mamba", "FalconMamba"))]
)
def test_a_model_of_transformers_resumes_and_ends_with_the_best(tmp_path, name):
    """The model itself is trained, whose configuration follows the sizes, up and down."""

    def train(folder, resume=None, **options):
        model = language_model(name)
        trainer = trainer_of(
            folder, model, two_states(), save_strategy="steps", save_steps=2, max_steps=6, seed=1,
            eval_strategy="steps", eval_steps=2, **options,
        )  # fmt: skip
        text = [{"input_ids": row, "labels": row} for row in torch.arange(240).reshape(24, 10) % 11]
        trainer.train_dataset, trainer.eval_dataset = text, text[:2]
        trainer.compute_metrics = lambda _: {"score": float(trainer.state.global_step == 2)}
        trainer.train(resume_from_checkpoint=resume)
        return model

    whole = train(tmp_path)
    resumed = train(tmp_path / "again", str(tmp_path / "checkpoint-4"))
    assert sizes(whole) == sizes(resumed) == [2, 2] and whole.config.state_size == 2
    assert is_unchanged(resumed, parameters_of(whole))
    best = train(
        tmp_path / "best", load_best_model_at_end=True,
        metric_for_best_model="score", greater_is_better=True,
    )  # fmt: skip
    assert sizes(best) == [6, 6] and best.config.state_size == 6


def two_states():
    return CompressionCallback(policy=States(2), schedule=Every(3, stop=3))
