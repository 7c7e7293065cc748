"""Penalties: values and derivatives against lti, layer by layer, and what a stale one bounds."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm import (
    Compressor,
    Every,
    HankelPenalty,
    Order,
    compress_,
    hankel_nuclear_norm,
    hankel_smooth_order,
    hankel_spectra,
    hankel_tail_energy,
    nuclear_norm,
    smooth_order,
    tail_energy,
)
from compressm.checkpoints.file_format import load_tree, save_tree
from compressm.systems.find import ssm_layers
from tests.compressm.helpers import model_of

PENALTIES = {
    hankel_nuclear_norm: nuclear_norm,
    hankel_tail_energy: tail_energy,
    hankel_smooth_order: smooth_order,
}


def network(dtype=torch.float64, **sizes):
    return model_of(**({"d_input": 1, "d_output": 2, "d_model": 3, "d_state": 6} | sizes)).to(dtype)


def slopes(value, model):
    parameters = list(model.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros(()) if x is None else x for x in found]


def ssm_parameters(model):
    return [
        layer.get_parameter(name) for _, layer in ssm_layers(model) for name in layer.state_axes
    ]


def layer_by_layer(model, measure, system):
    return sum(
        measure(lti.hankel_singular_values(layer.to_lti(conjugate=system == "real")))
        for _, layer in ssm_layers(model)
    )


@pytest.mark.parametrize("system", ["real", "complex"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_is_the_sum_of_its_layers(penalty, system):
    model = network()
    model.add_module("odd", network(d_state=5, n_layers=1, seed=1))  # a layer of another shape
    measure = PENALTIES[penalty]
    value, expected = penalty(model, system=system), layer_by_layer(model, measure, system)
    tangent = HankelPenalty(model, measure, refresh=1, system=system)()
    for other in (value, tangent):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=0)
        for one, twin in zip(slopes(other, model), slopes(expected, model), strict=True):
            torch.testing.assert_close(one, twin, rtol=1e-9, atol=1e-11)


@given(st.integers(0, 99), st.floats(0, 0.5), st.sampled_from(["real", "complex"]))
def test_an_earlier_balancing_bounds_the_nuclear_norm(seed, far, system):
    model = network(seed=seed % 5)
    penalty = HankelPenalty(model, refresh=10, system=system)
    torch.testing.assert_close(penalty(), hankel_nuclear_norm(model, system), rtol=1e-12, atol=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in model.parameters():
            x += far * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    assert penalty() >= hankel_nuclear_norm(model, system) * (1 - 1e-12)


@pytest.mark.parametrize("system", ["real", "complex"])
@pytest.mark.parametrize("measure", PENALTIES.values())
def test_a_stale_penalty_has_the_derivatives_of_its_own_value(measure, system):
    model = network(d_state=4)
    penalty = HankelPenalty(model, measure, refresh=10**6, system=system)
    penalty()
    layers = [x for _, layer in ssm_layers(model) for x in layer.parameters()]
    with torch.no_grad():
        for x in layers:
            x += 0.1 * torch.randn_like(x)

    def value(*parameters):
        trial = copy.deepcopy(model)
        for (_, layer), start in zip(ssm_layers(trial), (0, len(layers) // 2), strict=True):
            for name, x in zip(dict(layer.named_parameters()), parameters[start:], strict=False):
                del layer._parameters[name]
                setattr(layer, name, x)
        penalty.model = trial
        return penalty()

    assert torch.autograd.gradcheck(value, [x.detach().requires_grad_() for x in layers])


def test_every_kth_call_counts_k_times():
    model = network()
    one, penalty = HankelPenalty(model)().item(), HankelPenalty(model, every=3)
    values = [penalty().item() for _ in range(7)]
    assert values == pytest.approx([3 * one, 0, 0, 3 * one, 0, 0, 3 * one])


@pytest.mark.parametrize(("every", "refresh", "expected"), [(1, 1, 8), (1, 4, 2), (2, 2, 2)])
def test_a_balancing_serves_for_as_many_evaluations_as_asked(every, refresh, expected, monkeypatch):
    made, balance = [], lti.balance
    monkeypatch.setattr(lti, "balance", lambda sys: made.append(sys) or balance(sys))
    penalty = HankelPenalty(network(), every=every, refresh=refresh)
    for _ in range(8):
        penalty()
    assert len(made) == expected  # both layers at once


def test_single_precision_is_close():
    single = network(d_state=32, dtype=torch.float32)
    value, exact = HankelPenalty(single)(), hankel_nuclear_norm(single)
    torch.testing.assert_close(value, exact, rtol=1e-6, atol=0)
    for x, twin in zip(slopes(value, single), slopes(exact, single), strict=True):
        assert (x - twin).abs().max() <= 1e-4 * twin.abs().max().clamp(min=1e-30)


def test_training_goes_on_through_a_cut():
    model = network(d_state=8, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    compressor = Compressor(model, optimizer, policy=Order(4), schedule=Every(2, stop=2))
    penalty = HankelPenalty(model)
    cut_parameters = [f"{name}.{key}" for name, x in ssm_layers(model) for key in x.state_axes]
    for step in range(4):
        before = {name: x.detach().clone() for name, x in model.named_parameters()}
        loss = penalty()
        if step == 2:  # the first after the cut
            torch.testing.assert_close(loss, hankel_nuclear_norm(model), rtol=1e-5, atol=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        compressor.step()
    assert [layer.d_state for _, layer in ssm_layers(model)] == [4, 4]
    assert all((model.get_parameter(name) != before[name]).any() for name in cut_parameters)


def test_a_penalty_goes_on_from_its_state(tmp_path):
    model, options = network(), {"refresh": 3, "every": 2, "weight": 0.5}
    penalty, resumed = (HankelPenalty(model, **options) for _ in range(2))
    for _ in range(3):
        penalty()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    save_tree(tmp_path / "state.safetensors", penalty.state_dict())
    resumed.load_state_dict(load_tree(tmp_path / "state.safetensors"))
    exact = 2 * 0.5 * hankel_nuclear_norm(model)
    # a call that is left out, one more of the old balancing, and the same of a new one
    for of_old in (None, True, None, False):
        value, same = penalty(), resumed()
        assert torch.equal(value, same)
        if of_old is None:
            assert value == 0
            continue
        assert torch.isclose(value, exact, rtol=1e-9) != of_old
        assert all(map(torch.equal, slopes(value, model), slopes(same, model)))


def test_the_state_of_another_model_is_refused():
    penalty = HankelPenalty(network(n_layers=2))
    penalty()
    with pytest.raises(ValueError, match=r"of another model: this one has no blocks\.1\.layer"):
        HankelPenalty(network(n_layers=1)).load_state_dict(penalty.state_dict())


def test_no_balancing_of_a_model_that_is_no_more_comes_back():
    model = network(d_state=8)
    full = copy.deepcopy(model.state_dict())
    penalty = HankelPenalty(model)
    penalty()
    compress_(next(iter(ssm_layers(model)))[1], Order(4))
    penalty()
    model.load_state_dict(full)
    with torch.no_grad():
        for _, layer in ssm_layers(model):
            layer.B.mul_(2)
    torch.testing.assert_close(penalty(), hankel_nuclear_norm(model), rtol=1e-12, atol=0)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_an_unknown_system_is_refused(penalty):
    with pytest.raises(ValueError, match="must be .real. or .complex., got .dense."):
        penalty(network(), system="dense")


@pytest.mark.parametrize("measure", PENALTIES.values())
def test_a_penalty_alone_makes_the_spectrum_steep(measure):
    model = network(d_state=16, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    penalty = HankelPenalty(model, measure, refresh=20)
    first = float(penalty.measure(torch.tensor(next(iter(hankel_spectra(model).values())))))
    for _ in range(60):
        optimizer.zero_grad()
        penalty().backward()
        optimizer.step()
    last = float(penalty.measure(torch.tensor(next(iter(hankel_spectra(model).values())))))
    assert last < first / 2


@pytest.mark.parametrize("d_state", [0, 1, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_nothing_to_see_costs_nothing(penalty, d_state):
    model = network(d_state=d_state)
    with torch.no_grad():
        for _, layer in ssm_layers(model):
            layer.B.zero_()
    for value in (penalty(model), HankelPenalty(model, PENALTIES[penalty])()):
        assert value.item() == 0
        if d_state:
            assert all(x.isfinite().all() for x in slopes(value, model))
    assert penalty(torch.nn.Linear(2, 2)).item() == 0


def test_a_bad_layer_is_named():
    model = network(n_layers=3)
    layers = dict(ssm_layers(model))
    name = list(layers)[1]
    with torch.no_grad():
        layers[name].B[0, 0, 0] = torch.nan
    for penalty in (hankel_nuclear_norm, lambda model: HankelPenalty(model)()):
        with pytest.raises(lti.NonFiniteError) as caught:
            penalty(model)
        assert caught.value.__notes__ == [f"layer: {name}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be a positive integer, got 0"),
        ({"refresh": 1.5}, "refresh must be a positive integer, got 1.5"),
        ({"refresh": True}, "refresh must be a positive integer, got True"),
        ({"weight": float("nan")}, "weight must be a finite number >= 0, got nan"),
        ({"weight": -1.0}, "weight must be a finite number >= 0, got -1.0"),
        ({"system": "dense"}, "must be .real. or .complex., got .dense."),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(ValueError, match=message):
        HankelPenalty(network(), **options)


def test_a_measure_that_falls_needs_an_exact_balancing():
    def flatness(sigma):
        return -sigma.sum(-1)

    with pytest.raises(ValueError, match="use refresh=1"):
        HankelPenalty(network(), flatness)()
    assert HankelPenalty(network(), flatness, refresh=1)() < 0


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (1e20, torch.float32),
        (1e-24, torch.float32),
        (1e160, torch.float64),
        (1e-160, torch.float64),
    ],
)
def test_the_units_of_the_input_do_not_matter(scale, dtype):
    model = network(dtype=dtype)
    penalty, expected = HankelPenalty(model)(), hankel_nuclear_norm(model)
    before = slopes(expected, model)
    with torch.no_grad():
        for _, layer in ssm_layers(model):
            layer.B.mul_(scale)
            layer.C.div_(scale)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    stale = HankelPenalty(model)
    for value in (stale(), stale(), hankel_nuclear_norm(model)):
        torch.testing.assert_close(value, penalty, rtol=tolerance, atol=0)
        for (name, _), x, y in zip(
            model.named_parameters(), slopes(value, model), before, strict=True
        ):
            kind = name.rpartition(".")[-1] if "layer" in name else ""
            y = y * {"B": 1 / scale, "C": scale}.get(kind, 1.0)
            assert (x - y).abs().max() <= tolerance * y.abs().max()


def test_a_penalty_may_be_watched_without_derivatives():
    model = network()
    expected = hankel_nuclear_norm(model).item()
    for mode in (torch.no_grad, torch.inference_mode):
        penalty = HankelPenalty(model)
        with mode():
            assert penalty().item() == pytest.approx(expected)
        penalty().backward()  # and be trained with afterwards


def test_spectra_of_alike_layers_come_from_one_call(monkeypatch):
    model = network(n_layers=3)
    model.add_module("odd", network(d_state=5, n_layers=1, seed=1))
    calls, values = [], lti.hankel_singular_values
    monkeypatch.setattr(lti, "hankel_singular_values", lambda sys: calls.append(sys) or values(sys))
    spectra = hankel_spectra(model)
    assert len(calls) == 2 and list(spectra) == [name for name, _ in ssm_layers(model)]
    for name, layer in ssm_layers(model):
        expected = values(layer.to_lti()).detach().numpy()
        torch.testing.assert_close(
            torch.tensor(spectra[name]), torch.tensor(expected), rtol=1e-12, atol=0
        )


OF_TORCH = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@OF_TORCH
@pytest.mark.parametrize("system", ["real", pytest.param("complex", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "penalty",
    [list(PENALTIES)[0], *(pytest.param(x, marks=pytest.mark.slow) for x in list(PENALTIES)[1:])],
)
def test_an_exact_penalty_compiles_whole(penalty, system):
    torch.compiler.reset()
    model = network(d_state=4)
    compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    value, expected = compiled(model, system=system), penalty(model, system=system)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for one, twin in zip(
        *(torch.autograd.grad(x, ssm_parameters(model)) for x in (value, expected)), strict=True
    ):
        torch.testing.assert_close(one, twin, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@OF_TORCH
def test_a_compiled_penalty_looks_at_its_layers_when_it_runs():
    torch.compiler.reset()
    model = network(d_state=4)
    compiled = torch.compile(hankel_nuclear_norm, fullgraph=True, backend="aot_eager")
    compiled(model)
    with torch.no_grad():
        next(iter(ssm_layers(model)))[1].B[0, 0, 0] = torch.nan
    with pytest.raises(lti.NonFiniteError, match="B has [1-9] entries that are not finite"):
        compiled(model)


@pytest.mark.parametrize("layer", ["s5", "s4d", "dss", "s4", "lssl"])
def test_every_linear_layer_can_be_penalised(layer):
    model = network(d_output=3, d_state=4, layer=layer)
    penalty = HankelPenalty(model, refresh=2)
    first = penalty()
    exact = hankel_nuclear_norm(model)
    torch.testing.assert_close(first, exact, rtol=1e-6, atol=0)
    kept = [p for _, x in ssm_layers(model) for p in x.parameters() if p is not x.D and p.numel()]
    for one, other in zip(
        *(torch.autograd.grad(x, kept, allow_unused=True) for x in (first, exact)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.norm()))
    with torch.no_grad():
        for p in kept:
            p.add_(1e-3 * torch.randn_like(p) * p.abs())
    assert penalty() >= hankel_nuclear_norm(model) * (1 - 1e-6)  # a bound between two balancings
