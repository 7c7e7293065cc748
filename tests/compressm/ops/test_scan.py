"""The fast recurrence against the loop that defines it: values, gradients, what it keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

import lti
from compressm.ops import scan
from compressm.ops.scan import linear_ssm, linear_ssm_reference

SIZES = dict(
    batch=st.integers(1, 3),
    length=st.integers(1, 70),
    m=st.sampled_from([1, 2, 8, 150]),
    p=st.sampled_from([1, 3, 8]),
    n=st.integers(0, 5),
    with_state=st.booleans(),
    seed=st.integers(0, 2**31),
)


def problem(batch, length, m, p, n, with_state=True, seed=0, dtype=torch.float64):
    """u, poles, B, C, state: poles inside the unit disc, the first of them zero."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, of=torch.complex):
        parts = [torch.randn(*shape, dtype=dtype, generator=generator) for _ in range(2)]
        return of(*parts)

    phase = 6.3 * torch.rand(n, dtype=dtype, generator=generator)
    poles = torch.polar(torch.rand(n, dtype=dtype, generator=generator), phase)
    poles[:1] = 0
    state = normal(batch, n) if with_state else None
    arguments = normal(batch, length, m, of=torch.add), poles, normal(n, m), normal(p, n), state
    return [None if x is None else x.requires_grad_() for x in arguments]


def assert_equal(actual, expected, tolerance):
    for x, y in zip(actual, expected, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        assert (x - y).norm() <= tolerance * (1 + y.norm())


def assert_twins(arguments, tolerance=1e-12, **options):
    """Outputs and all gradients of both forms agree, with gradients arriving on both outputs."""
    inputs = [x for x in (*arguments, options.get("D")) if x is not None]
    results = []
    for form in (linear_ssm, linear_ssm_reference):
        outputs = form(*arguments, **options)
        gradients = [torch.linspace(-1, 2, y.numel()).view_as(y).to(y) for y in outputs]
        results.append((*outputs, *torch.autograd.grad(outputs, inputs, gradients)))
    assert_equal(*results, tolerance)


@given(**SIZES)
def test_equals_the_loop(batch, length, m, p, n, with_state, seed):
    assert_twins(problem(batch, length, m, p, n, with_state, seed))


@given(**SIZES, data=st.data())
def test_equals_the_loop_whatever_the_block_length(batch, length, m, p, n, with_state, seed, data):
    J = data.draw(st.integers(1, length), label="J")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_block_length", lambda u, C: J)
        assert_twins(problem(batch, length, m, p, n, with_state, seed))


@pytest.mark.parametrize(("m", "p"), [(2, 3), (150, 1)], ids=["blocks", "steps"])
def test_gradcheck(m, p):
    assert torch.autograd.gradcheck(linear_ssm, problem(2, 5, m, p, 2))


@pytest.mark.parametrize("J", [1, 2])
def test_second_derivatives(monkeypatch, J):
    monkeypatch.setattr(scan, "_block_length", lambda u, C: J)
    assert torch.autograd.gradgradcheck(linear_ssm, problem(2, 5, 1, 2, 2))


def test_second_derivatives_where_one_output_or_one_input_counts():
    u, poles, B, C, state = problem(2, 70, 2, 2, 3)
    for of in (linear_ssm, linear_ssm_reference):
        (first,) = torch.autograd.grad(
            of(u, poles, B, C)[0].square().sum(), poles, create_graph=True
        )
        second = torch.autograd.grad((first * first.conj()).real.sum(), (u, poles, B, C))
        if of is linear_ssm:
            fast = second
    assert all(torch.allclose(x, y, rtol=1e-9) for x, y in zip(fast, second, strict=True))


def test_single_precision():
    arguments = problem(4, 333, 8, 8, 16, dtype=torch.float32)
    wide = [x.detach().to(torch.promote_types(x.dtype, torch.float64)) for x in arguments]
    y, last = linear_ssm(*arguments)
    assert y.dtype == torch.float32 and last.dtype == torch.complex64
    exact, exact_last = linear_ssm_reference(*wide)
    assert (y - exact).norm() < 1e-6 * exact.norm()
    assert (last - exact_last).norm() < 1e-6 * exact_last.norm()


@pytest.mark.parametrize("m", [8, 150])
def test_last_state_continues_the_sequence(m):
    u, poles, B, C, state = problem(2, 45, m, 3, 4)
    y, last = linear_ssm(u, poles, B, C, state)
    first, between = linear_ssm(u[:, :19], poles, B, C, state)
    second, end = linear_ssm(u[:, 19:], poles, B, C, between)
    assert_equal([torch.cat([first, second], 1), end], [y, last], 1e-12)


def test_time_major_memory_is_no_obstacle():
    u, *rest = problem(3, 32, 8, 8, 4)
    transposed = u.detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert_equal(linear_ssm(transposed, *rest), linear_ssm(u, *rest), 1e-14)


@pytest.mark.parametrize("m", [8, 150])
def test_arguments_and_incoming_gradients_are_not_written_to(m):
    arguments = problem(2, 40, m, 8, 4)
    outputs = linear_ssm(*arguments)
    gradients = [torch.randn_like(x) for x in outputs]
    before = [x.detach().clone() for x in (*arguments, *outputs, *gradients)]
    torch.autograd.grad(outputs, arguments, gradients)
    for x, y in zip((*arguments, *outputs, *gradients), before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("m", [8, 150])
def test_last_state_may_be_written_to(m):
    arguments = problem(2, 40, m, 8, 4)
    (u,) = torch.autograd.grad(linear_ssm(*arguments)[0].sum(), arguments[:1])
    y, last = linear_ssm(*arguments)
    with torch.no_grad():
        last.zero_()
    assert torch.equal(torch.autograd.grad(y.sum(), arguments[:1])[0], u)


def test_backward_keeps_states_at_block_borders_only():
    batch, length, n = 4, 512, 64
    kept = []
    with saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        linear_ssm(*problem(batch, length, 2, 2, n))
    numbers = sum({x.data_ptr(): x.numel() * (1 + x.is_complex()) for x in kept}.values())
    assert numbers < batch * length * n  # half of what the states at every step would take


def test_autocast_does_not_lower_the_precision():
    arguments = problem(2, 40, 4, 4, 4, dtype=torch.float32)
    exact = linear_ssm(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(linear_ssm(*arguments), exact, 0)
        assert linear_ssm(arguments[0].bfloat16(), *arguments[1:])[0].dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 5, 4), (5, 3)])
