"""Compress a trained model as far as the accuracy on held-out data allows.

Trains an S4D model on handwritten digits for half a minute, cuts it, and saves what is left.
"""

import argparse
from functools import partial

import torch
from torch import nn

from compressm import KeepEnergy, MetricDrop, SequenceModel, compress_, preview
from compressm.experiments.data import digits


@torch.no_grad()
def accuracy(model, u, labels):
    """Fraction of the sequences whose largest logit is their label's."""
    return (model.eval()(u).argmax(-1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--tolerance", type=float, default=0.005, help="accuracy that may be lost")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    data = digits()
    held_out, (u, labels) = (data.x_test, data.y_test), (data.x_train, data.y_train)
    model = SequenceModel(1, 10, d_model=16, d_state=32, n_layers=2, layer="s4d")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(arguments.steps):
        index = torch.randint(len(labels), (50,))
        nn.functional.cross_entropy(model(u[index]), labels[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"trained: {accuracy(model, *held_out):.1%}")

    # What would each threshold leave, by each Gramian type? Nothing is changed here.
    policies = [KeepEnergy(energy) for energy in (0.9, 0.99, 0.999)]
    seen = u[:300].split(50)
    for event in preview(model, policies, gramians=("model", "input", "data"), data=seen):
        print(event)

    # Let the accuracy decide; states are scored by what training sequences drive.
    policy = MetricDrop(partial(accuracy, u=held_out[0], labels=held_out[1]), arguments.tolerance)
    print(compress_(model, policy, data=seen))
    print(f"compressed: {accuracy(model, *held_out):.1%}")
    torch.save(model.state_dict(), "compressed.pt")


if __name__ == "__main__":
    main()
