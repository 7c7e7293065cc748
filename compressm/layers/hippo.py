"""HiPPO-LegS, its normal part, and the initial poles of state-space layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["hippo_legs", "hippo_normal", "hippo_nplr", "s4d_inv", "s4d_legs", "s4d_lin"]


def hippo_legs(n: int) -> tuple[Tensor, Tensor]:
    """A_ij = -sqrt((2i+1)(2j+1)) below the diagonal, -(i+1) on it, 0 above;  B_i = sqrt(2i+1).

    ``x' = A x + B u``, sampled with steps in proportion to 1/t, holds the best approximation of the
    whole past of u by n Legendre polynomials [1]_; state-space layers use it with a fixed step.

    Parameters
    ----------
    n : int
        Number of real states.

    Returns
    -------
    A : (n, n)
    B : (n,)
        Both in double precision.

    References
    ----------
    .. [1] A. Gu, T. Dao, S. Ermon, A. Rudra, C. Re, "HiPPO: recurrent memory with optimal
       polynomial projections", NeurIPS 2020, arXiv:2008.07669.

    Examples
    --------
    >>> from compressm.layers.hippo import hippo_legs
    >>> hippo_legs(2)[0].numpy().round(3)
    array([[-1.   ,  0.   ],
           [-1.732, -2.   ]])
    """
    i = torch.arange(n, dtype=torch.float64)
    B = (2 * i + 1).sqrt()
    return (-B.outer(B)).tril(-1) - torch.diag(i + 1), B


def hippo_normal(n: int) -> tuple[Tensor, Tensor]:
    """V, Lambda with A + p p^T = V diag(Lambda) V^H of HiPPO-LegS,  p_i = sqrt(i + 1/2).

    The sum is -1/2 plus a skew-symmetric matrix: its eigenvectors are orthonormal, and every
    eigenvalue has real part -1/2.

    Parameters
    ----------
    n : int
        Number of real states.

    Returns
    -------
    poles : (n,)
        Lambda, complex; imaginary parts ascend, so that the last n/2 are of the upper half-plane.
    V : (n, n)
        Eigenvectors, in columns.
    """
    A, _ = hippo_legs(n)
    p = _low_rank(n)
    skew = A + p.outer(p) + torch.eye(n, dtype=A.dtype) / 2
    frequencies, V = torch.linalg.eigh(-1j * skew)
    return torch.complex(torch.full_like(frequencies, -0.5), frequencies), V


def hippo_nplr(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A = V (diag(Lambda) - P P^H) V^H, B = V B' of HiPPO-LegS: normal plus low rank.

    Parameters
    ----------
    n : int
        Number of real states.

    Returns
    -------
    poles : (n,)
        Lambda, with imaginary parts that ascend.
    P : (n,)
    B : (n,)
        B', the input matrix in the basis of eigenvectors.
    V : (n, n)

    References
    ----------
    .. [1] A. Gu, K. Goel, C. Re, "Efficiently modeling long sequences with structured state
       spaces", ICLR 2022, arXiv:2111.00396, theorem 1 and appendix C.
    .. [2] K. Goel, A. Gu, C. Donahue, C. Re, "It's raw! Audio generation with state-space models",
       ICML 2022, arXiv:2202.09729: one P, in place of P and Q, keeps A stable.
    """
    poles, V = hippo_normal(n)
    _, B = hippo_legs(n)
    return poles, V.mH @ _low_rank(n).to(V), V.mH @ B.to(V), V


def s4d_lin(n: int) -> Tensor:
    """lambda_k = -1/2 + i pi k, (n,) complex: S4D-Lin.

    Parameters
    ----------
    n : int
        Number of stored states, half of the N of the paper on S4D (arXiv:2206.11893, section 4).
    """
    k = torch.arange(n, dtype=torch.float64)
    return torch.complex(torch.full_like(k, -0.5), math.pi * k)


def s4d_inv(n: int) -> Tensor:
    """lambda_k = -1/2 + i N/pi (N/(2k+1) - 1), N = 2n, (n,) complex: S4D-Inv.

    Parameters
    ----------
    n : int
        As in `s4d_lin`.
    """
    k = torch.arange(n, dtype=torch.float64)
    return torch.complex(torch.full_like(k, -0.5), 2 * n / math.pi * (2 * n / (2 * k + 1) - 1))


def s4d_legs(n: int) -> Tensor:
    """The eigenvalues of `hippo_normal` in the upper half-plane, (n,) complex: S4D-LegS.

    Parameters
    ----------
    n : int
        As in `s4d_lin`.
    """
    return hippo_normal(2 * n)[0][n:]


def _low_rank(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5).sqrt()