def test_input_of_wrong_shape(shape):
    _, poles, B, C, _ = problem(2, 5, 3, 3, 2)
    with pytest.raises(lti.DimensionError, match=r"u must be \(batch, length, 3\).*got"):
        linear_ssm(torch.zeros(shape, dtype=torch.float64), poles, B, C)


# ------------------------------------------------------------------ options


@given(
    batch=st.integers(1, 4),
    length=st.integers(1, 40),
    m=st.sampled_from([1, 3, 150]),
    n=st.integers(1, 4),
    with_state=st.booleans(),
    with_D=st.booleans(),
    reverse=st.booleans(),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_every_option_equals_the_loop(batch, length, m, n, with_state, with_D, reverse, seed, data):
    J = data.draw(st.none() | st.integers(1, length), label="J")
    lengths = data.draw(
        st.none() | st.lists(st.integers(0, length), min_size=batch, max_size=batch),
        label="lengths",
    )
    with pytest.MonkeyPatch.context() as patch:
        if J is not None:
            patch.setattr(scan, "_block_length", lambda u, C: J)
        assert_twins(
            problem(batch, length, m, m, n, with_state, seed),
            D=torch.linspace(-1, 2, m, dtype=torch.float64, requires_grad=True) if with_D else None,
            lengths=None if lengths is None else torch.tensor(lengths),
            reverse=reverse,
        )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("J", [1, 2])
def test_gradcheck_with_options(monkeypatch, J, reverse):
    monkeypatch.setattr(scan, "_block_length", lambda u, C: J)
    D = torch.linspace(-1, 2, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 2])

    def of(*arguments):
        return linear_ssm(*arguments[:-1], D=arguments[-1], lengths=lengths, reverse=reverse)

    assert torch.autograd.gradcheck(of, (*problem(2, 5, 2, 2, 2), D))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("m", [8, 150], ids=["blocks", "steps"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_each_sequence_is_as_if_alone_whatever_lies_beyond_its_end(m, reverse, dtype):
    u, poles, B, C, state = (x.detach() for x in problem(4, 45, m, 3, 4))
    lengths = torch.tensor([45, 17, 1, 0], dtype=dtype)
    for i, end in enumerate(lengths):
        u[i, end:] = torch.nan
    y, last = linear_ssm(u, poles, B, C, state, lengths=lengths, reverse=reverse)
    for i, end in enumerate(lengths.tolist()):
        assert not y[i, end:].any()
        if end == 0:
            assert torch.equal(last[i], state[i])
            continue
        one = slice(i, i + 1)
        alone = linear_ssm(u[one, :end], poles, B, C, state[one], reverse=reverse)
        assert_equal((y[one, :end], last[one]), alone, 1e-12)


def test_reverse_is_the_mirror_image():
    u, *rest = problem(2, 37, 8, 8, 4)
    mirrored, last = linear_ssm(u.flip(1), *rest)
    assert_equal(linear_ssm(u, *rest, reverse=True), (mirrored.flip(1), last), 1e-14)


def test_output_may_be_written_to():
    u, poles, B, C, _ = problem(2, 40, 8, 8, 4)
    (expected,) = torch.autograd.grad(2 * linear_ssm(u, poles, B, C)[0].sum(), u)
    y, _ = linear_ssm(u, poles, B, C)
    y[:, 0] *= 1
    assert_equal(torch.autograd.grad(y.mul_(2).sum(), u), [expected], 1e-14)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lengths": torch.tensor([1, 2, 3])}, lti.DimensionError, "each of 2 sequences"),
        ({"lengths": torch.tensor([1.0, 2.0])}, lti.OptionError, r"integers, got torch.float32"),
        ({"lengths": torch.tensor([True, True])}, lti.OptionError, r"integers, got torch.bool"),
        ({"lengths": torch.tensor([-1, 2])}, lti.OptionError, r"from 0 to 5.*\[-1, 2\]"),
        ({"lengths": torch.tensor([1, 6])}, lti.OptionError, r"from 0 to 5.*\[1, 6\]"),
        ({"D": torch.ones(4)}, lti.DimensionError, r"3 inputs and 3 outputs, got shape \(4,\)"),
    ],
)
def test_options_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        linear_ssm(*problem(2, 5, 3, 3, 2), **options)
