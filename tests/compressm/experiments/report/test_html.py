"""The page that compares runs: what stands on it, and that it needs nothing beside it."""

import re
from html.parser import HTMLParser

import pytest

from compressm import cli
from compressm.experiments.recipes import load_data, read_recipe
from compressm.experiments.runs import train
from tests.compressm.experiments.helpers import LISTOPS, TINY_RECIPE

SETTINGS = [*TINY_RECIPE, *LISTOPS, "eval_size=8", "energy=0.8", "system=real"]


class Page(HTMLParser):
    """Cells of every table, and what every picture shows."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.sources, self.tag = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("img", "script", "link"):
            self.sources.append(dict(attributes))
        self.tag = tag

    def handle_data(self, data):
        if self.tag in ("td", "th") and data.strip():
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with a run of every arm, one that cuts by its inputs, and one stopped."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = read_recipe("listops", SETTINGS)
    data = load_data(recipe)
    for arm in ("full", "compressed", "after"):
        train(recipe, data, folder / arm, arm=arm)
    train(recipe, data, folder / "small <b>", arm="small", order=3)
    train(read_recipe("listops", [*SETTINGS, "gramians=input"]), data, folder / "input")

    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, folder / "stopped", on_step=stop)
    return folder


NAMES = ("full", "compressed", "after", "small <b>", "input", "stopped")


@pytest.fixture
def page(runs, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert cli.main(["report", *(str(runs / name) for name in NAMES), "--output", str(target)]) == 0
    written = capsys.readouterr().out.split("\n")[:-1]
    assert written == [str(target), *(str(x) for x in map(tmp_path.joinpath, pictures()))]
    return target


def pictures():
    cut = ("compressed", "after", "input", "stopped")
    return ["page-accuracy.png", "page-orders.png", *(f"page-spectra-{x}.png" for x in cut)]


def test_the_page_needs_nothing_beside_it(page):
    found = Page(page.read_text())
    assert len(found.sources) == len(pictures())
    assert all(x["src"].startswith("data:image/png;base64,") and x["alt"] for x in found.sources)
    assert not re.search(r"https?://|url\(", page.read_text())
    for name in pictures():
        assert (page.parent / name).read_bytes().startswith(b"\x89PNG")


def test_the_table_of_runs(page):
    rows = {row[0]: row for row in Page(page.read_text()).rows[1 : 1 + len(NAMES)]}
    assert set(rows) == set(NAMES), "names are escaped"
    assert rows["full"][2] == "+0.00" and rows["full"][3] == "8 + 8" and rows["full"][6] == "1.0×"
    assert rows["compressed"][3].startswith("8 + 8 → ")
    assert rows["small <b>"][3] == "3 + 3"
    assert rows["stopped"][1].endswith(" at step 4 of 6") and rows["stopped"][4] == ""


def test_the_table_of_cuts(page):
    rows = Page(page.read_text()).rows
    cuts = [row for row in rows if len(row) > 2 and row[2].startswith("blocks.")]
    by_run = {name: [row for row in cuts if row[0] == name] for name in NAMES}
    assert {name: len(found) for name, found in by_run.items()} == {
        "full": 0, "compressed": 4, "after": 2, "small <b>": 0, "input": 4, "stopped": 4,
    }  # fmt: skip
    for row in by_run["compressed"]:
        assert 0 <= float(row[4].rstrip("%")) <= 20 and float(row[5]) >= 0
    assert {row[5] for row in by_run["input"]} == {"none"}
    assert all(re.fullmatch(r"[\d.]+% → [\d.]+%", row[7]) for row in by_run["after"])


def test_what_is_no_run_is_one_sentence(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "holds no run" in err and err.count("\n") == 1
