"""Two processes train one model on batches of their own, and cut it alike.

The task: is the mean of a noisy sequence positive? Runs in seconds, without a GPU.
"""

import tempfile

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from compressm import Compressor, Every, KeepEnergy, SequenceModel

PROCESSES = 2


def train(rank: int, store: str) -> None:
    """One of the processes; with torchrun, `init_process_group` finds its arguments itself."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", world_size=PROCESSES, rank=rank)
    torch.manual_seed(rank)  # other batches; the wrapper sends rank 0's parameters to all
    model = DistributedDataParallel(SequenceModel(1, 2, d_model=8, d_state=64, n_layers=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    criterion = torch.nn.CrossEntropyLoss()
    compressor = Compressor(  # given the wrapper, it cuts on all ranks
        model, optimizer, policy=KeepEnergy(0.95), schedule=Every(20, stop=60)
    )
    for _ in range(100):
        target = torch.randint(2, (16,))
        u = torch.randn(16, 64, 1) + 0.4 * (2 * target - 1)[:, None, None]
        loss = criterion(model(u), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        event = compressor.step()  # the only added line; the batches of all ranks count
        if event and rank == 0:
            print(event)
    size = sum(p.numel() for p in model.parameters())
    print(f"rank {rank}: loss {loss.item():.3f}, {size} parameters")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (f"{folder}/store",), PROCESSES)
