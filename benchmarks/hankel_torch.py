"""Hankel machinery on torch tensors against the usual ways, side by side.

`layer`: one LRU layer of n complex states and d channels reduced to n/4 states in diagonal form, by
`lti` in complex128 and by the method of the CompreSSM code (eigenvalues of P Q, `sqrtm` or
Cholesky, explicit inverses) in complex64: time, error of the values relative to the largest, error
of the system against its bound. `many`: Hankel singular values of 512 small systems in one call,
against a loop over slycot's ab09ad. `slope`: sum of the values and its derivatives, against
autograd through `eigvals(P Q)` and through Cholesky factors and `svdvals`, all in complex128.

    python benchmarks/hankel_torch.py [layer many slope] [--threads 1] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
import torch  # noqa: E402

import lti  # noqa: E402

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def layer(n: int, d: int, phase: float = 6.28, *stack: int, seed: int = 0) -> Tensors:
    """Poles, B and C of freshly initialised LRU layers."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(0.9**2, 0.999**2, (*stack, n)))
    poles = radius * np.exp(1j * rng.uniform(0, phase, (*stack, n)))
    real, imag = rng.standard_normal((2, *stack, n, d)) / np.sqrt(2 * d)
    B = np.sqrt(1 - radius**2)[..., None] * (real + 1j * imag)
    real, imag = rng.standard_normal((2, *stack, d, n)) / np.sqrt(n)
    return torch.tensor(poles), torch.tensor(B), torch.tensor(real + 1j * imag)


