"""Sizes: which numbers of stored states are allowed, and what is none."""

import pickle

import pytest

from compressm import OptionError
from compressm.sizes import (
    ANY,
    DELTA_RULE,
    MAMBA,
    MAMBA2,
    MAMBA3,
    Sizes,
    as_sizes,
    multiples,
    powers_of_two,
)


def odd(n):
    return n % 2 == 1


@pytest.mark.parametrize(
    ("sizes", "allowed"),
    [
        (ANY, [*range(1, 41)]),
        (multiples(8), [8, 16, 24, 32, 40]),
        (powers_of_two(), [1, 2, 4, 8, 16, 32]),
        (powers_of_two(3), [4, 8, 16, 32]),
        (MAMBA, [*range(1, 41)]),
        (MAMBA2, [16, 32]),
        (MAMBA3, [32]),
        (Sizes([24, 12]), [12, 24]),
        (Sizes(range(10, 50, 10)), [10, 20, 30, 40]),
        (Sizes(odd), [*range(1, 41, 2)]),
    ],
    ids=str,
)
def test_the_sizes_up_to_a_number(sizes, allowed):
    assert sizes.up_to(40) == allowed
    assert [n for n in range(1, 41) if n in sizes] == allowed
    for needed in range(1, 41):
        assert sizes.at_least(needed, 40) == min([n for n in allowed if n >= needed] or [40])
    assert pickle.loads(pickle.dumps(sizes)) == sizes


def test_the_kernels_take_no_more():
    assert MAMBA.up_to(300)[-1] == 256 and DELTA_RULE.up_to(300) == [64, 128, 192, 256]


def test_no_state_at_all_is_a_policys_business():
    assert ANY.at_least(0, 8) == 0 and Sizes([4]).at_least(0, 8) == 4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (32, "sizes are a list of numbers of states"),
        ("mamba2", "sizes are a list of numbers of states"),
        ([], "holds no number"),
        ([16, 0], "an integer of at least 1, got 0"),
        ([16.0], "an integer of at least 1, got 16.0"),
        ([True], "an integer of at least 1, got True"),
    ],
    ids=repr,
)
def test_what_is_no_list_of_sizes_is_refused(sizes, message):
    with pytest.raises(OptionError, match=message):
        as_sizes(sizes)


def test_two_ways_to_say_it_are_refused():
    assert as_sizes(None, 8) == multiples(8)
    with pytest.raises(OptionError, match="give one of them"):
        as_sizes([8, 16], 8)


def test_sizes_are_named_in_errors():
    assert str(Sizes([32, 16])) == "16 or 32"
    assert str(Sizes(odd)) == "numbers that odd allows"
    assert str(multiples(8)) == "a multiple of 8"
