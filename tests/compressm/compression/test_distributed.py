"""Two processes train one model, with batches of their own, and cut it as if they were one."""

import os
import sys
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from compressm import Compressor, Every, KeepEnergy, Rollback, States, compress_
from compressm.compression.distributed import rewrap_
from tests.compressm.helpers import is_unchanged, model_of, parameters_of, without_norm
from tests.compressm.two_processes import joined, results_of

STEPS, CUTS = 7, Every(2, stop=4)


def batch(rank, step):
    generator = torch.Generator().manual_seed(100 * rank + step)
    target = torch.randint(0, 3, (6,), generator=generator)
    u = torch.randn(6, 20, 2, generator=generator) * (1 + 3 * rank)
    return u, target


def train(model, make, ranks, steps=STEPS, start=0, **options):
    """What was cut, and the parameters after each step: of one process, for some ranks' batches."""
    optimizer = make(model.parameters())
    compressor = Compressor(model, optimizer, **{"schedule": CUTS, **options})
    events, parameters = [], [parameters_of(model)]
    for step in range(start, start + steps):
        for rank in ranks:
            u, target = batch(rank, step)
            (cross_entropy(model(u), target) / len(ranks)).backward()
        optimizer.step()
        optimizer.zero_grad()
        event = compressor.step()
        if event:
            events.append(cuts_of(event))
        parameters.append(parameters_of(model))
    return events, parameters


def cuts_of(event):
    return [(cut.before, cut.after, cut.skipped, torch.tensor(cut.hsv)) for cut in event.layers]


adamw = partial(torch.optim.AdamW, lr=1e-2)
sgd = partial(torch.optim.SGD, lr=1e-2)


# ------------------------------------------------------------------ what each process runs


def wrapped(options, layer="lru", **cut):
    def run(rank):
        return train(
            DistributedDataParallel(model_of(layer=layer), **options), adamw, [rank], **cut
        )

    return run


def observed(gramians):
    def run(rank):
        model = DistributedDataParallel(without_norm())
        return train(model, sgd, [rank], policy=States(6), gramians=gramians)

    return run


def disagreeing(rank):
    """Errors of a policy that fails, of other steps, of other shapes; then all goes well."""

    def failing(hsv, stored):
        raise RuntimeError("no idea")

    model = DistributedDataParallel(model_of())
    optimizer = adamw(model.parameters())
    messages, before = [], parameters_of(model)
    for policy, steps in ((failing, 0), (States(6), rank)):
        compressor = Compressor(model, optimizer, policy=policy, schedule=Every(1))
        compressor.load_state_dict({"steps": steps})
        with pytest.raises(RuntimeError) as error:
            compressor.step()
        messages.append(str(error.value))
    unequal = DistributedDataParallel(without_norm())
    if rank == 1:
        compress_(unequal.module, States(6))
    with pytest.raises(RuntimeError) as error:
        Compressor(unequal, policy=States(6), schedule=Every(1)).step()
    messages.append(str(error.value))
    same = is_unchanged(model, before)
    return messages, same, train(model, adamw, [rank], policy=States(6))


def by_hand(rank):
    model = DistributedDataParallel(model_of())
    policy = States(16)
    first = train(model, adamw, [rank], steps=2, policy=policy)[1]
    compress_(model.module, States(6))
    assert rewrap_(model) is model
    return [], first + train(model, adamw, [rank], steps=3, policy=policy)[1][1:]


def sharded(rank):
    """Errors at wrappers that split a model, or hide it."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    hooked = DistributedDataParallel(model_of())
    hooked.register_comm_hook(None, fp16_compress_hook)
    group = DistributedDataParallel(model_of(), process_group=dist.new_group([0, 1]))
    models = {
        "fully_shard": fully_shard(model_of(), mesh=dist.init_device_mesh("cpu", (2,))),
        "FullyShardedDataParallel": FullyShardedDataParallel(model_of(), device_id="cpu"),
        "inside": nn.Sequential(DistributedDataParallel(model_of())),
        "static": DistributedDataParallel(model_of(), static_graph=True),
        "hook": hooked,
        "group": group,
    }
    messages = {}
    for name, model in models.items():
        with pytest.raises(ValueError) as error:
            Compressor(model, policy=States(6), schedule=Every(1))
        messages[name] = str(error.value)
    return messages


def of_lightning(rank):
    """The callback hands over the wrapper that the strategy made."""
    import lightning.pytorch as pl
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment

    from compressm.integrations.lightning import CompressionCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.snapshots = model_of(), []

        def training_step(self, step, batch_idx):
            self.snapshots.append(parameters_of(self))
            u, target = batch(rank, int(step))
            return cross_entropy(self.model(u), target)

        def configure_optimizers(self):
            return adamw(self.parameters())

        def train_dataloader(self):
            return torch.arange(2 * STEPS)  # of which each rank gets every second

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    callback = CompressionCallback(policy=KeepEnergy(0.9), schedule=CUTS, gramians="input")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        plugins=[TorchElasticEnvironment()],
        max_steps=STEPS,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Module()
    trainer.fit(module)
    return [cuts_of(event) for event in callback.events], module.snapshots


def taken_back(rank):
    """The metric is that of the first rank, and the other's would say otherwise."""
    rollback = Rollback(lambda m: m.blocks[0].layer.d_state * (1 - rank), 0, window=2)
    model = DistributedDataParallel(model_of())
    options = {"policy": States(6), "schedule": Every(2, stop=2), "rollback": rollback}
    return train(model, adamw, [rank], **options)


