"""The options of every cut: how far, of which system, by which Gramians."""

from __future__ import annotations

from dataclasses import dataclass

from compressm._renamed import as_conjugate
from compressm.compression.policies import AnyPolicy, Policy, States, as_policy
from compressm.errors import OptionError
from compressm.gramians.types import MODEL, GramianType, gramian_type

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
        All as in `Compressor`.

    Raises
    ------
    OptionError
        If one of them is invalid, or two contradict each other.
    """

    policy: Policy
    conjugate: bool
    gramians: GramianType | None
    multiple_of: int

    def __init__(
        self,
        policy: AnyPolicy | None = None,
        conjugate: bool = True,
        gramians: str | GramianType | None = None,
        multiple_of: int = 1,
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
        if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
            raise OptionError(f"multiple_of must be an integer of at least 1, got {multiple_of!r}")
        if isinstance(policy, States) and policy.n_stored < multiple_of:
            raise OptionError(
                f"{policy} leaves no multiple of {multiple_of} to store; use more states, or a "
                "smaller multiple_of"
            )
        for name, value in (
            ("policy", policy),
            ("conjugate", conjugate),
            ("gramians", found),
            ("multiple_of", multiple_of),
        ):
            object.__setattr__(self, name, value)
