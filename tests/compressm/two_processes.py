"""A test module as the script of two processes that are joined by gloo."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]


def results_of(module, folder, *arguments, job="job"):
    """What ``module`` saved in ``save(rank, folder, job)`` on each of the two ranks.

    It is run with the rank, the folder, the job, and the other arguments.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(rank), str(folder), job, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=600)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "\n".join(errors)
    return [torch.load(_path(rank, folder, job)) for rank in (0, 1)]


@contextmanager
def joined(rank, folder, job):
    """A function that saves a result, in a process that has joined the other one."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store-{job}"
    dist.init_process_group("gloo", init_method=store, rank=int(rank), world_size=2)
    yield lambda result: torch.save(result, _path(rank, folder, job))
    if dist.is_initialized():
        dist.destroy_process_group()


def _path(rank, folder, job):
    return Path(folder, f"{job}-{rank}.pt")
