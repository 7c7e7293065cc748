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


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")  # in torch's own rules
@EACH_LAYER
def test_tangents_and_batches_of_parameters_are_their_own(kind):
    layer, u = kind(3, 4).requires_grad_(False), torch.randn(2, 3)
    layer.forward = layer.step  # what functional_call calls
    y = layer.step(u)[0]

    def output(log_dt):
        return torch.func.functional_call(layer, {"log_dt": log_dt}, (u,))[0]

    ones = torch.ones_like(layer.log_dt)
    slopes = [torch.func.jvp(output, (layer.log_dt,), (x * ones,))[1] for x in (1.0, 2.0)]
    torch.testing.assert_close(slopes[1], 2 * slopes[0])
    both = torch.func.vmap(output)(torch.stack([layer.log_dt, layer.log_dt]))
    torch.testing.assert_close(both, torch.stack([y, y]))


@EACH_LAYER
def test_constants_serve_later_steps_whatever_the_mode_of_the_first(kind):
    layer, u = kind(3, 4).requires_grad_(False), torch.randn(2, 3)
    y, state = copy.deepcopy(layer).step(u)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.step(u)[1], state)
    assert torch.equal(layer.step(u)[0], y)
    layer = copy.deepcopy(layer)
    with torch.inference_mode():
        layer.step(u)
    assert layer.step(u.requires_grad_())[0].requires_grad
