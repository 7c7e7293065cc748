"""CPU seconds of the default cut of one layer, by family and stored states.

python benchmarks/cuts.py --layers s4 lssl --states 64 256 --lengths 336
"""

from __future__ import annotations

import argparse
import copy
from time import process_time

import torch

from compressm import OutputError, SequenceModel, compress_

FAMILIES = ["s4", "lssl", "s4d", "dss", "s5", "lru"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", default=FAMILIES)
    parser.add_argument("--states", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--lengths", type=int, nargs="+", default=[336])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32, help="sequences, an eighth is held out")
    parser.add_argument("--tol", type=float, default=0.005, help="the output error allowed")
    parser.add_argument("--repeats", type=int, default=3, help="of which the quickest counts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| layer | length | states | seconds | output error |\n|---|---:|---|---:|---:|")
    for layer in args.layers:
        for length in args.lengths:
            for states in args.states:
                torch.manual_seed(0)
                options = {"l_max": length} if layer == "s4" else {}
                sizes = {"d_model": args.channels, "d_state": states, "n_layers": 1}
                model = SequenceModel(d_input=1, d_output=2, layer=layer, **sizes, **options)
                data = [torch.randn(args.batch, length, 1).cumsum(1) / length**0.5]
                seconds = []
                for _ in range(args.repeats):
                    trial, start = copy.deepcopy(model), process_time()
                    cut = compress_(trial, OutputError(args.tol), data=data).layers[0]
                    seconds.append(process_time() - start)
                print(
                    f"| {layer} | {length:,} | {cut.before} to {cut.after} | {min(seconds):.2f} "
                    f"| {cut.output_error:.4f} |"
                    if cut.skipped is None
                    else f"{layer}{cut}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
