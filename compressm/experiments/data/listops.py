"""ListOps: nested operations on lists of digits, one token for each time step."""

from __future__ import annotations

from random import Random
from statistics import median

import numpy as np
import torch

from compressm.errors import DataError, OptionError
from compressm.experiments.data.dataset import Dataset

__all__ = ["TOKENS", "listops"]

OPERATORS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(median(values)),
    "[SM": lambda values: sum(values) % 10,
}
TOKENS = ("", *map(str, range(10)), *OPERATORS, "]")
"""The token of each number; number 0 is padding."""
NUMBER = {token: number for number, token in enumerate(TOKENS)}
TRIES = 100_000


def listops(
    n_train: int = 96_000,
    n_test: int = 2_000,
    min_length: int = 500,
    max_length: int = 2_000,
    max_depth: int = 10,
    max_args: int = 10,
    seed: int = 0,
) -> Dataset:
    """Random expressions such as ``[MAX 2 9 [MIN 4 7 ] 0 ]``, all different, with their values.

    An argument is an operation with probability 1/4, until `max_depth` is reached, else a digit;
    operators (minimum, maximum, median rounded down, sum modulo 10), digits and the number of
    arguments, from 2 to `max_args`, are uniform. The defaults are those of the Long Range Arena.

    Parameters
    ----------
    n_train, n_test
        Number of expressions; the test part does not depend on `n_train`.
    min_length, max_length
        Tokens of an expression, brackets included; shorter and longer ones are drawn again.
        Sequences are padded to `max_length`.
    max_depth, max_args
        Largest depth of an expression, largest number of arguments of an operation.
    seed
        Seed of all random numbers.

    Raises
    ------
    ValueError
        If a number is out of range.
    DataError
        If there are too few different expressions of such a length.

    References
    ----------
    Nangia, Bowman, "ListOps: A diagnostic dataset for latent tree learning", NAACL student research
    workshop 2018, arXiv:1804.06028. Tay et al., "Long Range Arena", ICLR 2021, arXiv:2011.04006.
    """
    if min(n_train, n_test, min_length, max_depth) < 1 or max_args < 2 or min_length > max_length:
        raise OptionError(
            "n_train, n_test, min_length and max_depth must be at least 1, max_args at least 2, "
            f"and min_length at most max_length; got {n_train}, {n_test}, {min_length}, "
            f"{max_depth}, {max_args} and max_length {max_length}"
        )
    random = Random(seed)
    x = np.zeros((n_test + n_train, max_length), dtype=np.uint8)
    y = np.zeros(len(x), dtype=np.int64)
    seen: set[bytes] = set()
    for row in range(len(x)):
        for _ in range(TRIES):
            tokens = bytearray()
            value = _draw(random, tokens, max_length, max_depth, max_args)
            if min_length <= len(tokens) <= max_length and bytes(tokens) not in seen:
                break
        else:
            raise DataError(
                f"{TRIES:,} expressions in a row were shorter than {min_length} tokens, longer "
                f"than {max_length}, or not new: lower min_length, n_train or n_test, or raise "
                "max_length, max_depth or max_args."
            )
        seen.add(bytes(tokens))
        x[row, : len(tokens)] = tokens
        y[row] = value
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    test, train = slice(n_test), slice(n_test, None)
    return Dataset("ListOps", inputs[train], labels[train], inputs[test], labels[test], len(TOKENS))


def _draw(random: Random, tokens: bytearray, limit: int, depth: int, max_args: int) -> int:
    """Append an expression to `tokens` and return its value; stop beyond `limit` tokens."""
    if depth == 1 or random.random() >= 0.25:
        value = random.randrange(10)
        tokens.append(NUMBER[str(value)])
        return value
    operator = random.choice(list(OPERATORS))
    tokens.append(NUMBER[operator])
    values = []
    for _ in range(random.randint(2, max_args)):
        values.append(_draw(random, tokens, limit, depth - 1, max_args))
        if len(tokens) > limit:
            return 0
    tokens.append(NUMBER["]"])
    return OPERATORS[operator](values)
