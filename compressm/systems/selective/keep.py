"""Remove states of a selective layer."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lti
from compressm.errors import UnsupportedLayerError
from compressm.ops.resize import tensors_of, write_
from compressm.systems.selective.form import SelectiveForm, require_form

__all__ = ["keep_states_"]


@torch.no_grad()
def keep_states_(
    module: nn.Module,
    indices: Iterable[int] | Iterable[Sequence[int]],
    optimizer: Any = None,
    readout: Tensor | None = None,
) -> None:
    """A, B[t], C[t] <- A[:, indices], B[t, indices], C[t, indices]: only these states, in place.

    Parameters
    ----------
    module : nn.Module
        A selective layer. Its parameters keep their identity.
    indices : iterable of int, or of sequences of int
        Which of the N states to keep, in this order; in all groups of channels alike, or for each
        group its own, as many for each.
    optimizer : torch.optim.Optimizer, optional
        Its state of the parameters that change shape is reset; see `resize_`.
    readout : Tensor (n, N), optional
        ``C[t] <- readout C[t]`` of the states that are kept, in place of a choice of C[t]: they
        take over what they can predict of the others. Only for Mamba without norms, where C[t] is
        linear in x[t], as `SelectiveForm.readout` says.

    Raises
    ------
    UnsupportedLayerError
        If the module is not selective.
    lti.OrderError
        If there is no index, one is out of range or repeated, or the groups keep different numbers.
        Nothing has been written then.

    Notes
    -----
    The output is that of the full layer with C of all other states at zero. The exceptions: where
    B and C pass a norm over the states (FalconMamba, Jamba), its mean square is now that of the
    states that are kept, so B[t] and C[t] are those of the full layer up to one factor each,
    ``rms(B[t]) / rms(B[t, indices])``. Of the delta rule a state is a key channel; keys and queries
    are normalised over those that are kept, and then the recurrence is another one.

    A configuration that the module shares with others does not change, see `agree_on_states_`.
    Caches of ``transformers`` take their shapes from the states, so layers may keep different
    numbers of them.

    To load a checkpoint with n states, call ``keep_states_(module, range(n))`` first.
    """
    form = require_form(module)
    kept = _flat(np.asarray(indices).tolist() if hasattr(indices, "shape") else list(indices), form)
    mixed = {} if readout is None else _mixed(form, kept, torch.as_tensor(readout, device="cpu"))
    tensors = tensors_of(module)
    for name, (axis, places) in form.places(kept).items():
        if name in tensors:
            old = mixed.get(name, tensors[name].detach())
            places = torch.tensor(places, device=old.device)
            write_(module, name, old.index_select(axis, places), optimizer)
    for name, count in form.counts(len(kept) // form.groups).items():
        path, _, own = name.rpartition(".")
        if own in vars(module.get_submodule(path)):
            write_(module, name, count)


def _mixed(form: SelectiveForm, kept: list[int], readout: Tensor) -> dict[str, Tensor]:
    """The tensor of C whose rows of the kept states are mixtures of all rows."""
    found, shape = form.readout(), (len(kept), form.n_states)
    if found is None or form.groups > 1:
        raise UnsupportedLayerError(
            f"C of {type(form.module).__name__} is not linear in its input, so no state can take "
            "over what others did; leave readout out"
        )
    if tuple(readout.shape) != shape:
        raise lti.DimensionError(
            f"readout has the shape {tuple(readout.shape)}; a row for each state that is kept and "
            f"a column for each state are needed, {shape}"
        )
    if not bool(readout.isfinite().all()):
        raise lti.NonFiniteError("readout is not finite; nothing has been written")
    name, rows = found
    W = tensors_of(form.module)[name].detach().clone()
    old = W[rows].to(torch.promote_types(W.dtype, torch.float32))
    W[[rows[i] for i in kept]] = (readout.to(old) @ old).to(W)
    return {name: W}


def _flat(indices: Sequence[Any], form: SelectiveForm) -> list[int]:
    """The indices g n + i of each group in turn, or an `lti.OrderError`."""
    n, groups = form.n_states, form.groups
    own = any(isinstance(x, Sequence) for x in indices)
    try:
        kept = [[operator.index(i) for i in x] for x in (indices if own else [indices] * groups)]
    except TypeError:  # no integer, or some are sequences
        kept = []
    fits = len(kept) == groups and len({len(x) for x in kept}) == 1 and bool(kept[0])
    if not fits or any(len(set(x)) < len(x) or not set(x) <= set(range(n)) for x in kept):
        each = f", or as many for each of its {groups} groups" * (groups > 1)
        raise lti.OrderError(
            f"indices must be one or more different numbers from 0 to {n - 1}{each}, got "
            f"{list(indices)}; name each state to keep once"
        )
    return [g * n + i for g, x in enumerate(kept) for i in x]
