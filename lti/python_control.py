"""For systems of python-control, by its own names: ``balred``, ``hsvd``, ``gram``, ``norm``.

``from lti.python_control import balred, hsvd`` in place of ``from control import balred, hsvd``
needs no Slycot, takes discrete time as it is, and keeps labels and ``dt``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import lti
from lti.errors import OptionError
from lti.systems.convert import as_statespace

__all__ = ["balred", "gram", "hsvd", "norm"]


def balred(sys: Any, orders: Any, method: str = "truncate", alpha: float | None = None) -> Any:
    """`control.balred`: balanced systems of lower order.

    Parameters
    ----------
    sys : control.StateSpace or control.TransferFunction
        Unstable poles are kept as they are, and count.
    orders : int or sequence of int
        States to keep.
    method : {"truncate", "matchdc"}, optional
        `lti.balanced_truncation` or `lti.singular_perturbation`.
    alpha : float, optional
        The boundary between the poles that are kept and those that are reduced: a real part <= 0,
        or in discrete time a radius <= 1. The stability boundary by default.

    Returns
    -------
    control.StateSpace, or a list of them
        A list for a sequence of orders, however short.

    Raises
    ------
    OptionError
        If `method` or `alpha` is none of these.
    OrderError
        If an order is not possible.

    Examples
    --------
    >>> import control
    >>> from lti.python_control import balred
    >>> balred(control.tf([1], [1, 3, 3, 1]), 2).nstates
    2
    """
    system = as_statespace(sys)
    forms = {"truncate": "truncate", "matchdc": "singular_perturbation"}
    if method not in forms:
        raise OptionError(f"method={method!r} is neither 'truncate' nor 'matchdc'; choose one")
    reduce = getattr(lti.balance(system, unstable="split", alpha=alpha), forms[method])
    if isinstance(orders, Iterable):
        return [reduce(order).system.to_control() for order in orders]
    return reduce(orders).system.to_control()


def hsvd(sys: Any) -> np.ndarray:
    """`control.hsvd`: Hankel singular values, in discrete time too.

    Parameters
    ----------
    sys : control.StateSpace or control.TransferFunction
        A stable system.

    Returns
    -------
    array (n,)
        Real, descending.

    Raises
    ------
    UnstableError
        If a pole is unstable.

    Examples
    --------
    >>> import control
    >>> from lti.python_control import hsvd
    >>> hsvd(control.tf([1], [1, 2]))
    array([0.25])
    """
    return lti.hankel_singular_values(sys)


def gram(sys: Any, type: str) -> np.ndarray:
    """`control.gram`: a Gramian, or its upper triangular factor.

    Parameters
    ----------
    sys : control.StateSpace
        A stable system.
    type : {"c", "o", "cf", "of"}
        Controllability or observability; with "f" the factor R of ``R^H R``.

    Returns
    -------
    array (n, n)

    Raises
    ------
    OptionError
        If `type` is none of these.
    UnstableError
        If a pole is unstable.

    Examples
    --------
    >>> import control
    >>> from lti.python_control import gram
    >>> gram(control.ss([[-1.0]], [[2.0]], [[1.0]], 0), "cf") ** 2
    array([[2.]])
    """
    if type not in ("c", "o", "cf", "of"):
        raise OptionError(f"type={type!r} is not a Gramian; choose 'c', 'o', 'cf' or 'of'")
    S = lti.gramian_factors(sys)["o" in type]
    if "f" not in type:
        return S @ S.conj().T
    R, n = np.linalg.qr(S.conj().T, mode="r"), len(S)
    R = np.vstack([R, np.zeros((n - len(R), n))])  # a Gramian of low rank
    size = np.abs(R.diagonal())
    return np.where(size > 0, R.diagonal().conj() / np.where(size > 0, size, 1.0), 1.0)[:, None] * R


def norm(system: Any, p: int | str = 2, tol: float = 1e-6) -> float:
    """`control.norm`: the H2 or the H-infinity norm.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        A stable system.
    p : {2, "inf"}, optional
        Which norm.
    tol : float, optional
        Relative accuracy of the H-infinity norm.

    Returns
    -------
    float
        Infinite for the H2 norm of a continuous system with ``D != 0``.

    Raises
    ------
    OptionError
        If `p` is no such norm.
    UnstableError
        If a pole is unstable: python-control gives infinity, or the L-infinity norm.

    Examples
    --------
    >>> import control
    >>> from lti.python_control import norm
    >>> round(norm(control.tf([1], [1, 2, 1])), 3), norm(control.tf([1], [1, 2, 1]), "inf")
    (0.5, 1.0)
    """
    if p == 2:
        return float(lti.h2_norm(system))
    if p in ("inf", np.inf):
        return float(lti.hinf_norm(system, tol))
    raise OptionError(f"p={p!r} is no norm of a system; choose 2 or 'inf'")
