"""Controller reduction: weights by which the error of a controller counts in the closed loop."""

from __future__ import annotations

from lti._backend.arrays import eye
from lti._backend.checks import one_of
from lti.systems.algebra import static
from lti.systems.connect import feedback
from lti.systems.convert import as_statespace
from lti.systems.operators import product
from lti.systems.protocol import SystemLike
from lti.systems.stability import require_stable
from lti.systems.statespace import StateSpace

__all__ = ["controller_weights"]


def controller_weights(
    plant: SystemLike, controller: SystemLike, keep: str = "performance", sign: int = -1
) -> dict[str, StateSpace]:
    """W_o = (1 - s G K)^-1 G, W_i = (1 - s G K)^-1 of the loop y = G u, u = K (r + s y).

    The closed loop from r to y changes by ``W_o (K_r - K) W_i`` to first order; s is the sign of
    the feedback. For ``balance(controller, unstable="split", **lti.controller_weights(...))``.

    Parameters
    ----------
    plant : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        G, stable or not.
    controller : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        K, which stabilizes it.
    keep : {"performance", "stability"}, optional
        "performance" weights both sides; "stability" the output alone, so that
        ``||W_o (K - K_r)||_inf < 1`` guarantees a stable loop with K_r, if K and K_r have the same
        unstable poles.
    sign : {-1, 1}, optional
        Of the feedback, as in `feedback`.

    Returns
    -------
    dict
        ``output_weight`` and, for performance, ``input_weight``; both stable.

    Raises
    ------
    DimensionError
        If plant and controller do not fit.
    OptionError
        If an option does not exist.
    UnstableError
        If the controller does not stabilize the plant.

    References
    ----------
    Anderson, Liu, "Controller reduction: concepts and approaches", IEEE TAC 34 (1989); Varga,
    Anderson, "Accuracy-enhancing methods for balancing-related frequency-weighted model and
    controller reduction", Automatica 39 (2003), which SLICOT's SB16AD follows.

    Examples
    --------
    >>> import lti, numpy as np
    >>> plant = lti.StateSpace([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], [[1.0, 0.0]])
    >>> lead = lti.StateSpace([[-3.0]], [[1.0]], [[-8.0]], [[4.0]])
    >>> lag = lti.StateSpace([[-50.0]], [[1.0]], [[50.0]])
    >>> weights = lti.controller_weights(plant, lag * lag * lead)
    >>> small = lti.balanced_truncation(lag * lag * lead, 2, **weights).system
    >>> bool((lti.feedback(plant, small).poles.real < 0).all())
    True
    """
    one_of("keep", keep, ("performance", "stability"))
    G, K = as_statespace(plant).to_dense(), as_statespace(controller).to_dense()
    W_o = feedback(G, K, sign)
    require_stable(W_o, "the closed loop: ", "pass a controller that stabilizes the plant")
    if keep == "stability":
        return {"output_weight": W_o}
    one = static(eye(G.n_outputs, like=G.A), G.dt)
    return {"output_weight": W_o, "input_weight": feedback(one, product(G, K), sign)}
