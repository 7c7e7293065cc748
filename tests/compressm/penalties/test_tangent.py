"""The first-order expansion of a measure by itself."""

import pytest
import torch

from compressm import nuclear_norm
from compressm.penalties.tangent import tangent_of
from compressm.systems.batches import batched, grouped_by_shape
from tests.compressm.helpers import model_of

OF_TORCH = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@OF_TORCH
def test_an_evaluation_between_two_balancings_compiles_whole():
    model = model_of(d_input=1, d_output=2, d_model=3, d_state=6).double()
    ((names, systems),) = grouped_by_shape(model)
    with batched(names, systems) as stack:
        tangent = tangent_of(stack, nuclear_norm, torch.complex128)
    matrices = [x.detach().requires_grad_() for x in (stack.poles, stack.B, stack.C)]
    compiled = torch.compile(tangent, fullgraph=True, backend="aot_eager")
    value, expected = compiled(*matrices), tangent(*matrices)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for one, twin in zip(
        *(torch.autograd.grad(x, matrices) for x in (value, expected)), strict=True
    ):
        torch.testing.assert_close(one, twin, rtol=1e-12, atol=1e-14)
