"""Does sigma_r+1 <= ||G - G_r|| <= 2 sum(sigma) hold? Systems for hypothesis, and assertions."""

from lti.testing.assertions import (
    assert_balanced,
    assert_error_bound,
    assert_gramian,
    assert_reproduces,
    assert_stays_stable,
)
from lti.testing.examples import all_pass, as_code, unitary
from lti.testing.strategies import excitations, stable_systems, unstable_systems

__all__ = [
    "all_pass",
    "as_code",
    "assert_balanced",
    "assert_error_bound",
    "assert_gramian",
    "assert_reproduces",
    "assert_stays_stable",
    "excitations",
    "stable_systems",
    "unitary",
    "unstable_systems",
]
