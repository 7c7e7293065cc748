"""Tables of previews."""

from dataclasses import replace

import pytest

from compressm import KeepEnergy, compress_
from compressm.experiments.tables import gramians_table
from tests.compressm.helpers import model_of


@pytest.mark.parametrize("instead", [False, True])
def test_the_table_says_where_stability_took_another_gramian_type(instead):
    event = compress_(model_of(d_state=12), KeepEnergy(0.5), dry_run=True)
    cuts = tuple(replace(cut, gramians="input" if instead else "data") for cut in event.layers)
    table = gramians_table([replace(event, layers=cuts)], [None], ["data"])
    (cells,) = (list(column.cells) for column in table.columns[2:])
    assert all(cell.endswith(" by input") == instead for cell in cells) and len(cells) == 2
    assert ("unstable" in table.caption) == instead
