"""Selective layers (the Mamba family): what each state is worth, and the layer without some.

B, C and the step size depend on the input, so there is no system to balance; but the states of a
channel do not see each other, so any of them can go. B and C are shared, Mamba by all channels and
Mamba2 by those of a group, hence so is the choice.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, silu, softplus

import lti
from compressm.errors import UnsupportedLayerError
from compressm.gramians.signals import Signal
from compressm.ops.resize import resize_
from compressm.systems.convert import is_supported
from compressm.systems.foreign import tensors_of

__all__ = [
    "Coefficients",
    "agree_on_states_",
    "coefficients",
    "compressible_layers",
    "given_out",
    "is_selective",
    "keep_states_",
    "selective_layers",
    "state_count",
    "state_values",
]

# What layers and their configurations call the number of states
COUNTS = ("state_size", "ssm_state_size", "d_state", "mamba_d_state")


class Coefficients(NamedTuple):
    """h[t] = exp(dt[t] A) * h[t-1] + (dt[t] * x[t]) B[t]^T,  y[t] = h[t] C[t], then a gate z.

    Parameters
    ----------
    x, dt, z : Tensor (batch, length, channels)
    A : Tensor (channels, N)
        Or (channels, 1) where it is the same for all states.
    B, C : Tensor (batch, length, groups, N)
        A group is ``channels / groups`` neighbours.
    """

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    z: Tensor


def is_selective(module: nn.Module) -> bool:
    """Whether a module is of the Mamba family, by the names and shapes of its parameters."""
    return _form(module) is not None


def selective_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every selective layer of `model` with its qualified name, each once.

    Parameters
    ----------
    model : nn.Module
        A layer that `to_lti` was taught is none of them.
    """
    return (named for named in compressible_layers(model) if not is_supported(named[1]))


def compressible_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """As `ssm_layers`, with the selective layers among them, each once, outermost first."""
    inside = None
    for name, module in model.named_modules():
        if inside is not None and (name + ".").startswith(inside):
            continue  # a part of the layer before it
        if is_supported(module) or is_selective(module):
            inside = f"{name}." if name else ""
            yield name, module


def state_count(module: nn.Module) -> int:
    """N, the number of states of each channel of a selective layer."""
    return _require_form(module).n_states


@torch.no_grad()
def coefficients(module: nn.Module, u: Tensor) -> Coefficients:
    """What the scan of a selective layer works with when the layer is given `u`.

    Parameters
    ----------
    module : nn.Module
        `is_selective`.
    u : Tensor (batch, length, d_model)
        Input of the layer. All of it counts: a mask of padding is not known here.

    Returns
    -------
    Coefficients
        In the precision of the layer, but in single at least.
    """
    parts = _require_form(module).coefficients(u.to(module.get_parameter("in_proj.weight")))
    return Coefficients(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in parts))


def given_out(module: nn.Module, u: Tensor) -> Tensor:
    """What a selective layer makes of `u`, in the precision of `coefficients`.

    Parameters
    ----------
    module : nn.Module
        `is_selective`.
    u : Tensor (batch, length, d_model)

    Returns
    -------
    Tensor (batch, length, d_model)
    """
    x, dt, A, B, C, z = coefficients(module, u)
    return _require_form(module).tail(_drive(dt * x, dt, A, B, C)[1], x, z)


@torch.no_grad()
def state_values(
    module: nn.Module, signals: Iterable[Signal], gramians: str = "model"
) -> np.ndarray:
    """sum over channels c of sqrt(P_cn Q_cn), for each state n.

    Parameters
    ----------
    module : nn.Module
        `is_selective`.
    signals : iterable of Signal
        Its inputs, each from the zero state, and gradients at its output.
    gramians : {"model", "input", "data"}, optional
        "model": P and Q are Gramians of the mean system of [1]_, at the averages of dt, of B, of C
        over the signals. The value ``|c_n b_n| / (1 - p_n^2)`` is the Hankel value of mode n alone.
        "input": P is the second moment of the states that the signals drive. "data": and Q is that
        of the adjoint states ``g[t] = C[t] gy[t] + exp(dt[t+1] A) g[t+1]`` [2]_, with gy the
        gradient at the output of the scan, from that at the layer's through gate and projection.

    Returns
    -------
    ndarray (N,)
        Not sorted.

    Raises
    ------
    UnsupportedLayerError
        If the module is not selective.
    lti.OptionError
        If `gramians` is none of these.
    lti.DimensionError
        If there are no signals, or for "data" none with a gradient.
    lti.NonFiniteError
        If a value is not finite.

    Notes
    -----
    B[t] and C[t] may be large and vanish on average, in which case the mean system does not see
    the state; the second moments do. States are formed one time step at a time, all sequences
    together: memory is that of (batch, channels, N). Sums are in double precision.

    References
    ----------
    .. [1] M. Chahine, P. Nazari, D. Rus, T. K. Rusch, "The curious case of in-training compression
       of state space models", 2025, arXiv:2510.02823, appendix E.
    .. [2] S. E. Otto, A. Padovan, C. W. Rowley, "Model reduction for nonlinear systems by balanced
       truncation of state and gradient covariance", SIAM J. Sci. Comput. 45 (2023),
       arXiv:2207.14387; here restricted to a choice of states.
    """
    signals = list(signals)
    if gramians not in ("model", "input", "data"):
        raise lti.OptionError(f"gramians must be 'model', 'input' or 'data', got {gramians!r}")
    if not signals:
        raise lti.DimensionError("no input of it was observed; the values of its states need some")
    if gramians == "data":
        P, Q = _covariances(module, signals)
    else:
        log_p, b, c = _surrogate(module, signals)
        unseen = -torch.expm1(2 * log_p)  # 1 - p^2
        P = b.square() / unseen if gramians == "model" else _covariances(module, signals, False)[0]
        Q = c.square() / unseen
    values = (P.sqrt() * Q.sqrt()).sum(0)
    if not bool(values.isfinite().all()):
        raise lti.NonFiniteError(
            "a value of its states is not finite; check its parameters and its inputs"
        )
    return values.cpu().numpy()


