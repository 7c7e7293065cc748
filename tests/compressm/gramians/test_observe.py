"""Observing layers: which forward and backward passes count, and that they leave no trace."""

import copy
import gc
import io
import pickle

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from compressm import (
    LRU,
    At,
    Compressor,
    Every,
    KeepEnergy,
    OptionError,
    Rollback,
    SequenceModel,
    States,
    compress_,
)
from compressm.gramians.observe import Observer, observe
from compressm.gramians.signals import Signal
from compressm.gramians.types import state_values
from tests.compressm.helpers import cut_by, lru, model_of, smooth
from tests.compressm.selective_layers import GRAMIANS, N, own, signal, stack


def test_a_compressor_observes_the_training_batch_of_the_step_and_nothing_else():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=2, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=KeepEnergy(0.99), schedule=Every(2, stop=2), gramians="input"
    )
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, LRU):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(name, args[0].detach())
            )
    for step in range(2):
        model(smooth(5, 40, 2)).square().mean().backward()
        optimizer.step()
        if step == 0:
            assert compressor.step() is None
    inputs = dict(seen)
    expected = copy.deepcopy(model)
    model.eval()
    model(torch.randn(5, 40, 2) * 100)  # an evaluation before the cut must not count
    model.train()
    event = compressor.step()
    signals = {name: [Signal(u)] for name, u in inputs.items()}
    other = cut_by(expected, signals, KeepEnergy(0.99), "input")
    assert [cut.after for cut in event.layers] == [cut.after for cut in other.layers]
    assert all(cut.after < 32 and cut.skipped is None for cut in event.layers)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_selective_layers_are_observed_in_the_step_before_the_cut(gramians):
    model = stack(own(), nn.Linear(8, 8), own(seed=1))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    compressor = Compressor(
        model, optimizer, policy=States(2), schedule=Every(2, stop=2), gramians=gramians
    )
    events = []
    for step in range(4):
        s = signal(seed=step)
        model(s.u).mul(s.g).sum().backward()
        if step == 1:
            seen = {"0": s.u, "2": model[1](model[0](s.u)).detach()}
        optimizer.step()
        optimizer.zero_grad()
        before = copy.deepcopy(model)
        events.append(compressor.step())
        if step == 1 and gramians != "data":
            for cut in events[-1].layers:
                layer = before.get_submodule(cut.name)
                values = state_values(layer, [Signal(seen[cut.name])], gramians)
                assert np.allclose(cut.hsv, np.sort(values)[::-1])
    assert [event is not None for event in events] == [False, True, False, False]
    assert [(cut.after, cut.skipped) for cut in events[1].layers] == [(2, None)] * 2
    for (key, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert p.shape == q.shape, key
    assert compressor._observer.signals == {}


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_for_exact_gramians_selective_layers_alone_are_observed(gramians):
    model = stack(LRU(8, 12), own())
    compressor = Compressor(model, policy=States(2), schedule=Every(1), gramians=gramians)
    model(signal().u)
    seen = list(compressor._observer.stop())
    assert seen == (["1"] if gramians == "model" else ["0", "1"])


def test_data_are_run_in_evaluation_mode_and_leave_no_trace():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=16, n_layers=2, dropout=0.5)
    model.blocks[0].eval()
    model(smooth(3, 20, 2)).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    signals = observe(model, [smooth(3, 20, 2), (smooth(2, 10, 2), "label")], gradients=True)
    assert [m.training for m in model.modules()] == modes
    for a, b in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(a, b.grad)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks for m in model.modules())
    for seen in signals.values():
        assert [s.u.shape for s in seen] == [s.g.shape for s in seen] == [(3, 20, 4), (2, 10, 4)]
        assert all(s.g.any() for s in seen)


def test_a_layer_whose_inputs_were_not_observed_is_left_alone():
    model = torch.nn.ModuleDict({"used": lru(), "idle": lru()})
    model.forward = lambda u: model["used"](u)
    used, idle = compress_(model, States(4), gramians="input", data=[smooth(4, 50, 4)]).layers
    assert used.after == 4 and idle.after == 24 and "none of its inputs" in idle.skipped
    with pytest.raises(ValueError, match="no data reached the layers"):
        compress_(model, States(4), gramians="input")


