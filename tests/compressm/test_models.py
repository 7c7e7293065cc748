"""The plain sequence model: shapes, names, what a block computes, that it learns."""

import pytest
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import lti
from compressm import LRU, OptionError, SequenceModel, States, compress_
from compressm.checkpoints.weights import layers_in
from compressm.models import LAYERS
from tests.compressm.helpers import model_of


@pytest.mark.parametrize(
    ("pool", "shape"), [("mean", (5, 3)), ("last", (5, 3)), ("none", (5, 11, 3))]
)
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_shapes(pool, shape, n_layers):
    model = model_of(pool=pool, n_layers=n_layers)
    assert model(torch.randn(5, 11, 2)).shape == shape


def test_pooling_is_over_the_unpooled_output():
    u = torch.randn(5, 11, 2)
    y = model_of(pool="none").eval()(u)
    assert torch.allclose(model_of(pool="mean").eval()(u), y.mean(1), atol=1e-6)
    assert torch.allclose(model_of(pool="last").eval()(u), y[:, -1], atol=1e-6)


def test_block_computes_what_it_says():
    block = model_of().eval().blocks[0]
    x = torch.randn(5, 11, 4)
    z = functional.gelu(block.layer(block.norm(x.mT).mT))
    assert torch.allclose(block(x), x + functional.glu(block.mix(z)), atol=1e-6)


