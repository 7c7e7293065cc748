"""Frozen models compute what their models compute, in torch, exported, and in onnxruntime."""

import copy

import numpy as np
import pytest
import torch
from torch.export import Dim
from torch.utils._pytree import tree_leaves, tree_map

import lti
from compressm import LRU, S4D, States, Step, compress_, frozen, linear_ssm
from compressm.layers import Frozen, SSMLayer
from compressm.layers import frozen as module
from compressm.models import LAYERS
from tests.compressm.helpers import is_unchanged, lru, model_of, parameters_of

EACH_LAYER = pytest.mark.parametrize("layer", sorted(LAYERS))
EACH_CUT = pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])


def served(layer, cut, **options):
    """A model in evaluation mode, with statistics as after training."""
    model = model_of(layer=layer, pool="none", d_state=8, **options)
    model(torch.randn(2, 60, 2))
    model.eval()
    if cut:
        data = [torch.randn(2, 60, 2)] if layer == "mamba" else ()
        compress_(model, States(3), data=data)
    return model


def close(y, exact, relative=1e-5):
    y, exact = (torch.as_tensor(x).detach().double() for x in (y, exact))
    return (y - exact).abs().max() < relative * exact.abs().max()


# ------------------------------------------------------------------ in torch


@EACH_LAYER
@EACH_CUT
def test_a_frozen_model_computes_the_same(layer, cut):
    model, u = served(layer, cut), torch.randn(3, 100, 2)
    before = parameters_of(model)
    constants = frozen(model)
    assert close(constants(u), model(u))
    assert not any(isinstance(x, SSMLayer) for x in constants.modules())
    assert is_unchanged(model, before)
    y, state = [], None
    for t in range(100):
        now, state = constants.step(u[:, t], state)
        y.append(now)
    assert close(torch.stack(y, 1), model(u))


@pytest.mark.parametrize("J", [1, 2, 5, 32])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 70])
def test_blocks_of_any_length(monkeypatch, J, length):
    monkeypatch.setattr(module, "LONGEST", J)
    u = torch.randn(2, length, 4, dtype=torch.float64)
    for layer in (lru().double(), S4D(4, 6, bidirectional=True).double()):
        constants = frozen(layer)
        assert constants.W.shape[1] == J * constants.B.shape[2]
        assert torch.allclose(constants(u), layer(u), rtol=0, atol=1e-10)


def test_layers_with_many_inputs_have_short_blocks_and_no_large_matrices():
    layer = frozen(LRU(300, 4))
    assert layer.T.numel() <= 2e5 and layer.W.shape[1] == 300


def test_a_layer_that_is_shared_stays_shared_and_the_mode_is_kept():
    layer = lru()
    model = torch.nn.Sequential(layer, torch.nn.Linear(4, 4), layer).eval()
    constants = frozen(model)
    assert constants[0] is constants[2] and isinstance(constants[0], Frozen)
    assert not constants[0].training and constants[1] is not model[1]
    assert model[0] is layer
    assert frozen(copy.deepcopy(lru()).train()).training


# ------------------------------------------------------------------ exported


def shapes_for(arguments, length=False):
    """The first axis of every tensor is the batch, and the second of the first may be time."""
    shapes = list(tree_map(lambda x: {0: Dim("batch")}, arguments))
    if length:
        shapes[0][1] = Dim("length")
    return tuple(shapes)


def session_of(program, path):
    """A function of tensors that runs a program in onnxruntime."""
    import onnxruntime

    torch.onnx.export(program, dynamo=True, verbose=False).save(path)
    session = onnxruntime.InferenceSession(path)
    names = [x.name for x in session.get_inputs()]

    def run(*arguments):
        arrays = [np.asarray(x) for x in tree_leaves(arguments)]
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return run


EXPORTER_WARNS = pytest.mark.filterwarnings("ignore")
SLOW = pytest.mark.slow
EXPORTED = [(layer, cut) for layer in sorted(LAYERS) for cut in (False, True)]