RUNS = {
    "plain": wrapped({}, policy=States(6)),
    "energy": wrapped({}, policy=KeepEnergy(0.9), gramians="input"),
    "views": wrapped({"gradient_as_bucket_view": True}, policy=States(6)),
    "unused": wrapped({"find_unused_parameters": True}, policy=States(6)),
    "mamba": wrapped({}, layer="mamba", policy=States(6)),
    "input": observed("input"),
    "data": observed("data"),
    "at hand": observed(None),
    "taken back": taken_back,
    "by hand": by_hand,
    "disagreeing": disagreeing,
    "sharded": sharded,
    "lightning": of_lightning,  # last, as it takes the processes over
}


def main(rank, folder, job):
    with joined(rank, folder, job) as save:
        save({name: run(int(rank)) for name, run in RUNS.items()})


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what the runs gave on each of the two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    return results_of("tests.compressm.compression.test_distributed", folder)


# ------------------------------------------------------------------ what must hold


def assert_one_run(first, second):
    """Equal bits on both ranks after each step; all parameters moved in each."""
    (events, parameters), (others, other_parameters) = first, second
    assert [[cut[:3] for cut in e] for e in events] == [[cut[:3] for cut in e] for e in others]
    for step, (mine, theirs) in enumerate(zip(parameters, other_parameters, strict=True)):
        assert all(map(torch.equal, mine.values(), theirs.values())), step
    for before, after in zip(parameters, parameters[1:], strict=False):
        for p, q in zip(before.values(), after.values(), strict=True):
            assert p.shape != q.shape or (p != q).any()
            assert torch.isfinite(q).all()


@pytest.mark.parametrize("name", ["plain", "energy", "views", "unused", "mamba", "lightning"])
def test_both_ranks_make_the_same_cuts_and_go_on_alike(ranks, name):
    first, second = (rank[name] for rank in ranks)
    assert_one_run(first, second)
    events = first[0]
    assert len(events) == 2 and not any(cut[2] for event in events for cut in event)
    assert all(cut[1] < cut[0] == 16 for cut in events[0])


@pytest.mark.parametrize("name, gramians", [("input",) * 2, ("data",) * 2, ("at hand", "input")])
def test_what_both_observe_counts_as_if_one_process_had(ranks, name, gramians):
    events, parameters = ranks[0][name]
    assert_one_run(*(rank[name] for rank in ranks))
    alone, expected = train(without_norm(), sgd, [0, 1], policy=States(6), gramians=gramians)
    for event, other in zip(events, alone, strict=True):
        for cut, own in zip(event, other, strict=True):
            assert cut[:3] == own[:3]
            torch.testing.assert_close(cut[3], own[3], rtol=1e-3, atol=1e-6)
    last, alone = parameters[-1].values(), expected[-1].values()
    for p, q in zip(last, alone, strict=True):  # and gradients are averaged still
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_all_ranks_take_a_cut_back_where_the_first_does(ranks):
    assert_one_run(*(rank["taken back"] for rank in ranks))
    events, parameters = ranks[0]["taken back"]
    assert [[cut[:2] for cut in event] for event in events] == [[(16, 6)] * 2, [(6, 16)] * 2]
    assert [p.shape for p in parameters[4].values()] == [p.shape for p in parameters[1].values()]


def test_a_model_compressed_by_hand_trains_on_once_rewrapped(ranks):
    assert_one_run(*(rank["by hand"] for rank in ranks))
    first, last = (ranks[0]["by hand"][1][k] for k in (0, -1))
    assert any(p.shape != q.shape for p, q in zip(first.values(), last.values(), strict=True))


def test_all_ranks_refuse_where_one_cannot(ranks):
    (own, same, run), (told, others_same, other_run) = (rank["disagreeing"] for rank in ranks)
    assert own[0] == "no idea" and "first rank failed" in told[0]
    assert "no idea" in told[0]
    for messages in (own, told):
        assert "at steps [1, 2]" in messages[1] and "differ in shape" in messages[2]
    assert same and others_same
    assert_one_run(run, other_run)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fully_shard", "is sharded"),
        ("FullyShardedDataParallel", "is sharded"),
        ("inside", "pass the DistributedDataParallel itself"),
        ("static", "static_graph"),
        ("hook", "a communication hook"),
        ("group", "a process group other than the default"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(ranks, name, reason):
    assert reason in ranks[0]["sharded"][name] and reason in ranks[1]["sharded"][name]


if __name__ == "__main__":
    main(*sys.argv[1:])
