"""S4D as it was published: its inputs are (batch, channels, length), and more follows inside."""

import torch

from compressm import S4D, States, compress_, to_lti
from compressm.gramians.observe import observe
from compressm.systems.convert import layer_input, output_is_the_system
from tests.compressm.foreign_layers import PublishedS4D


def test_its_input_is_observed_with_the_channels_last():
    torch.manual_seed(0)
    layer, u = PublishedS4D(3, 8), torch.randn(2, 3, 20)
    (signal,) = observe(layer, [u], gradients=True)[""]
    assert torch.equal(signal.u, u.mT) and signal.g is None
    assert not output_is_the_system(layer)
    layer.transposed = False
    assert torch.equal(layer_input(layer, u.mT), u.mT)


def test_it_is_read_as_our_own():
    torch.manual_seed(0)
    theirs, ours = PublishedS4D(3, 8), S4D(3, 8)
    ours.load_state_dict({k.rpartition(".")[2]: v for k, v in theirs.state_dict().items()
                          if not k.startswith("output_linear")})  # fmt: skip
    for conjugate in (True, False):
        G, F = to_lti(theirs, conjugate), to_lti(ours, conjugate)
        for x, y in zip(G.matrices, F.matrices, strict=True):
            assert torch.allclose(x, y, rtol=0, atol=1e-12)


def test_a_fixed_step_size_stays():
    layer = PublishedS4D(3, 8)
    log_dt = layer.kernel.log_dt.clone()
    (cut,) = compress_(layer, States(3)).layers
    assert cut.skipped is None and layer.kernel.C.shape[1] == cut.after <= 3
    assert torch.equal(layer.kernel.log_dt, log_dt)
