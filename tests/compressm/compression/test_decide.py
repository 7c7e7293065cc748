"""From the layers of a model to its proposals: each layer by itself, and none half written."""

import math

import pytest
import torch
from torch import nn

from compressm import (
    Compressor,
    Every,
    KeepEnergy,
    Mamba,
    OptionError,
    Policy,
    States,
    UnsupportedLayerError,
    compress_,
    preview,
)
from tests.compressm.helpers import is_unchanged, lru, model_of, parameters_of


def test_layers_end_at_orders_of_their_own():
    model = model_of(d_state=32)
    with torch.no_grad():
        model.blocks[1].layer.B[4:] *= 1e-3  # its other states hardly matter
    first, second = compress_(model, KeepEnergy(0.95)).layers
    assert second.after < first.after < 32


def test_nan_weights_are_skipped_with_the_reason_and_the_rest_is_cut():
    model = model_of()
    with torch.no_grad():
        model.blocks[0].layer.C[0, 0, 0] = math.nan
    before = parameters_of(model)
    first, second = compress_(model, States(4)).layers
    assert first.after == 16 and "C has 1 entries that are not finite" in first.skipped
    assert second.after == 4 and second.skipped is None
    for name, parameter in model.named_parameters():
        if name.startswith("blocks.0"):
            assert torch.equal(parameter.nan_to_num(7), before[name].nan_to_num(7))


def test_a_layer_without_output_is_left_alone():
    layer = lru()
    nn.init.zeros_(layer.C)
    cut = compress_(layer, KeepEnergy(0.9)).layers[0]
    assert cut.after == 24 and "all zero" in cut.skipped


def test_a_layer_used_twice_is_cut_once():
    model = model_of()
    model.blocks[1] = model.blocks[0]
    (cut,) = compress_(model, States(4)).layers
    assert cut.after == 4 and model(torch.randn(1, 5, 2)).shape == (1, 3)


def test_a_policy_that_fails_on_one_layer_leaves_every_layer_as_it_was():
    def policy(hsv, stored, seen=[]):  # noqa: B006
        seen.append(len(hsv))
        if len(seen) == 2:
            raise RuntimeError("no idea")
        return 4

    model = model_of()
    before = parameters_of(model)
    with pytest.raises(RuntimeError, match="no idea"):
        compress_(model, policy)
    assert is_unchanged(model, before)


def test_an_object_that_is_no_optimizer_fails_before_anything_is_written():
    model = model_of()
    before = parameters_of(model)
    with pytest.raises(ValueError, match="must be a torch.optim.Optimizer, or a list"):
        compress_(model, States(4), object())
    assert is_unchanged(model, before)


def test_a_model_without_such_a_layer_says_so():
    model = nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 2))
    for act in (
        lambda: compress_(model, States(2)),
        lambda: preview(model, [States(2)]),
        lambda: Compressor(model, policy=States(2), schedule=Every(1)),
    ):
        with pytest.raises(
            UnsupportedLayerError, match=r"among GRU, Linear, Sequential; docs/adap"
        ):
            act()


@pytest.mark.parametrize("orders", [[3], [3, 3, 3], []])
def test_a_policy_gives_one_order_for_each_layer(orders):
    class Wrong(Policy):
        def orders(self, layers, copy):
            return orders

    with pytest.raises(OptionError, match=f"gave {len(orders)} orders for 2 layers"):
        compress_(model_of(), Wrong())


@pytest.mark.parametrize("order", [-3, 1000, float("nan"), 2.5, None])
def test_a_policy_gives_orders_from_0_to_n(order):
    def wrong(hsv, stored):
        return order

    with pytest.raises(OptionError, match="wrong gave the order .* an integer from 0 to 32"):
        compress_(model_of(), wrong)


def test_a_policy_that_overrides_nothing_says_so():
    class Empty(Policy):
        pass

    with pytest.raises(OptionError, match="Empty overrides none of __call__, order and orders"):
        compress_(model_of(), Empty())


def of_layer(name, what):
    """The reason for a layer at a step whose `what` is not finite."""
    model = nn.Sequential(LAYERS[name]())
    scale = 1e38 if what == "gradient" else 1.0
    compressor = Compressor(model, policy=States(2), schedule=Every(1), gramians="data")
    u = torch.randn(3, 12, 4)
    if what == "input":
        u[1, 2] = math.nan
    (model(u).square().sum() * scale * scale).backward()
    if what == "parameter":
        parameter = next(model.parameters())
        parameter.data.view(-1)[0] = math.nan
    return compressor.step().layers[0].skipped


LAYERS = {"LRU": lru, "Mamba": lambda: Mamba(4, 8)}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "what, reason",
    [
        ("parameter", "has 1 entries that are not finite; go back to a checkpoint with a lower"),
        ("input", "its inputs are not finite; check the data, and the layers before it"),
        ("gradient", "gradients at its output are not finite, as in a step that a GradScaler"),
    ],
)
def test_what_is_not_finite_is_named_with_its_remedy(layer, what, reason):
    assert reason in of_layer(layer, what)


@pytest.mark.parametrize("data", [None, 5, "text", b"text", {"u": torch.zeros(2, 9, 2)}, nn.ReLU()])
def test_what_is_no_iterable_of_batches_is_refused(data):
    for act in (compress_, preview):
        with pytest.raises(OptionError, match="data must be an iterable of batches, got"):
            act(model_of(), data=data)


OLD = {"weight": nn.utils.weight_norm, "spectral": nn.utils.spectral_norm}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("kind", OLD)
def test_an_old_norm_inside_a_layer_is_named_with_its_remedy(kind):
    model = nn.Sequential(Mamba(4, 8), Mamba(4, 8))
    OLD[kind](model[0].in_proj)
    data = [torch.randn(3, 12, 4)]
    first, second = compress_(model, States(2), data=data).layers
    assert f"in_proj.weight has the old {kind} norm; first remove it by" in first.skipped
    assert first.skipped.endswith(f"torch.nn.utils.remove_{kind}_norm") and second.after == 2
    getattr(nn.utils, f"remove_{kind}_norm")(model[0].in_proj)
    assert compress_(model, States(2), data=data).layers[0].after == 2
