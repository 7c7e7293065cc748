"""Layers under transformations of torch: forward derivatives, `vmap`, compilers, casts, traces."""

import io
from functools import partial

import pytest
import torch
from torch import nn

from compressm import DSS, LRU, LSSL, S4, S4D, S5, Mamba, States, compress_

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*jit.(script|trace|save|load).*:DeprecationWarning",  # in torch's own rules
    "ignore:.*:torch.jit.TracerWarning",
    "ignore:The .grad attribute of a Tensor:UserWarning",  # by the compiler itself
)
D, LENGTH = 3, 60


def cut(layer):
    compress_(layer, States(4))
    return layer


LAYERS = {
    "LRU": lambda: LRU(D, 8),
    "S5": lambda: S5(D, 8),
    "S4D by blocks": lambda: S4D(D, 1),
    "S4D by FFT": lambda: S4D(D, 8),
    "bidirectional S4D": lambda: S4D(D, 8, bidirectional=True),
    "DSS": lambda: DSS(D, 8),
    "S4": lambda: S4(D, 8, l_max=LENGTH),
    "cut S4": lambda: cut(S4(D, 8, l_max=LENGTH)),
    "LSSL": lambda: LSSL(D, 8),
    "Mamba": lambda: Mamba(D, 4),
}
EACH = pytest.mark.parametrize("name", LAYERS)


def layer_and_input(name):
    torch.manual_seed(0)
    return LAYERS[name]().double(), torch.randn(2, LENGTH, D, dtype=torch.float64)


@EACH
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_forward_derivatives(name, compiled):
    layer, u = layer_and_input(name)
    t, step = torch.randn_like(u), 1e-5
    derivative = partial(lambda t, x: torch.func.jvp(layer, (x,), (t,))[1], t)
    if compiled:
        torch.compiler.reset()
        derivative = torch.compile(derivative, backend="aot_eager")
    with torch.no_grad():
        exact = (layer(u + step * t) - layer(u - step * t)) / (2 * step)
        torch.testing.assert_close(derivative(u), exact, rtol=1e-6, atol=1e-6)


@EACH
def test_gradients_by_functions_and_of_each_sequence(name):
    layer, u = layer_and_input(name)
    parameters = {key: x.detach() for key, x in layer.named_parameters()}

    def loss(parameters, one):
        return torch.func.functional_call(layer, parameters, (one[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, u)
    layer(u).square().sum().backward()
    for key, x in layer.named_parameters():
        if x.grad is not None:  # as of the low rank that a cut leaves empty
            torch.testing.assert_close(each[key].sum(0), x.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["LRU", "S5", "Mamba"])
def test_a_backward_pass_inside_autocast(name):
    layer, u = layer_and_input(name)
    layer, u = layer.float(), u.float()
    layer(u).square().sum().backward()
    expected = {key: x.grad.clone() for key, x in layer.named_parameters()}
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        layer(u).square().sum().backward()
    for key, x in layer.named_parameters():
        error = (x.grad - expected[key]).norm()
        assert error <= 0.05 * expected[key].norm() + 1e-6, key


@EACH
def test_on_meta_tensors(name):
    layer, u = layer_and_input(name)
    if name == "S4":
        pytest.skip("its kernel is as long as a number that a meta tensor does not hold")
    assert layer.to("meta")(u.to("meta")).shape == u.shape


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"LRU", "S5", "Mamba", "S4D by blocks"}))
def test_a_trace_needs_no_operation_of_this_package(name):
    layer, u = layer_and_input(name)
    traced = torch.jit.trace(layer.requires_grad_(False), (u,), check_trace=False)
    assert "compressm::" not in str(traced.inlined_graph)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(u), layer(u))


@pytest.mark.parametrize(("name", "grad"), [("LSSL", False), ("LRU", False), ("LRU", True)])
def test_lengths_that_change_are_compiled_once(name, grad):
    layer, _ = layer_and_input(name)
    torch.compiler.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, dynamic=True)
    for length in (51, 53, 57, 59):
        u = torch.randn(2, length, D, dtype=torch.float64, requires_grad=grad)
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(compiled(u), layer(u))
            if grad:
                g = [torch.autograd.grad(f(u).square().sum(), u)[0] for f in (compiled, layer)]
                torch.testing.assert_close(*g)
    assert counter.frame_count <= 2


@EACH
def test_hooks_may_rename_what_a_layer_loads(name):
    layer, _ = layer_and_input(name)
    layer.mix = nn.Linear(2, 2)
    saved = {key.replace("mix.", "out."): x for key, x in layer.state_dict().items()}

    def rename(module, state_dict, prefix, *_):
        for key in [key for key in state_dict if key.startswith(prefix + "out.")]:
            state_dict[key.replace("out.", "mix.")] = state_dict.pop(key)

    layer.register_load_state_dict_pre_hook(rename)
    layer.load_state_dict(saved)
