"""How far the layer as written is from the reduced system: max |G - F| over frequency."""

from __future__ import annotations

import torch
from torch import Tensor

import lti
from compressm.systems.batches import System

__all__ = ["distance"]

POINTS = 257  # on the circle, beside the resonances
FEW = 33  # where each one takes a solve of the dense system
MARGIN = 2  # what the largest of them may be below the largest of all
CHUNK = 1 << 22  # numbers in one batch of matrices, 64 MB


def distance(
    written: System, modal: lti.DiagonalStateSpace, dense: lti.StateSpace
) -> tuple[float, float]:
    """|G - F| + |F - E| and |F|, each the largest over frequency: written G, modal F, dense E.

    Where eigenvectors have the condition number k, F is the diagonal form of an A that differs by
    ``k * eps``. What this does to the response depends on the damping of the poles: it is measured.

    Parameters
    ----------
    written, modal, dense : lti.DiagonalStateSpace or lti.StateSpace
        Of what is in the layer, of the diagonal form that was to be written, and of the reduced
        system of which it is the diagonal form; discrete, or batches of such systems.
    """
    angles = [modal.poles.angle()]
    z = _circle(FEW, modal, angles)
    loss = MARGIN * _largest(_response(dense, z) - _response(modal, z))
    if isinstance(written, lti.DiagonalStateSpace):
        angles.append(written.poles.angle())
    z = _circle(POINTS, modal, angles)
    F = _response(modal, z)
    return loss + _largest(_response(written, z) - F), _largest(F)


def _circle(points: int, like: lti.DiagonalStateSpace, angles: list[Tensor]) -> Tensor:
    """z = exp(i w) at equal steps and at these angles; of a real system in the upper half."""
    end = (1 if like.conjugate else 2) * torch.pi
    points = points // 2 + 1 if like.conjugate else points
    grid = torch.linspace(0, end, points, dtype=torch.float64, device=like.B.device)
    return torch.exp(1j * torch.cat([grid.expand(*like.batch_shape, -1), *angles], dim=-1))


def _largest(G: Tensor) -> float:
    return float(torch.linalg.matrix_norm(G).max())


def _response(system: System, z: Tensor) -> Tensor:
    """C (z I - A)^-1 B at points (..., k) of its own for each system: (..., k, p, m)."""
    if isinstance(system, lti.StateSpace):
        A, B, C = (x[..., None, :, :].to(z) for x in (system.A, system.B, system.C))
        step = max(1, CHUNK // max(1, A.numel()))
        eye = torch.eye(system.order, dtype=z.dtype, device=z.device)
        return torch.cat(
            [C @ torch.linalg.solve(s[..., None, None] * eye - A, B) for s in z.split(step, -1)],
            dim=-3,
        )
    system = system.closed()
    modes = 1 / (z[..., None] - system.poles[..., None, :])
    return (system.C[..., None, :, :] * modes[..., None, :]) @ system.B[..., None, :, :]
