"""kill -9 in a step, in a cut, in a checkpoint: the run that resumes repeats the one that lived.

Run as a script, this trains; an environment variable says where it kills itself.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from compressm import (
    LRU,
    Compressor,
    Every,
    KeepEnergy,
    Rollback,
    SequenceModel,
    States,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from compressm.ops import resize
from compressm.systems.find import compressible_layers

ROOT = Path(__file__).resolve().parents[3]
STEPS = 12


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train(folder, fault):
    """Twelve steps, cuts after 4 and 8, the second taken back, a checkpoint every third."""
    path, log = folder / "run.safetensors", folder / "log"
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(int(path.exists()))  # what was saved must decide, not the seed
    model = SequenceModel(2, 3, d_model=4, d_state=16, n_layers=2, dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    compressor = Compressor(
        model,
        optimizer,
        policy=KeepEnergy(0.8),
        schedule=Every(4, stop=8),
        gramians="input",
        rollback=Rollback(lambda m: -float(compressor_steps() > 8), 0.5, window=3),
    )

    def compressor_steps():
        return compressor._steps

    first = 0
    if path.exists():
        extra = load_checkpoint(path, model, optimizer, compressor)
        first = extra["step"]
        scheduler.load_state_dict(extra["scheduler"])
        set_random_state(extra["random"])
    for step in range(first + 1, STEPS + 1):
        if (fault, step) == ("step", 7):
            next(model.parameters()).register_hook(lambda gradient: die())
        cross_entropy(model(torch.randn(8, 20, 2)), torch.randint(3, (8,))).backward()
        loss = cross_entropy(model(torch.randn(8, 20, 2)), torch.randint(3, (8,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if (fault, step) in (("cut", 8), ("rollback", 11)):
            kill_after(resize, "resize_", 3, ("compressm.layers.lru", "compressm.ops.resize"))
        compressor.step()
        sizes = [layer.d_state for _, layer in compressible_layers(model)]
        with log.open("a") as file:
            file.write(json.dumps([step, loss.item(), sizes]) + "\n")
        if step % 3 == 0:
            if (fault, step) == ("checkpoint", 9):
                os.fsync = lambda descriptor: (os.ftruncate(descriptor, 1000), die())
            if (fault, step) == ("rename", 9):
                os.replace = lambda *paths: die()
            extra = {"step": step, "scheduler": scheduler.state_dict(), "random": random_state()}
            save_checkpoint(path, model, optimizer, compressor, extra)


def kill_after(module, name, calls, users):
    """Let a function of a module run so often, and die in the next call."""
    original, left = getattr(module, name), iter(range(calls))

    def deadly(*args):
        if next(left, None) is None:
            die()
        return original(*args)

    for user in users:
        setattr(sys.modules[user], name, deadly)


def run(folder, fault=""):
    return subprocess.run(
        [sys.executable, "-m", "tests.compressm.compression.test_faults", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "FAULT": fault, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )


def logged(folder):
    """The last line that was written of each step."""
    lines = map(json.loads, (folder / "log").read_text().splitlines())
    return {step: (loss, sizes) for step, loss, sizes in lines}


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """Return the log of a run that nothing happened to, and its last checkpoint."""
    folder = tmp_path_factory.mktemp("unharmed")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return logged(folder), (folder / "run.safetensors").read_bytes()


def test_the_run_is_cut_and_a_cut_is_taken_back(unharmed):
    sizes = [unharmed[0][step][1] for step in (3, 4, 8, 11)]
    assert sizes[0] == [16, 16] and sum(sizes[1]) < 32
    assert sum(sizes[2]) < sum(sizes[1]) and sizes[3] == sizes[1]


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        pytest.param("step", 7, marks=pytest.mark.slow),
        ("cut", 8),
        pytest.param("rollback", 11, marks=pytest.mark.slow),
        pytest.param("checkpoint", 9, marks=pytest.mark.slow),
        pytest.param("rename", 9, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_bit(tmp_path, unharmed, fault, at):
    assert run(tmp_path, fault).returncode == -signal.SIGKILL
    assert max(logged(tmp_path)) == (at if fault in ("checkpoint", "rename") else at - 1)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    log, weights = unharmed
    assert logged(tmp_path) == log
    assert (tmp_path / "run.safetensors").read_bytes() == weights
    assert sorted(os.listdir(tmp_path)) == ["log", "run.safetensors"]


# ------------------------------------------------------------------ a layer that cannot be reduced


class Unstable(LRU):
    """One pole is outside the unit circle, as far as anybody can read."""

    def to_lti(self, conjugate=True):
        system = super().to_lti(conjugate)
        system.poles[0] *= 2
        return system


def with_nan(layer):
    layer.B.data[0] = torch.nan


def with_infinity(layer):
    layer.theta_log.data[0] = torch.inf


def unstable(layer):
    layer.__class__ = Unstable


class Coarse(LRU):
    """Cannot hold what it is given to more than a percent."""

    def load_lti_(self, system, optimizer=None):
        super().load_lti_(system, optimizer)
        self.C.data *= 1.01


def coarse(layer):
    layer.__class__ = Coarse


@torch.no_grad()
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (with_nan, "B has 4 entries that are not finite; go back to a checkpoint"),
        (with_infinity, "not finite"),
        (unstable, "1 of 16 poles are unstable"),
        (coarse, "it would differ from the reduced system"),
    ],
)
def test_a_layer_that_fails_is_named_and_the_rest_is_cut(harm, reason):
    torch.manual_seed(0)
    model = nn.ModuleList([LRU(2, 16), LRU(2, 16)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    compressor = Compressor(model, optimizer, policy=States(4), schedule=Every(1))
    harm(model[0])
    before = [p.clone() for p in model[0].parameters()]
    first, second = compressor.step().layers
    assert (first.name, first.before, first.after) == ("0", 16, 16)
    assert re.search(reason, first.skipped)
    assert (second.before, second.after, second.skipped) == (16, 4, None)
    for p, q in zip(model[0].parameters(), before, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0, equal_nan=True)
    with torch.enable_grad():
        model[1](torch.randn(2, 9, 2)).square().mean().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model[1].parameters())


if __name__ == "__main__":
    train(Path(sys.argv[1]), os.environ["FAULT"])
