"""The callback of Lightning: a step of the optimizer is a step, a checkpoint is a whole run."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers.logger import Logger
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from compressm import Every, KeepEnergy, Rollback, SequenceModel, States, resize_on_load
from compressm.integrations.lightning import CompressionCallback
from tests.compressm.foreign_layers import MinimalLRU
from tests.compressm.helpers import is_unchanged, parameters_of

NOTES = (
    "does not have many workers",
    "Be aware that when using `ckpt_path`",
    "smaller than the logging interval",
    "LeafSpec",
    "resuming from a checkpoint that ended before",
    "is not empty",
)
pytestmark = pytest.mark.filterwarnings(f"ignore:(?s).*({'|'.join(NOTES)})")


class Module(pl.LightningModule):
    """What a user writes; keeps its losses and its parameters after each batch."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.model = SequenceModel(2, 3, d_model=4, d_state=16, n_layers=2, dropout=0.0)
        self.losses, self.snapshots = [], []

    def training_step(self, batch, batch_idx):
        u, target = batch
        loss = cross_entropy(self.model(u), target)
        self.losses.append(loss.item())
        return loss

    def on_train_batch_start(self, batch, batch_idx):
        self.snapshots.append([p.detach().clone() for p in self.parameters()])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Log(Logger):
    """Keeps what it is given."""

    name, version = "log", 0

    def __init__(self):
        super().__init__()
        self.metrics = {}

    def log_metrics(self, metrics, step=None):
        self.metrics.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *args, **kwargs):
        pass


def batches(n):
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(4 * n, 20, 2, generator=generator)
    return DataLoader(TensorDataset(u, torch.randint(0, 3, (4 * n,), generator=generator)), 4)


def fit(module, callback, *more, n_batches=12, ckpt_path=None, log=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=log or False,
        callbacks=[callback, *more],
        enable_checkpointing=bool(more),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )
    trainer.fit(module, batches(n_batches), ckpt_path=ckpt_path)
    return trainer


def saver(folder):
    return pl.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_epochs=1, save_top_k=-1)


def assert_same_end(whole, resumed, first, second):
    """A run of 12 steps, and one resumed after 4: what they cut from then on, and all numbers."""
    assert list(map(str, second.events)) == list(map(str, first.events[1:]))
    assert resumed.losses == whole.losses[4:]
    assert is_unchanged(resumed, parameters_of(whole))


def test_it_steps_with_the_optimizer_and_logs_what_it_did():
    module, log = Module(), Log()
    callback = CompressionCallback(policy=States(6), schedule=Every(2, stop=2))
    trainer = fit(module, callback, log=log, accumulate_grad_batches=3)
    assert trainer.global_step == 4  # of 12 batches
    (event,) = callback.events
    assert event.step == 2 and [(c.after, c.skipped) for c in event.layers] == [(6, None)] * 2
    assert [cut.gramians for cut in event.layers] == ["input"] * 2
    names = [f"model.blocks.{k}.layer" for k in (0, 1)]
    assert [log.metrics[2][f"{name}/states"] for name in names] == [6.0, 6.0]
    kept = [cut.energy_kept for cut in event.layers]
    assert [log.metrics[2][f"{name}/energy_kept"] for name in names] == kept
    shapes = [[p.shape for p in snapshot] for snapshot in module.snapshots]
    assert shapes[5] == shapes[0] and shapes[6] != shapes[5] and shapes[11] == shapes[6]
    before, after = module.snapshots[6], module.snapshots[9]
    assert all((p != q).any() for p, q in zip(before, after, strict=True))


def test_a_module_in_half_precision_trains_through_a_cut():
    module = Module()
    callback = CompressionCallback(policy=States(6), schedule=Every(2, stop=2))
    fit(module, callback, precision="bf16-true", n_batches=4)
    assert [cut.after for cut in callback.events[0].layers] == [6, 6]
    assert {p.dtype for p in module.model.blocks[0].layer.parameters()} == {torch.float32}
    assert module.model.head.weight.dtype == torch.bfloat16
    assert all(p.isfinite().all() for p in module.parameters())


def test_a_checkpoint_of_a_compressed_model_resumes_to_the_same_run(tmp_path):
    def callback():
        return CompressionCallback(policy=KeepEnergy(0.9), schedule=Every(3, stop=9))

    whole, resumed, first, second = Module(), Module(seed=1), callback(), callback()
    fit(whole, first, saver(tmp_path), n_batches=4, max_epochs=3)
    fit(
        resumed,
        second,
        saver(tmp_path),
        n_batches=4,
        max_epochs=3,
        ckpt_path=tmp_path / "step=4.ckpt",
    )
    assert [event.step for event in first.events] == [3, 6, 9]
    assert_same_end(whole, resumed, first, second)
    assert whole.model.blocks[0].layer.d_state < 16


def test_a_second_fit_goes_on_counting():
    module, callback = Module(), CompressionCallback(policy=States(6), schedule=Every(15, stop=15))
    trainer = fit(module, callback)
    assert not callback.events
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, batches(12))
    assert [event.step for event in callback.events] == [15]


