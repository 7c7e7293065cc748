"""Which states a language model can lose: Gramian types and the choices of others, side by side.

Trains a small character model on Tiny Shakespeare, cuts copies of it to each size by each type, and
prints the increase of the test loss right after the cut: mean and standard error over seeds. With
--arms it compares whole trainings: full, cut in training at a tenth, cut after training, small from
scratch.

    python benchmarks/language.py mamba --seeds 0 1 2
    python benchmarks/language.py deltanet --seeds 0 1 2 --sizes 24 16 8
    python benchmarks/language.py mamba2 --arms --sizes 8 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import scipy.linalg
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from compressm import At, Compressor, GramianType, Mamba, States, compress_
from compressm.gramians.types import GRAMIAN_TYPES, INPUT
from compressm.systems.find import selective_layers
from compressm.systems.selective import coefficients, form_of

DATA = Path(os.environ.get("COMPRESSM_DATA", "../shared/data")) / "text" / "tinyshakespeare.txt"
LENGTH, BATCH, WIDTH = 128, 16, 64
STATES = {"mamba": 16, "mamba2": 32, "deltanet": 32}


def text() -> tuple[Tensor, Tensor, int]:
    """Training and test characters as numbers, and how many different ones there are."""
    raw = DATA.read_text()
    known = {c: i for i, c in enumerate(sorted(set(raw)))}
    x = torch.tensor([known[c] for c in raw])
    return x[: -len(x) // 10], x[-len(x) // 10 :], len(known)


class Model(nn.Module):
    """Two layers with residual connections, between an embedding and a linear map to characters."""

    def __init__(self, family: str, vocabulary: int, states: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.mixers = nn.ModuleList(mixer_of(family, states, i) for i in range(2))
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=False):
            x = x + mixer(norm(x))
        return self.head(self.norms[-1](x))


def mixer_of(family: str, states: int, index: int) -> nn.Module:
    if family == "mamba":
        return Mamba(WIDTH, states)
    if family == "mamba2":
        config = transformers.Mamba2Config(
            hidden_size=WIDTH, state_size=states, num_heads=8, head_dim=16, n_groups=2,
            chunk_size=64,
        )  # fmt: skip
        return Mamba2Mixer(config, layer_idx=index)
    config = transformers.Qwen3_5TextConfig(
        hidden_size=WIDTH, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=states, linear_value_head_dim=32,
        layer_types=["linear_attention"] * 2, num_hidden_layers=2,
    )  # fmt: skip
    return Qwen3_5GatedDeltaNet(config, layer_idx=index)


def batches(x: Tensor, seed: int):
    choice = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(x) - LENGTH - 1, (BATCH,), generator=choice)
        yield torch.stack([x[i : i + LENGTH + 1] for i in starts.tolist()])


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(tokens[:, :-1])
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def test_loss(model: nn.Module, x: Tensor) -> float:
    model.eval()
    held = batches(x, 99)
    value = mean(float(loss_of(model, next(held))) for _ in range(16))
    model.train()
    return value


class Score(GramianType):
    """A choice of others, as a type: the score of each state of each group."""

    energy = 0.98

    def __init__(self, name, score):
        self.name, self.score = name, score

    def factors(self, system, signals, directions):
        return INPUT.factors(system, signals, directions)

    def state_values(self, layer, signals):
        return self.score(layer, signals)


def random(layer, signals):
    form = form_of(layer)
    return torch.rand(form.groups, form.n_states, dtype=torch.float64)


def magnitude(layer, signals):
    """The norm of the weights that make B, C or keys, queries of a state."""
    return _by_weights(layer, lambda W: W.square().sum(1))


def wanda(layer, signals):
    """The same, each weight times the norm of its input (Sun et al., arXiv:2306.11695)."""
    name = _projection(layer)
    if name == "x_proj.weight":
        inputs = torch.cat([coefficients(layer, s.u).x.flatten(0, 1) for s in signals])
    else:
        inputs = torch.cat([s.u.flatten(0, 1) for s in signals])
    power = inputs.double().square().sum(0)
    return _by_weights(layer, lambda W: W.square() @ power)


def _projection(layer):
    names = ("x_proj.weight", "in_proj.weight", "in_proj_qkv.weight")
    return next(x for x in names if x in form_of(layer).places([]))


def _by_weights(layer, power):
    form, name = form_of(layer), _projection(layer)
    rows = power(layer.get_parameter(name).detach().double())
    every = list(range(form.groups * form.n_states))
    everything = set(form.places(every)[name][1])
    own = [everything - set(form.places([k for k in every if k != i])[name][1]) for i in every]
    values = torch.stack([rows[sorted(x)].sum() for x in own]).sqrt()
    return values.unflatten(0, (form.groups, -1))


def rank_revealing(layer, signals):
    """Pivots of a QR decomposition of what is written, keys or B (arXiv:2602.04852)."""
    form, parts = form_of(layer), [coefficients(layer, s.u) for s in signals]
    keys = torch.cat([getattr(c, "k", getattr(c, "B", None)).flatten(0, 1) for c in parts])
    values = torch.zeros(form.groups, form.n_states, dtype=torch.float64)
    for g in range(form.groups):
        pivots = scipy.linalg.qr(keys[:, g].double().numpy(), mode="r", pivoting=True)[1]
        values[g, pivots] = torch.arange(form.n_states, 0, -1, dtype=torch.float64)
    return values


OTHERS = [Score(f.__name__, f) for f in (random, magnitude, wanda, rank_revealing)]
TYPES = {**GRAMIAN_TYPES, **{x.name: x for x in OTHERS}}


def trained(family, vocabulary, states, x, seed, steps, cut_at=None, to=None, gramians="input"):
    """The model after training, and the seconds of it."""
    torch.manual_seed(seed)
    model = Model(family, vocabulary, states).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    compressor = None
    if cut_at:
        compressor = Compressor(
            model, optimizer, schedule=At(cut_at), policy=States(to), gramians=gramians
        )
    start, stream = time.perf_counter(), batches(x, seed)
    for _ in range(steps):
        loss = loss_of(model, next(stream))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if compressor:
            compressor.step()
    return model, time.perf_counter() - start


def compare_types(args, x, test, vocabulary):
    losses, full = defaultdict(list), []
    for seed in args.seeds:
        model, seconds = trained(args.family, vocabulary, STATES[args.family], x, seed, args.steps)
        full.append(test_loss(model, test))
        print(f"seed {seed}: loss {full[-1]:.4f} after {seconds:.0f} s", flush=True)
        data = [next(batches(x, 7))[:, :-1] for _ in range(4)]
        for size in args.sizes:
            for name, gramians in TYPES.items():
                torch.manual_seed(seed)
                trial = copy.deepcopy(model)
                compress_(trial, States(size), gramians=gramians, data=data)
                losses[name, size].append(test_loss(trial, test) - full[-1])
    print(f"\n{args.family}, {STATES[args.family]} states, loss {mean(full):.3f}: increase at")
    print(f"{'':16}" + "".join(f"{size:>18}" for size in args.sizes))
    for name in TYPES:
        print(f"{name:16}" + "".join(f"{shown(losses[name, size]):>18}" for size in args.sizes))


def compare_arms(args, x, test, vocabulary):
    states, arms = STATES[args.family], defaultdict(list)
    for seed in args.seeds:
        full, seconds = trained(args.family, vocabulary, states, x, seed, args.steps)
        arms["full", states].append((test_loss(full, test), seconds))
        for size in args.sizes:
            trial = copy.deepcopy(full)
            data = [next(batches(x, 7))[:, :-1] for _ in range(4)]
            compress_(trial, States(size), gramians=args.gramians, data=data)
            arms["after", size].append((test_loss(trial, test), seconds))
            cut = args.steps // 10
            for name, to, at in (("in training", size, cut), ("from scratch", None, None)):
                model, seconds_ = trained(
                    args.family, vocabulary, states if at else size, x, seed, args.steps, at, to,
                    args.gramians,
                )  # fmt: skip
                arms[name, size].append((test_loss(model, test), seconds_))
        print(f"seed {seed} is done", flush=True)
    base = [loss for loss, _ in arms["full", states]]
    print(f"\n{args.family}: test loss, its difference to full, state of a sequence, seconds")
    for (name, size), found in arms.items():
        difference = [loss - other for (loss, _), other in zip(found, base, strict=True)]
        model = Model(args.family, vocabulary, size)
        print(
            f"{name:14}{size:4} states {mean(loss for loss, _ in found):8.4f}"
            f"{shown(difference):>18} {state_bytes(model):>8} B {mean(s for _, s in found):7.0f} s"
        )


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--gramians", default="input", help="for --arms")
    parser.add_argument("--arms", action="store_true")
    args = parser.parse_args()
    x, test, vocabulary = text()
    (compare_arms if args.arms else compare_types)(args, x, test, vocabulary)


if __name__ == "__main__":
    main()
