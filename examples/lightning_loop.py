"""Lightning trains, a callback compresses, and a checkpoint of the small model resumes.

The task: is the mean of a noisy sequence positive? Runs in seconds.
"""

import logging
import tempfile
import warnings

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from compressm import Every, KeepEnergy, SequenceModel
from compressm.integrations.lightning import CompressionCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")  # of workers, and of torch's newest release


class Classifier(pl.LightningModule):
    """A model, a loss, an optimizer: nothing in it knows of compression."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SequenceModel(1, 2, d_model=8, d_state=64, n_layers=1)

    def training_step(self, batch, batch_idx):
        u, target = batch
        return torch.nn.functional.cross_entropy(self.model(u), target)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def fit(epochs: int, resume: str | None = None) -> pl.Trainer:
    """Train to so many epochs, on from a checkpoint if there is one."""
    compression = CompressionCallback(policy=KeepEnergy(0.95), schedule=Every(15, stop=60))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[compression],  # the only added line
        logger=False,  # if there is one, it gets states and energy kept of each layer
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), loader, ckpt_path=resume)
    print(*compression.events, sep="\n")
    return trainer


torch.manual_seed(0)
torch.set_num_threads(1)  # so small a model is fastest on one
target = torch.randint(2, (640,))
u = torch.randn(640, 64, 1) + 0.4 * (2 * target - 1)[:, None, None]
loader = DataLoader(TensorDataset(u, target), batch_size=32, shuffle=True)

with tempfile.TemporaryDirectory() as folder:
    fit(epochs=2).save_checkpoint(f"{folder}/small.ckpt")
    print("and from its checkpoint, in a module built at full size:")
    fit(epochs=4, resume=f"{folder}/small.ckpt")