@torch.no_grad()
def keep_states_(module: nn.Module, indices: Iterable[int], optimizer: Any = None) -> None:
    """A, B[t], C[t] <- A[:, indices], B[t, indices], C[t, indices]: only these states, in place.

    Parameters
    ----------
    module : nn.Module
        `is_selective`. Its parameters keep their identity.
    indices : iterable of int
        Which of the N states to keep, in this order.
    optimizer : torch.optim.Optimizer, optional
        Starts the parameters that change shape afresh; see `resize_`.

    Raises
    ------
    UnsupportedLayerError
        If the module is not selective.
    lti.OrderError
        If there is no index, or one is out of range or comes twice. Nothing has been written then.

    Notes
    -----
    The output is that of the full layer with C of all other states at zero. Not so where B and C
    pass a norm over the states (FalconMamba, Jamba): its mean square is now that of the states
    which stay, so B[t] and C[t] are those of the full layer up to one factor each,
    ``rms(B[t]) / rms(B[t, indices])``.

    A configuration that the module shares with others is left alone, see `agree_on_states_`. Caches
    of ``transformers`` take their shapes from the states, so layers may keep different numbers.

    A checkpoint of a layer of another number of states loads after
    ``keep_states_(module, range(n))``, where the values do not matter.
    """
    form = _require_form(module)
    kept, n = [operator.index(i) for i in indices], form.n_states
    if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(range(n)):
        raise lti.OrderError(
            f"indices must be one or more different numbers from 0 to {n - 1}, got {kept}; "
            "name each state to keep once"
        )
    tensors = tensors_of(module)
    for name, (axis, places) in form.places(kept).items():
        if name in tensors:
            old = tensors[name].detach()
            new = old.index_select(axis, torch.tensor(places, device=old.device))
            if isinstance(tensors[name], nn.Parameter):
                resize_(module.get_parameter(name), new, optimizer)
            else:
                _assign(module, name, new)
    for name, count in form.counts(len(kept)).items():
        _assign(module, name, count)


def agree_on_states_(model: nn.Module) -> None:
    """config.state_size <- N, where all selective layers of a model keep the same number N.

    Parameters
    ----------
    model : nn.Module
        Of ``transformers``, or with such models inside; others have nothing to change. If the
        layers keep different numbers, no configuration can say so, and it stays as it was: the
        state dict is then loaded as `keep_states_` says, not by ``from_pretrained``.
    """
    for part in model.modules():
        config = getattr(part, "config", None)
        # what is saved with its configuration; a block of it may hold some of the layers only
        if config is not None and hasattr(part, "save_pretrained"):
            sizes = {state_count(layer) for _, layer in selective_layers(part)}
            for name in COUNTS:
                if len(sizes) == 1 and hasattr(config, name):
                    setattr(config, name, *sizes)


# ------------------------------------------------------------------ what a state is worth


