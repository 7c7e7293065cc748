"""What every layer has in common: state dicts of another number of states, compiled steps."""

import copy

import pytest
import torch
from torch import nn

import lti
from compressm import DSS, LRU, LSSL, S4, S4D, S5, SequenceModel, frozen
from compressm.models import LAYERS
from tests.compressm.helpers import is_unchanged, parameters_of


def test_d_state_is_read_from_the_parameters():
    layer = LRU(3, 12)
    assert layer.d_state == 12
    layer.load_state_dict(LRU(3, 5).state_dict())
    assert layer.d_state == 5


def test_a_layer_inside_a_model_is_named_where_its_parameters_disagree():
    layer, saved = LRU(3, 12), LRU(3, 5).state_dict()
    saved["nu_log"] = torch.zeros(6)
    before = parameters_of(layer)
    message = r"parameters of 0 disagree on the number of states.*'B': 5"
    with pytest.raises(lti.DimensionError, match=message):
        nn.Sequential(layer).load_state_dict({f"0.{k}": v for k, v in saved.items()})
    assert is_unchanged(layer, before)


@pytest.mark.parametrize("change", ["d_model", "missing"])
def test_other_mismatches_are_torch_errors(change):
    layer = LRU(3, 12)
    saved = LRU(4 if change == "d_model" else 3, 5).state_dict()
    if change == "missing":
        del saved["gamma_log"]
    nu_log = layer.nu_log.detach().clone()
    with pytest.raises(RuntimeError, match="size mismatch for C"):
        layer.load_state_dict(saved)
    assert layer.d_state == 12 and torch.equal(layer.nu_log, nu_log)


def test_a_copy_resizes_itself_and_not_the_original():
    layer = LRU(3, 12)
    clone = copy.deepcopy(layer)
    clone.load_state_dict(LRU(3, 4).state_dict())
    assert (clone.d_state, layer.d_state) == (4, 12)


@pytest.mark.parametrize("make", [LRU, S5])
def test_a_state_of_another_shape_is_refused(make):
    layer, u = make(3, 4), torch.randn(2, 5, 3)
    for shape in ((2, 1), (1, 4), (2, 3, 4), (4,)):
        state = torch.zeros(shape, dtype=torch.cfloat)
        for call in (lambda s: layer(u, s), lambda s: layer.step(u[:, 0], s)):
            with pytest.raises(lti.DimensionError, match=r"\(batch, d_state\) = \(2, 4\), got"):
                call(state)


def dtypes_of(module):
    tensors = (*module.parameters(), *module.buffers())
    return {x.dtype for x in tensors if x.is_floating_point()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [LRU, S5, S4D, S4, DSS, LSSL])
def test_a_model_in_half_precision_keeps_its_recurrences(kind, dtype):
    torch.manual_seed(0)
    layer, u = kind(4, 8), torch.randn(2, 5, 4).to(dtype)
    for one in (layer, frozen(layer)):
        model = nn.Sequential(nn.Linear(4, 4), one, nn.Linear(4, 3)).to(dtype)
        assert dtypes_of(one) == {torch.float32}
        assert dtypes_of(model[0]) == dtypes_of(model[2]) == {dtype}
        y = one(u)
        assert y.dtype == model(u).dtype == dtype and torch.equal(y, one(u.float()).to(dtype))
        assert one.step(u[:, 0])[0].dtype == dtype and one.step(u[:, 0])[1].dtype != dtype
        model.to("meta", dtype)
        assert {x.device.type for x in (*one.parameters(), *one.buffers())} == {"meta"}
        layer = kind(4, 8)
    assert layer.double().D.dtype == torch.float64


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [LRU, S5, S4D, S4, DSS, LSSL])
def test_parameters_saved_in_half_precision_are_loaded_in_single(kind, dtype, assign):
    torch.manual_seed(0)
    u = torch.randn(2, 5, 4)
    for layer in (kind(4, 8), frozen(kind(4, 8))):
        model = nn.Sequential(nn.Linear(4, 4), layer)
        saved = {  # as other programs cast it
            name: x.to(dtype) if x.is_floating_point() else x
            for name, x in model.state_dict().items()
        }
        model.load_state_dict(saved, assign=assign)
        assert dtypes_of(layer) == {torch.float32} and layer(u).isfinite().all()
        assert dtypes_of(model[0]) == {dtype if assign else torch.float32}
        assert all(x.dtype != torch.float32 for x in saved.values())
        with pytest.raises(RuntimeError, match=r"Unexpected key.*\n?.*1.more"):
            model.load_state_dict({**saved, "1.more": u.to(dtype)}, assign=assign)


@pytest.mark.parametrize("layer", ["lru", "s4", "mamba"])
def test_a_sequence_model_in_half_precision_runs(layer):
    model = SequenceModel(1, 2, 4, 8, 2, layer=layer).to(torch.bfloat16)
    kept = {torch.bfloat16 if layer == "mamba" else torch.float32}
    assert dtypes_of(model.blocks[0].layer) == kept and dtypes_of(model.head) == {torch.bfloat16}
    assert model(torch.randn(2, 5, 1, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [LRU, S5, S4D, S4, DSS, LSSL])
def test_half_precision_is_refused_as_the_default_dtype(kind, dtype):
    torch.set_default_dtype(dtype)
    try:
        with pytest.raises(lti.OptionError, match=f"{kind.__name__} .*the default dtype {dtype}"):
            kind(4, 8)
    finally:
        torch.set_default_dtype(torch.float32)


QUICK = ("lru", "s4")


@pytest.mark.parametrize("grad", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize(
    "layer", [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in sorted(LAYERS)]
)
def test_a_step_compiles_whole(layer, grad):
    torch.manual_seed(0)
    layer, u = LAYERS[layer](4, 8), torch.randn(2, 4)
    torch.compiler.reset()
    with torch.set_grad_enabled(grad):
        state = layer.initial_state(2)
        compiled = torch.compile(layer.step, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(u, state)[0], layer.step(u, state)[0], atol=1e-6)
