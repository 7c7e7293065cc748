"""Time of one streaming step and of a whole sequence, in torch and in onnxruntime, at batch 1.

    python benchmarks/streaming.py

One row a layer, before and after a cut: milliseconds of `layer.step`, of the step of
`frozen(layer)` in torch and in onnxruntime, of a sequence in torch and in onnxruntime, and the
largest difference of onnxruntime from `layer`, relative to the largest output. One thread.
"""

import argparse
import io
import time
import warnings

import numpy as np
import onnxruntime
import torch
from torch.export import Dim
from torch.utils._pytree import tree_leaves

import compressm
from compressm import States, Step, compress_, frozen

REPEATS = 200


def milliseconds(call, repeats=REPEATS):
    """The median of several calls after the first."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


def runner(module, arguments, shapes=None):
    """A function of arrays that runs an exported module in onnxruntime."""
    file = io.BytesIO()
    program = torch.export.export(module, arguments, dynamic_shapes=shapes)
    torch.onnx.export(program, dynamo=True, verbose=False).save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    names = [x.name for x in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def row(label, layer, length):
    constants, u = frozen(layer), torch.randn(1, length, layer.d_model)
    whole = runner(constants, (u[:, :40],), ({1: Dim("length")},))
    own, state = layer.initial_state(1), constants.initial_state(1)
    step = runner(Step(constants), (u[:, 0], state))
    with torch.inference_mode():
        y = layer(u)
        out, after = [], [x.numpy() for x in tree_leaves(state)]
        for t in range(length):
            now, *after = step(u[:, t].numpy(), *after)
            out.append(now)
        errors = [np.stack(out, 1) - y.numpy(), whole(u.numpy())[0] - y.numpy()]
        times = [
            milliseconds(lambda: layer.step(u[:, 0], own)),
            milliseconds(lambda: constants.step(u[:, 0], state)),
            milliseconds(lambda: step(u[:, 0].numpy(), *after)),
            milliseconds(lambda: layer(u), 20),
            milliseconds(lambda: whole(u.numpy()), 20),
        ]
    error = max(float(np.abs(x).max()) for x in errors) / float(y.abs().max())
    print(f"| {label} | {' | '.join(f'{x:.3f}' for x in times)} | {error:.0e} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "layers", nargs="*", default=["LRU", "S5", "S4D", "DSS", "S4", "LSSL", "Mamba"]
    )
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--states", type=int, default=64)
    parser.add_argument("--cut", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the exporter
    print("| layer, states | step | frozen | onnxruntime | sequence | onnxruntime | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.layers:
        torch.manual_seed(0)
        layer = getattr(compressm, name)(options.d_model, options.states)
        row(f"{name}, {layer.d_state}", layer, options.length)
        data = [torch.randn(4, 100, options.d_model)] if name == "Mamba" else ()
        compress_(layer, States(options.cut), data=data)
        row(f"{name}, {layer.d_state}", layer, options.length)


if __name__ == "__main__":
    main()
