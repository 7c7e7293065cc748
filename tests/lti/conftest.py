"""The three array libraries that every theorem runs on."""

import array_api_strict
import numpy as np
import pytest
import torch


class Library:
    """One array library: to it, from it, and whether an array is its own."""

    def __init__(self, name, make, kind):
        self.name, self.make, self.kind = name, make, kind

    def __call__(self, x):
        return self.make(np.array(x))  # a copy, writable

    def owns(self, *arrays):
        return all(isinstance(x, self.kind) for x in arrays)

    def system(self, sys):
        """`sys` with its arrays in this library."""
        from dataclasses import fields, replace

        arrays = {f.name: getattr(sys, f.name) for f in fields(sys) if f.name not in ("dt",)}
        return replace(sys, **{k: self(v) for k, v in arrays.items() if isinstance(v, np.ndarray)})


LIBRARIES = [
    Library("numpy", np.asarray, (np.ndarray, np.generic)),
    Library("array_api_strict", array_api_strict.asarray, type(array_api_strict.zeros(1))),
    Library("torch", torch.from_numpy, torch.Tensor),
]


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request):
    """Return a function that moves NumPy arrays into one of the libraries."""
    return request.param
