"""One sentence for a cut that removed nothing: which looser policy would remove something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from compressm.compression.policies import Policy
from compressm.compression.proposal import Plan, Proposal, attempt
from compressm.systems.find import stored_states

__all__ = ["with_advice"]

ENOUGH = 0.75  # of the stored states: a suggestion leaves no more, if any policy does


def with_advice(
    policy: Policy,
    plans: Sequence[Plan],
    proposals: Sequence[Proposal],
    trial: Callable[[Policy], Sequence[Proposal]],
) -> list[Proposal]:
    """The proposals, with advice on each layer of which `policy` kept every state.

    Parameters
    ----------
    policy : Policy
    plans : sequence of Plan
        The layers that have scores.
    proposals : sequence of Proposal
        What `policy` proposes for all layers.
    trial : callable
        The same for another policy.

    Returns
    -------
    list of Proposal
        As they are, if a layer is cut, or if none was kept by the choice of the policy.
    """
    scored = {plan.name for plan in plans}
    kept = {cut.name for cut, _ in proposals if cut.name in scored and cut.skipped is None}
    if not kept or any(write is not None for _, write in proposals):
        return list(proposals)
    sentence = f"nothing to remove at {policy}"
    found = _found(policy, [plan for plan in plans if plan.name in kept], trial)
    if found is None:
        sentence += "; no looser policy that was tried would remove any either"
    else:
        looser, after, before = found
        sentence += f"; {looser} would leave {after} of {before} stored states"
    return [
        Proposal(replace(cut, advice=sentence) if cut.name in kept else cut, write)
        for cut, write in proposals
    ]


def _found(
    policy: Policy, plans: Sequence[Plan], trial: Callable[[Policy], Sequence[Proposal]]
) -> tuple[Policy, int, int] | None:
    """The first looser policy that leaves few enough states, and how many of how many."""
    best = None
    for looser in policy.looser():
        if not _may_cut(looser, plans):
            continue  # it need not be tried on copies of the layers
        cuts = [cut for cut, _ in trial(looser)]
        after, before = sum(cut.after for cut in cuts), sum(cut.before for cut in cuts)
        if after < before and (best is None or after < best[1]):
            best = looser, after, before
        if after <= ENOUGH * before:
            break
    return best


def _may_cut(policy: Policy, plans: Sequence[Plan]) -> bool:
    def fewer() -> bool:
        return any(plan.stored(policy.order(plan)) < stored_states(plan.layer) for plan in plans)

    return policy.whole_model or attempt(fewer, lambda reason: False)