def seconds(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """The shortest of some calls, and what the last returned; what it raised as well."""
    times, result = [], None
    for _ in range(repeats):
        start = perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = call()
        except (RuntimeError, np.linalg.LinAlgError) as error:
            return float("nan"), error
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return min(times), result


def gramians(p: Any, B: Any, C: Any) -> tuple[Any, Any]:
    P = B @ B.conj().swapaxes(-1, -2) / (1 - p[..., :, None] * p.conj()[..., None, :])
    Q = C.conj().swapaxes(-1, -2) @ C / (1 - p.conj()[..., :, None] * p[..., None, :])
    return P, Q


def reference(p: Any, B: Any, C: Any, order: int, way: str) -> tuple[Any, Any]:
    """Values, and the truncated system in diagonal form, as the reference code has them."""
    P, Q = gramians(p, B, C)
    sigma = np.sort(np.sqrt(np.linalg.eigvals(P @ Q).real))[::-1]
    root = (
        scipy.linalg.sqrtm(P) if way == "sqrtm" else np.linalg.cholesky(P + 1e-9 * np.eye(len(P)))
    )
    root = root.astype(p.dtype)
    U, s, _ = np.linalg.svd(root.conj().T @ Q @ root)
    T = root @ U * s**-0.25
    W = np.linalg.inv(T)
    A = (W * p) @ T
    poles, V = np.linalg.eig(A[:order, :order])
    return sigma, (poles, np.linalg.inv(V) @ (W @ B)[:order], (C @ T)[:, :order] @ V)


def ours(sys: lti.DiagonalStateSpace, order: int) -> tuple[Any, Any]:
    reduction = lti.balanced_truncation(sys, order)
    modes, _ = lti.diagonalize(reduction.system)
    return reduction.hsv, (modes.poles, modes.B, modes.C)


def compare_layer(device: str) -> None:
    print("|   n |   d | spectrum | way         |   ms | ratio | values off | error / bound |")
    print("|----:|----:|----------|-------------|-----:|------:|-----------:|--------------:|")
    cases = [(256, 8, 6.28), (256, 8, 0.7), (256, 128, 6.28), (384, 512, 6.28)]
    for n, d, phase in cases:
        p, B, C = (x.to(device) for x in layer(n, d, phase))
        sys, order = lti.DiagonalStateSpace(p, B, C, None, True), n // 4
        single = [x.cpu().numpy().astype(np.complex64) for x in (p, B, C)]
        base, (exact, _) = seconds(lambda s=sys, r=order: ours(s, r))
        exact = host(exact)
        ways = {"lti": lambda s=sys, r=order: ours(s, r)}
        for way in ("sqrtm", "chol"):
            ways[f"P Q, {way}"] = lambda m=single, r=order, w=way: reference(*m, r, w)
        for way, call in ways.items():
            time, found = seconds(call)
            spectrum = "wide" if phase > 1 else "crowded"
            row = f"| {n} | {d:3} | {spectrum:8} | {way:11} | {1e3 * time:4.0f} |"
            row = f"{row} {time / base:5.1f} |"
            if isinstance(found, Exception):
                print(row, type(found).__name__)
                continue
            values, modes = found
            off = np.abs(host(values) - exact) / exact[0]
            lost = int(np.isnan(off).sum())
            bound = 2 * exact[order:].sum()
            error = distance((p, B, C), modes) / bound
            note = f"{np.nanmax(off):.0e}" + (f", {lost} NaN" if lost else "")
            print(f"{row} {note:>10} | {error:13.2g} |", flush=True)


def host(x: Any) -> np.ndarray:
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else x


def distance(one: Any, other: Any) -> float:
    """The largest gain of the difference at the resonances of `one`."""
    p, B, C = map(host, one)
    q, F, H = (host(x).astype(complex) for x in other)
    gains = [
        np.linalg.norm((C / (z - p)) @ B - (H / (z - q)) @ F, 2)
        for z in np.exp(1j * np.sort(np.angle(p)))[:: max(1, len(p) // 64)]
    ]
    return float(max(gains))


def compare_many(device: str) -> None:
    from slycot import ab09ad

    print("| 512 systems  |  n | lti ms | slycot ms | ratio |")
    print("|--------------|---:|-------:|----------:|------:|")
    for n in (16, 32, 64):
        p, B, C = (x.to(device) for x in layer(n, 1, 6.28, 512))
        stack = lti.DiagonalStateSpace(p, B, C, None, True)
        row("complex", n, stack, [real_form(*x) for x in zip(p, B, C, strict=True)], ab09ad)
    for n in (16, 32, 64):
        rng = np.random.default_rng(0)
        A = rng.standard_normal((512, n, n))
        A = 0.95 * A / abs(np.linalg.eigvals(A)).max(-1)[:, None, None]
        B, C = rng.standard_normal((512, n, 1)), rng.standard_normal((512, 1, n))
        stack = lti.StateSpace(*(torch.tensor(x).to(device) for x in (A, B, C)), None, True)
        row("dense real", n, stack, list(zip(A, B, C, strict=True)), ab09ad)


def real_form(p: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> tuple[Any, ...]:
    def blocks(x: np.ndarray) -> np.ndarray:
        return np.block([[x.real, -x.imag], [x.imag, x.real]])

    return tuple(blocks(host(x)) for x in (torch.diag(p), B, C))


def row(kind: str, n: int, stack: Any, loop: list, ab09ad: Callable) -> None:
    def slycot() -> list:
        return [
            ab09ad("D", "B", "N", A.shape[0], B.shape[1], C.shape[0], A, B, C, nr=1)[4]
            for A, B, C in loop
        ]

    mine, values = seconds(lambda: lti.hankel_singular_values(stack))
    theirs, expected = seconds(slycot, 1)
    repeat = 2 if kind == "complex" else 1  # the real form has each value twice
    worst = max(
        np.abs(host(v) - e[::repeat]).max() / e[0] for v, e in zip(values, expected, strict=True)
    )
    print(
        f"| {kind:12} | {n:2} | {1e3 * mine:6.0f} | {1e3 * theirs:9.0f} | {theirs / mine:5.1f} |"
        f" apart by {worst:.0e}",
        flush=True,
    )


def compare_slope(device: str) -> None:
    print("| n, d, spectrum   | way            |    ms | ratio | slope                       |")
    print("|------------------|----------------|------:|------:|-----------------------------|")
    for n, d, phase in ((256, 128, 6.28), (256, 8, 0.7)):
        matrices = [x.to(device).requires_grad_() for x in layer(n, d, phase)]
        base, truth = seconds(lambda m=matrices: slope(by_lti, m))
        for way in (by_lti, by_eigenvalues, by_cholesky):
            time, found = seconds(lambda w=way, m=matrices: slope(w, m))
            if isinstance(found, Exception):
                said = f"raises {type(found).__name__}"
            elif not all(x.isfinite().all() for x in found):
                said = "NaN"
            else:
                gaps = (abs(x - y).max() / abs(y).max() for x, y in zip(found, truth, strict=True))
                said = f"off by {float(max(gaps)):.0e}"
            case = f"{n}, {d}, {phase}"
            row = f"| {case:16} | {way.__name__:14} | {1e3 * time:5.0f} | {time / base:5.1f} |"
            print(row, f"{said:27} |", flush=True)


def slope(way: Callable, matrices: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(way(*matrices), matrices)


def by_lti(p: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    return lti.hankel_singular_values(lti.DiagonalStateSpace(p, B, C, None, True)).sum()


def by_eigenvalues(p: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    P, Q = gramians(p, B, C)
    return torch.linalg.eigvals(P @ Q).real.sqrt().sum()


def by_cholesky(p: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    S, R = map(torch.linalg.cholesky, gramians(p, B, C))
    return torch.linalg.svdvals(R.mH @ S).sum()


TABLES = {"layer": compare_layer, "many": compare_many, "slope": compare_slope}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for table in arguments.tables or TABLES:
        TABLES[table](arguments.device)
        print()


if __name__ == "__main__":
    main()
