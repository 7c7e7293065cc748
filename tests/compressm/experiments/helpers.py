"""Settings, files and measures that the tests of experiments and commands share."""

import numpy as np

from compressm.experiments.training import Settings, to_record

TINY = Settings(
    d_model=4,
    d_state=12,
    n_layers=2,
    steps=12,
    batch_size=8,
    lr=1e-2,
    eval_every=5,
    eval_size=7,
    energy=0.9,
    cuts=2,
    cut_window=0.5,
)
TINY_RECIPE = ["d_model=4", "d_state=8", "n_layers=2", "batch_size=4", "steps=6", "eval_every=2"]
TINY_RECIPE += ["eval_size=20", "cuts=2", "cut_window=0.7", "checkpoint_every=2"]
COLUMNS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]  # of ETTh1
ETTH1 = ["data_options.past=8", "data_options.horizon=4"]
LISTOPS = ["data_options.n_train=20", "data_options.n_test=8", "data_options.min_length=3"]
LISTOPS += ["data_options.max_length=30"]


def walks(n=9, length=30, channels=2):
    """Return random walks (n, length, channels): inputs that excite slow modes."""
    return np.random.default_rng(0).standard_normal((n, length, channels)).cumsum(1)


def mnist_images(n, seed=0):
    """Return images and labels in the format of MNIST."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10


def write_mnist(folder, n_train=30, n_test=12):
    """Write a small file in the format of MNIST."""
    (x, y), (xt, yt) = mnist_images(n_train), mnist_images(n_test, seed=1)
    np.savez_compressed(folder / "mnist.npz", x_train=x, y_train=y, x_test=xt, y_test=yt)


def write_etth1(folder, rows=14_400, **changes):
    """Write daily and weekly cycles in the format of ETTh1; `changes` are columns in their place.

    Returns
    -------
    ndarray (rows, 7)
    """
    hours, rng = np.arange(rows)[:, None], np.random.default_rng(0)
    phase, weight = rng.uniform(0, 6, 7), rng.uniform(1, 9, (2, 7))
    values = weight[0] * np.sin(2 * np.pi * hours / 24 + phase) + 20
    values += weight[1] * np.sin(2 * np.pi * hours / 168) + 0.1 * rng.standard_normal((rows, 7))
    for column, value in changes.items():
        values[:, COLUMNS.index(column)] = value
    text = [f"2016-07-01 00:00:00,{','.join(f'{x:.5f}' for x in row)}" for row in values]
    (folder / "ETTh1.csv").write_text("\n".join(["date," + ",".join(COLUMNS), *text]))
    return values.round(5)


def measured(result):
    """Return everything that a seed determines: all but the times."""
    found = [without_seconds(to_record(entry)) for entry in result.log]
    weights = [p.detach().numpy().tobytes() for p in result.model.parameters()]
    return found, weights, result.measured, result.orders


def without_seconds(record):
    """Return a record of a log without its time."""
    record.get("point", {}).pop("seconds", None)
    return record
