"""Other loops than the plain one train through a cut, and every parameter moves afterwards."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from compressm import Compressor, Every, States, compress_
from tests.compressm.helpers import model_of, without_norm

# Warnings that torch gives itself while it traces an autograd function, and a tensor's hook
ITS_OWN = "ignore:.*(should not be instantiated|grad attribute of a Tensor)"


def batch(seed=1, size=8):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(size, 20, 2, generator=generator)
    return u, torch.randint(0, 3, (size,), generator=generator)


def loss_of(model, size=8):
    u, target = batch(size=size)
    return cross_entropy(model(u), target)


def finish(optimizer):
    optimizer.step()
    optimizer.zero_grad()


# ------------------------------------------------------------------ a step of each kind of loop


def plain(model, optimizer, size=8):
    def step():
        loss_of(model, size).backward()
        finish(optimizer)

    return step


def scheduled(model, optimizer):
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10)

    def step():
        before = optimizer.param_groups[0]["lr"]
        loss_of(model).backward()
        finish(optimizer)
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] != before

    return step


def clipped(model, optimizer):
    def step():
        loss_of(model).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3, error_if_nonfinite=True)
        assert norm > 1e-3
        finish(optimizer)

    return step


def accumulated(model, optimizer):
    def step():
        for u, target in zip(*(x.split(2) for x in batch()), strict=True):
            (cross_entropy(model(u), target) / 4).backward()
        finish(optimizer)

    return step


def bfloat16(model, optimizer):
    def step():
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)
        loss.backward()
        finish(optimizer)

    return step


def float16(model, optimizer):
    scaler = torch.amp.GradScaler("cpu")

    def step():
        with torch.autocast("cpu", torch.float16):
            loss = loss_of(model)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def compiled(model, optimizer):
    torch.compiler.reset()
    fast = torch.compile(model, backend="aot_eager")

    def step():
        loss = loss_of(fast)
        assert abs(loss - loss_of(model)) < 1e-5  # and not that of the graph before the cut
        loss.backward()
        finish(optimizer)

    return step


def checkpointed(model, optimizer, size=8, use_reentrant=False):
    def step():
        u, target = batch(size=size)
        x = model.encoder(u)
        for block in model.blocks:
            x = checkpoint(block, x, use_reentrant=use_reentrant)
        cross_entropy(model.head(x.mean(dim=1)), target).backward()
        finish(optimizer)

    return step


def with_closure(model, optimizer):
    def step():
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)

    return step


LOOPS = [
    plain,
    scheduled,
    clipped,
    accumulated,
    bfloat16,
    float16,
    compiled,
    checkpointed,
    with_closure,
]


def trains_through_a_cut(model, optimizer, step, **options):
    """Two steps, a cut, two steps that move every parameter; return the event of the cut."""
    compressor = Compressor(
        model, optimizer, policy=States(6), schedule=Every(2, stop=2), **options
    )
    step()
    assert compressor.step() is None
    step()
    event = compressor.step()
    assert [(cut.before, cut.after, cut.skipped) for cut in event.layers] == [(16, 6, None)] * 2
    for _ in range(2):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        step()
        assert compressor.step() is None
        for name, parameter in model.named_parameters():
            assert (parameter != before[name]).any(), f"{name} is frozen"
            assert torch.isfinite(parameter).all()
    return event


@pytest.mark.filterwarnings(ITS_OWN)
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_every_parameter_moves_after_a_cut(loop):
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trains_through_a_cut(model, optimizer, loop(model, optimizer))


@pytest.mark.parametrize("variant", ["foreach", "fused"])
@pytest.mark.parametrize(
    "make, options",
    [
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adagrad, {}),
    ],
)
def test_every_variant_of_an_optimizer_goes_on(make, options, variant):
    model = model_of()
    optimizer = make(model.parameters(), lr=1e-2, **options, **{variant: True})
    trains_through_a_cut(model, optimizer, plain(model, optimizer))


def test_groups_keep_their_learning_rates():
    model = model_of()
    layers = [block.layer for block in model.blocks]
    slow = [p for layer in layers for p in layer.parameters()]
    fast = [p for p in model.parameters() if not any(p is q for q in slow)]
    optimizer = torch.optim.AdamW(
        [{"params": slow, "lr": 1e-4, "weight_decay": 0.0}, {"params": fast}], lr=1e-2
    )
    trains_through_a_cut(model, optimizer, plain(model, optimizer))
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (1e-4, 0.0),
        (1e-2, 0.01),
    ]
    before = [p.detach().clone() for p in slow]
    plain(model, optimizer)()
    for parameter, old in zip(slow, before, strict=True):
        assert (parameter - old).abs().max() < 1e-3  # a step of Adam is about the learning rate


# ------------------------------------------------------------------ what is observed


@pytest.mark.parametrize("gramians", ["input", "data"])
def test_all_batches_of_an_accumulated_step_are_observed(every_state, gramians):
    """The cut after four small batches is that after the one which they make up."""
    spectra = []
    for loop in (plain, accumulated):
        model = without_norm()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        event = trains_through_a_cut(model, optimizer, loop(model, optimizer), gramians=gramians)
        spectra.append([torch.from_numpy(cut.hsv) for cut in event.layers])
    for whole, parts in zip(*spectra, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings(ITS_OWN)
def test_a_compiled_model_is_observed_if_its_hooks_are_guarded():
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
        trains_through_a_cut(model, optimizer, compiled(model, optimizer), gramians="data")


@pytest.mark.filterwarnings(ITS_OWN)
def test_a_compiled_model_that_cannot_be_observed_takes_the_exact_gramians():
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    torch.compiler.reset()
    fast = torch.compile(model, backend="aot_eager")

    def step():
        loss_of(fast).backward()
        finish(optimizer)

    event = trains_through_a_cut(model, optimizer, step)
    assert [cut.gramians for cut in event.layers] == ["model"] * 2


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("gramians", ["input", "data"])
def test_what_is_computed_twice_counts_once(every_state, gramians, use_reentrant):
    events = []
    for again in (False, True):
        model = model_of()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        options = {"size": 12, "use_reentrant": use_reentrant}  # no multiple of those held out
        loop = checkpointed(model, optimizer, **options) if again else plain(model, optimizer, 12)
        events.append(trains_through_a_cut(model, optimizer, loop, gramians=gramians))
    for cut, other in zip(*(event.layers for event in events), strict=True):
        torch.testing.assert_close(*map(torch.from_numpy, (cut.hsv, other.hsv)), rtol=1e-4, atol=0)
        assert cut.output_error == pytest.approx(other.output_error, rel=1e-3)


# ------------------------------------------------------------------ averages of weights


def average_of(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))


def test_an_average_starts_anew_after_a_cut():
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    compressor = Compressor(model, optimizer, policy=States(6), schedule=Every(2, stop=2))
    step, averaged = plain(model, optimizer), average_of(model)
    for _ in range(5):
        step()
        if compressor.step():
            averaged = average_of(model)  # the recipe of docs/training-loops.md
        averaged.update_parameters(model)
    loss = loss_of(averaged)
    assert torch.isfinite(loss) and loss != loss_of(model)
    assert [block.layer.d_state for block in averaged.module.blocks] == [6, 6]


def test_an_average_of_the_layer_before_a_cut_is_refused_by_torch():
    model = model_of()
    averaged = average_of(model)
    averaged.update_parameters(model)
    compress_(model, States(6))
    with pytest.raises(RuntimeError, match="size of tensor"):
        averaged.update_parameters(model)


def test_after_a_cut_to_one_state_torch_repeats_it_in_an_average_of_before():
    """What docs/training-loops.md warns of: nothing is refused, and the average is wrong."""
    model = model_of()
    averaged = average_of(model)
    averaged.update_parameters(model)
    compress_(model, States(1))
    averaged.update_parameters(model)
    layers = [x.blocks[0].layer for x in (model, averaged.module)]
    assert [len(layer.nu_log) for layer in layers] == [1, 16]
