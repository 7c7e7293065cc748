"""What Adam should know after a cut: the loss of the next steps, paired seeds, a Markdown table.

A model trains at full size; then each arm cuts a copy of it alike, and trains on with the same
batches. Arms differ in the state of the optimizer for the parameters that were cut, in the learning
rate of the first steps, or in the scale of the modes:

reset           fresh, as `resize_` leaves it
fresh           fresh for all parameters of the model
projected       both moments through the change of basis, steps counted on
projected m     first moments through the change of basis, second ones re-estimated
re-estimated    both moments as the mean over the gradients of the last batches, steps counted on
rewarm 20, 100  fresh; the learning rate rises along a line over so many steps
balanced        fresh; gamma = sqrt(1 - |lambda|^2), rows of B as long as columns of C
half rate       fresh; half the learning rate, to tell apart what only makes steps smaller

Differences are those of the mean loss over the steps after the cut to "reset", same seed, with
their standard error, in parts of a thousand; the accuracy is that on test data in the end. With
``--decay`` the learning rate falls along a cosine to zero over these steps, as in a run to its end.

    COMPRESSM_DATA=folder/of/mnist.npz python benchmarks/moments.py --data mnist --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressm import KeepEnergy, SequenceModel, compress_
from compressm.experiments.data import Dataset, digits, mnist
from compressm.experiments.demo import DIGITS, MNIST
from compressm.experiments.training import Settings, accuracy
from compressm.systems.find import ssm_layers

BETAS = (0.9, 0.999)
RECENT, DRAWS = 20, 100
KEYS = ("nu", "theta", "gamma")
ARMS = (
    "reset",
    "fresh",
    "projected",
    "projected m",
    "re-estimated",
    "rewarm 20",
    "rewarm 100",
    "balanced",
    "half rate",
)
TASKS = {"digits": (digits, DIGITS), "mnist": (mnist, MNIST)}


@dataclass
class Run:
    """A model, its optimizer, and where it is in the data."""

    data: Dataset
    settings: Settings
    seed: int

    def __post_init__(self) -> None:
        s = self.settings
        torch.manual_seed(self.seed)
        self.model = SequenceModel(
            1, self.data.n_outputs, s.d_model, s.d_state, s.n_layers, **s.layer_options
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=s.lr, betas=BETAS)
        self.step = 0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(100_003 * self.seed + step)
        index = torch.randint(
            len(self.data.y_train), (self.settings.batch_size,), generator=generator
        )
        return self.data.x_train[index], self.data.y_train[index]

    def gradients(self, step: int) -> float:
        self.optimizer.zero_grad()
        u, target = self.batch(step)
        loss = cross_entropy(self.model(u), target)
        loss.backward()
        return loss.item()

    def train(self, steps: int, rise: int, decay: bool = False, rate: float = 1.0) -> list[float]:
        """Losses; the learning rate rises over the first `rise` steps, and may fall over all."""
        losses = []
        for k in range(1, steps + 1):
            factor = rate * min(1.0, k / max(rise, 1))
            factor *= 0.5 + 0.5 * cos(pi * (k - 1) / steps) if decay else 1.0
            self.optimizer.param_groups[0]["lr"] = self.settings.lr * factor
            losses.append(self.gradients(self.step))
            self.optimizer.step()
            self.step += 1
        return losses

    def copy(self) -> Run:
        other = Run(self.data, self.settings, self.seed)
        other.model, other.optimizer = deepcopy((self.model, self.optimizer))
        other.step = self.step
        return other


def after_cut(run: Run, arm: str, steps: int, decay: bool) -> list[float]:
    """Losses of the steps after a cut of a copy, then the accuracy and the states left."""
    run = run.copy()
    model, optimizer = run.model, run.optimizer
    (name, layer), *_ = ssm_layers(model)
    old, state = deepcopy(layer), {k: optimizer.state[p] for k, p in layer.named_parameters()}
    s = run.settings
    data = [run.batch(run.step - k)[0] for k in range(1, 5)] if s.gramians == "input" else ()
    compress_(model, KeepEnergy(s.energy), optimizer, gramians=s.gramians, data=data)
    if arm == "fresh":
        optimizer.state.clear()
    elif arm == "projected":
        moments = projected(old, layer, state)
        fill(optimizer, layer, moments, state["B"]["step"])
    elif arm == "projected m":
        moments = projected(old, layer, state)[0], estimated(run, layer)[1]
        fill(optimizer, layer, moments, state["B"]["step"])
    elif arm == "re-estimated":
        fill(optimizer, layer, estimated(run, layer), state["B"]["step"])
    elif arm == "balanced":
        balance_(layer)
    rise = int(arm.split()[1]) if arm.startswith("rewarm") else 0
    losses = run.train(steps, rise, decay, rate=0.5 if arm == "half rate" else 1.0)
    return [*losses, accuracy(model, run.data.x_test, run.data.y_test), layer.d_state]


def fill(optimizer: Any, layer: nn.Module, moments: Any, step: Tensor) -> None:
    for name, p in layer.named_parameters():
        if name != "D":
            first, second = (x[name].to(p).reshape(p.shape) for x in moments)
            optimizer.state[p] = {"step": step.clone(), "exp_avg": first, "exp_avg_sq": second}


def estimated(run: Run, layer: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means of g and of g^2 over the last batches, batch statistics of the model as they were."""
    before = deepcopy(run.model.state_dict())
    sums = [{k: torch.zeros_like(p) for k, p in layer.named_parameters()} for _ in range(2)]
    for k in range(RECENT):
        run.gradients(run.step - 1 - k)
        for name, p in layer.named_parameters():
            sums[0][name] += p.grad / RECENT
            sums[1][name] += p.grad.square() / RECENT
    run.model.load_state_dict(before)
    run.optimizer.zero_grad()
    return sums[0], sums[1]