def test_a_selective_layer_whose_inputs_were_not_observed_is_left_alone():
    model = stack(own())
    compressor = Compressor(model, policy=States(2), schedule=Every(1))
    assert "none of its inputs was observed" in compressor.step().layers[0].skipped
    assert model[0].d_state == N


def test_without_a_backward_pass_there_are_no_gramians_from_data():
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=32, n_layers=1)
    compressor = Compressor(model, policy=States(8), schedule=Every(1, stop=1), gramians="data")
    model(smooth(5, 40, 2))
    assert "no gradient at its output" in compressor.step().layers[0].skipped


def test_gradients_need_a_parameter_to_go_to():
    model = SequenceModel(1, 2, d_model=3, d_state=4, n_layers=1).requires_grad_(False)
    with pytest.raises(ValueError, match="none of them requires one"):
        compress_(model, States(2), gramians="data", data=[torch.randn(2, 9, 1)])


def test_inputs_without_a_batch_are_named():
    layer = lru()
    (cut,) = cut_by(layer, {"": [Signal(torch.randn(9, 4))]}, States(4), "input").layers
    assert "not (batch, length, 4)" in cut.skipped


def test_inputs_of_another_shape_are_ignored():
    torch.manual_seed(0)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = LRU(3, 16, max_phase=0.7)

        def forward(self, u):
            return self.layer(u)

    for given, cut in ((None, "model"), ("input", "")):
        model = Wrapped()
        compressor = Compressor(model, policy=States(4), schedule=At(1), gramians=given)
        for u in (torch.randn(17, 3), {"u": 1}):
            at = "layer", model.layer, ["u", "state"], model.layer
            compressor._observer._keep(*at, (u,), {}, torch.zeros(1))
        (found,) = compressor.step().layers
        assert (found.gramians, found.output_error) == (cut, None)
        assert (found.after == 4) == (given is None)


def recording(model):
    """How many hooks its modules have."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def passes(model, n):
    for _ in range(n):
        model(torch.randn(3, 20, 2)).sum().backward()


@pytest.mark.parametrize("options", [{}, {"rollback": Rollback(lambda model: 1.0, 0)}])
def test_a_compressor_that_is_gone_leaves_no_hook(options):
    model = model_of()
    compressor = Compressor(model, policy=States(4), schedule=Every(1), **options)
    passes(model, 1)
    assert recording(model) == 4
    del compressor
    assert recording(model) == 0


def test_a_step_that_never_ends_keeps_a_bounded_number_of_signals(monkeypatch):
    monkeypatch.setattr("compressm.gramians.observe.PASSES", 3)
    model = model_of()
    compressor = Compressor(model, policy=States(4), schedule=Every(1))
    passes(model, 5)
    assert [len(x) for x in compressor._observer.signals.values()] == [3, 3]
    data = [torch.randn(3, 20, 2) for _ in range(5)]  # these are the caller's to choose
    assert [len(x) for x in observe(model.eval(), data, False).values()] == [5, 5]


def test_copies_of_an_observed_model_record_nothing_and_hold_no_inputs():
    model = model_of()
    compressor = Compressor(model, policy=States(4), schedule=Every(1), gramians="input")
    sizes = []
    for _ in range(2):
        torch.save(model, file := io.BytesIO())
        sizes.append(len(file.getvalue()))
        passes(model, 1)
    assert sizes[0] == sizes[1]
    before = {id(x) for x in gc.get_objects() if type(x) is Observer}
    alone = copy.deepcopy(model)
    assert {id(x) for x in gc.get_objects() if type(x) is Observer} <= before
    passes(alone, 5)
    assert [len(x) for x in compressor._observer.signals.values()] == [2, 2]
    assert [cut.after for cut in compressor.step().layers] == [4, 4]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("by", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_model_and_compressor_observes_on_its_own(order, by):
    parts = [model_of(), None]
    parts[1] = Compressor(parts[0], policy=States(4), schedule=At(1), gramians="input")
    copies = by([parts[i] for i in order])
    model, compressor = (copies[i] for i in order)
    passes(model, 2)
    assert not parts[1]._observer.signals
    assert [(cut.after, cut.gramians) for cut in compressor.step().layers] == [(4, "input")] * 2
    assert recording(model) == 0


def test_a_layer_that_a_pass_leaves_out_keeps_what_other_passes_showed():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = lru(8, 4), lru(8, 4)

        def forward(self, u, attention_mask=None, both=True):
            y = self.a(u)
            return self.b(y) if both else y

    mask = torch.ones(3, 9)
    mask[1, 5:] = 0
    data = [{"u": smooth(3, 9, 4), "attention_mask": mask, "both": both} for both in (True, False)]
    for given in (data, data[::-1]):
        signals = observe(Routed(), given, False)
        assert {name: len(own) for name, own in signals.items()} == {"a": 4, "b": 2}


def test_a_model_that_is_observed_can_be_saved(tmp_path):
    model, u = model_of(), torch.randn(3, 20, 2)
    compressor = Compressor(model, policy=States(2), schedule=Every(1), gramians="input")
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    loaded(u).sum().backward()
    assert compressor._observer.signals == {}  # what the loaded model was given is not its own
    model(u)
    assert torch.equal(loaded.eval()(u), model.eval()(u))  # after one batch each
    assert [(cut.after, cut.gramians) for cut in compressor.step().layers] == [(2, "input")] * 2


class Takes(nn.Module):
    """A model that is called as transformers' are: with named arguments."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = lru(8, 4)

    def forward(self, u, attention_mask=None, lengths=None):
        return self.layer(u)


