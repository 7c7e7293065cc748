"""Whatever is given, an error is one of compressm's, in a sentence; or there is none."""

import numpy as np
import pytest
import torch
from torch import nn

from compressm import (
    LRU,
    At,
    Budget,
    CompressmError,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    MetricDrop,
    OutputError,
    Rollback,
    States,
    UnsupportedLayerError,
    compress_,
    load_checkpoint,
    save_checkpoint,
)
from compressm.models import LAYERS
from tests.compressm.helpers import model_of, smooth

WRONG = ["a", b"1", None, [1], 1j, object(), np.ones(2), torch.ones(2)]


def number_of(model):
    return 1.0


@pytest.mark.parametrize("wrong", WRONG, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(
    "take",
    [
        KeepEnergy,
        ErrorBound,
        OutputError,
        States,
        Budget,
        lambda x: Budget(fraction=x),
        lambda x: MetricDrop(number_of, x),
        lambda x: Rollback(number_of, x),
        lambda x: Rollback(number_of, 0, window=x),
        At,
        Every,
        lambda x: Every(1, x),
        lambda x: compress_(x),
        lambda x: Compressor(x, schedule=At(1)),
        lambda x: Compressor(nn.Sequential(LRU(1, 2)), schedule=x),
        lambda x: compress_(nn.Sequential(LRU(1, 2)), conjugate=x),
        lambda x: compress_(nn.Sequential(LRU(1, 2)), multiple_of=x),
        lambda x: compress_(nn.Sequential(LRU(1, 2)), uniform=x),
    ],
)
def test_what_is_no_number_is_refused(take, wrong):
    with pytest.raises(CompressmError) as refused:
        take(wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_what_is_a_number_is_taken(number):
    for take in (KeepEnergy, ErrorBound, OutputError, lambda x: Budget(fraction=x)):
        assert take(number) == take(0.5)
    assert Budget(np.int64(3)).total == 3


# ------------------------------------------------------------------ models that are partly code


def scripted(how):
    part = nn.Linear(4, 4)
    part = torch.jit.script(part) if how == "script" else torch.jit.trace(part, torch.ones(2, 4))
    return nn.Sequential(part, LRU(4, 16))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_model_with_a_scripted_part_is_cut(how, tmp_path):
    model, u = scripted(how), smooth(16, 20, 4)
    assert compress_(model, MetricDrop(number_of, 0.1), data=[u], dry_run=True).removed
    optimizer = torch.optim.AdamW(model.parameters())
    fallen = Rollback(lambda model: model[1].d_state, 0, window=1)
    compressor = Compressor(
        model, optimizer, policy=States(4), schedule=At(1), rollback=fallen, gramians="data"
    )
    for n in (4, 16):
        model(u).square().sum().backward()
        optimizer.step()
        compressor.step()
        assert model[1].d_state == n
    save_checkpoint(tmp_path / "run", model, optimizer, compressor)
    load_checkpoint(tmp_path / "run", model, optimizer, compressor)
    with pytest.raises(UnsupportedLayerError, match="found no layer"):
        compress_(model[0])


# ------------------------------------------------------------------ models without numbers


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("data", [(), [torch.ones(16, 9, 2)]], ids=["without", "with"])
def test_a_model_on_the_meta_device_says_so(layer, data):
    with torch.device("meta"):
        model = model_of(layer=layer)
    event = compress_(model, States(4), data=data, dry_run=True)
    assert all("is on the meta device and has no numbers" in cut.skipped for cut in event.layers)
