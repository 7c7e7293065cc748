"""Every layer that is supported, ours or not, by one contract; `python -m` prints the table.

Read as a system, written back, cut within its bound, trained on: docs/layers.md shows the outcome.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lti
from compressm import (
    DSS,
    LRU,
    LSSL,
    S4,
    S4D,
    S5,
    At,
    Compressor,
    OptionError,
    SSMLayer,
    compress_,
    load_lti_,
    to_lti,
)
from compressm.gramians.moments import observed_factor
from compressm.systems.find import ssm_layers
from tests.compressm.foreign_layers import MinimalLRU, PublishedS4D, PytorchLRU, neural_ssm, s5
from tests.compressm.layer_contract import diagonal, impulse_response

D, N, LENGTH = 3, 8, 40  # channels, stored states, steps


@dataclass
class Case:
    """How to make a layer of some kind, and what to expect of it."""

    make: Callable[[], nn.Module]
    call: Callable[[nn.Module, Tensor], Tensor] = lambda layer, u: layer(u)
    runs: Callable[[nn.Module, Tensor], Tensor] | None = None  # if more follows in its forward
    n: int = N  # stored states
    delay: int = 0  # of the output, 1 if it reads the state before the update
    double: bool = True  # whether it can run in double precision

    def layer(self, seed=0):
        torch.manual_seed(seed)
        layer = self.make()
        if self.double:
            layer.double()
            for parameter in layer.parameters():  # of which double() leaves the complex ones alone
                if parameter.is_complex():
                    parameter.data = parameter.data.to(torch.complex128)
        return layer

    @property
    def tol(self) -> float:
        """What is rounding, in the precision that the layer can have."""
        return 1e-10 if self.double else 1e-4

    def half(self, hsv, stored):
        """The policy that keeps half the stored states."""
        return first_within(stored, self.n // 2)

    def inputs(self, seed=1, length=LENGTH):
        torch.manual_seed(seed)
        return torch.randn(2, length, D, dtype=torch.float64 if self.double else torch.float32)


CASES = {
    "LRU": Case(lambda: LRU(D, N, r_max=0.98)),
    "S5": Case(lambda: S5(D, N, dt_min=0.05, dt_max=0.3)),
    "S5, bilinear": Case(
        lambda: S5(D, N, conj_sym=False, discretization="bilinear", dt_min=0.05, dt_max=0.3)
    ),
    "S4D": Case(lambda: S4D(D, N, dt_min=0.05, dt_max=0.3)),
    "S4D, bilinear": Case(
        lambda: S4D(D, N, discretization="bilinear", init="inv", dt_min=0.05, dt_max=0.3)
    ),
    "DSS": Case(lambda: DSS(D, N, dt_min=0.05, dt_max=0.3)),
    "DSS, softmax": Case(lambda: DSS(D, N, version="softmax", l_max=64, dt_min=0.05, dt_max=0.3)),
    "S4": Case(lambda: S4(D, 4, 64, dt_min=0.05, dt_max=0.3), n=4),
    "LSSL": Case(lambda: LSSL(D, 6, dt_min=0.05, dt_max=0.3), n=6),
    "minimal-LRU": Case(lambda: MinimalLRU(D, N)),
    "LRU-pytorch": Case(lambda: PytorchLRU(D, 5, N)),
    "neural-ssm LRU": Case(
        lambda: neural_ssm.ssm.LRU(D, 5, N, rmax=0.98),
        lambda layer, u: layer(u)[0],
        delay=1,
        double=False,
    ),
    "S4D as published": Case(
        lambda: PublishedS4D(D, N),
        lambda layer, u: layer.system(u),
        runs=lambda layer, u: layer(u.mT)[0].mT,
    ),
    "s5-pytorch": Case(lambda: s5.S5(D, N, dt_min=0.05, dt_max=0.3), double=False),
}


def convolved(G, u: Tensor, delay: int) -> Tensor:
    """What the system answers to u, channel by channel if it is a batch."""
    K = impulse_response(G, u.shape[1])
    y = torch.zeros(*u.shape[:2], K.shape[-2], dtype=K.dtype)
    for lag, k in enumerate(K[: u.shape[1] - delay]):
        y[:, lag + delay :] += u[:, : u.shape[1] - delay - lag].double() @ k.mT
    return y


def memoryless(residual: Tensor, u: Tensor) -> float:
    """How far a residual is from M u[t] with one matrix M, relative to it."""
    U, R = u.double().flatten(0, 1), residual.flatten(0, 1)
    return float((R - U @ torch.linalg.lstsq(U, R).solution).norm())


@torch.no_grad()
def reading_error(case: Case) -> float:
    """Of the system that to_lti reads against what the layer computes, apart from D."""
    layer, u = case.layer(), case.inputs()
    y = case.call(layer, u).double()
    return memoryless(y - convolved(to_lti(layer), u, case.delay), u) / float(y.norm())


@torch.no_grad()
def round_trip_error(case: Case) -> float:
    """Of the layer after load_lti_(to_lti()) against before."""
    layer, u = case.layer(), case.inputs()
    y = case.call(layer, u)
    load_lti_(layer, diagonal(to_lti(layer)))
    return float((case.call(layer, u) - y).norm() / y.norm())


@torch.no_grad()
def step_error(case: Case) -> float | None:
    """Of step by step against all at once; None if the layer has no step."""
    layer, u, state, y = case.layer(), case.inputs(), None, []
    if not isinstance(layer, SSMLayer):
        return None
    for v in u.unbind(1):
        out, state = layer.step(v, state)
        y.append(out)
    y = torch.stack(y, dim=1)
    return float((layer(u) - y).norm() / y.norm())


@torch.no_grad()
def fraction_of_bound(case: Case) -> float:
    """The change of the output by a cut to half the states, relative to what is promised."""
    layer, u = case.layer(), case.inputs(length=200)
    y = case.call(layer, u)
    (cut,) = compress_(layer, case.half).layers
    assert cut.skipped is None and cut.after <= case.n // 2 < cut.before, cut
    return float((case.call(layer, u) - y).norm() / (cut.error_bound * u.norm()))


def first_within(stored, n):
    return max(order for order in range(1, 2 * n + 1) if stored(order) <= n)


def trains_after_a_cut(case: Case) -> bool:
    """Every parameter is the same object after a cut and moves in the next step."""
    layer, u = case.layer(), case.inputs()
    for parameter in layer.parameters():
        parameter._optim = {"lr": 0.5}
    optimizer = torch.optim.Adam(layer.parameters(), 1e-3)
    identities = [id(p) for p in layer.parameters()]
    runs = case.runs or case.call
    loss = runs(layer, u).square().mean()  # held across the cut, as in a loop
    loss.backward()
    optimizer.step()
    compress_(layer, case.half, optimizer)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer.zero_grad()
    loss = runs(layer, u).square().mean()
    loss.backward()
    optimizer.step()
    return (
        [id(p) for p in layer.parameters()] == identities
        and all(p._optim == {"lr": 0.5} for p in layer.parameters())
        and all(
            (p != q).any() for p, q in zip(layer.parameters(), before, strict=True) if p.numel()
        )
    )


@torch.no_grad()
def lossless_error(case: Case) -> float:
    """Of the output after states that no input drives were cut away."""
    layer, u = case.layer(), case.inputs()
    G = diagonal(to_lti(layer))
    idle = torch.arange(G.poles.shape[-1]) >= case.n // 2
    B = torch.where(idle[:, None], 0.0, G.B)
    load_lti_(layer, lti.DiagonalStateSpace(G.poles, B, G.C, dt=True, conjugate=G.conjugate))
    y = case.call(layer, u)
    (cut,) = compress_(layer, case.half).layers
    assert cut.after == case.n // 2, cut
    return float((case.call(layer, u) - y).norm() / y.norm())


cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@cases
def test_what_is_read_is_what_is_computed(case):
    assert reading_error(case) < case.tol


@cases
def test_what_is_read_can_be_written_back(case):
    assert round_trip_error(case) < case.tol


@pytest.mark.parametrize("name", [k for k, x in CASES.items() if isinstance(x.layer(), SSMLayer)])
def test_step_by_step_is_all_at_once(name):
    assert step_error(CASES[name]) < CASES[name].tol


@cases
def test_a_cut_keeps_its_promise(case):
    assert 1e-6 < fraction_of_bound(case) <= 1


@cases
def test_a_cut_of_idle_states_costs_nothing(case):
    assert lossless_error(case) < case.tol


@cases
def test_training_goes_on(case):
    assert trains_after_a_cut(case)


@cases
def test_derivatives_reach_every_parameter_that_counts(case):
    layer = case.layer()
    lti.hankel_singular_values(to_lti(layer)).sum().backward()
    moved = {name for name, p in layer.named_parameters() if p.grad is not None and p.grad.any()}
    rest = {name for name, _ in layer.named_parameters()} - moved
    assert all(name in ("D", "seq.D") or name.startswith("output_linear") for name in rest)


@cases
def test_it_is_cut_by_what_its_inputs_drive(case):
    layer, u = case.layer(), case.inputs()
    runs = case.runs or case.call

    class Model(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, u):
            return runs(self.layer, u)

    model = Model(layer)
    y = case.call(layer, u)
    G = to_lti(layer)
    S = observed_factor(G, [u])
    (by_input,) = compress_(Model(case.layer()), case.half, gramians="input", data=[u]).layers
    expected = lti.balance(G, controllability=S).hsv.detach().numpy()
    assert by_input.after <= case.n // 2 and by_input.hsv == pytest.approx(expected, rel=1e-6)
    if case.runs is not None:
        with pytest.raises(OptionError, match="needs the gradient at the output of a system"):
            compress_(model, case.half, gramians="data", data=[u])
        with pytest.raises(OptionError, match="layer .* goes on after it"):
            Compressor(model, schedule=At(1), gramians="data")
        return
    (by_data,) = compress_(model, case.half, gramians="data", data=[u]).layers
    assert by_data.after <= case.n // 2
    assert (case.call(layer, u) - y).norm() < 0.5 * y.norm()
    assert (to_lti(layer).poles.abs() < 1).all()


@cases
def test_a_layer_is_found_once_in_a_model(case):
    model = nn.Sequential(case.layer(), nn.Linear(3, 3), case.layer())
    assert [name for name, _ in ssm_layers(model)] == ["0", "2"]
    assert [name for name, _ in ssm_layers(case.layer())] == [""]


@cases
def test_a_layer_that_blows_up_is_refused_unchanged(case):
    layer = case.layer()
    before = copy.deepcopy(layer.state_dict())
    G = diagonal(to_lti(layer))
    outside = lti.DiagonalStateSpace(G.poles / G.poles.abs() * 1.1, G.B, G.C, dt=True,
                                     conjugate=G.conjugate)  # fmt: skip
    with pytest.raises(lti.UnstableError):
        load_lti_(layer, outside)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def table(figures: bool = False) -> str:
    """The outcome for every layer, as Markdown: whether it holds, or what was measured."""
    checks = {
        "read": reading_error,
        "written back": round_trip_error,
        "step": step_error,
        "idle states cut": lossless_error,
    }

    def cell(check: Callable[[Case], float | None], case: Case) -> str:
        value = check(case)
        if value is None:
            return "none"
        if figures:
            return f"{value:.0e}"
        return "yes" if value < case.tol else "no"

    rows = [["layer", *checks, "within its bound", "trains on"]]
    rows.append(["---"] * len(rows[0]))
    for name, case in CASES.items():
        fraction = fraction_of_bound(case)
        bound = f"{fraction:.0%} of it" if figures else "yes" if fraction <= 1 else "no"
        trains = "yes" if trains_after_a_cut(case) else "no"
        rows.append([name, *(cell(check, case) for check in checks.values()), bound, trains])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_table_of_the_page_is_this_one():
    page = Path(__file__).parents[3] / "docs" / "layers.md"
    assert table() in page.read_text(encoding="utf-8"), (
        "run python -m tests.compressm.systems.test_every_layer"
    )


if __name__ == "__main__":
    sys.stdout.write(table(figures="--figures" in sys.argv) + "\n")
