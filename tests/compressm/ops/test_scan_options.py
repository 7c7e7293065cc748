"""Feed-through, sequences of several lengths, and reading from the end: against the plain loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm import S5, SequenceModel, scan
from compressm.ops.scan import linear_ssm, linear_ssm_reference
from tests.compressm.ops.test_scan import assert_equal, problem


def assert_twins(arguments, **options):
    """Outputs and gradients of both forms agree, those for D included."""
    inputs = [x for x in (*arguments, options.get("D")) if x is not None]
    results = []
    for form in (linear_ssm, linear_ssm_reference):
        outputs = form(*arguments, **options)
        gradients = [torch.ones_like(y).cumsum(-1) for y in outputs]
        results.append((*outputs, *torch.autograd.grad(outputs, inputs, gradients)))
    assert_equal(*results, 1e-12)


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
def test_gradcheck(monkeypatch, J, reverse):
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


def test_bidirectional_layer_is_the_sum_of_both_directions():
    torch.manual_seed(0)
    layer = S5(4, 6, bidirectional=True).double()
    u = torch.randn(3, 29, 4, dtype=torch.float64)
    poles, B, C = layer._system()
    ahead, _ = linear_ssm_reference(u, poles, B, C[:4])
    back, _ = linear_ssm_reference(u, poles, B, C[4:], reverse=True)
    assert torch.allclose(layer(u), ahead + back + layer.D * u, atol=1e-12)


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


@pytest.mark.parametrize("layer", ["lru", "s4d", "mamba"])
@pytest.mark.parametrize("pool", ["mean", "last", "none"])
def test_model_reads_each_sequence_to_its_own_end(layer, pool):
    torch.manual_seed(0)
    model = SequenceModel(2, 3, d_model=4, d_state=6, n_layers=2, pool=pool, layer=layer).eval()
    u, lengths = torch.randn(4, 21, 2), torch.tensor([21, 13, 5, 1])
    y = model(u, lengths)
    for i, end in enumerate(lengths):
        alone = model(u[i : i + 1, :end])[0]
        assert torch.allclose(y[i] if pool != "none" else y[i, :end], alone, atol=1e-5)
        assert pool != "none" or not y[i, end:].any()


@pytest.mark.parametrize("layer", ["s4", "s4d", "s5"])
def test_bidirectional_model_reads_nothing_from_beyond_the_end(layer):
    torch.manual_seed(0)
    model = SequenceModel(2, 3, 4, 6, 2, layer=layer, bidirectional=True).eval()
    u, lengths = torch.randn(2, 21, 2), torch.tensor([21, 13])
    assert torch.allclose(model(u, lengths)[1:], model(u[1:, :13]), atol=1e-5)


def test_what_lies_beyond_changes_neither_a_training_step_nor_the_statistics():
    lengths = torch.tensor([21, 13, 5])
    results = []
    for filling in (0.0, 100.0):
        torch.manual_seed(0)
        model = SequenceModel(2, 3, d_model=4, d_state=6, n_layers=2)
        u = torch.randn(3, 21, 2)
        for i, end in enumerate(lengths):
            u[i, end:] = filling
        model(u, lengths).square().sum().backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


def test_full_lengths_change_nothing():
    torch.manual_seed(0)
    model, u = SequenceModel(2, 3, d_model=4, d_state=6, n_layers=2), torch.randn(3, 21, 2)
    assert torch.allclose(model(u, torch.tensor([21, 21, 21])), model(u), atol=1e-5)


def test_a_model_cannot_average_over_no_steps():
    model = SequenceModel(2, 3, d_model=4, d_state=6, n_layers=1)
    with pytest.raises(lti.OptionError, match=r"from 1 to 7.*\[7, 0\]"):
        model(torch.zeros(2, 7, 2), torch.tensor([7, 0]))
