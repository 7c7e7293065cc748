"""One optimizer, several, or a wrapper: what is given is followed, what is missing is refused."""

import pytest
import torch
from torch import nn

from compressm import Compressor, Every, OptionError, SequenceModel, States, compress_
from compressm.ops.optimizers import load_state_, optimizers_of
from tests.compressm.helpers import Master, bits, same


class Sharp(torch.optim.Optimizer):
    """The shape of sharpness-aware minimization: the moments are those of an inner optimizer."""

    def __init__(self, parameters):
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = torch.optim.Adam(self.param_groups)

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["climbed"] = p.detach().clone()
        self.base_optimizer.step()


class Around(torch.optim.Optimizer):
    """The shape of PostLocalSGDOptimizer: groups and state are those of what it holds."""

    def __init__(self, optim):
        self.optim = optim
        self.param_groups = optim.param_groups

    state = property(lambda self: self.optim.state)

    def step(self, closure=None):
        self.optim.step()

    def zero_grad(self, set_to_none=True):
        self.optim.zero_grad(set_to_none)


class Chained(torch.optim.Optimizer):
    """Several, one after the other, in a list."""

    def __init__(self, optimizers):
        super().__init__([p for x in optimizers for p in x.param_groups], {})
        self.chain = optimizers

    def step(self, closure=None):
        for optimizer in self.chain:
            optimizer.step()


def model_of():
    torch.manual_seed(0)
    return SequenceModel(2, 2, d_model=4, d_state=8, n_layers=2)


def train(model, *optimizers):
    for optimizer in optimizers:
        optimizer.zero_grad()
    model(torch.randn(3, 9, 2)).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


def halves(model):
    """Two optimizers, as for Muon: matrices, and the rest."""
    parameters = list(model.parameters())
    return [
        torch.optim.SGD([p for p in parameters if p.ndim >= 2], lr=0.01, momentum=0.9),
        torch.optim.Adam([p for p in parameters if p.ndim < 2]),
    ]


def test_several_optimizers_train_on_after_a_cut():
    model = model_of()
    optimizers = halves(model)
    compressor = Compressor(model, optimizers, policy=States(5), schedule=Every(2))
    for _ in range(4):
        train(model, *optimizers)
        event = compressor.step()
    assert [cut.after for cut in event.layers] == [5, 5]
    train(model, *optimizers)


def test_the_state_in_a_wrapper_and_in_what_it_wraps_starts_afresh():
    model = model_of()
    optimizer = Sharp(model.parameters())
    assert optimizers_of(optimizer) == [optimizer, optimizer.base_optimizer]
    compressor = Compressor(model, optimizer, policy=States(5), schedule=Every(1))
    train(model, optimizer)
    compressor.step()
    cut = model.blocks[0].layer.nu_log
    assert cut not in optimizer.state and cut not in optimizer.base_optimizer.state
    assert model.head.weight in optimizer.base_optimizer.state
    train(model, optimizer)


@pytest.mark.parametrize("wrong", [5, "adam", object(), [5], nn.Linear(1, 1)])
def test_what_is_no_optimizer_is_refused(wrong):
    with pytest.raises(OptionError, match="must be a torch.optim.Optimizer, or a list"):
        Compressor(model_of(), wrong, schedule=Every(1))
    with pytest.raises(OptionError, match="must be a torch.optim.Optimizer, or a list"):
        compress_(model_of(), States(4), wrong)


def test_a_scheduler_in_its_place_is_refused():
    model = model_of()
    scheduler = torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(OptionError, match="got <torch.optim.lr_scheduler.ConstantLR"):
        Compressor(model, scheduler, schedule=Every(1))


def test_an_optimizer_that_does_not_hold_all_parameters_of_the_layers_is_refused():
    model = model_of()
    for optimizer in (torch.optim.Adam(model_of().parameters()), halves(model)[1]):
        with pytest.raises(OptionError, match=r"holds blocks.0.layer.\w+ and \d+ more"):
            Compressor(model, optimizer, schedule=Every(1))
    head = torch.optim.Adam(model.head.parameters())
    for p in model.blocks.parameters():
        p.requires_grad_(False)  # nothing trains them
    Compressor(model, head, schedule=Every(1))


def test_a_forgotten_optimizer_is_refused_at_the_cut_before_anything_is_written():
    model = model_of()
    optimizer = torch.optim.Adam(model.parameters())
    compressor = Compressor(model, policy=States(5), schedule=Every(2))
    train(model, optimizer)
    compressor.step()
    train(model, optimizer)
    for _ in range(2):  # the step counts once it succeeds
        with pytest.raises(OptionError, match="Adam holds state of blocks.0.layer"):
            compressor.step()
    assert [block.layer.d_state for block in model.blocks] == [8, 8]
    train(model, optimizer)


