"""A sharded job is cut at a checkpoint of torch.distributed.checkpoint, and restarted."""

import sys

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import fully_shard

from compressm import KeepEnergy, compress_
from tests.compressm.helpers import model_of
from tests.compressm.two_processes import joined, results_of

STEPS = 3


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 20, 2, generator=generator)


def train(model, start):
    """Losses of some steps; both processes have the same batches, so one alone has the same."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for step in range(start, start + STEPS):
        loss = model(batch(step)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def job(folder, part, d_state):
    """One start of the job, in each of two processes."""
    model = model_of(seed=part, d_state=d_state)
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))
    if part:
        state = {"model": get_model_state_dict(model)}
        dcp.load(state, checkpoint_id=f"{folder}/small")
        set_model_state_dict(model, state["model"])
    losses = train(model, part * STEPS)
    if not part:
        dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=f"{folder}/large")
    return losses


def main(rank, folder, part, d_state):
    with joined(rank, folder, part) as save:
        save(job(folder, int(part), int(d_state)))


def start(folder, part, d_state):
    """The losses that the two processes of a job have seen."""
    first, second = results_of(
        "tests.compressm.checkpoints.test_sharded", folder, d_state, job=str(part)
    )
    assert first == second
    return first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is")
def test_a_sharded_job_is_cut_at_a_checkpoint_and_restarted(tmp_path):
    alone = model_of()
    assert start(tmp_path, 0, 16) == pytest.approx(train(alone, 0), rel=1e-5)

    model = model_of(seed=5)
    state = {"model": model.state_dict()}
    dcp.load(state, checkpoint_id=tmp_path / "large", no_dist=True)
    model.load_state_dict(state["model"])
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6)
    event = compress_(model, KeepEnergy(0.9), uniform=True)
    n = event.layers[0].after
    assert n < 16
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "small", no_dist=True)

    losses = start(tmp_path, 1, n)
    assert losses == pytest.approx(train(model, STEPS), rel=1e-5)


if __name__ == "__main__":
    main(*sys.argv[1:])