def test_output_does_not_see_the_future():
    model, u = model_of(pool="none").eval(), torch.randn(1, 12, 2)
    later = u.clone()
    later[:, 7:] += 1
    changed = (model(later) - model(u)).abs().amax(-1)[0]
    assert changed[:7].max() < 1e-6 < changed[7:].min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "gru"}, "no layer 'gru'; choose from dss, lru"),
        ({"pool": "max"}, "no pooling 'max'; choose from mean, last, none"),
        ({"dropout": 1.5}, "dropout probability"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_layers_by_class_by_name_and_with_options(monkeypatch):
    class Mine(LRU):
        pass

    assert all(type(block.layer) is Mine for block in model_of(layer=Mine).blocks)
    monkeypatch.setitem(LAYERS, "mine", Mine)
    layer = model_of(layer="mine", r_min=0.2, r_max=0.3).blocks[0].layer
    assert type(layer) is Mine and (layer.d_model, layer.d_state) == (4, 16)
    assert ((0.19 < layer.poles.abs()) & (layer.poles.abs() < 0.31)).all()


def test_dropout_acts_in_training_only_and_keeps_the_mean():
    u = torch.randn(5, 11, 2)
    model = model_of(dropout=0.5)
    assert not torch.equal(model(u), model(u))
    assert torch.equal(model.eval()(u), model(u))
    assert torch.equal(model_of(dropout=0.0)(u), model_of(dropout=0.0)(u))


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_dropout_drops_each_number_by_itself_with_its_probability(p):
    dropout, u = model_of(dropout=p).blocks[0].dropout, torch.ones(401, 503, requires_grad=True)
    y = dropout(u)
    kept = y != 0
    share = 1 - kept.double().mean()
    assert abs(share - p) <= 5 * (p * (1 - p) / u.numel()) ** 0.5 + 1e-5
    torch.testing.assert_close(
        y[kept], torch.full_like(y[kept], 1 / max(1 - p, 2**-16)), rtol=2e-5, atol=0
    )
    y.sum().backward()
    assert torch.equal(u.grad, y)  # the derivative at one is the factor itself
    if p == 0.5:
        same = kept.flatten()[1:] == kept.flatten()[:-1]  # four neighbours share a draw
        assert abs(same.double().mean() - 0.5) < 5 * 0.5 / u.numel() ** 0.5


def test_dropout_compiles_whole():
    torch.compiler.reset()
    dropout = model_of(dropout=0.5).blocks[0].dropout
    y = torch.compile(dropout, backend="aot_eager", fullgraph=True)(torch.ones(40, 50))
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_learns_what_a_sequence_began_with():
    model = model_of(d_input=1, d_output=2, d_model=8, n_layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        target = torch.randint(2, (32,))
        u = 0.1 * torch.randn(32, 40, 1)
        u[:, :4, 0] += 2.0 * target[:, None] - 1
        logits = model(u)
        loss = functional.cross_entropy(logits, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (logits.argmax(1) == target).all() and loss < 0.1


def test_a_compressed_state_dict_loads_into_a_full_model():
    small, full = model_of(d_state=3).eval(), model_of().eval()
    full.load_state_dict(small.state_dict())
    u = torch.randn(5, 11, 2)
    assert torch.equal(full(u), small(u))


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_trains_and_shrinks_and_is_found_in_a_checkpoint(layer):
    torch.manual_seed(0)
    model = SequenceModel(1, 3, d_model=4, d_state=4, n_layers=2, layer=layer)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    u, target = torch.randn(6, 30, 1), torch.randint(3, (6,))
    names = [f"blocks.{i}.layer" for i in range(2)]
    for _ in range(2):
        functional.cross_entropy(model(u), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        data = [u] if layer == "mamba" else ()
        cuts = compress_(model, States(2), optimizer, data=data).layers
        assert [cut.name for cut in cuts] == names
        assert all(cut.after <= 2 and cut.skipped is None for cut in cuts)
    if layer == "mamba":
        return  # what its states are worth cannot be said without data
    found = layers_in(model.state_dict())
    for name in names:
        ours, theirs = model.get_submodule(name), found.get_submodule(name)
        assert type(ours) is type(theirs) and ours.d_state == theirs.d_state
        v = torch.randn(2, 7, 4)
        assert torch.equal(ours(v), theirs(v))


# ------------------------------------------------------------------ sequences of several lengths


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
    model, u = model_of(d_state=6), torch.randn(3, 21, 2)
    assert torch.allclose(model(u, torch.tensor([21, 21, 21])), model(u), atol=1e-5)


def test_a_model_cannot_average_over_no_steps():
    model = SequenceModel(2, 3, d_model=4, d_state=6, n_layers=1)
    with pytest.raises(lti.OptionError, match=r"from 1 to 7.*\[7, 0\]"):
        model(torch.zeros(2, 7, 2), torch.tensor([7, 0]))


# ------------------------------------------------------------------ one step at a time


@pytest.mark.parametrize("pool", ["mean", "last", "none"])
@pytest.mark.parametrize("layer", sorted(LAYERS))
@pytest.mark.parametrize("cut", [False, True])
def test_steps_give_what_the_sequence_up_to_there_gives(layer, pool, cut):
    model = model_of(layer=layer, pool=pool, d_state=6).double()
    u = torch.randn(3, 20, 2, dtype=torch.float64)
    model(u)  # the statistics of the norms
    model.eval()
    if cut:
        compress_(model, States(2), data=[u] if layer == "mamba" else ())
    state = model.initial_state(3)
    for t in range(20):
        y, after = model.step(u[:, t], state)
        whole = model(u[:, : t + 1])
        whole = whole[:, t] if pool == "none" else whole
        assert torch.allclose(y, whole, rtol=0, atol=1e-8)
        if t == 0:
            assert torch.equal(model.step(u[:, 0])[0], y)
        for x, z in zip(tree_leaves(state), tree_leaves(after), strict=True):
            assert x.shape == z.shape and x.dtype == z.dtype
        state = after


def test_there_is_no_step_in_training_mode():
    with pytest.raises(OptionError, match=r"call model.eval\(\)"):
        model_of().step(torch.zeros(1, 2))


def test_inputs_and_states_are_checked():
    model = model_of(pool="none").eval()
    for wrong in (torch.zeros(1, 5, 3), torch.zeros(5, 2), torch.zeros(1, 5, 2).double()):
        with pytest.raises(lti.DimensionError, match="u "):
            model(wrong)
        with pytest.raises(lti.DimensionError, match="u "):
            model.step(wrong[:, 0])
    _, state = model.step(torch.zeros(1, 2))
    for wrong, got in ((state[:1], "1 parts"), (state[0], "Tensor")):
        with pytest.raises(lti.DimensionError, match=f"a tuple of 2, got {got}"):
            model.step(torch.zeros(1, 2), wrong)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.zeros(1, 5, 2).bfloat16()).isfinite().all()
        with pytest.raises(lti.DimensionError, match="u is torch.float64"):
            model_of(layer="mamba").blocks[0].layer(torch.zeros(1, 5, 4).double())
    model = model_of(pool="mean").eval()
    _, (*states, (total, steps)) = model.step(torch.zeros(1, 2))
    for wrong in (None, (total,), (None, steps), (total, torch.zeros(3)), (total[:, :1], steps)):
        with pytest.raises(lti.DimensionError, match="the state"):
            model.step(torch.zeros(1, 2), (*states, wrong))


def test_a_bidirectional_layer_or_one_without_a_step_says_so():
    for layer in ("s4", "s4d", "s5"):
        with pytest.raises(lti.OptionError, match="both ends"):
            model_of(layer=layer, bidirectional=True).eval().step(torch.zeros(1, 2))

    class Plain(torch.nn.Linear):
        pass

    with pytest.raises(OptionError, match="Plain has no step"):
        model_of(layer=Plain).eval().step(torch.zeros(1, 2))
