"""Scans and convolutions are few operations for torch.compile, with the eager gradients."""

import pytest
import torch

from compressm.models import LAYERS
from compressm.ops.channel_conv import diagonal_conv
from compressm.ops.scan import linear_ssm
from compressm.ops.selective_scan import selective_scan
from tests.compressm.ops import test_channel_conv, test_scan, test_selective_scan
from tests.compressm.ops.test_channel_conv import by_fft

CASES = {  # function, arguments, how many operations of its own
    "blocks": (linear_ssm, lambda: test_scan.problem(2, 300, 2, 2, 3), 2),
    "steps": (linear_ssm, lambda: test_scan.problem(1, 40, 150, 150, 3), 1),
    "selective": (selective_scan, lambda: test_selective_scan.arguments(length=100), 1),
    "FFT": (by_fft, lambda: test_channel_conv.problem(2, 200, 3, 4), 3),
    "blocks of channels": (diagonal_conv, lambda: test_channel_conv.problem(2, 200, 3, 4), 2),
}


def gradients(scan, parts):
    parts = [x.detach().requires_grad_() for x in parts]
    found = scan(*parts)
    found = found if isinstance(found, tuple) else (found,)
    number = sum((x * x.conj()).real.sum() for x in found)
    return [*found, *torch.autograd.grad(number, parts)]


@pytest.mark.parametrize("name", CASES)
def test_a_scan_compiles_whole_to_few_nodes(name):
    scan, arguments, operations = CASES[name]
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(scan, backend=backend, fullgraph=True)
    pairs = zip(gradients(compiled, arguments()), gradients(scan, arguments()), strict=True)
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in pairs)
    (graph,) = graphs
    assert sum("compressm" in str(node.target) for node in graph.graph.nodes) == operations
    assert len(graph.graph.nodes) < 150  # a loop of 100 steps would give more


@pytest.mark.parametrize("name", CASES)
def test_it_traces_with_its_gradients(name):
    scan, arguments, _ = CASES[name]
    torch.compiler.reset()
    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    pairs = zip(gradients(compiled, arguments()), gradients(scan, arguments()), strict=True)
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in pairs)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_a_step_compiles_whole(layer, grad):
    torch.manual_seed(0)
    layer, u = LAYERS[layer](4, 8), torch.randn(2, 4)
    torch.compiler.reset()
    with torch.no_grad():  # torch warns of a state that is no leaf
        state = layer.step(u)[1]
    with torch.set_grad_enabled(grad):
        compiled = torch.compile(layer.step, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(u, state)[0], layer.step(u, state)[0], atol=1e-6)
