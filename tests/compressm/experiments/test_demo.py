"""The three runs of the demo, and the loop of the examples."""

import subprocess
import sys
from pathlib import Path

import pytest

from compressm.experiments.demo import demo
from tests.compressm.experiments.helpers import TINY


def test_demo_composes_three_runs(slopes):
    seen = []
    full, compressed, small = demo(slopes, TINY, seed=2, on_step=lambda step: seen.append(step.run))
    assert [r.name for r in (full, compressed, small)] == list(dict.fromkeys(seen))
    assert len(seen) == 3 * TINY.steps
    assert full.orders == (12, 12) and not full.events
    assert len(compressed.events) == TINY.cuts
    assert full.history[0].accuracy == compressed.history[0].accuracy
    assert all(2 <= order < 12 for order in compressed.orders)
    assert small.orders == (round(sum(compressed.orders) / 2),) * 2 and not small.events


@pytest.mark.slow
def test_the_plain_loop_of_the_examples():
    script = Path(__file__).resolve().parents[3] / "examples" / "plain_loop.py"
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *cuts, last = done.stdout.splitlines()
    assert len(cuts) == 3 and all("->" in cut and "skipped" not in cut for cut in cuts)
    assert float(last.partition("%")[0]) > 95