def test_several_optimizers_are_refused():
    class Two(Module):
        automatic_optimization = False

        def configure_optimizers(self):
            return [torch.optim.SGD(self.parameters(), 1e-2) for _ in range(2)]

    with pytest.raises(ValueError, match="one optimizer, got 2"):
        fit(Two(), CompressionCallback(policy=States(6), schedule=Every(2)))


def test_a_strategy_that_splits_the_module_is_refused():
    module = Module()
    strategy = type("FSDPStrategy", (), {"model": torch.nn.Sequential(module)})()
    trainer = SimpleNamespace(strategy=strategy, world_size=2, optimizers=[])
    callback = CompressionCallback(policy=States(6), schedule=Every(2))
    with pytest.raises(ValueError, match="got FSDPStrategy"):
        callback.on_fit_start(trainer, module)


def test_a_cut_is_taken_back_also_by_a_run_that_resumes_within_the_window(tmp_path):
    def callback():
        rollback = Rollback(lambda m: m.model.blocks[0].layer.d_state, 0, window=3)
        return CompressionCallback(policy=States(6), schedule=Every(3, stop=6), rollback=rollback)

    whole, resumed, first, second = Module(), Module(seed=1), callback(), callback()
    fit(whole, first, saver(tmp_path), n_batches=4, max_epochs=3)
    fit(
        resumed,
        second,
        saver(tmp_path),
        n_batches=4,
        max_epochs=3,
        ckpt_path=tmp_path / "step=4.ckpt",
    )
    assert [(event.step, event.layers[0].after) for event in first.events] == [(3, 6), (6, 16)]
    assert_same_end(whole, resumed, first, second)


def test_a_second_fit_goes_on_within_the_window():
    module, rollback = Module(), Rollback(lambda m: m.model.blocks[0].layer.d_state, 0, window=3)
    callback = CompressionCallback(policy=States(6), schedule=Every(11, stop=11), rollback=rollback)
    trainer = fit(module, callback)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, batches(12))
    assert [(e.step, e.layers[0].after) for e in callback.events] == [(11, 6), (14, 16)]


class Foreign(Module):
    """The same with a layer of another package."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.model.blocks[0].layer = MinimalLRU(4, 8)

    def test_step(self, batch, batch_idx):
        self.log("loss", cross_entropy(self.model(batch[0]), batch[1]))


def states(module):
    return [len(module.model.blocks[0].layer.nu_log), module.model.blocks[1].layer.d_state]


def four_states(step):
    return CompressionCallback(policy=States(4), schedule=Every(step, stop=step), gramians="model")


def test_foreign_layers_resume_and_are_tested_at_the_sizes_of_a_checkpoint(tmp_path):
    best = pl.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2,
                                        save_top_k=-1)  # fmt: skip
    first = Foreign()
    trainer = fit(first, four_states(5), best, n_batches=8)
    small = states(first)
    assert small < [8, 16]
    resumed = Foreign(seed=1)
    fit(resumed, four_states(5), n_batches=8, ckpt_path=tmp_path / "step=6.ckpt")
    assert states(resumed) == small
    for step, expected in ((4, [8, 16]), (6, small)):  # before the cut, and after it
        trainer.test(first, batches(1), ckpt_path=tmp_path / f"step={step}.ckpt", verbose=False)
        assert states(first) == expected


class Late(Foreign):
    """The same, built where Lightning builds models that are large."""

    def configure_model(self):
        if not isinstance(self.model.blocks[0].layer, MinimalLRU):
            self.model.blocks[0].layer = MinimalLRU(4, 8)

    def __init__(self, seed=0):
        super().__init__(seed)
        self.model.blocks[0].layer = torch.nn.Identity()


def test_foreign_layers_that_are_built_late_resume(tmp_path):
    first, resumed = Late(), Late(seed=1)
    fit(first, four_states(1), saver(tmp_path), n_batches=2)
    (path,) = tmp_path.glob("*.ckpt")
    fit(resumed, four_states(9), n_batches=2, max_epochs=2, ckpt_path=path)
    assert states(resumed) == states(first) < [8, 16]


def test_a_fit_that_ends_or_fails_leaves_no_hook():
    class Fails(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            raise ArithmeticError("diverged")

    module = Module()
    callback = CompressionCallback(
        policy=States(6), schedule=Every(1), rollback=Rollback(lambda module: 1.0, 0)
    )
    fit(module, callback, n_batches=2)
    assert [event.step for event in callback.events] == [1, 2]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    with pytest.raises(ArithmeticError, match="diverged"):
        fit(module, callback, Fails(), n_batches=2)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert callback.state_dict()["rollback"]["pending"] == {} and len(callback.events) == 3


def test_load_from_checkpoint_into_a_model_that_resizes(tmp_path):
    class Ready(Foreign):
        def __init__(self, seed=0):
            super().__init__(seed)
            resize_on_load(self)

    first = Foreign()
    fit(first, four_states(1), saver(tmp_path), n_batches=2)
    (path,) = tmp_path.glob("*.ckpt")
    found = Ready.load_from_checkpoint(path, map_location="cpu")
    assert states(found) == states(first) < [8, 16]
    with pytest.raises(RuntimeError, match="size mismatch"):
        Foreign.load_from_checkpoint(path, map_location="cpu")
