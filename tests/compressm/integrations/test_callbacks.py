"""What the callbacks of all trainers share: options are checked when they are given."""

import pytest
import torch

from compressm import Every, States
from compressm.integrations.callbacks import Deferred
from tests.compressm.helpers import model_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiple_of": 0}, "multiple_of"),
        ({"schedule": 100}, "when to cut"),
        ({"policy": 0.9}, "how far to cut"),
        ({"gramians": "exact"}, "gramians must be"),
        ({"system": "imaginary"}, "'real' or 'complex'"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        Deferred(**{"policy": States(6), "schedule": Every(2)} | options)


def test_events_are_kept_and_all_options_reach_the_compressor():
    model = model_of()
    callback = Deferred(policy=States(6), schedule=Every(2), gramians="model", conjugate=False)
    compressor = callback._build(model, torch.optim.SGD(model.parameters(), 1e-2))
    assert callback._step(compressor) is None and not callback.events
    event = callback._step(compressor)
    assert callback.events == [event]
    # a complex system stores each of its states: order and stored states agree
    assert [(cut.after, cut.order, cut.gramians) for cut in event.layers] == [(6, 6, "model")] * 2
