"""The options of every cut: how far, of which system, by which Gramians."""

from __future__ import annotations

from dataclasses import dataclass

from compressm._renamed import as_conjugate
from compressm.compression.policies import AnyPolicy, Policy, States, as_policy
from compressm.errors import OptionError
from compressm.gramians.types import MODEL, GramianType, gramian_type
from compressm.sizes import AnySizes, Sizes, as_sizes

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of a cut, checked against each other.

    Parameters
    ----------
    policy : Policy, function or None
    conjugate : bool
    gramians : str, GramianType or None
    multiple_of : int
    sizes : Sizes, sequence of int, callable or None
    uniform : bool
        All as in `Compressor`.

    Raises
    ------
    OptionError
        If one of them is invalid, or two contradict each other.
    """

    policy: Policy
    conjugate: bool
    gramians: GramianType | None
    sizes: Sizes
    uniform: bool

    def __init__(
        self,
        policy: AnyPolicy | None = None,
        conjugate: bool = True,
        gramians: str | GramianType | None = None,
        multiple_of: int = 1,
        sizes: AnySizes | None = None,
        uniform: bool = False,
    ) -> None:
        policy = as_policy(policy)
        conjugate = as_conjugate(conjugate)
        found = None if gramians is None else gramian_type(gramians)
        if policy.needs_bound:
            if found is not None and not found.bounded:
                raise OptionError(
                    f"{policy} promises a bound, and none holds with gramians={found.name!r}; use "
                    "gramians='model', or KeepEnergy or States"
                )
            found = found or MODEL
        allowed = as_sizes(sizes, multiple_of)
        most = policy.n_stored if isinstance(policy, States) else None
        if most is not None and allowed.at_least(1, most + 1) > most:
            raise OptionError(
                f"{policy} leaves no size to store, which must be {allowed}; use more states, or "
                "smaller sizes"
            )
        if not isinstance(uniform, bool):
            raise OptionError(f"uniform must be True or False, got {uniform!r}")
        for name, value in (
            ("policy", policy),
            ("conjugate", conjugate),
            ("gramians", found),
            ("sizes", allowed),
            ("uniform", uniform),
        ):
            object.__setattr__(self, name, value)
