"""Mamba, ours and that of transformers."""

import pytest
import torch

from tests.compressm.selective_layers import foreign, own, signal


@pytest.mark.parametrize("steps", ["one by one", "together"])
def test_our_mamba_is_that_of_transformers(steps, exact):
    theirs, ours = foreign("Mamba"), own(seed=1)
    ours.load_state_dict(theirs.state_dict())
    u = signal(length=30).u
    if steps == "together":
        y = ours(u)
    else:
        state, outputs = None, []
        for t in range(30):
            output, state = ours.step(u[:, t], state)
            outputs.append(output)
        y = torch.stack(outputs, 1)
    assert torch.allclose(y, theirs(u), rtol=0, atol=1e-10)
