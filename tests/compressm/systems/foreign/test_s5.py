"""S5 of s5-pytorch: what is read of it, and what cannot be."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from compressm import States, compress_
from tests.compressm.foreign_layers import s5


def test_a_liquid_layer_is_left_alone_and_says_why():
    layer = s5.S5(3, 8, liquid=True)
    (cut,) = compress_(nn.Sequential(layer), States(2)).layers
    assert cut.after == cut.before and "no linear system" in cut.skipped


def test_random_numbers_are_not_used_up():
    layer = s5.S5(3, 8)
    state = torch.get_rng_state()
    compress_(layer, States(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_layers_of_128_states_trained_on_digits_are_cut():
    torch.manual_seed(0)
    digits = load_digits()
    u = torch.tensor(digits.data, dtype=torch.float32)[:, :, None] / 16
    target = torch.tensor(digits.target)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(1, 16), nn.Linear(16, 10)
            self.layers = nn.ModuleList(s5.S5(16, 128) for _ in range(2))
            self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))

        def forward(self, u):
            x = self.encoder(u)
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = x + nn.functional.gelu(layer(norm(x)))
            return self.head(x.mean(1))

    model = Model()
    named = list(model.named_parameters())
    slow = [p for name, p in named if "Lambda" in name or "step" in name or "seq.B" in name]
    rest = [p for _, p in named if all(p is not q for q in slow)]
    optimizer = torch.optim.AdamW([{"params": slow, "lr": 2e-4}, {"params": rest, "lr": 4e-3}])
    for _ in range(400):
        batch = torch.randint(0, len(u), (32,))
        nn.functional.cross_entropy(model(u[batch]), target[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        before = model(u)
        event = compress_(model, data=u[:400].split(50))
        assert all(cut.skipped is None and cut.after <= 100 for cut in event.layers)
        assert (model(u) - before).norm() < 0.02 * before.norm()
