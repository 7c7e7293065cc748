"""The network of `SequenceModel` with LRU layers as is usual in JAX: Equinox, an associative scan.

Takes one training step on random data for each line that it reads, and answers with its
milliseconds; `benchmarks/step_reference.py` starts it, and asks by turns.
"""

from __future__ import annotations

import argparse
import resource
import sys
from time import perf_counter

import equinox as eqx
import jax
import jax.numpy as jnp
import optax


class LRU(eqx.Module):
    """x[t] = lambda * x[t-1] + gamma * (B u[t]),  y[t] = Re(C x[t]) + D * u[t]."""

    nu_log: jax.Array
    theta_log: jax.Array
    gamma_log: jax.Array
    B_re: jax.Array
    B_im: jax.Array
    C_re: jax.Array
    C_im: jax.Array
    D: jax.Array

    def __init__(self, d_model: int, d_state: int, key: jax.Array) -> None:
        keys = jax.random.split(key, 7)
        radius = jnp.sqrt(jax.random.uniform(keys[0], (d_state,), minval=0.9**2, maxval=0.999**2))
        self.nu_log = jnp.log(-jnp.log(radius))
        self.theta_log = jnp.log(2 * jnp.pi * jax.random.uniform(keys[1], (d_state,), minval=1e-3))
        self.gamma_log = jnp.log(1 - radius**2) / 2
        self.B_re, self.B_im = (
            jax.random.normal(keys[2], (2, d_state, d_model)) / (2 * d_model) ** 0.5
        )
        self.C_re, self.C_im = jax.random.normal(keys[3], (2, d_model, d_state)) / d_state**0.5
        self.D = jax.random.normal(keys[4], (d_model,))

    def __call__(self, u: jax.Array) -> jax.Array:
        """`u` (length, d_model) -> the same shape."""
        poles = jnp.exp(-jnp.exp(self.nu_log) + 1j * jnp.exp(self.theta_log))
        B = (self.B_re + 1j * self.B_im) * jnp.exp(self.gamma_log)[:, None]
        C = self.C_re + 1j * self.C_im
        driven = jax.vmap(lambda v: B @ v)(u)
        _, x = jax.lax.associative_scan(_compose, (jnp.tile(poles, (len(u), 1)), driven))
        return jax.vmap(lambda x, v: (C @ x).real + self.D * v)(x, u)


def _compose(first: tuple, second: tuple) -> tuple:
    """(a, b) is x -> a x + b; the second map after the first."""
    a, b = first
    c, d = second
    return c * a, c * b + d


class Block(eqx.Module):
    """x + value * sigmoid(gate),  value, gate = W gelu(layer(norm(x))) + b."""

    norm: eqx.nn.BatchNorm
    layer: LRU
    mix: eqx.nn.Linear

    def __init__(self, d_model: int, d_state: int, key: jax.Array) -> None:
        a, b = jax.random.split(key)
        self.norm = eqx.nn.BatchNorm(d_model, axis_name="batch", mode="batch")
        self.layer = LRU(d_model, d_state, a)
        self.mix = eqx.nn.Linear(d_model, 2 * d_model, key=b)

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        z, state = self.norm(x.T, state)
        z = jax.nn.gelu(self.layer(z.T), approximate=False)
        return x + jax.nn.glu(jax.vmap(self.mix)(z)), state


class Model(eqx.Module):
    """Encoder, blocks, average over time, head."""

    encoder: eqx.nn.Linear
    blocks: list[Block]
    head: eqx.nn.Linear

    def __init__(
        self, d_input: int, d_output: int, d_model: int, d_state: int, n_layers: int, key: jax.Array
    ) -> None:
        first, last, *keys = jax.random.split(key, n_layers + 2)
        self.encoder = eqx.nn.Linear(d_input, d_model, key=first)
        self.blocks = [Block(d_model, d_state, key) for key in keys]
        self.head = eqx.nn.Linear(d_model, d_output, key=last)

    def __call__(self, u: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        x = jax.vmap(self.encoder)(u)
        for block in self.blocks:
            x, state = block(x, state)
        return self.head(x.mean(0)), state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("d_input", "d_model", "d_state", "n_layers", "length", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    a = parser.parse_args()
    keys = jax.random.split(jax.random.key(0), 3)
    model, state = eqx.nn.make_with_state(Model)(
        a.d_input, 10, a.d_model, a.d_state, a.n_layers, keys[0]
    )
    optimizer = optax.adamw(1e-3)
    moments = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    u = jax.random.uniform(keys[1], (a.batch, a.length, a.d_input))
    target = jax.random.randint(keys[2], (a.batch,), 0, 10)

    def loss_of(model, state):
        logits, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            u, state
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean(), state

    @eqx.filter_jit(donate="all")
    def step(model, state, moments):
        (_, state), gradients = eqx.filter_value_and_grad(loss_of, has_aux=True)(model, state)
        updates, moments = optimizer.update(
            gradients, moments, eqx.filter(model, eqx.is_inexact_array)
        )
        return eqx.apply_updates(model, updates), state, moments

    for _ in sys.stdin:
        start = perf_counter()
        model, state, moments = jax.block_until_ready(step(model, state, moments))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(1e3 * (perf_counter() - start), peak, flush=True)


if __name__ == "__main__":
    main()
