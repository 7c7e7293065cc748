"""ListOps: labels against an evaluation by rewriting, limits, seeds."""

import re

import numpy as np
import pytest
import torch

from compressm import DataError
from compressm.experiments.data.listops import TOKENS, listops

SMALL = {"n_train": 300, "n_test": 40, "min_length": 3, "max_length": 60, "max_args": 5}


def value(expression):
    """The value of an expression, by rewriting its innermost operation until none is left."""
    meaning = {"MIN": min, "MAX": max, "SM": lambda x: sum(x) % 10}
    meaning["MED"] = lambda x: int(np.median(x))
    while not expression.isdigit():
        expression = re.sub(
            r"\[(MIN|MAX|MED|SM)((?: \d)+) \]",
            lambda match: str(meaning[match[1]]([int(x) for x in match[2].split()])),
            expression,
        )
    return int(expression)


def texts(x):
    return [" ".join(TOKENS[token] for token in row if token) for row in x.tolist()]


def test_the_labels_are_the_values():
    data = listops(**SMALL)
    expressions = texts(data.x_train)
    assert [value(text) for text in expressions] == data.y_train.tolist()
    for operator in ("[MIN", "[MAX", "[MED", "[SM"):
        assert any(operator in text for text in expressions)
    assert value("[MAX 2 9 [MIN 4 7 ] 0 ]") == 9, "the example of the paper"


def test_the_limits_hold():
    data = listops(**SMALL, max_depth=3)
    texts_ = texts(data.x_train)
    assert all(3 <= len(text.split()) <= 60 for text in texts_)
    deepest = max(max(np.cumsum([("[" in t) - (t == "]") for t in x.split()])) for x in texts_)
    assert deepest == 2, "operations within operations; their digits are the third level"
    assert data.x_train.shape == (300, 60) and data.x_train.dtype == torch.uint8
    arguments = [len(x[2].split()) for x in re.finditer(r"\[(\w+)((?: \d)+) \]", " ".join(texts_))]
    assert min(arguments) == 2 and max(arguments) == 5


def test_a_seed_decides_and_the_test_part_is_apart():
    one, two, other = listops(**SMALL), listops(**{**SMALL, "n_train": 5}), listops(**SMALL, seed=1)
    assert torch.equal(one.x_test, two.x_test) and torch.equal(one.x_train[:5], two.x_train)
    assert not torch.equal(one.x_test, other.x_test)
    every = texts(one.x_train) + texts(one.x_test)
    assert len(set(every)) == len(every) == 340


def test_a_published_length_is_reached():
    data = listops(n_train=3, n_test=2)
    assert data.length == 2000
    assert ((data.x_train > 0).sum(1) >= 500).all() and ((data.x_train > 0).sum(1) <= 2000).all()


def test_what_cannot_be_drawn_is_said(monkeypatch):
    monkeypatch.setattr("compressm.experiments.data.listops.TRIES", 500)
    with pytest.raises(DataError, match="500 expressions in a row were shorter than 50 tokens"):
        listops(n_train=1, n_test=1, min_length=50, max_length=60, max_depth=2, max_args=3)
    with pytest.raises(ValueError, match="min_length at most max_length"):
        listops(min_length=9, max_length=8)
