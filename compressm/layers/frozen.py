"""A linear layer as the constants of its system: plain operations on real numbers.

What it computes is what the layer computes. Nothing is left of the parameters that the system was
made from, so that a step costs its products only, and exporters find no complex numbers, no solves
and no loop whose length depends on the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import lti
from compressm.ops.checks import require_sequence, require_state, require_step
from compressm.ops.powers import causal, krylov, powers_of
from compressm.ops.precision import KeepsPrecision, as_given, without_autocast

__all__ = ["Frozen"]

DISPATCH = 1e5  # multiplications in the time that a runtime takes to start one step of a loop
LONGEST = 32  # steps of a block


class Frozen(KeepsPrecision):
    """x[t] = A x[t-1] + B u[t],  y[t] = C x[t] + D * u[t], in real arithmetic, in each of G groups.

    A linear layer is one group, or one for each channel. Whole sequences are computed in blocks of
    J steps, as `compressm.linear_ssm` does it: with the state x before a block,

        y[j] = C A^(j+1) x + sum_{i <= j} C A^(j-i) B u[i],   x <- A^J x + sum_i A^(J-1-i) B u[i]

    are products with constant matrices. Of a diagonal system the state is ``[Re x, Im x]``.

    Parameters
    ----------
    system : lti.DiagonalStateSpace or lti.StateSpace
        What `SSMLayer.to_lti` returns; of a complex system the real part of the output is taken.
    D : Tensor (d_model,)
        Elementwise feed-through, whose dtype is that of the constants.
    """

    def __init__(self, system: lti.DiagonalStateSpace | lti.StateSpace, D: Tensor) -> None:
        super().__init__()
        groups = math.prod(system.batch_shape)
        m, p = system.n_inputs, system.n_outputs
        J = min(LONGEST, max(1, int((DISPATCH / (groups * m * p)) ** 0.5)))
        A, A_J, columns, rows = _powers(system, J)
        kernel = (rows @ columns[0]).to(D.dtype)  # C A^j B, (J + 1, G, p, m)
        halves = [slice(k, k + m) for k in range(0, p, m)]  # the second reads from the end
        constants = {
            "A": A,
            "B": columns[0],
            "C": rows[0],
            "A_J": A_J,
            "W": columns[:J].flip(0).movedim(0, 1).mT.flatten(1, 2),  # (G, J m, N)
            "V": torch.stack([rows[1:, :, k].movedim(0, 1).flatten(1, 2).mT for k in halves]),
            "T": torch.stack([causal(kernel[:J, :, k].movedim(0, 1)) for k in halves]),
            "D": D,
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(D.dtype).contiguous())

    A: Tensor
    """(2, 1, G, n), real and imaginary parts of poles; (G, N, N) if dense."""
    B: Tensor
    C: Tensor
    D: Tensor
    A_J: Tensor
    W: Tensor
    V: Tensor
    T: Tensor

    @property
    def d_model(self) -> int:
        """Number of inputs and of outputs."""
        return self.D.shape[0]

    @property
    def d_state(self) -> int:
        """Number of stored states of each group: complex ones, or the real ones of a dense A."""
        return self.A.shape[-1]

    def forward(self, u: Tensor, state: Tensor | None = None) -> Tensor:
        """y[t] = C x[t] + D * u[t] for a whole sequence.

        Parameters
        ----------
        u : (batch, length, d_model)
        state : (batch, G, N), optional
            State before the first step; zero when absent, as it must be if bidirectional.

        Returns
        -------
        (batch, length, d_model)
        """
        require_sequence(u, self.d_model, self.D)
        if state is not None:
            self._check(state, u.shape[0])
        G, _, m = self.B.shape
        with without_autocast(u):
            w = u.to(self.D.dtype)
            v = w.unflatten(2, (G, m)).transpose(1, 2)
            y = self._read(v, state, self.V[0], self.T[0])
            if len(self.V) == 2:
                y = y + self._read(v.flip(2), None, self.V[1], self.T[1]).flip(2)
            y = y.transpose(1, 2).flatten(2) + self.D * w
        return as_given(y, u)

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = A state + B u,  y = C x + D * u: one time step.

        Parameters
        ----------
        u : (batch, d_model)
        state : (batch, G, N), optional
            State before the step; zero when absent.

        Returns
        -------
        y : (batch, d_model)
        state : (batch, G, N)

        Raises
        ------
        lti.OptionError
            If the layer is bidirectional.
        """
        require_step(u, self.d_model, self.D)
        state = self.initial_state(u.shape[0]) if state is None else self._check(state, u.shape[0])
        G, _, m = self.B.shape
        with without_autocast(u):
            w = u.to(self.D.dtype)
            v = w.unflatten(1, (G, m)).transpose(0, 1)
            x = _advance(self.A, state) + (v @ self.B.mT).transpose(0, 1)
            y = (x.transpose(0, 1) @ self.C.mT).transpose(0, 1)
            y = y.flatten(1) + self.D * w
        return as_given(y, u), x

    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step, (batch, G, N) of zeros.

        Parameters
        ----------
        batch : int
        """
        if len(self.V) == 2:
            raise lti.OptionError(
                "a bidirectional layer reads each sequence from both ends, so it has no step and "
                "takes no state; pass whole sequences"
            )
        return self.B.new_zeros(batch, *self.B.shape[:2])

    def real(self, state: Tensor) -> Tensor:
        """The state of the layer that this was made from, as `step` takes it: (batch, G, N).

        Parameters
        ----------
        state : (batch, n) or (batch, d_model, n)
            Complex, or real of a dense layer.
        """
        x = torch.cat([state.real, state.imag], -1) if state.is_complex() else state
        return x.unflatten(-1, (-1, self.B.shape[1])) if x.ndim == 2 else x

    def _check(self, state: Tensor, batch: int) -> Tensor:
        like = self.initial_state(0)
        require_state(state, like, batch=batch, groups=like.shape[1], states=like.shape[2])
        return state

    def _read(self, u: Tensor, state: Tensor | None, V: Tensor, T: Tensor) -> Tensor:
        """C x for u (batch, G, length, m), (batch, G, length, p)."""
        batch, G, length, m = u.shape
        J, N = T.shape[1] // m, V.shape[1]
        if N == 0:  # exporters know no loop over nothing
            return torch.zeros_like(u)
        if state is None:
            state = u.new_zeros(batch, G, N)
        # The last block may go beyond the end, and one more follows, as exporters take an axis for
        # one of at least two. Nothing that is read depends on what is there
        time = torch.arange(0, length + J, J, device=u.device).unsqueeze(1)
        time = (time + torch.arange(J, device=u.device)).clamp(max=length - 1)
        blocks = u[:, :, time].flatten(3)
        y = _before_each(self.A_J, blocks @ self.W, state) @ V + blocks @ T
        y = y.unflatten(3, (J, V.shape[2] // J)).flatten(2, 3)
        return y[:, :, torch.arange(length, device=u.device)]


def _powers(
    system: lti.DiagonalStateSpace | lti.StateSpace, J: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, A^J, the columns A^j B (J + 1, G, N, m) and the rows C A^j (J + 1, G, p, N), real."""
    if isinstance(system, lti.DiagonalStateSpace):
        p, B, C = _grouped(system.poles, 1), _grouped(system.B, 2), _grouped(system.C, 2)
        powers = powers_of(p, J)
        columns, rows = powers.unsqueeze(-1) * B, C * powers.unsqueeze(-2)
        rows = 2 * rows if system.conjugate else rows
        A, A_J = (torch.stack([x.real, x.imag]).unsqueeze(1) for x in (powers[1], powers[J]))
        columns = torch.cat([columns.real, columns.imag], -2)
        return A, A_J, columns, torch.cat([rows.real, -rows.imag], -1)
    A, B, C = (_grouped(x, 2) for x in (system.A, system.B, system.C))
    columns = krylov(A.mT, B.mT, J + 1).movedim(-2, 0).mT
    return A, torch.linalg.matrix_power(A, J), columns, krylov(A, C, J + 1).movedim(-2, 0)


def _grouped(x: Tensor, axes: int) -> Tensor:
    """With an axis for the groups, also where there is one system."""
    return x if x.ndim > axes else x.unsqueeze(0)


def _advance(A: Tensor, x: Tensor) -> Tensor:
    """A x for states x (batch, G, N)."""
    if A.ndim == 4:
        re, im = x.chunk(2, -1)
        a, w = A[0, 0], A[1, 0]
        return torch.cat([a * re - w * im, a * im + w * re], -1)
    return torch.bmm(x.transpose(0, 1), A.transpose(1, 2)).transpose(0, 1).contiguous()


def _before_each(A: Tensor, entered: Tensor, state: Tensor) -> Tensor:
    """The states before each block, (batch, G, K, N), of x <- A x + entered[k]."""
    if torch.compiler.is_exporting():  # a loop would be unrolled to the length that is traced
        from torch._higher_order_ops.scan import scan

        def step(x: Tensor, enters: Tensor) -> tuple[Tensor, Tensor]:
            return _advance(A, x) + enters, x.clone()

        return scan(step, state, entered.movedim(2, 0))[1].movedim(0, 2)
    before = []
    for enters in entered.unbind(2):
        before.append(state)
        state = _advance(A, state) + enters
    return torch.stack(before, 2)
