"""Builders and measures that several test modules share."""

import torch
from torch import nn

from compressm import LRU, CompressionEvent, SequenceModel
from compressm.compression.decide import apply_, propose
from compressm.compression.options import Options


class Master(torch.optim.Optimizer):
    """SGD on weights in double precision, with other state that has not the parameter's dtype."""

    def __init__(self, parameters):
        super().__init__(list(parameters), {"lr": 1e-2})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                master = state.setdefault("master", p.double().clone())
                master.sub_(p.grad.double(), alpha=group["lr"])
                p.copy_(master)
                state["signs"] = p.grad.sign().to(torch.int8)
                state["several"] = [torch.complex(master, -master), torch.tensor(1 / 3).double()]


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
    "master": Master,
    "nadam": lambda p: torch.optim.NAdam(p, 1e-2),
}

# ------------------------------------------------------------------ models, layers, inputs


def model_of(seed=0, **options):
    """A small sequence model; `options` replace its sizes and add to them."""
    torch.manual_seed(seed)
    sizes = {"d_input": 2, "d_output": 3, "d_model": 4, "d_state": 16, "n_layers": 2}
    return SequenceModel(**(sizes | options))


def without_norm():
    """A model in which the sequences of a batch do not see each other."""
    model = model_of()
    for block in model.blocks:
        block.norm = nn.Identity()
    return model


def lru(d_state=24, d_model=4, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(d_model, d_state, **options)


def used_and_idle():
    """A model of two layers, of which its inputs reach one."""
    model = nn.ModuleDict({"used": lru(), "idle": lru(seed=1)})
    model.forward = lambda u: model["used"](u)
    return model


def transformers_mamba():
    import transformers  # takes seconds

    config = transformers.MambaConfig(
        vocab_size=7, hidden_size=4, state_size=8, num_hidden_layers=2, time_step_rank=2
    )
    return transformers.MambaModel(config)


def smooth(batch, length, m, seed=0):
    """Inputs of low frequency only."""
    torch.manual_seed(seed)
    return torch.randn(batch, length, m).cumsum(1) / length**0.5


# ------------------------------------------------------------------ cuts


def cut_by(model, signals, policy, gramians, dry_run=False):
    """The event of a cut by the signals of each layer, by its name, observed before."""
    proposals = propose(model, signals, Options(policy, gramians=gramians))
    if not dry_run:
        apply_(model, proposals)
    return CompressionEvent(0, tuple(cut for cut, _ in proposals))


# ------------------------------------------------------------------ what a model holds


def parameters_of(module):
    """Copies of its parameters, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def is_unchanged(module, before):
    """Whether its parameters are those that `parameters_of` returned, bit for bit."""
    now = dict(module.named_parameters())
    return now.keys() == before.keys() and all(torch.equal(p, before[k]) for k, p in now.items())


def bits(*parts):
    """Everything in the state dicts of these, tensor for tensor."""
    leaves = torch.utils._pytree.tree_flatten([dict(part.state_dict()) for part in parts])[0]
    return [x.clone() if isinstance(x, torch.Tensor) else x for x in leaves]


def same(left, right):
    """Whether two lists of `bits` are equal."""
    return len(left) == len(right) and all(
        x.dtype == y.dtype and torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(left, right, strict=True)
    )
