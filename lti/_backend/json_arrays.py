"""Arrays as lists and objects of JSON, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["from_json", "to_json"]


def to_json(x: Any) -> Any:
    """Nested lists, ``{"re": ..., "im": ...}`` or the shape of an empty array; others as is."""
    if not isinstance(x, np.ndarray):
        return x
    if np.iscomplexobj(x):
        return {"re": to_json(x.real), "im": to_json(x.imag)}
    return x.tolist() if x.size else {"shape": x.shape}


def from_json(x: Any, depth: int) -> Any:
    """An array of `depth` axes; what is a list further down is a pair [re, im]."""
    if isinstance(x, dict) and "shape" in x:
        if 0 not in x["shape"] or len(x["shape"]) != depth:
            raise ValueError(f"the shape {x['shape']} is none of an empty matrix")
        return np.zeros(x["shape"])
    if isinstance(x, dict):
        both = np.stack([from_json(x[part], depth) for part in ("re", "im")], axis=-1)
        return np.ascontiguousarray(both, dtype=float).view(complex)[..., 0]
    if depth == 0:
        return complex(*x) if isinstance(x, list) else x
    if not isinstance(x, list):
        raise ValueError(f"{x!r} stands where a list is expected: a matrix is a list of rows")
    return np.array([from_json(item, depth - 1) for item in x])
