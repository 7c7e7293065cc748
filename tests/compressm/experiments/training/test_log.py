"""The log of a run as JSON."""

import json

from compressm import Order
from compressm.experiments.training import run
from tests.compressm.experiments.helpers import TINY


def test_results_survive_json(slopes):
    result = run(slopes, TINY, policy=Order(5), spectra_at=(0,))
    back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert back["orders"] == [5, 5] and back["settings"]["lr"] == TINY.lr
    assert back["events"][0]["layers"][0]["after"] == 5
    assert len(back["events"][0]["layers"][0]["hsv"]) == 24
    assert back["history"][0]["loss"] is None
