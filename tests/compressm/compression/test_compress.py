"""compress_ and preview: all layers at once, what they say beforehand, and nothing else changes."""

import copy

import numpy as np
import pytest
import torch

from compressm import (
    LRU,
    S4D,
    Budget,
    ErrorBound,
    KeepEnergy,
    SequenceModel,
    States,
    compress_,
    hankel_spectra,
    preview,
)
from tests.compressm.helpers import is_unchanged, model_of, parameters_of, smooth


def test_nothing_global_changes():
    def state():
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
            np.geterr(),
        )

    model = model_of()
    before = state()
    compress_(model, States(4))
    assert state() == before and model.training


def test_a_compressed_model_loads_into_a_fresh_one_of_full_size(tmp_path):
    model = model_of(d_state=32)
    compress_(model, KeepEnergy(0.9))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = model_of(d_state=32, seed=1)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    u = torch.randn(3, 9, 2)
    model.eval(), fresh.eval()
    assert torch.equal(model(u), fresh(u))
    assert hankel_spectra(model).keys() == hankel_spectra(fresh).keys()


def test_a_dry_run_says_what_a_cut_would_do_and_changes_nothing():
    model = model_of()
    before = parameters_of(model)
    planned = compress_(model, KeepEnergy(0.9), dry_run=True)
    assert is_unchanged(model, before)
    assert str(planned) == str(compress_(model, KeepEnergy(0.9)))
    assert all(cut.after < 16 for cut in planned.layers)


def test_a_preview_says_what_each_policy_would_do():
    model = model_of()
    before = parameters_of(model)
    policies = [KeepEnergy(0.8), KeepEnergy(0.9), States(2), Budget(total=9)]
    events = preview(model, policies)
    assert is_unchanged(model, before)
    for event, policy in zip(events, policies, strict=True):
        trial = copy.deepcopy(model)
        done = compress_(trial, policy)
        assert str(done) == str(event)
        for cut, name in zip(event.layers, ("blocks.0.layer", "blocks.1.layer"), strict=True):
            held = [sum(p.numel() for p in m.get_submodule(name).parameters())
                    for m in (model, trial)]  # fmt: skip
            assert cut.parameters == tuple(held)
            assert cut.flops == (16 * 40, cut.after * 40)  # 4 inputs, 4 outputs


def test_a_preview_does_not_depend_on_earlier_ones():
    torch.manual_seed(1)  # a draw of which a channel falls back to the exact Gramian on the way
    model = torch.nn.Sequential(S4D(6, 8, dt_min=0.05, dt_max=0.3), torch.nn.Linear(6, 1))
    u = torch.randn(3, 40, 6).cumsum(1) / 40**0.5
    policies = [States(2), States(3), KeepEnergy(0.9), KeepEnergy(0.99)]

    def asked(policies):
        torch.manual_seed(5)  # of the projections
        return [str(x) for x in preview(model, policies, gramians="data", data=[u])]

    assert asked(policies) == [asked([policy])[0] for policy in policies]


def test_a_preview_compares_gramian_types_from_one_run_of_the_data():
    torch.manual_seed(0)
    model = SequenceModel(d_input=2, d_output=3, d_model=4, d_state=16, n_layers=2)
    batches, policies = [smooth(3, 40, 2, seed) for seed in range(2)], [States(4), None]
    types, runs = ("model", "input", "data"), []
    model.register_forward_hook(lambda *_: runs.append(1))

    def asked(gramians):
        torch.manual_seed(5)  # of the projections
        data = () if gramians == "model" else iter(batches)
        return preview(model, policies, gramians=gramians, data=data)

    events = asked(types)
    assert len(runs) == len(batches)
    assert [{cut.gramians for cut in event.layers} for event in events[::2]] == [{x} for x in types]
    alone = [event for name in types for event in asked(name)]
    assert list(map(str, events)) == list(map(str, alone))
    assert str(preview(model)[0]) == str(alone[1])
    with pytest.raises(ValueError, match="no data reached the layers"):
        preview(model, gramians=("model", "input"))
    with pytest.raises(ValueError, match="promises a bound"):
        preview(model, [ErrorBound(1.0)], gramians=("model", "input"), data=batches)


def test_one_tensor_is_no_iterable_of_batches():
    with pytest.raises(ValueError, match=r"got one Tensor of shape \(2, 9, 2\); pass a list"):
        compress_(LRU(2, 4), States(2), gramians="input", data=torch.zeros(2, 9, 2))
