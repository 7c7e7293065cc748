"""One size for all layers of a type: the smallest that serves them all, or no cut of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeAlias

from torch import nn

from compressm.compression.policies import Policy
from compressm.compression.proposal import Plan, Proposal

__all__ = ["at_one_size", "refuse_unequal"]

TRIED = 5  # sizes, where rounding would spoil the cut of a layer to the first
Planned: TypeAlias = "Plan | Proposal"


def at_one_size(
    model: nn.Module,
    planned: Sequence[Planned],
    proposals: Sequence[Proposal],
    policy: Policy,
    storing: Callable[[Plan, int], Proposal],
) -> list[Proposal]:
    """The proposals, with all layers of a type at one size.

    It is the largest that `policy` gave one of them, or for a policy that bounds the states from
    above the largest that it allows. If a layer cannot have that size, all of its type stay as they
    are.

    Parameters
    ----------
    model : nn.Module
    planned : sequence of Plan or Proposal
        What the proposals were made from.
    proposals : sequence of Proposal
        What `policy` proposes for each layer.
    policy : Policy
    storing : callable
        ``storing(plan, n)`` is the proposal to store n states.
    """
    chosen = list(proposals)
    for members in _by_type(model, proposals):
        for n in islice(_sizes(members, planned, chosen, policy), TRIED):
            trial = {
                i: storing(plan, n)
                if isinstance(plan := planned[i], Plan) and chosen[i].cut.after != n
                else chosen[i]
                for i in members
            }
            if all(proposal.cut.after == n for proposal in trial.values()):
                for i, proposal in trial.items():
                    chosen[i] = proposal
                break
    return refuse_unequal(model, chosen)


def refuse_unequal(model: nn.Module, proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals without cuts of layers whose type would have several sizes afterwards.

    Parameters
    ----------
    model : nn.Module
    proposals : sequence of Proposal
    """
    chosen = list(proposals)
    for members in _by_type(model, proposals):
        cuts = [proposals[i].cut for i in members]
        if len({cut.after for cut in cuts}) == 1:
            continue
        whole = next((cut for cut in cuts if cut.skipped), None)
        why = (
            f"{whole.name} stays as it is ({whole.skipped})"
            if whole
            else f"they store {min(cut.before for cut in cuts)} to {max(c.before for c in cuts)}"
        )
        for i, cut in zip(members, cuts, strict=True):
            if not cut.skipped:
                reason = f"no size serves all {len(cuts)} layers of its type: {why}"
                chosen[i] = Proposal(cut.refused(reason))
    return chosen


def _sizes(
    members: Sequence[int], planned: Sequence[Planned], chosen: Sequence[Proposal], policy: Policy
) -> Iterable[int]:
    """The sizes to try, the best first; none if a layer has no scores or was refused."""
    plans = [plan for i in members if isinstance(plan := planned[i], Plan)]
    cuts = [chosen[i].cut for i in members]
    if len(plans) < len(members) or any(cut.skipped for cut in cuts):
        return ()
    wanted, most = max(cut.after for cut in cuts), min(cut.before for cut in cuts)
    allowed = set(plans[0].sizes.up_to(most))
    if all(cut.before == most for cut in cuts):  # they may stay as they are
        allowed.add(most)
    if not policy.at_most:
        return (n for n in sorted(allowed) if n >= wanted)
    scored = {i: plan for i, plan in enumerate(planned) if isinstance(plan, Plan)}

    def allows(n: int) -> bool:
        sizes = [n if i in members else chosen[i].cut.after for i in scored]
        return policy.allows(list(scored.values()), sizes)

    return (n for n in sorted(allowed, reverse=True) if n <= wanted and allows(n))


def _by_type(model: nn.Module, proposals: Sequence[Proposal]) -> list[list[int]]:
    """The places of the layers of each type."""
    found: dict[type, list[int]] = {}
    for i, (cut, _) in enumerate(proposals):
        found.setdefault(type(model.get_submodule(cut.name)), []).append(i)
    return list(found.values())
