"""Tables of previews."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from compressm import CompressionEvent, KeepEnergy, LayerCut, compress_
from compressm.experiments.tables import cut_table, gramians_table, time_table
from tests.compressm.helpers import model_of


@pytest.mark.parametrize("instead", [False, True])
def test_the_table_says_where_stability_took_another_gramian_type(instead):
    event = compress_(model_of(d_state=12), KeepEnergy(0.5), dry_run=True)
    cuts = tuple(replace(cut, gramians="input" if instead else "data") for cut in event.layers)
    table = gramians_table([replace(event, layers=cuts)], [None], ["data"])
    (cells,) = (list(column.cells) for column in table.columns[2:])
    assert all(cell.endswith(" by input") == instead for cell in cells) and len(cells) == 2
    assert ("stood in" in table.caption) == instead


def test_tables_of_cuts_fit_80_columns_and_keep_long_names():
    names = [f"a_wrapper.{'of_a_wrapper.' * 5}layers.{i}.mixer" for i in range(2)]
    sizes = dict.fromkeys(("parameters", "state_bytes", "flops"), (234_567_890, 123_456_789))
    cuts = [
        LayerCut(x, 1024, 1000, 1000, np.empty(0), energy_kept=0.99999, output_error=0.12,
                 step_seconds=(12.345, 0.0123456), **sizes)
        for x in names
    ]  # fmt: skip
    console = Console(width=80, record=True)
    for table in (cut_table, time_table):
        console.print(table(CompressionEvent(0, tuple(cuts))))
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
        told = "".join(line.split()[0] for line in lines if line.strip())
        assert all(name in told for name in names)