def projected(
    old: Any, new: Any, state: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """x ~ V x_r, x_r ~ W x: dA = V dA_r W, dB = V dB_r, dC = dC_r W, and moments by the transpose.

    V and W are the best such maps for white noise at the inputs, and at the outputs of the dual.
    With the Jacobian J of the old parameters by the new, m <- J^T m and v <- (J * J)^T v.
    """
    with torch.no_grad():
        G, F = old.to_lti().closed(), new.to_lti().closed()
        PF, PG = (gramian(S.poles, S.B, F.poles, F.B) for S in (F, G))
        V = torch.linalg.lstsq(PF.mH, PG.mH).solution.mH
        QF, QG = (gramian(F.poles.conj(), F.C.mH, S.poles.conj(), S.C.mH) for S in (F, G))
        W = torch.linalg.lstsq(QF, QG).solution
        N, pole = old.d_state, G.poles[: old.d_state]
        nu, theta, gamma = (old.get_parameter(f"{k}_log").double().exp() for k in KEYS)

    def pulled(m: dict[str, Tensor]) -> dict[str, Tensor]:
        poles, B, C = new._system(torch.float64)
        rate = ((V * torch.cat([poles, poles.conj()])) * W.mT).sum(1)[:N] / pole
        B = V @ torch.cat([B, B.conj()])
        C = torch.cat([C, C.conj()], 1) @ W
        parts = {
            "nu_log": -rate.real / nu,
            "theta_log": rate.imag / theta,
            "B": torch.view_as_real(B[:N] / gamma[:, None]),
            "C": torch.view_as_real(C[:, :N].contiguous()),
        }
        along = torch.stack([(m[name].double() * part).sum() for name, part in parts.items()])
        own = {name: p for name, p in new.named_parameters() if name != "D"}
        return dict(zip(own, torch.autograd.grad(along.sum(), list(own.values())), strict=True))

    first = pulled({name: own["exp_avg"] for name, own in state.items()})
    second = {name: torch.zeros_like(value) for name, value in first.items()}
    signs = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):  # of independent gradients with these second moments
        drawn = {k: v["exp_avg_sq"].sqrt() for k, v in state.items()}
        drawn = {k: x * torch.randn(x.shape, generator=signs) for k, x in drawn.items()}
        for name, value in pulled(drawn).items():
            second[name] += value.square() / DRAWS
    return first, second


