"""Pictures show the numbers that they were given, and nothing that steers a reader's machine."""

import math
import re

import pytest

import ig_core as ig
from ig_core.report import html, text
from ig_core.report.card import FIRST_BARS

FACTS = {"status": "converged (fine)"}


def widths(fragment):
    """The declared width of every bar, in percent of its cell."""
    return [float(w) for w in re.findall(r'class="bar" style="[^"]*;width:([\d.]+)%', fragment)]


def test_a_bar_is_as_wide_as_its_share_of_the_largest():
    drawn = html.bars(ig.Card(["a", "b", "c", "d"], [-4.0, 1.0, 0.0, 3.0]))
    assert widths(drawn) == [100, 75, 25]
    assert "min-width" not in drawn and "em;background" not in drawn


def test_units_of_exactly_zero_are_counted_and_not_drawn():
    card = ig.Card(["a", "b", "c", "d"], [0.0, 2.0, -0.0, math.nan])
    drawn = text.table(card)
    assert drawn.splitlines()[1].startswith("b") and "... and 2 more, 2 of them exactly 0" in drawn
    assert "+2 more, 2 of them exactly 0" in html.bars(card)
    assert "b" in text.table(ig.Card(["a", "b"], [0.0, 0.0])), "there is nothing else to draw"


def test_a_bar_has_the_colour_of_its_sign():
    drawn = html.bars(ig.Card(["up", "down"], [1.0, -0.1]))
    first, second = re.findall(r"background:(rgba[^;]*);", drawn)
    assert (first, second) == (html.colour(1.0), html.colour(-1.0))


@pytest.mark.parametrize("count", [FIRST_BARS, FIRST_BARS + 3])
def test_the_smaller_bars_fold_away_and_none_is_lost(count):
    drawn = html.bars(ig.Card([f"u{i}" for i in range(count)], [*range(count, 0, -1)], facts=FACTS))
    seen, _, folded = drawn.partition("<details>")
    assert len(widths(drawn)) == count
    assert len(widths(seen)) == FIRST_BARS
    assert ("converged (fine)" in folded.partition("</details>")[2]) == (count > FIRST_BARS)
    assert "converged (fine)" in drawn


@pytest.mark.parametrize("draw", [html.bars, html.heat])
def test_no_control_character_reaches_a_page(draw):
    bad = "a\x00\x1b[31m\u202eb\ud800"
    drawn = html.page(bad, draw(ig.Card([bad], [1.0], bad, {"reason": bad})))
    assert not set("\x00\x1b\u202e\ud800") & set(drawn)
    drawn.encode("utf-8")


def test_a_card_without_facts_has_no_empty_table():
    assert html.heat(ig.Card(["a"], [1.0])).count("<table") == 0


def test_a_page_is_also_written_where_it_is_wanted(tmp_path):
    page = ig.page("a title", "<p>body</p>", path=tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == page
    assert "<title>a title</title>" in page and "<p>body</p>" in page
    assert "default-src 'none'" in page
    with pytest.raises(ig.StorageError, match="cannot write"):
        ig.page("a title", "", path=tmp_path)


def test_a_table_aligns_numbers_and_keeps_them_whole_in_csv():
    table = ig.Table(["word", "count", "mean"], [["a, b", 2, 1 / 3], ["c", 10, float("nan")]])
    assert table.to_text().splitlines() == [
        "word  count   mean",
        "a, b      2  0.333",
        "c        10    n/a",
    ]
    assert table.to_csv() == f'word,count,mean\n"a, b",2,{1 / 3!r}\nc,10,nan\n'


def test_a_table_steers_neither_terminal_nor_browser():
    table = ig.Table(["\x1b[1mword"], [["<script>\x1b[2J"]], ["note\x07"])
    assert "\x1b" not in table.to_text() and "\x07" not in table.to_text()
    drawn = table.to_html()
    assert "&lt;script&gt;" in drawn and "<script>" not in drawn and "\x1b" not in drawn


def test_a_table_without_rows_has_its_columns():
    assert ig.Table(["word", "mean"], []).to_text() == "word  mean"
    assert "mean" in ig.Table(["word", "mean"], []).to_html()
