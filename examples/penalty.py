"""A penalty in training, and what it leaves to be cut: the same run with and without.

The 8 x 8 digits of scikit-learn, pixel by pixel (pip install scikit-learn matplotlib):

    python examples/penalty.py --plot penalty.png
"""

import argparse
from dataclasses import replace

import torch

import lti
from compressm import HankelPenalty, States, compress_, nuclear_norm, smooth_order, tail_energy
from compressm.experiments.data import digits
from compressm.experiments.demo import DIGITS
from compressm.experiments.training import accuracy, run

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=DIGITS.steps)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--cut", type=int, default=8, help="stored states that a cut keeps")
parser.add_argument("--scale", type=float, default=1, help="times the weight of every penalty")
parser.add_argument("--plot", metavar="FILE")
arguments = parser.parse_args()
torch.set_num_threads(1)  # so small a model is fastest on one


def penalized(weight, measure):
    return lambda model: HankelPenalty(model, measure, weight=arguments.scale * weight)


PENALTIES = {
    "no penalty": None,
    "nuclear norm": penalized(3e-4, nuclear_norm),
    "smooth order": penalized(1e-3, smooth_order),
    "tail energy": penalized(3e-3, tail_energy),
}
data, settings = digits(), replace(DIGITS, steps=arguments.steps, eval_every=arguments.steps)
print(f"{'':14}accuracy   real states for       accuracy after a cut   seconds")
print(f"{'':25}90% / 99% of energy   to {arguments.cut} stored states")
spectra = {}
for name, penalty in PENALTIES.items():
    result = run(data, settings, penalty=penalty, seed=arguments.seed, spectra_at=[arguments.steps])
    ((_, hsv),) = result.spectra[arguments.steps].items()
    states = [lti.order_for(hsv, energy=energy) for energy in (0.9, 0.99)]
    compress_(result.model, States(arguments.cut))  # at once, and nothing is trained afterwards
    after = accuracy(result.model, data.x_test, data.y_test)
    print(
        f"{name:14}{result.accuracy:8.1%}{states[0]:11} / {states[1]:<5}"
        f"{after:23.1%}{result.seconds:12.1f}",
        flush=True,
    )
    spectra[name] = hsv / hsv[0]

if arguments.plot:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for name, values in spectra.items():
        axes.semilogy(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="state", ylabel=r"Hankel singular value $\sigma_i / \sigma_1$")
    axes.set(ylim=(1e-6, 1.5), xlim=(0, len(values)))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(arguments.plot, dpi=150)