@torch.no_grad()
def balance_(layer: Any) -> None:
    """gamma <- sqrt(1 - |lambda|^2) as at the start, and |B_i| = |C_i| for each mode."""
    gamma = (1 - layer.poles.abs() ** 2).sqrt()
    rows, columns = layer.B.norm(dim=(1, 2)), layer.C.norm(dim=(0, 2))
    length = (layer.gamma_log.exp() * rows * columns / gamma).sqrt()
    layer.B *= (length / rows)[:, None, None]
    layer.C *= (length / columns)[:, None]
    layer.gamma_log.copy_(gamma.log())


def gramian(p: Tensor, B: Tensor, q: Tensor, D: Tensor) -> Tensor:
    """sum over k of diag(p)^k B D^H diag(q)^kH."""
    return (B @ D.mH) / (1 - p[:, None] * q.conj())


def report(rows: list[dict[str, Any]]) -> None:
    """A line for each arm: mean loss after the cut against "reset", and the accuracy in the end."""
    base = {row["seed"]: row for row in rows if row["arm"] == "reset"}
    n = len(rows[0]["losses"])
    spans = sorted({k for k in (20, 200) if k <= n} | {n})
    print("| arm | " + " | ".join(f"loss, {k} steps" for k in spans) + " | accuracy, points |")
    print("|:--|" + "--:|" * (len(spans) + 1))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        if arm == "reset":
            cells = [f"{mean(mean(r['losses'][:k]) for r in mine):.3f}" for k in spans]
            cells.append(f"{100 * mean(row['accuracy'] for row in mine):.2f} %")
        else:
            pairs = [(row, base[row["seed"]]) for row in mine]
            cells = [
                shown([1e3 * (mean(r["losses"][:k]) - mean(b["losses"][:k])) for r, b in pairs])
                for k in spans
            ]
            cells.append(shown([100 * (r["accuracy"] - b["accuracy"]) for r, b in pairs]))
        print(f"| {arm} | " + " | ".join(cells) + " |")


def shown(differences: list[float]) -> str:
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    return f"{mean(differences):+.2f} ± {error:.2f}"


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean over seeds of the loss less that of "reset", over the steps after the cut."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    width = 10
    curves = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        losses = torch.tensor([row["losses"] for row in rows if row["arm"] == arm])
        curves[arm] = losses.mean(0).unfold(0, width, 1).mean(-1)
    steps = torch.arange(len(curves["reset"])) + width
    for arm, curve in curves.items():
        axes.plot(steps, curve - curves["reset"], label=arm, lw=2 if arm == "reset" else 1)
    axes.set_xlabel("steps after the cut")
    axes.set_ylabel(f'loss less that of "reset"\n(mean of {width} steps)')
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=TASKS, default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--before", type=int, default=300, help="steps before the cut")
    parser.add_argument("--after", type=int, default=200, help="steps after it")
    parser.add_argument("--decay", action="store_true", help="to zero over the steps after it")
    parser.add_argument("--rows", type=Path, help="file to add a line of JSON to for each run")
    parser.add_argument("--picture", type=Path, help="file for the curves")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load, settings = TASKS[arguments.data]
    data, rows = load(), []
    for seed in arguments.seeds:
        run = Run(data, settings, seed)
        run.train(arguments.before, arguments.before // 3)
        for arm in arguments.arms:
            *losses, found, states = after_cut(run, arm, arguments.after, arguments.decay)
            rows.append(
                {"seed": seed, "arm": arm, "states": states, "accuracy": found, "losses": losses}
            )
            if arguments.rows:
                with arguments.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    states = [row["states"] for row in rows]
    print(f"{data.name}, seeds {arguments.seeds}, {settings.d_state} states cut to "
          f"{min(states)} to {max(states)} after {arguments.before} steps\n")  # fmt: skip
    report(rows)
    if arguments.picture:
        picture(rows, arguments.picture)


if __name__ == "__main__":
    main()
