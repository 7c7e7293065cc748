"""SLICOT by two roads, slycot and ctrlsys, each call in a process of its own with a time limit.

Some of their wrappers overflow the heap, and some calls never return; neither may take the tests
along. Used are only routines whose wrappers are known to be safe.
"""

import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import pickle, sys
import numpy as np

def ab09ad(A, B, C, discrete, order):
    import slycot
    n, m, p = len(A), B.shape[1], len(C)
    order, a, b, c, hsv = slycot.ab09ad(
        "D" if discrete else "C", "B", "N", n, m, p, A, B, C, nr=order, tol=0.0)
    return a[:order, :order], b[:order], c[:, :order], hsv

def ab13dd(A, B, C, D, discrete):
    import slycot
    n, m, p = len(A), B.shape[1], len(C)
    return slycot.ab13dd(
        "D" if discrete else "C", "I", "N", "D", n, m, p, A, np.eye(n), B, C, D, tol=1e-10)

def sb03od(A, B, discrete):
    import slycot
    n, m = len(A), len(B)
    padded = np.concatenate([B, np.zeros((max(0, n - m), n))])
    return slycot.sb03od(n, m, A, np.zeros((n, n)), padded, "D" if discrete else "C")[:2]

def ab13ad(A, B, C, discrete):
    import ctrlsys
    dico, alpha = ("D", 1.0) if discrete else ("C", 0.0)
    A, B, C = (np.asfortranarray(x) for x in (A, B, C))
    return ctrlsys.ab13ad(dico, "N", len(A), B.shape[1], len(C), alpha, A, B, C)

def ab09id(G, left, right, discrete, alpha, sides, order):
    import ctrlsys
    def f(*xs):
        return [np.array(x, order="F") for x in xs]
    (A, B, C, D), V, W = (f(*x) for x in (G, left, right))
    out = ctrlsys.ab09id(
        "D" if discrete else "C", "S", "S", "B", sides, "N", "F", len(A), B.shape[1], len(C),
        len(V[0]), len(V[2]), len(W[0]), W[1].shape[1], order, float(discrete), alpha, alpha,
        A, B, C, D, *V, *W, 0.0, 0.0)
    A, B, C, D, hsv, order = *out[:4], out[11], out[12]
    return hsv, (A[:order, :order], B[:order], C[:, :order], D)

name, args = pickle.load(sys.stdin.buffer)
result = globals()[name](*args)
sys.stdout.buffer.write(b"RESULT" + pickle.dumps(result))
"""

LIBRARY = dict.fromkeys(("ab09ad", "ab13dd", "sb03od"), "slycot")
LIBRARY |= dict.fromkeys(("ab09id", "ab13ad"), "ctrlsys")


def oracle(name, *args, seconds=60):
    """What the routine `name` returns; the test is skipped where its library is not installed."""
    if importlib.util.find_spec(LIBRARY[name]) is None:
        pytest.skip(f"{LIBRARY[name]} is not installed: no second opinion from SLICOT's {name}")
    args = [np.asarray(x) if isinstance(x, (list, np.ndarray)) else x for x in args]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        input=pickle.dumps((name, args)),
        capture_output=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{name} died: {done.stderr.decode()[-2000:]}"
    return pickle.loads(done.stdout.partition(b"RESULT")[2])
