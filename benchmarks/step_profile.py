"""What one training step on sequential MNIST has to compute and to move, and where its time goes.

The network of `benchmarks/step.py`. Prints, for each number of states, the real operations of the
recurrence written out step by step and in the blocks that are used (forward and backward), the
bytes of the states that a backward pass would read if every one was kept and of those at block
borders, and a Markdown table of the time in each operator, as torch's profiler sees it.

    taskset -c 0 python benchmarks/step_profile.py --states 256 16
"""

from __future__ import annotations

import argparse

import torch
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from compressm import SequenceModel
from compressm.ops.scan import _block_length

BATCH, LENGTH, D_MODEL = 50, 784, 8


def needs(n: int, J: int) -> tuple[float, float]:
    """MFLOP of forward and backward, three products for each forward one, and MB of states."""
    blocks, q = BATCH * -(-LENGTH // J), J * D_MODEL
    product = 2 * (q * 2 * n + 2 * n * q + (q * q if J > 1 else 0))
    recurrence = 8 * n  # one complex multiply-add, about
    return 3 * blocks * (product + recurrence) / 1e6, blocks * 2 * n * 4 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, nargs="+", default=[256, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rows", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    for n in arguments.states:
        torch.manual_seed(0)
        model = SequenceModel(d_input=1, d_output=10, d_model=D_MODEL, d_state=n, n_layers=1)
        optimizer = torch.optim.AdamW(model.parameters())
        u, target = torch.rand(BATCH, LENGTH, 1), torch.randint(10, (BATCH,))

        def step(model=model, optimizer=optimizer, u=u, target=target) -> None:
            cross_entropy(model(u), target).backward()
            optimizer.step()
            optimizer.zero_grad()

        for _ in range(5):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(arguments.repeats):
                step()
        J = _block_length(u.expand(-1, -1, D_MODEL), torch.empty(D_MODEL, n))
        by_step, by_block = needs(n, 1), needs(n, J)
        print(f"n = {n}, blocks of {J} steps")
        print(f"by step:  {by_step[0]:6.0f} MFLOP, {by_step[1]:5.1f} MB of states")
        print(f"by block: {by_block[0]:6.0f} MFLOP, {by_block[1]:5.1f} MB of states")
        events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        print("\n| operator | calls a step | ms a step | share |")
        print("|:---------|-------------:|----------:|------:|")
        for event in events[: arguments.rows]:
            ms = event.self_cpu_time_total / arguments.repeats / 1e3
            share = event.self_cpu_time_total / total
            name = event.key.removeprefix("aten::")
            print(f"| {name} | {event.count / arguments.repeats:.0f} | {ms:.2f} | {share:.0%} |")
        print()


if __name__ == "__main__":
    main()
