"""A scan is one operation for torch.compile, with the gradients of the eager one."""

import pytest
import torch

from compressm.ops.scan import linear_ssm
from compressm.ops.selective_scan import selective_scan
from tests.compressm.ops import test_scan, test_selective_scan

CASES = {
    "blocks": (linear_ssm, lambda: test_scan.problem(2, 300, 2, 2, 3)),
    "steps": (linear_ssm, lambda: test_scan.problem(1, 40, 150, 150, 3)),
    "selective": (selective_scan, lambda: test_selective_scan.arguments(length=100)),
}


def gradients(scan, parts):
    parts = [x.detach().requires_grad_() for x in parts]
    y, last = scan(*parts)
    number = y.square().sum() + (last * last.conj()).real.sum()
    return [y, last, *torch.autograd.grad(number, parts)]


@pytest.mark.parametrize("name", CASES)
def test_a_scan_compiles_whole_to_few_nodes(name):
    scan, arguments = CASES[name]
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(scan, backend=backend, fullgraph=True)
    pairs = zip(gradients(compiled, arguments()), gradients(scan, arguments()), strict=True)
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in pairs)
    (graph,) = graphs
    assert sum("compressm" in str(node.target) for node in graph.graph.nodes) == 1
    assert len(graph.graph.nodes) < 150  # a loop of 100 steps would give more


@pytest.mark.parametrize("name", CASES)
def test_it_traces_with_its_gradients(name):
    scan, arguments = CASES[name]
    torch.compiler.reset()
    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    pairs = zip(gradients(compiled, arguments()), gradients(scan, arguments()), strict=True)
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in pairs)
