"""Which states others would keep, as Gramian types: random, magnitude, Wanda, QR, Fisher."""

from __future__ import annotations

import scipy.linalg
import torch

from compressm import GramianType
from compressm.gramians.scores import pulled_back
from compressm.gramians.types import INPUT
from compressm.systems.selective import coefficients, form_of

__all__ = ["CHOICES"]


class Score(GramianType):
    """A choice of others, as a type: the score of each state of each group."""

    energy = 0.98

    def __init__(self, score, gradients=False):
        self.name, self.score, self.needs_gradients = score.__name__, score, gradients

    def factors(self, system, signals, directions):
        return INPUT.factors(system, signals, directions)

    def state_values(self, layer, signals):
        return self.score(layer, signals)


def random(layer, signals):
    form = form_of(layer)
    return torch.rand(form.groups, form.n_states, dtype=torch.float64)


def magnitude(layer, signals):
    """The norm of the weights that make B, C or keys, queries of a state."""
    return _by_weights(layer, lambda W: W.square().sum(1))


def wanda(layer, signals):
    """The same, each weight times the norm of its input (Sun et al., arXiv:2306.11695)."""
    name = _projection(layer)
    if name == "x_proj.weight":
        inputs = torch.cat([coefficients(layer, s.u).x.flatten(0, 1) for s in signals])
    else:
        inputs = torch.cat([s.u.flatten(0, 1) for s in signals])
    power = inputs.double().square().sum(0)
    return _by_weights(layer, lambda W: W.square() @ power)


def _projection(layer):
    names = ("x_proj.weight", "in_proj.weight", "in_proj_qkv.weight")
    return next(x for x in names if x in form_of(layer).places([]))


def _by_weights(layer, power):
    form, name = form_of(layer), _projection(layer)
    rows = power(layer.get_parameter(name).detach().double())
    every = list(range(form.groups * form.n_states))
    everything = set(form.places(every)[name][1])
    own = [everything - set(form.places([k for k in every if k != i])[name][1]) for i in every]
    values = torch.stack([rows[sorted(x)].sum() for x in own]).sqrt()
    return values.unflatten(0, (form.groups, -1))


def rank_revealing(layer, signals):
    """Pivots of a QR decomposition of what is written, keys or B (arXiv:2602.04852)."""
    form, parts = form_of(layer), [coefficients(layer, s.u) for s in signals]
    keys = torch.cat([getattr(c, "k", getattr(c, "B", None)).flatten(0, 1) for c in parts])
    values = torch.zeros(form.groups, form.n_states, dtype=torch.float64)
    for g in range(form.groups):
        pivots = scipy.linalg.qr(keys[:, g].double().numpy(), mode="r", pivoting=True)[1]
        values[g, pivots] = torch.arange(form.n_states, 0, -1, dtype=torch.float64)
    return values


def fisher(layer, signals):
    """Mean square over sequences of dJ/dm_i, m_i a mask on what reads state i.

    J is a random projection of the output of the model: the diagonal of Gauss-Newton's matrix.
    """
    form = form_of(layer)
    values = torch.zeros(form.groups, form.n_states, dtype=torch.float64)
    for signal in signals:
        c = coefficients(layer, signal.u)
        name = "q" if hasattr(c, "q") else "C"
        reads = getattr(c, name)
        g = pulled_back(form, c, form.recurrence.run(c)[1], signal.g)
        for i in range(form.n_states):
            only = torch.zeros_like(reads)
            only[..., i] = reads[..., i]
            _, y = form.recurrence.run(c._replace(**{name: only}))
            slope = (g * y).unflatten(-1, (form.groups, -1)).sum((1, -1))
            values[:, i] += slope.double().square().sum(0)
    return values


CHOICES = [*map(Score, (random, magnitude, wanda, rank_revealing)), Score(fisher, gradients=True)]