@SLOW  # docs/export.md runs one of each in `make test`
@EXPORTER_WARNS
@pytest.mark.parametrize(("layer", "cut"), EXPORTED)
def test_whole_sequences_and_steps_in_onnxruntime(layer, cut, tmp_path):
    """Of other batches and lengths than those that were traced; with gradients on."""
    model = served(layer, cut, n_layers=1)
    constants = frozen(model)
    arguments = (torch.randn(2, 40, 2),)
    program = torch.export.export(constants, arguments, dynamic_shapes=shapes_for(arguments, True))
    run = session_of(program, tmp_path / "whole.onnx")
    for batch, length in ((3, 777), (1, 33), (2, 1)):
        u = torch.randn(batch, length, 2)
        assert close(program.module()(u), model(u)) and close(run(u)[0], model(u))

    arguments = torch.randn(2, 2), constants.initial_state(2)
    program = torch.export.export(Step(constants), arguments, dynamic_shapes=shapes_for(arguments))
    run = session_of(program, tmp_path / "step.onnx")
    u, state, y = torch.randn(3, 50, 2), constants.initial_state(3), []
    for t in range(50):
        now, *state = run(u[:, t], state)
        y.append(torch.as_tensor(now))
    assert close(torch.stack(y, 1), model(u))


@EXPORTER_WARNS
@pytest.mark.parametrize("layer", ["lru", "s4d"])
def test_a_program_of_torch_is_saved_and_loaded(layer, tmp_path):
    model, u = frozen(served(layer, False, n_layers=1)), torch.randn(2, 40, 2)
    torch.export.save(torch.export.export(model, (u,)), tmp_path / "model.pt2")
    assert close(torch.export.load(tmp_path / "model.pt2").module()(u), model(u))


@EXPORTER_WARNS
@pytest.mark.parametrize(
    "layer", ["lru", *(pytest.param(x, marks=SLOW) for x in ("s5", "s4d", "dss", "lssl"))]
)
def test_the_parameters_themselves_can_be_exported_by_torch(layer):
    model = served(layer, False, n_layers=1)
    arguments = (torch.randn(2, 40, 2),)
    program = torch.export.export(model, arguments, dynamic_shapes=shapes_for(arguments, True))
    u = torch.randn(3, 77, 2)
    assert close(program.module()(u), model(u))
    assert {name for name, _ in program.named_parameters()} == set(parameters_of(model))


@EXPORTER_WARNS
def test_a_layer_without_states_is_exported():
    model, u = model_of(layer="s5", d_state=0, n_layers=1).eval(), torch.randn(2, 40, 2)
    program = torch.export.export(frozen(model), (u,), dynamic_shapes=shapes_for((u,), True))
    assert close(program.module()(u[:1, :5]), model(u[:1, :5]))


@EXPORTER_WARNS
def test_what_cannot_be_exported_says_so():
    model, u = served("s4", False, n_layers=1), torch.randn(2, 40, 2)
    state = model.initial_state(2)
    for given, arguments in ((model, (u,)), (Step(model), (u[:, 0], state))):
        with pytest.raises(lti.OptionError, match=r"S4 cannot be exported.*frozen\(model\)"):
            torch.export.export(given, arguments)
    for given, arguments in ((lru(), (torch.randn(2, 40, 4),)), (Own(), (u,))):
        with pytest.raises(Exception, match="Failed to export") as caught:
            torch.onnx.export(given, arguments, dynamo=True, verbose=False)
        assert isinstance(caught.value.__cause__, lti.OptionError)


class Own(torch.nn.Module):
    """A layer of one's own, on top of `linear_ssm`."""

    def __init__(self):
        super().__init__()
        self.poles = torch.nn.Parameter(torch.rand(5))
        self.B = torch.nn.Parameter(torch.randn(5, 2))
        self.C = torch.nn.Parameter(torch.randn(2, 5))

    def forward(self, u):
        return linear_ssm(u, self.poles + 0j, self.B + 0j, self.C + 0j)[0]


@EXPORTER_WARNS
def test_a_layer_of_ones_own_is_exported_at_one_length_or_says_what_to_do():
    layer, u = Own(), torch.randn(2, 40, 2)
    program = torch.export.export(layer, (u,))
    assert close(program.module()(u), layer(u))
    with pytest.raises(lti.OptionError, match="one batch and length only.*Frozen"):
        torch.export.export(layer, (u,), dynamic_shapes=shapes_for((u,), True))
    system = lti.DiagonalStateSpace(layer.poles + 0j, layer.B + 0j, layer.C + 0j, dt=True)
    with torch.no_grad():
        constants = Frozen(system, torch.zeros(2))
    assert close(constants(u), layer(u))
