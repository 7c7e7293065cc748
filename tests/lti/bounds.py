"""sigma_r+1 <= ||G - G_r|| <= 2 sum(sigma) on very many systems; prints a Markdown table.

Each example is a system of some kind and form, continuous or discrete, real or complex, with one
method and one order, all drawn: measuring the norm is what takes the time. `--all-orders` takes
every order. The last two columns are the largest and smallest error/bound of systems whose poles
keep 0.1 from the stability boundary, where the bound is above rounding.

    python -m tests.lti.bounds --examples 100000 --processes 2
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys as python
import warnings
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the processes share the cores

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import lti
from lti.testing import as_code, assert_error_bound, stable_systems
from lti.testing.strategies import FORMS, KINDS
from tests.lti.helpers import distance

METHODS = (
    lti.balanced_truncation,
    lti.singular_perturbation,
    partial(lti.balanced_truncation, method="balancing-free"),
    partial(lti.singular_perturbation, method="balancing-free"),
)
CHUNK = 100  # examples of one kind, form and seed


@dataclass
class Tally:
    """What was seen; a ratio is (error / bound, where)."""

    systems: int = 0
    pairs: int = 0
    infinite: int = 0
    violations: list = field(default_factory=list)
    tightest: tuple = (0.0, "")
    loosest: tuple = (np.inf, "")

    def __add__(self, other):
        return Tally(
            self.systems + other.systems,
            self.pairs + other.pairs,
            self.infinite + other.infinite,
            self.violations + other.violations,
            max(self.tightest, other.tightest),
            min(self.loosest, other.loosest),
        )

    def measured(self, reduction, error):
        bound = reduction.error_bound
        self.infinite += bool(np.isinf(bound))
        least = max(1e-6 * reduction.scale, 1e-9 * np.linalg.norm(reduction.original.D))
        if least < bound < np.inf and distance(reduction.original).min() > 0.1:
            ratio = error / bound
            if not self.loosest[0] <= ratio <= self.tightest[0]:
                where = f"{reduction.method} to order {reduction.order} of "
                seen = (ratio, where + as_code(reduction.original))
                self.tightest, self.loosest = max(self.tightest, seen), min(self.loosest, seen)


def check(job, shrink=False):
    """A `Tally` of one chunk; to `shrink` is to raise the smallest violation."""
    kind, form, number, count, all_orders = job
    tally = Tally()

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, *[Phase.shrink] * shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(stable_systems(kind=kind, form=form), st.sampled_from(METHODS), st.integers(0, 6))
    def examples(sys, method, order):
        tally.systems += 1
        for r in range(sys.order + 1) if all_orders else [order % (sys.order + 1)]:
            tally.pairs += 1
            try:
                reduction = method(sys, r)
                tally.measured(reduction, assert_error_bound(reduction))
            except Exception as error:  # of whatever kind, it counts
                if shrink:
                    raise
                where = f"{method} to order {r} of {as_code(sys)}"
                text = str(error).partition("\n")[0]
                print(f"\n{text}\n{where}", file=python.stderr, flush=True)
                tally.violations.append((text, job))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        examples()
    return kind, tally


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--all-orders", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    chunks = -(-args.examples // CHUNK)
    sizes = [CHUNK] * (chunks - 1) + [args.examples - CHUNK * (chunks - 1)]
    designs = [x for x in itertools.product(KINDS, FORMS) if x[0] != "chain" or x[1] == "dense"]
    jobs = [
        (*design, args.seed + i, size, args.all_orders)
        for i, (design, size) in enumerate(zip(itertools.cycle(designs), sizes, strict=False))
    ]
    tallies, done, start = {kind: Tally() for kind in KINDS}, 0, perf_counter()
    with get_context("spawn").Pool(args.processes) as pool:
        for kind, tally in pool.imap_unordered(check, jobs):
            tallies[kind] += tally
            done += tally.systems
            found = sum(len(x.violations) for x in tallies.values())
            seconds = perf_counter() - start
            print(
                f"\r{done} of {args.examples} examples, {found} violations, {seconds:.0f} s",
                end="", file=python.stderr, flush=True,
            )  # fmt: skip
    print(file=python.stderr)
    total = sum(tallies.values(), Tally())
    print("| kind | systems | pairs | infinite bound | violations | tightest | loosest |")
    print("|---|---|---|---|---|---|---|")
    for kind, x in (*tallies.items(), ("all", total)):
        tight, loose = (f"{ratio:.9g}" if where else "" for ratio, where in (x.tightest, x.loosest))
        print(
            f"| {kind} | {x.systems} | {x.pairs} | {x.infinite} | {len(x.violations)} "
            f"| {tight} | {loose} |"
        )
    print(f"\n{total.systems / (perf_counter() - start):.0f} examples per second")
    print(f"\nTightest: {total.tightest[1]}\n\nLoosest: {total.loosest[1]}")
    for message, _ in total.violations:
        print(f"\nViolation: {message}")
    for job in dict.fromkeys(job for _, job in total.violations[:1]):
        try:
            check(job, shrink=True)
        except Exception as error:
            print(f"\nThe smallest like the first: {error}")
    return bool(total.violations)


if __name__ == "__main__":
    python.exit(main())
