"""A plain training loop, and the one line that makes the model shrink while it trains.

The task: does a noisy sine have many periods, or few? Runs in seconds.
"""

import torch

from compressm import Compressor, Every, KeepEnergy, SequenceModel

torch.manual_seed(0)
torch.set_num_threads(1)  # so small a model is fastest on one


def batch(size: int = 32, length: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy sines (size, length, 1), of 2 to 4 periods (class 0) or 5 to 7 (class 1)."""
    target = torch.randint(2, (size,))
    periods = 2 + 3 * target + 2 * torch.rand(size)
    time = torch.linspace(0, 1, length)
    phase = torch.rand(size, 1)
    u = torch.sin(2 * torch.pi * (periods[:, None] * time + phase))
    return (u + 0.5 * torch.randn(size, length)).unsqueeze(-1), target


model = SequenceModel(d_input=1, d_output=2, d_model=8, d_state=128, n_layers=1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
criterion = torch.nn.CrossEntropyLoss()
compressor = Compressor(model, optimizer, policy=KeepEnergy(0.95), schedule=Every(40, stop=120))

for _ in range(200):
    u, target = batch()
    loss = criterion(model(u), target)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    event = compressor.step()  # the only added line
    if event:
        print(event)

model.eval()
u, target = batch(2000)
accuracy = (model(u).argmax(-1) == target).double().mean()
print(f"{accuracy:.1%} of new sequences told apart")
