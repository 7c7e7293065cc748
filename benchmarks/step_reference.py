"""One training step of `SequenceModel` beside the same network as is usual in JAX.

Both are processes of one thread that take turns, step by step, so that whatever else the machine
does hits both alike. Forward, backward and AdamW on random data. Prints a Markdown table: median
milliseconds, their ratio, the reference's first step (it compiles, as after every cut), and the
highest memory of each process in MiB, libraries included.

    python -m venv jax && jax/bin/pip install -r benchmarks/reference_jax/requirements.txt
    taskset -c 0 python benchmarks/step_reference.py --reference jax/bin/python
    taskset -c 0 python benchmarks/step_reference.py --reference jax/bin/python --model cifar
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import cross_entropy

from compressm import SequenceModel

REFERENCE = Path(__file__).parent / "reference_jax" / "lru.py"
MODELS = {
    "mnist": dict(d_input=1, d_model=8, n_layers=1, length=784, batch=50),
    "cifar": dict(d_input=3, d_model=512, n_layers=6, length=1024, batch=4),
}
STATES = {"mnist": [256, 128, 64, 32, 16], "cifar": [384]}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def serve(d_input: int, d_model: int, n_layers: int, length: int, batch: int, d_state: int) -> None:
    """One step for each line that is read, answered by its milliseconds and the memory so far."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = SequenceModel(d_input, 10, d_model, d_state, n_layers)
    optimizer = torch.optim.AdamW(model.parameters())
    u, target = torch.rand(batch, length, d_input), torch.randint(10, (batch,))
    for _ in sys.stdin:
        start = perf_counter()
        cross_entropy(model(u), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(1e3 * (perf_counter() - start), peak, flush=True)


class Server:
    """A process that takes a step when asked."""

    def __init__(self, command: list[str], sizes: dict[str, int]) -> None:
        options = [f"--{name}={size}" for name, size in sizes.items()]
        self.process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        self.times, self.peak = [], 0.0

    def step(self) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process has no pipes; start it with stdin and stdout as pipes")
        stdin.write("\n")
        stdin.flush()
        answer = stdout.readline().split()
        if not answer:
            raise RuntimeError(f"{self.process.args} gave no answer; its error is printed above")
        self.times.append(float(answer[0]))
        self.peak = float(answer[1])

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", help="interpreter that has JAX; left out: ours alone")
    parser.add_argument("--model", choices=MODELS, default="mnist")
    parser.add_argument("--states", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    for name in (*MODELS["mnist"], "d_state"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(**{name: getattr(arguments, name) for name in (*MODELS["mnist"], "d_state")})

    print("|   n | ours ms | MiB | reference ms | MiB | first step ms | times as fast |")
    print("|----:|--------:|----:|-------------:|----:|--------------:|--------------:|")
    for n in arguments.states or STATES[arguments.model]:
        sizes = MODELS[arguments.model] | {"d_state": n}
        commands = [[sys.executable, __file__, "--serve"]]
        if arguments.reference:
            commands.append([arguments.reference, str(REFERENCE)])
        servers = [Server(command, sizes) for command in commands]
        for _ in range(arguments.warmup + arguments.repeats):
            for server in servers:
                server.step()
        cells = [f"{median(s.times[arguments.warmup :]):.1f} | {s.peak:.0f}" for s in servers]
        if arguments.reference:
            ours, theirs = (median(s.times[arguments.warmup :]) for s in servers)
            cells += [f"{servers[1].times[0]:.0f}", f"{theirs / ours:.1f}"]
        else:
            cells += ["-"] * 4
        print(f"| {n:3} | {' | '.join(cells)} |", flush=True)
        for server in servers:
            server.close()


if __name__ == "__main__":
    main()
