"""A tiny Mamba of transformers, trained from its configuration, through a cut on the way.

The task: go on counting, in steps that the beginning of each sequence shows.
"""

import tempfile

import torch
from transformers import MambaConfig, MambaForCausalLM, Trainer, TrainingArguments, set_seed

from compressm import Every, States
from compressm.integrations.huggingface import CompressionCallback

TOKENS, LENGTH = 16, 24
set_seed(0)

start = torch.arange(TOKENS).repeat_interleave(3)
stride = torch.tensor([1, 3, 5]).repeat(TOKENS)
sequences = (start[:, None] + stride[:, None] * torch.arange(LENGTH)) % TOKENS
data = [{"input_ids": x, "labels": x} for x in sequences]

model = MambaForCausalLM(
    MambaConfig(vocab_size=TOKENS, hidden_size=16, state_size=16, num_hidden_layers=2)
)
callback = CompressionCallback(policy=States(4), schedule=Every(40, stop=40))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        max_steps=100,
        per_device_train_batch_size=16,
        learning_rate=2e-2,
        logging_steps=20,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[callback])
    trainer.train()

for event in callback.events:
    print(event)
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print("loss", *(f"{float(loss):.2f}" for loss in losses))