@pytest.mark.parametrize(
    "wrap",
    [lambda model: Chained(halves(model)), lambda m: Around(torch.optim.Adam(m.parameters()))],
)
def test_an_optimizer_is_found_in_a_wrapper_whatever_its_name(wrap):
    model = model_of()
    optimizer = wrap(model)
    compressor = Compressor(model, optimizer, policy=States(5), schedule=Every(2, stop=2))
    for _ in range(4):
        train(model, optimizer)
        compressor.step()
    assert [block.layer.d_state for block in model.blocks] == [5, 5]


def test_wrappers_that_hold_each_other_are_followed_once():
    first, second = (Around(torch.optim.Adam(model_of().parameters())) for _ in range(2))
    first.next, second.back = second, first
    assert optimizers_of(first) == [first, first.optim, second, second.optim]


@pytest.mark.filterwarnings("ignore")
def test_a_sharded_optimizer_is_refused(tmp_path):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # which gives many warnings

    model = model_of()
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        sharded = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam)
        with pytest.raises(OptionError, match="ZeroRedundancyOptimizer divides its state"):
            Compressor(model, sharded, schedule=Every(1))
        with pytest.raises(OptionError, match="ZeroRedundancyOptimizer divides its state"):
            compress_(model, States(4), sharded)
    finally:
        torch.distributed.destroy_process_group()


def refused(compressor, kind, model, remedy="pass it, as in"):
    """The cut is refused because of that optimizer, twice, and nothing changes."""
    for _ in range(2):
        with pytest.raises(OptionError, match=f"{kind} holds state of .*: {remedy}"):
            compressor.step()
    assert [block.layer.d_state for block in model.blocks] == [8, 8]


def test_an_optimizer_that_replaces_the_one_given_is_refused_at_the_cut():
    model = model_of()
    given = torch.optim.Adam(model.parameters())
    compressor = Compressor(model, given, policy=States(5), schedule=Every(2))
    train(model, given)
    compressor.step()
    other = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    train(model, other)
    refused(compressor, "SGD", model)
    train(model, other)
    compressor.optimizer = [given, other]  # as the message says
    assert [cut.after for cut in compressor.step().layers] == [5, 5]
    train(model, other)


def test_a_second_optimizer_for_a_layer_that_was_frozen_is_refused_at_the_cut():
    model = model_of()
    first, second = (block.layer.requires_grad_(False) for block in model.blocks)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    compressor = Compressor(model, optimizer, policy=States(5), schedule=Every(1))
    other = torch.optim.AdamW(second.requires_grad_(True).parameters())
    train(model, optimizer, other)
    refused(compressor, "AdamW", model)


def test_lbfgs_that_was_not_given_is_refused_at_the_cut():
    model = model_of()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 9, 2)).square().mean()
        loss.backward()
        return loss

    compressor = Compressor(model, policy=States(5), schedule=Every(1))
    optimizer.step(closure)
    refused(compressor, "LBFGS", model, "use another optimizer")


def test_an_optimizer_of_which_nothing_is_used_any_more_is_no_obstacle():
    """Of an earlier stage, of a failed construction, or unreachable."""
    model = model_of()
    earlier = torch.optim.Adam(model.parameters())
    train(model, earlier)
    with pytest.raises(ValueError, match="Invalid learning rate") as failed:
        torch.optim.AdamW(model.parameters(), lr=-1)  # kept alive by its traceback
    optimizer = torch.optim.Adam(model.parameters())
    compressor = Compressor(model, optimizer, policy=States(5), schedule=Every(2))
    unreachable = torch.optim.Adam(model.parameters())
    unreachable.itself = unreachable
    train(model, unreachable, optimizer)
    del unreachable
    compressor.step()
    train(model, optimizer)
    assert [cut.after for cut in compressor.step().layers] == [5, 5]
    assert failed and earlier
    assert Compressor(model_of(), policy=States(5), schedule=Every(1)).step().removed


def test_a_state_that_is_loaded_keeps_its_dtype():
    torch.manual_seed(0)
    layer, other = (nn.Linear(2, 3) for _ in range(2))
    optimizer, fresh = Master(layer.parameters()), Master(other.parameters())
    layer(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    load_state_(fresh, optimizer.state_dict())
    assert same(bits(fresh), bits(optimizer))
    optimizer.load_state_dict(fresh.state_dict())
    assert not same(bits(fresh), bits(optimizer))  # torch alone casts


def test_the_state_of_a_parameter_that_was_cast_is_cast_too():
    layer = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    layer.bfloat16()
    load_state_(optimizer, saved, recast=[layer.weight])
    dtypes = [optimizer.state[p]["exp_avg"].dtype for p in (layer.weight, layer.bias)]
    assert dtypes == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("fused", [False, True])
def test_the_steps_of_adam_are_as_torch_loads_them(fused):
    layer = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=fused)
    for _ in range(2):
        layer(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        before = bits(optimizer)
        load_state_(optimizer, optimizer.state_dict())
        assert same(bits(optimizer), before)