def _surrogate(module: nn.Module, signals: Sequence[Signal]) -> tuple[Tensor, Tensor, Tensor]:
    """log p, b, c of the mean system: (channels, N) each, the first perhaps (channels, 1)."""
    sums, count = [], 0
    A: Any = None  # the same for all
    for signal in signals:
        _, dt, A, B, C, _ = coefficients(module, signal.u)
        sums.append([part.sum((0, 1), dtype=torch.float64) for part in (dt, B, C)])
        count += dt.shape[0] * dt.shape[1]
    dt, B, C = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
    B, C = (part.repeat_interleave(len(A) // len(part), 0) for part in (B, C))
    return dt[:, None] * A, dt[:, None] * B, C


def _covariances(
    module: nn.Module, signals: Sequence[Signal], adjoint: bool = True
) -> tuple[Tensor, Tensor]:
    """Second moments of the states and of the adjoint states, (channels, N)."""
    form, moments, counts = _require_form(module), ([], []), [0, 0]
    for signal in signals:
        x, dt, A, B, C, z = coefficients(module, signal.u)
        moment, y = _drive(dt * x, dt, A, B, C)
        moments[0].append(moment)
        counts[0] += x.shape[0] * x.shape[1]
        if adjoint and signal.g is not None:
            with torch.enable_grad():
                y.requires_grad_()
                output = form.tail(y, x, z)
                (g,) = torch.autograd.grad(output, y, signal.g.to(output))
            # from right to left; the decay on the way to a state is that of the state after it
            g, dt, B, C = (part.flip(1) for part in (g, dt, B, C))
            moments[1].append(_drive(g, dt.roll(1, 1), A, C, B)[0])
            counts[1] += x.shape[0] * x.shape[1]
    if adjoint and not counts[1]:
        raise lti.DimensionError(
            "no gradient at its output was observed; run a backward pass, or take gramians='input'"
        )
    P, Q = (sum(parts) / max(n, 1) for parts, n in zip(moments, counts, strict=True))
    return torch.as_tensor(P), torch.as_tensor(Q)


def _drive(v: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + v[t] B[t]^T,  y[t] = h[t] C[t]: sum of h^2, and y."""
    batch, length, groups, n = B.shape
    v, dt = (part.unflatten(2, (groups, -1)).unsqueeze(-1) for part in (v, dt))
    A = A.unflatten(0, (groups, -1))
    h = v.new_zeros(batch, *v.shape[2:4], n)
    moment, y = h.new_zeros(h.shape[1:], dtype=torch.float64), []
    for t in range(length):
        h.mul_((dt[:, t] * A).exp()).addcmul_(v[:, t], B[:, t].unsqueeze(2))
        moment += h.square().sum(0, dtype=torch.float64)
        y.append((h @ C[:, t].unsqueeze(-1)).flatten(1))
    return moment.flatten(0, 1), torch.stack(y, 1)


# ------------------------------------------------------------------ the layers that are known


class _Mamba:
    """A (channels, N); one group.  dt, B, C = x_proj(x), each perhaps normed, as in FalconMamba."""

    needed = frozenset(
        {"A_log", "D"}
        | {f"{part}.weight" for part in ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")}
    )
    optional = frozenset(
        {f"{part}.bias" for part in ("in_proj", "conv1d", "dt_proj", "out_proj")}
        | {f"{part}_layernorm.weight" for part in ("dt", "b", "c")}
    )

    def __init__(self, module: Any) -> None:
        self.module = module
        self.channels, self.n_states = module.A_log.shape
        self.rank = module.dt_proj.weight.shape[1]

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        e, n, r = self.channels, self.n_states, self.rank
        d = self.module.out_proj.weight.shape[0]
        shapes = {"in_proj": (2 * e, d), "x_proj": (r + 2 * n, e), "dt_proj": (e, r)}
        shapes |= {"conv1d": (e, 1, self.module.conv1d.weight.shape[-1]), "out_proj": (d, e)}
        return {f"{name}.weight": shape for name, shape in shapes.items()} | {"D": (e,)}

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        m = self.module
        x, z = m.in_proj(u).chunk(2, -1)
        x = _convolved(m, x)
        parts = m.x_proj(x).split([self.rank, self.n_states, self.n_states], -1)
        norms = (getattr(m, f"{part}_layernorm", None) for part in ("dt", "b", "c"))
        dt, B, C = (
            part if norm is None else norm(part) for part, norm in zip(parts, norms, strict=True)
        )
        return x, softplus(m.dt_proj(dt)), -m.A_log.exp(), B.unsqueeze(2), C.unsqueeze(2), z

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        return m.out_proj(((y + m.D * x) * silu(z)).to(m.out_proj.weight))

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        r, n = self.rank, self.n_states
        rows = [*range(r), *(r + i for i in kept), *(r + n + i for i in kept)]
        norms = {f"{part}_layernorm.weight": (0, kept) for part in ("b", "c")}
        return {"A_log": (1, kept), "x_proj.weight": (0, rows), **norms}

    def counts(self, n: int) -> dict[str, int]:
        return dict.fromkeys(COUNTS, n) | {"x_proj.out_features": self.rank + 2 * n}


class _Mamba2:
    """A (heads,).  z, (x, B, C), dt = in_proj(u); what is in brackets is convolved together."""

    needed = frozenset(
        {"A_log", "D", "dt_bias", "in_proj.weight", "conv1d.weight"}
        | {"norm.weight", "out_proj.weight"}
    )
    optional = frozenset({"in_proj.bias", "conv1d.bias", "out_proj.bias"})

    def __init__(self, module: Any) -> None:
        self.module = module
        self.heads, self.channels = len(module.A_log), module.out_proj.weight.shape[1]
        self.groups: int = _first(module, ("n_groups", "ngroups"), 0)
        self.n_states = (len(module.conv1d.weight) - self.channels) // max(2 * self.groups, 1)
        self.convolved = self.channels + 2 * self.groups * self.n_states

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        h, e, conv = self.heads, self.channels, self.convolved
        d = self.module.out_proj.weight.shape[0]
        shapes = {name: (h,) for name in ("A_log", "D", "dt_bias")}
        shapes |= {"in_proj.weight": (e + conv + h, d), "norm.weight": (e,)}
        return shapes | {"conv1d.weight": (conv, 1, self.module.conv1d.weight.shape[-1])}

    def coefficients(self, u: Tensor) -> tuple[Tensor, ...]:
        m, e, groups = self.module, self.channels, self.groups
        z, xBC, dt = m.in_proj(u).split([e, self.convolved, self.heads], -1)
        x, B, C = _convolved(m, xBC).split([e, *[groups * self.n_states] * 2], -1)
        limits = _first(m, ("time_step_limit", "dt_limit"), (0.0, None))
        dt = softplus(dt + m.dt_bias).clamp(*limits)
        B, C = (part.unflatten(-1, (groups, -1)) for part in (B, C))
        return x, self._spread(dt), self._spread(-m.A_log.exp()).unsqueeze(1), B, C, z

    def tail(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        m = self.module
        return m.out_proj(m.norm(y + self._spread(m.D) * x, z).to(m.out_proj.weight))

    def places(self, kept: list[int]) -> dict[str, tuple[int, list[int]]]:
        e, n = self.channels, self.n_states
        BC = [e + n * block + i for block in range(2 * self.groups) for i in kept]
        rows = [*range(e), *BC]
        dt = range(e + self.convolved, e + self.convolved + self.heads)
        in_proj = [*range(e), *(e + i for i in rows), *dt]
        return {
            "in_proj.weight": (0, in_proj),
            "in_proj.bias": (0, in_proj),
            "conv1d.weight": (0, rows),
            "conv1d.bias": (0, rows),
        }

    def counts(self, n: int) -> dict[str, int]:
        conv = self.channels + 2 * self.groups * n
        names = ("conv_dim", "conv1d.in_channels", "conv1d.out_channels", "conv1d.groups")
        return (
            dict.fromkeys(COUNTS, n)
            | {name: conv for name in names}
            | {
                "groups_time_state_size": self.groups * n,
                "in_proj.out_features": self.channels + conv + self.heads,
            }
        )

    def _spread(self, x: Tensor) -> Tensor:
        """What each head has, for each of its channels."""
        return x.repeat_interleave(self.channels // self.heads, -1)


def _form(module: nn.Module) -> _Mamba | _Mamba2 | None:
    if "A_log" not in module._parameters:  # spares looking at all tensors of all modules
        return None
    tensors = tensors_of(module)
    for kind in (_Mamba, _Mamba2):
        if kind.needed <= set(tensors) <= kind.needed | kind.optional:
            if tensors["A_log"].ndim != (2 if kind is _Mamba else 1):
                return None
            form = kind(module)
            fits = (tensors[name].shape == shape for name, shape in form.shapes().items())
            return form if all(fits) and form.n_states > 0 else None
    return None


def _require_form(module: nn.Module) -> _Mamba | _Mamba2:
    form = _form(module)
    if form is None:
        raise UnsupportedLayerError(
            f"{type(module).__qualname__} is no selective layer that compressm knows; it takes a "
            "layer with the parameters of Mamba or Mamba2, by name and shape"
        )
    return form


def _convolved(module: Any, x: Tensor) -> Tensor:
    """Each channel through its causal filter and the activation."""
    weight, bias = module.conv1d.weight, module.conv1d.bias
    x = conv1d(pad(x.mT, (weight.shape[-1] - 1, 0)), weight, bias, groups=len(weight))
    return getattr(module, "act", silu)(x).mT


def _first(module: nn.Module, names: Iterable[str], default: Any) -> Any:
    """The attribute that goes by one of these names."""
    return next((getattr(module, name) for name in names if hasattr(module, name)), default)


def _assign(module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute or a buffer by its dotted name, if the module holds one by that name."""
    path, _, own = name.rpartition(".")
    owner = module.get_submodule(path)
    if own in vars(owner) or own in owner._buffers:
        setattr(owner, own, value)
