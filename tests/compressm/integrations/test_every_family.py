"""Each family through each way to load: by the trainer of transformers, Lightning, and torch."""

import lightning.pytorch as pl
import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

from compressm import At, States, compress_, resize_on_load
from compressm.integrations import huggingface
from compressm.integrations import lightning as of_lightning
from compressm.systems.find import compressible_layers, stored_states
from tests.compressm.families import FAMILIES, family_model
from tests.compressm.helpers import is_unchanged, parameters_of

SLOW = pytest.mark.slow
EACH_FAMILY = pytest.mark.parametrize(
    "family", [pytest.param(x, marks=[SLOW] * (x != "s5-pytorch")) for x in FAMILIES]
)
CUT = {"policy": States(5), "schedule": At(3)}


def data():
    u = torch.linspace(-1, 1, 16 * 12 * 3).reshape(16, 12, 3).sin()
    return [{"u": x, "labels": x.roll(1, 0)} for x in u]


def sizes(model):
    return [stored_states(layer) for _, layer in compressible_layers(model)]


class Trained(nn.Module):
    """A model as the trainer wants it."""

    def __init__(self, family, seed=0):
        super().__init__()
        self.model = family_model(family, seed)

    def forward(self, u, labels):
        y = self.model(u)
        return {"loss": mse_loss(y, labels), "logits": y}


def train(folder, model, resume=None, **options):
    arguments = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=4, max_steps=6, learning_rate=1e-3,
        save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, report_to=[],
        disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, seed=1, optim="adamw_torch",
        **options,  # the fused one takes no complex parameters
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, train_dataset=data(), eval_dataset=data()[:2],
        callbacks=[huggingface.CompressionCallback(**CUT)],
        compute_metrics=lambda _: {"score": float(trainer.state.global_step == 2)},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return sizes(model)


@EACH_FAMILY
def test_the_trainer_resumes_and_ends_with_the_best(tmp_path, family):
    whole, resumed, best = Trained(family), Trained(family, 1), Trained(family)
    full = sizes(whole)
    small = train(tmp_path / "whole", whole)
    assert all(n < N for n, N in zip(small, full, strict=True))
    assert train(tmp_path / "again", resumed, str(tmp_path / "whole" / "checkpoint-4")) == small
    assert is_unchanged(resumed, parameters_of(whole))
    options = {"metric_for_best_model": "score", "greater_is_better": True}
    assert train(tmp_path / "best", best, load_best_model_at_end=True, **options) == full
    assert best(**{k: x[None] for k, x in data()[0].items()})["loss"].isfinite()


class Module(pl.LightningModule):
    """What a user of Lightning writes, with the line that lets it load other sizes."""

    def __init__(self, family, seed=0):
        super().__init__()
        self.save_hyperparameters()
        self.model = resize_on_load(family_model(family, seed))

    def training_step(self, batch, _):
        return mse_loss(self.model(batch["u"]), batch["labels"])

    def test_step(self, batch, _):
        self.log("loss", self.training_step(batch, 0))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def fit(module, folder, **options):
    saver = pl.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=2, save_top_k=-1
    )
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, max_steps=6, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[of_lightning.CompressionCallback(**CUT), saver],
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), 4), **options)
    return trainer


@pytest.mark.filterwarnings("ignore")  # of Lightning, on workers and logging
@EACH_FAMILY
def test_lightning_resumes_tests_and_loads(tmp_path, family):
    whole, resumed = Module(family), Module(family, 1)
    full, trainer = sizes(whole), fit(whole, tmp_path)
    small = sizes(whole)
    assert all(n < N for n, N in zip(small, full, strict=True))
    fit(resumed, tmp_path / "again", ckpt_path=tmp_path / "step=4.ckpt")
    assert sizes(resumed) == small and is_unchanged(resumed, parameters_of(whole))
    weights = parameters_of(whole)
    for path, expected in (("step=2.ckpt", full), ("step=6.ckpt", small), ("best", None)):
        at = path if path == "best" else tmp_path / path
        trainer.test(whole, DataLoader(data(), 4), ckpt_path=at, verbose=False)
        assert expected is None or sizes(whole) == expected
    assert sizes(Module.load_from_checkpoint(tmp_path / "step=2.ckpt")) == full
    found = Module.load_from_checkpoint(tmp_path / "step=6.ckpt")
    assert sizes(found) == small and is_unchanged(found, weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_state_dicts_load_into_a_full_model_and_back(family):
    full, small, into = (family_model(family, seed) for seed in (0, 0, 1))
    compress_(small, States(5), data=[x["u"][None] for x in data()])
    assert sizes(small) < sizes(full)
    resize_on_load(into)
    for source in (small, full):
        into.load_state_dict(source.state_dict())
        assert sizes(into) == sizes(source) and is_unchanged(into, parameters_of(source))