def ragged(left=False):
    """Three sequences with padding of huge numbers, their mask, and what counts of them."""
    u, mask = 1e6 * torch.ones(3, 9, 4), torch.zeros(3, 9, dtype=torch.long)
    parts = [smooth(1, n, 4)[0] for n in (5, 9, 5)]
    for i, part in enumerate(parts):
        at = slice(9 - len(part), 9) if left else slice(0, len(part))
        u[i, at], mask[i, at] = part, 1
    return u, mask, parts


@pytest.mark.parametrize("left", [False, True])
def test_padding_does_not_count(left):
    u, mask, parts = ragged(left)
    (signals,) = observe(Takes(), [{"u": u, "attention_mask": mask, "labels": 3}], False).values()
    signals.sort(key=lambda x: x.u.shape[1])
    assert [tuple(x.u.shape) for x in signals] == [(2, 5, 4), (1, 9, 4)]
    torch.testing.assert_close(signals[0].u, torch.stack([parts[0], parts[2]]))
    torch.testing.assert_close(signals[1].u, parts[1][None])


def test_lengths_say_what_a_mask_says():
    u, mask, parts = ragged()
    for lengths in (mask.sum(1), [5, 9, 5]):
        (signals,) = observe(Takes(), [{"u": u, "lengths": lengths}], False).values()
        torch.testing.assert_close(signals[0].u, torch.stack([parts[0], parts[2]]))


def test_gradients_of_padding_do_not_count():
    u, mask, _ = ragged()
    (signals,) = observe(Takes(), [{"u": u, "attention_mask": mask}], True).values()
    assert all(x.g.shape == x.u.shape for x in signals)


def test_transformers_batches_are_data():
    config = transformers.MambaConfig(
        vocab_size=16, hidden_size=8, state_size=6, num_hidden_layers=1
    )
    model = transformers.MambaForCausalLM(config)
    tokens = torch.randint(1, 16, (16, 12))
    mask = (torch.arange(12) < torch.arange(5, 21).clamp(max=12)[:, None]).long()
    batch = transformers.BatchEncoding({"input_ids": tokens, "attention_mask": mask})
    event = compress_(model, States(3), data=[batch])
    assert event.layers[0].after == 3 and event.layers[0].output_error is not None


@pytest.mark.parametrize("batch", ["text", 3, [], [1, 2], {"unknown": torch.zeros(1)}, None])
def test_what_is_no_batch_is_refused(batch):
    with pytest.raises(OptionError, match="batch"):
        observe(Takes(), [batch], False)
