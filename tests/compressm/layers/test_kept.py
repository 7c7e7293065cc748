"""Steps compute the constants of a layer once, and again whenever its parameters change."""

import copy
import pickle

import pytest
import torch

from compressm import DSS, LSSL, S4, S4D, States, compress_

EACH_LAYER = pytest.mark.parametrize("kind", [DSS, LSSL, S4, S4D])


def counted(layer, monkeypatch):
    """The calls in which the constants of `layer` were computed."""
    calls, compute = [], layer._constants
    monkeypatch.setattr(layer, "_constants", lambda: calls.append(1) or compute())
    return calls


@EACH_LAYER
def test_constants_are_computed_once(kind, monkeypatch):
    layer, u = kind(3, 4), torch.randn(2, 3)
    calls = counted(layer, monkeypatch)
    with torch.no_grad():
        for _ in range(3):
            layer.step(u)
    with torch.inference_mode():
        layer.step(u)
    assert len(calls) == 1


@EACH_LAYER
def test_every_way_to_change_a_parameter_is_seen(kind):
    layer, u = kind(3, 4), torch.randn(2, 3)

    def is_fresh():
        return torch.equal(
            layer.step(u.to(layer.D))[0], copy.deepcopy(layer).step(u.to(layer.D))[0]
        )

    with torch.no_grad():
        before = layer.step(u)[0]
        for change in (
            lambda: layer.log_dt.mul_(2),
            lambda: layer.log_dt.data.mul_(2),  # does not count as a new version
            lambda: layer.load_state_dict(kind(3, 4).state_dict()),
            lambda: compress_(layer, States(2)),
            lambda: layer.double(),
        ):
            change()
            assert is_fresh()
            assert not torch.equal(layer.step(u.to(layer.D))[0], before)


@EACH_LAYER
def test_steps_have_derivatives(kind):
    layer, u = kind(3, 4), torch.randn(2, 3)
    with torch.no_grad():
        layer.step(u)
    for _ in range(2):
        layer.zero_grad()
        layer.step(u)[0].sum().backward()
        assert layer.log_dt.grad.all()
    layer.requires_grad_(False)
    assert not layer.step(u)[0].requires_grad
    assert layer.step(u.requires_grad_())[0].requires_grad


def test_copies_and_files_hold_no_constants():
    layer = S4(3, 4)
    with torch.no_grad():
        layer.step(torch.randn(2, 3))
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same._kept is not layer._kept and same._kept._last is None
