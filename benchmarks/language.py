"""Which states a language model can lose: Gramian types and the choices of others, side by side.

Trains a small model on characters of Tiny Shakespeare, or on associative recall, cuts copies of it
to each size by each type, and prints the increase of the test loss right after the cut: mean and
standard error over seeds. With --arms it compares whole trainings: full, cut in training at a
part of it, cut after training, the same with a recovery, small from scratch. With --changes it
prints the relative change of the layers' outputs on new sequences: predicted from the scores,
predicted as the parts of the output that go, measured. With --times it prints the milliseconds of
a training step at each size; the sizes take turns.

    python benchmarks/language.py mamba --seeds 0 1 2
    python benchmarks/language.py deltanet --seeds 0 1 2 --sizes 24 16 8
    python benchmarks/language.py mamba2 --arms --sizes 8 --seeds 0 1 2
    python benchmarks/language.py deltanet --changes --sizes 24 16 8 --seeds 0 1 2
    python benchmarks/language.py mamba2 --times --sizes 128 64 32 16 --width 256
    python benchmarks/language.py deltanet --task recall-8 --arms --sizes 8 --steps 2000
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

import torch
import transformers
from choices import CHOICES
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.qwen3_5 import modeling_qwen3_5

from compressm import At, Compressor, Mamba, States, compress_, cut_parameters
from compressm.gramians.output_error import relative_error
from compressm.gramians.signals import Signal
from compressm.gramians.types import GRAMIAN_TYPES, selection
from compressm.systems.find import selective_layers
from compressm.systems.selective import coefficients, form_of, keep_states_
from compressm.systems.selective.evaluate import layer_output

DATA = Path(os.environ.get("COMPRESSM_DATA", "../shared/data")) / "text" / "tinyshakespeare.txt"
STATES = {"mamba": 16, "mamba2": 32, "deltanet": 32}
TYPES = {**GRAMIAN_TYPES, **{x.name: x for x in CHOICES}}
IGNORED = -100  # a target that does not count
modeling_qwen3_5.torch_chunk_gated_delta_rule = partial(  # a loop over the steps of a chunk
    modeling_qwen3_5.torch_chunk_gated_delta_rule, chunk_size=16
)


class Text:
    """The next character of Tiny Shakespeare; a tenth is held out."""

    length, batch = 128, 16

    def __init__(self) -> None:
        raw = DATA.read_text()
        known = {c: i for i, c in enumerate(sorted(set(raw)))}
        x = torch.tensor([known[c] for c in raw])
        self.parts = {"train": x[: -len(x) // 10], "test": x[-len(x) // 10 :]}
        self.vocabulary = len(known)

    def batches(self, seed: int, part: str = "train"):
        """Tokens and targets, (batch, length), without an end."""
        x, choice = self.parts[part], torch.Generator().manual_seed(seed)
        while True:
            starts = torch.randint(len(x) - self.length - 1, (self.batch,), generator=choice)
            both = torch.stack([x[i : i + self.length + 1] for i in starts.tolist()])
            yield both[:, :-1], both[:, 1:]


class Recall:
    """Multi-query associative recall: pairs of key and value, then each key once, asked its value.

    The keys are asked at random places of the second part of a sequence, which is else empty
    (Arora et al., "Zoology", 2023, arXiv:2312.04927, where the places follow a power law). Batches
    of the training have 1 to `pairs` pairs, those of the test `pairs`.
    """

    batch, keys, values = 64, 32, 32

    def __init__(self, pairs: int) -> None:
        self.pairs, self.length = pairs, 4 * pairs
        self.vocabulary = 1 + self.keys + self.values

    def batches(self, seed: int, part: str = "train"):
        choice = torch.Generator().manual_seed(seed + 10_000 * (part == "test"))

        def some(n: int, among: int) -> Tensor:
            return torch.rand(self.batch, among, generator=choice).argsort(1)[:, :n]

        while True:
            n = self.pairs
            if part == "train":
                n = int(torch.randint(1, n + 1, (), generator=choice))
            keys = 1 + some(n, self.keys)
            values = torch.randint(self.values, keys.shape, generator=choice) + 1 + self.keys
            asked = 2 * n + some(n, self.length - 2 * n)
            tokens = torch.zeros(self.batch, self.length, dtype=torch.long)
            tokens[:, : 2 * n] = torch.stack([keys, values], -1).flatten(1)
            tokens.scatter_(1, asked, keys)
            yield tokens, torch.full_like(tokens, IGNORED).scatter_(1, asked, values)


TASKS = {"text": Text, "recall-4": lambda: Recall(4), "recall-8": lambda: Recall(8)}


class Model(nn.Module):
    """Two layers with residual connections, between an embedding and a linear map to tokens."""

    def __init__(self, family: str, vocabulary: int, states: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.mixers = nn.ModuleList(mixer_of(family, states, i, width) for i in range(2))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=False):
            x = x + mixer(norm(x))
        return self.head(self.norms[-1](x))


def mixer_of(family: str, states: int, index: int, width: int) -> nn.Module:
    if family == "mamba":
        return Mamba(width, states)
    if family == "mamba2":
        config = transformers.Mamba2Config(
            hidden_size=width, state_size=states, num_heads=8, head_dim=width // 4, n_groups=2,
            chunk_size=16,
        )  # fmt: skip
        return Mamba2Mixer(config, layer_idx=index)
    config = transformers.Qwen3_5TextConfig(
        hidden_size=width, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=states, linear_value_head_dim=width // 2,
        layer_types=["linear_attention"] * 2, num_hidden_layers=2,
    )  # fmt: skip
    return modeling_qwen3_5.Qwen3_5GatedDeltaNet(config, layer_idx=index)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, targets = batch
    return cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def test(model: nn.Module, task) -> tuple[float, float]:
    """Loss, and the share of targets that are right in percent."""
    model.eval()
    held = task.batches(99, "test")
    losses, right = [], []
    for _ in range(16):
        tokens, targets = next(held)
        losses.append(float(loss_of(model, (tokens, targets))))
        asked = targets != IGNORED
        right.append(float((model(tokens).argmax(-1) == targets)[asked].double().mean()))
    model.train()
    return mean(losses), 100 * mean(right)


def train(model, task, seed, steps, lr, compressor_of=None, parameters=None):
    """Seconds of `steps` steps; `compressor_of` takes the optimizer."""
    optimizer = torch.optim.AdamW(parameters or model.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * lr, steps)
    compressor = compressor_of(optimizer) if compressor_of else None
    start, stream = time.perf_counter(), task.batches(seed)
    for _ in range(steps):
        loss = loss_of(model, next(stream))
        model.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if compressor:
            compressor.step()
    return time.perf_counter() - start


def new_model(args, task, states, seed):
    torch.manual_seed(seed)
    return Model(args.family, task.vocabulary, states, args.width).train()


def observed(task):
    """Sequences by which a trained model is cut."""
    stream = task.batches(7)
    return [next(stream)[0] for _ in range(4)]


def compare_types(args, task):
    full, increase = [], defaultdict(list)
    for seed in args.seeds:
        model = new_model(args, task, STATES[args.family], seed)
        seconds = train(model, task, seed, args.steps, args.lr)
        full.append(test(model, task))
        print(f"seed {seed}: loss {full[-1][0]:.4f}, {full[-1][1]:.1f}% right, {seconds:.0f} s")
        for size in args.sizes:
            for name, gramians in TYPES.items():
                torch.manual_seed(seed)
                trial = copy.deepcopy(model)
                compress_(trial, States(size), gramians=gramians, data=observed(task))
                increase[name, size].append(test(trial, task)[0] - full[-1][0])
    loss = mean(loss for loss, _ in full)
    print(f"\n{args.family}, {STATES[args.family]} states, loss {loss:.3f}: increase at")
    print(f"{'':16}" + "".join(f"{size:>18}" for size in args.sizes))
    for name in TYPES:
        print(f"{name:16}" + "".join(f"{shown(increase[name, size]):>18}" for size in args.sizes))


def compare_arms(args, task):
    states, arms = STATES[args.family], defaultdict(list)
    for seed in args.seeds:
        full = new_model(args, task, states, seed)
        seconds = train(full, task, seed, args.steps, args.lr)
        arms["full", states].append((*test(full, task), seconds))
        for size in args.sizes:
            trial = copy.deepcopy(full)
            event = compress_(trial, States(size), gramians=args.gramians, data=observed(task))
            arms["after", size].append((*test(trial, task), seconds))
            if args.recovery:  # the cut layers alone
                cut = cut_parameters(trial, event)
                extra = train(trial, task, seed + 1, args.recovery, args.lr / 4, parameters=cut)
                arms["recovered", size].append((*test(trial, task), seconds + extra))

            def compressor_of(optimizer, model, size=size):
                at, policy = At(int(args.at * args.steps)), States(size)
                return Compressor(
                    model, optimizer, schedule=at, policy=policy, gramians=args.gramians
                )

            model = new_model(args, task, states, seed)
            seconds_ = train(
                model, task, seed, args.steps, args.lr, lambda o, m=model: compressor_of(o, m)
            )
            arms["in training", size].append((*test(model, task), seconds_))
            small = new_model(args, task, size, seed)
            seconds_ = train(small, task, seed, args.steps, args.lr)
            arms["from scratch", size].append((*test(small, task), seconds_))
        print(f"seed {seed}: " + ", ".join(f"{n} {s} {v[-1][0]:.3f}" for (n, s), v in arms.items()))
    base = [loss for loss, *_ in arms["full", states]]
    print(
        f"\n{args.family}, {args.task}: test loss, difference to full, right, bytes of a sequence"
    )
    for (name, size), found in arms.items():
        losses, right, seconds = zip(*found, strict=True)
        difference = [loss - other for loss, other in zip(losses, base, strict=True)]
        model = Model(args.family, task.vocabulary, size, args.width)
        print(
            f"{name:14}{size:4} states {mean(losses):8.4f}{shown(difference):>18}"
            f"{mean(right):7.1f}% {state_bytes(model):>6} B {mean(seconds):5.0f} s"
        )


def compare_changes(args, task):
    found = defaultdict(list)
    for seed in args.seeds:
        model = new_model(args, task, STATES[args.family], seed)
        train(model, task, seed, args.steps, args.lr)
        held = task.batches(98, "test")
        seen, new = (
            inputs_of(model.eval(), batches)
            for batches in (observed(task), [next(held)[0] for _ in range(4)])
        )
        for size in args.sizes:
            each = [
                changes(layer, selection(layer, seen[layer], args.gramians).kept(size), new[layer])
                for layer in model.mixers
            ]
            found[size].append([mean(x) for x in zip(*each, strict=True)])
        print(f"seed {seed}: loss {test(model, task)[0]:.4f}", flush=True)
    print(f"\n{args.family}, {args.task}, chosen by {args.gramians}: relative change of the output")
    print(f"{'states':>6}" + "".join(f"{x:>18}" for x in ("by scores", "by parts", "measured")))
    for size, rows in found.items():
        print(f"{size:6}" + "".join(f"{shown(x):>18}" for x in zip(*rows, strict=True)))


@torch.no_grad()
def inputs_of(model, batches):
    """What each layer gets, as signals."""
    found = {layer: [] for layer in model.mixers}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: found[layer].append(Signal(args[0])))
        for layer in model.mixers
    ]
    for batch in batches:
        model(batch)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def changes(layer, kept, signals):
    """Relative change of a layer's output: by scores, by the parts that go, and measured.

    y = sum over the states of q_i S_i (C_i h_i). The scores take these parts as independent, each
    E q_i^2 E |S_i|^2. The parts that go are those of the layer as it is, with its own q, k and S.
    """
    form, trial, pairs, powers = form_of(layer), copy.deepcopy(layer), [[], []], []
    mask = torch.zeros(form.groups, form.n_states)
    for row, states in zip(mask, kept, strict=True):
        row[list(states)] = 1
    keep_states_(trial, [list(states) for states in kept])
    for signal in signals:
        c = coefficients(layer, signal.u)
        name = "q" if hasattr(c, "q") else "C"
        reads = getattr(c, name)
        P, y = form.recurrence.run(c)
        Q = reads.square().sum((0, 1)).repeat_interleave(len(P) // len(mask), 0)
        gone = 1 - mask.repeat_interleave(len(P) // len(mask), 0)
        powers.append(
            (float((gone * P * Q).sum()) / form.recurrence.count(c), float(y.square().sum()))
        )
        left = form.recurrence.run(c._replace(**{name: reads * mask}))[1]
        output = layer_output(layer, signal.u)
        pairs[0].append((output, form.tail(left, c.x, c.z)))
        pairs[1].append((output, layer_output(trial, signal.u)))
    lost, all_ = (sum(x) for x in zip(*powers, strict=True))
    return (lost / all_) ** 0.5, *map(relative_error, pairs)


def compare_times(args, task):
    """Forward, backward and AdamW, medians of processor time."""

    def step_of(size):
        model, stream = new_model(args, task, size, 0), task.batches(0)
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            batch, start = next(stream), time.process_time()
            loss_of(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            return 1e3 * (time.process_time() - start)

        return step, state_bytes(model)

    made = [step_of(size) for size in args.sizes]
    rounds = [[step() for step, _ in made] for _ in range(args.steps + 1)][1:]
    each = [median(times) for times in zip(*rounds, strict=True)]
    print(f"{args.family}, width {args.width}, batches of {task.batch} x {task.length}")
    for size, ms, (_, state) in zip(args.sizes, each, made, strict=True):
        print(f"{size:4} states {ms:8.1f} ms a step {each[0] / ms:6.2f} times as fast {state:8} B")


def state_bytes(model: nn.Module) -> int:
    """Of the states of all layers, for one sequence, in single precision."""
    total = 0
    for _, layer in selective_layers(model):
        form = form_of(layer)
        channels = (
            form.value_heads * form.d_value if hasattr(form, "value_heads") else form.channels
        )
        total += 4 * channels * form.n_states
    return total


def shown(values) -> str:
    error = f" ± {stdev(values) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{mean(values):+.4f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=STATES)
    parser.add_argument("--task", choices=TASKS, default="text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--arms", action="store_true")
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--gramians", default="input", help="for --arms and --changes")
    parser.add_argument("--at", type=float, default=0.1, help="part of the training, for --arms")
    parser.add_argument("--recovery", type=int, default=0, help="steps after a cut, for --arms")
    args = parser.parse_args()
    ways = {"arms": compare_arms, "changes": compare_changes, "times": compare_times}
    compare = next((way for name, way in ways.items() if vars(args)[name]), compare_types)
    compare(args, TASKS[args.task]())


if __name__ == "__main__":
    main()
