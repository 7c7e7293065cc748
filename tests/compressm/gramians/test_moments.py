"""Gramian factors from data: what they tend to, and that they are the moments of a plain loop."""

import pytest
import torch

import lti
from compressm.gramians.moments import observability_factor, observed_factor
from tests.compressm.helpers import lru, smooth


@pytest.mark.parametrize("conjugate", [True, False])
def test_white_inputs_give_the_controllability_gramian(every_state, conjugate):
    system = lru(5, r_max=0.95).to_lti(conjugate=conjugate)
    torch.manual_seed(1)
    S = observed_factor(system, [torch.randn(300, 900, 4)])
    P = lti.controllability_gramian(system)
    assert S.shape == P.shape
    assert torch.linalg.norm(S @ S.mH - P) < 0.1 * torch.linalg.norm(P)


@pytest.mark.parametrize("conjugate", [True, False])
def test_white_gradients_give_the_observability_gramian(every_state, conjugate):
    system = lru(5, r_max=0.95).to_lti(conjugate=conjugate)
    torch.manual_seed(1)
    R = observability_factor(system, [torch.randn(300, 900, 4)])
    Q = lti.observability_gramian(system)
    assert torch.linalg.norm(R @ R.mH - Q) < 0.1 * torch.linalg.norm(Q)


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_the_factor_squares_to_the_second_moment_of_a_plain_loop(every_state, conjugate, length):
    system = lru(20, r_max=0.95).to_lti(conjugate=conjugate)
    dense = system.to_dense()
    u = torch.randn(3, length, 4, dtype=torch.float64)  # few samples: every step is looked at
    x, states = torch.zeros(3, dense.order, dtype=dense.A.dtype), []
    for t in range(length):
        x = x @ dense.A.mT + u[:, t].to(dense.B.dtype) @ dense.B.mT
        states.append(x)
    x = torch.cat(states)
    S = observed_factor(system, [u])
    torch.testing.assert_close(S @ S.mH, x.mT @ x.conj() / len(x), rtol=1e-10, atol=1e-12)


def test_adjoint_states_are_the_gradients_of_what_enters_the_state(every_state):
    system = lru(3, r_max=0.95).to_lti()
    dense = system.to_dense()
    torch.manual_seed(1)
    v = torch.zeros(2, 9, 6, dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(2, 6, dtype=torch.float64), []
    for t in range(9):
        x = x @ dense.A.mT + v[:, t]
        y.append(x @ dense.C.mT)
    y = torch.stack(y, dim=1)
    loss = y.sin().sum()
    (g,) = torch.autograd.grad(loss, v, retain_graph=True)
    (gy,) = torch.autograd.grad(loss, y)
    g = g.flatten(0, 1)
    R = observability_factor(system, [gy])
    torch.testing.assert_close(R @ R.mT, g.mT @ g / len(g), rtol=1e-10, atol=1e-12)


def test_several_signals_count_as_one_sample(every_state):
    system = lru(5).to_lti()
    u = smooth(12, 30, 4)
    S, one = observed_factor(system, list(u.split(4))), observed_factor(system, [u])
    torch.testing.assert_close(S @ S.mT, one @ one.mT)


def test_a_batch_of_systems_is_observed_system_by_system(every_state):
    members = [lru(5, seed=s).to_lti() for s in range(3)]
    stack = lti.DiagonalStateSpace(
        torch.stack([x.poles for x in members]),
        torch.stack([x.B[:, :1] for x in members]),
        torch.stack([x.C[:1] for x in members]),
        conjugate=True,
    )
    u = smooth(4, 60, 3)
    for system in (stack, stack.to_dense()):
        S, R = observed_factor(system, [u]), observability_factor(system, [u])
        for k, x in enumerate(members):
            one = lti.DiagonalStateSpace(x.poles, x.B[:, :1], x.C[:1], conjugate=True)
            S_k = observed_factor(one, [u[..., k : k + 1]])
            R_k = observability_factor(one, [u[..., k : k + 1]])
            torch.testing.assert_close(S[k] @ S[k].mT, S_k @ S_k.mT)
            torch.testing.assert_close(R[k] @ R[k].mT, R_k @ R_k.mT)


def test_sampled_states_come_from_all_times_of_a_sequence():
    with torch.no_grad():
        system = lru(16).to_lti()
    torch.manual_seed(1)
    u = torch.randn(200, 600, 4) * torch.linspace(0, 1, 600)[:, None]  # ever louder
    dense, x, squares = system.to_dense(), torch.zeros(200, 32, dtype=torch.float64), []
    for v in u.double().unbind(1):
        x = x @ dense.A.mT + v @ dense.B.mT
        squares.append(x.square().sum(-1).mean())
    S = observed_factor(system, list(u.split(20)))
    assert S.square().sum() == pytest.approx(torch.stack(squares).mean().item(), rel=0.1)
    assert torch.equal(S, observed_factor(system, list(u.split(20))))  # the same ones each time
