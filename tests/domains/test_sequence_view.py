"""Pictures of sequences: the numbers that they were given, as places, colours and words."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, Units
from ig_sequences import faithfulness, heat_map, picture, table
from ig_sequences.view.figures import GREY
from ig_sequences.view.grid import MOST_COLUMNS, MOST_ROWS, closer, grid
from ig_sequences.view.series import ACROSS, BARS, drawing

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


def result(scores: Any, series: Any = None, **display: Any) -> Attribution:
    """An attribution of a sequence with these values, as the domain makes it."""
    values = torch.as_tensor(scores, dtype=torch.float64)
    time = len(values)
    labels = display.pop("labels", [f"t={t}" for t in range(time)])
    if series is not None:
        display["series"] = torch.as_tensor(series, dtype=torch.float64).tolist()
    return Attribution(
        tensors={"x": values},
        units=Units(tuple(labels), {"x": torch.arange(time)}, kind="step"),
        at_input=float(values.sum()),
        at_baseline=0.0,
        residual=0.0,
        provenance={"domain": "sequences"},
        display=display,
    )


def svgs(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html, re.S)]


def tips(root: ElementTree.Element, kind: str) -> list[str]:
    found = [e for e in root.iter(f"{SVG}rect") if (e.get("class") or "").startswith(kind)]
    return [e[0].text or "" for e in found]


# -- the grid -----------------------------------------------------------------------------------


def test_a_short_sequence_has_a_cell_for_every_number() -> None:
    found = grid(result([[1.0, -2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]))
    assert found.scores.tolist() == [[1.0, 3.0], [-2.0, 4.0]]
    assert found.series is not None and found.series.tolist() == [[5.0, 7.0], [6.0, 8.0]]
    assert found.rows == ["feature 0", "feature 1"] and found.columns == ["t=0", "t=1"]
    assert found.steps.tolist() == [-1.0, 7.0] and found.features.tolist() == [4.0, 2.0]


def test_columns_of_a_long_sequence_sum_scores_and_average_the_series() -> None:
    time = 2 * MOST_COLUMNS + 1  # three steps a column, the last column has fewer
    scores = torch.randn(time, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    series = scores + 10
    found = grid(result(scores, series))
    assert found.per_column == 3 and len(found.columns) == -(-time // 3)
    assert found.columns[0] == "t=0 to t=2" and found.columns[-1] == f"t=318 to t={time - 1}"
    assert found.scores.sum() == pytest.approx(float(scores.sum()), abs=1e-12)
    assert found.scores[1, 4] == pytest.approx(float(scores[12:15, 1].sum()), abs=1e-12)
    assert found.series is not None
    assert found.series[0, -1] == pytest.approx(float(series[318:, 0].mean()), abs=1e-12)


def test_the_smallest_of_many_features_share_a_row() -> None:
    scores = torch.arange(1.0, 21).repeat(3, 1)
    found = grid(result(scores, scores, features=[f"feature {i}" for i in range(20)]))
    assert len(found.rows) == MOST_ROWS and found.rows[-1] == "5 others"
    assert found.rows[0] == "feature 5"
    assert found.features[-1] == 3 * (1 + 2 + 3 + 4 + 5)
    assert found.series is not None and np.isnan(found.series[-1]).all()
    assert found.scores.sum() == float(scores.sum())


def test_many_features_without_names_share_one_row() -> None:
    scores = torch.arange(1.0, 21).repeat(3, 1)
    found = grid(result(scores, scores))
    assert found.rows == ["20 features"] and found.scores.tolist() == [[210.0] * 3]


def test_times_are_the_labels_of_steps_and_a_column_of_the_table() -> None:
    shown = result([[1.0], [-2.0]], [[0.1], [0.25]], times=[0.5, 3.25])
    assert grid(shown).columns == ["0.5", "3.25"]
    assert "labelled by their times" in drawing(shown)
    assert table(shown).to_csv().splitlines() == [
        "step,time,feature,input,attribution",
        "t=0,0.5,feature 0,0.1,1.0",
        "t=1,3.25,feature 0,0.25,-2.0",
    ]
    named = result([[1.0], [-2.0]], times=[0.5, 3.25], labels=["May", "June"])
    assert grid(named).columns == ["May", "June"]


@pytest.mark.parametrize(("step", "marked"), [(2, 2), (9, None), (None, None)])
def test_the_explained_step_is_marked_unless_it_is_the_last(
    step: int | None, marked: int | None
) -> None:
    shown = {} if step is None else {"step": step}
    assert grid(result(torch.ones(10, 1), **shown)).explained == marked


def test_a_closer_look_holds_nearly_everything_in_the_fewest_steps() -> None:
    scores = torch.zeros(400, 1)
    scores[300:304] = torch.tensor([1.0, -5.0, 5.0, 1.0])[:, None]
    scores[10] = 0.05  # less than one in a hundred
    near = closer(result(scores))
    assert near == slice(298, 306)
    part = grid(result(scores, step=299), slice(298, 306))
    assert part.columns[0] == "t=298" and part.explained == 1
    assert closer(result(torch.ones(400, 1))) is None
    assert closer(result(torch.zeros(400, 1))) is None
    assert closer(result(scores[296:308])) is None  # short enough to be seen whole


def test_only_sequences_have_this_picture() -> None:
    [other] = ig.attribute(lambda x: x.sum(1), torch.ones(1, 2))
    for made in (heat_map, table, drawing):
        with pytest.raises(ig.InputError, match=r"domain 'sequences' \(got 'tensor'\)"):
            made(other)


# -- the page -----------------------------------------------------------------------------------


def test_cells_are_the_scores_with_sign_strength_and_words() -> None:
    html = drawing(
        result([[4.0, 0.0], [-2.0, 1.0]], [[0.5, 1.0], [0.25, 2.0]], features=["a", "b"])
    )
    [root] = svgs(html)
    cells = {e[0].text: e for e in root.iter(f"{SVG}rect") if "cell" in (e.get("class") or "")}
    assert {tip: (e.get("class"), e.get("fill-opacity")) for tip, e in cells.items()} == {
        "a, t=0: +4 (input 0.5)": ("cell up", "1"),
        "a, t=1: \N{MINUS SIGN}2 (input 0.25)": ("cell down", "0.5"),
        "b, t=1: +1 (input 2)": ("cell up", "0.25"),
    }
    assert {e.get("width") for e in cells.values()} == {f"{ACROSS / 2:g}"}
    crossed = [e.get("d") for e in root.iter(f"{SVG}path") if e.get("class") == "cross"]
    assert [d.count("M") for d in crossed if d is not None] == [1, 0]
    assert tips(root, "bar") == ["t=0: +4", "t=1: \N{MINUS SIGN}1"]


def test_bars_grow_from_the_middle_by_their_sum() -> None:
    [root] = svgs(drawing(result([[4.0], [-2.0], [0.0]])))
    bars = [e for e in root.iter(f"{SVG}rect") if (e.get("class") or "").startswith("bar")]
    heights = [float(e.get("height", "nan")) for e in bars]
    assert heights == [BARS / 2 - 2, (BARS / 2 - 2) / 2, 0.0]
    tops = [float(e.get("y", "nan")) for e in bars]
    assert tops == [2.0, BARS / 2, BARS / 2]


def test_the_series_is_drawn_over_its_own_range() -> None:
    [root] = svgs(drawing(result(torch.ones(3, 1), [[2.0], [4.0], [3.0]])))
    [line] = [e.get("d") for e in root.iter(f"{SVG}path") if e.get("class") == "line"]
    heights = [float(pair.split()[1]) for pair in str(line)[1:].split("L")]
    assert heights[0] > heights[2] > heights[1]
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.1)


def test_a_result_without_its_series_is_drawn_without_lines() -> None:
    [root] = svgs(drawing(result(torch.ones(3, 1))))
    assert not [e for e in root.iter(f"{SVG}path") if e.get("class") == "line"]
    assert tips(root, "cell")[0] == "feature 0, t=0: +1"


def test_a_long_memory_of_the_end_is_shown_closer_with_the_whole_folded_away() -> None:
    scores = torch.zeros(1000, 1)
    scores[-10:] = 1.0
    html = drawing(result(scores, torch.ones(1000, 1)))
    near, whole = svgs(html)
    assert len(tips(near, "cell")) == 10 and len(tips(whole, "cell")) == 2
    assert "Only t=988 to t=999 are shown, which hold 99 % of all magnitude" in html
    assert "Each column is 7 steps" in html


def test_names_and_labels_are_escaped_and_cannot_steer() -> None:
    html = drawing(
        result(torch.ones(2, 1), torch.ones(2, 1), features=[EVIL], labels=[EVIL, "b"], output=EVIL)
    )
    assert "<script" not in html and "\x1b" not in html and "\u202e" not in html
    assert "&lt;script&gt;" in html
    svgs(html)


def test_what_did_not_converge_is_told_above_the_picture() -> None:
    missed = replace(result(torch.ones(2, 1)), status="budget")
    assert "Careful: budget" in drawing(missed)
    assert "Careful" not in drawing(result(torch.ones(2, 1)))
    assert "Careful" not in drawing(replace(missed, status="one_shot"))


@pytest.mark.parametrize(
    ("target", "output", "words"),
    [
        (None, None, "the output"),
        (1, "last step", "output 1, last step"),
        ((12, 0), "whole sequence", "output 12, 0"),
        ("winter minus summer", "whole sequence", "winter minus summer"),
    ],
)
def test_the_page_and_the_figure_say_what_was_explained(
    target: Any, output: str | None, words: str
) -> None:
    shown = replace(
        result(torch.ones(2, 1), output=output),
        provenance={"domain": "sequences", "target": target},
    )
    assert f"did for <strong>{words}</strong>" in drawing(shown)
    assert f"did for {words}: " in heat_map(shown).axes[0].get_title()


def test_scores_that_are_no_numbers_are_left_out() -> None:
    failed = replace(result(torch.full((3, 1), math.nan)), status="failed")
    [root] = svgs(drawing(failed))
    assert tips(root, "cell") == []


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_shows_in_a_browser_without_scrolling_sideways(
    browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    scores = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    found = result(scores, scores, features=[f"a rather long name {i}" for i in range(12)])
    page = tmp_path / "page.html"
    ig.page("x", drawing(found), path=page)
    tab = browser.open(page, width, 900, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelectorAll('.ig-sequence rect.cell').length") > 500
    ink, ground = (
        tab.evaluate(f"getComputedStyle(document.querySelector('.ig-sequence')).{name}")
        for name in ("color", "backgroundColor")
    )
    light = [sum(map(int, re.findall(r"\d+", rgb)[:3])) for rgb in (ink, ground)]
    assert (light[0] > light[1]) == dark
    assert tab.complaints == [] and len(tab.requested) == 1


# -- tables and files ---------------------------------------------------------------------------


def test_the_table_holds_every_number_in_full() -> None:
    found = table(
        result([[1 / 3, 0.0], [-2.0, 1.0]], [[0.1, 1.0], [0.25, 2.0]], features=["a", "b"])
    )
    lines = found.to_csv().splitlines()
    assert lines[0] == "step,feature,input,attribution"
    assert lines[1:] == [
        f"t=0,a,0.1,{1 / 3}", "t=0,b,1.0,0.0", "t=1,a,0.25,-2.0", "t=1,b,2.0,1.0",
    ]  # fmt: skip


def test_the_largest_cells_come_first_and_zeros_are_left_out() -> None:
    found = table(result([[1.0, 0.0], [-2.0, 0.5]]), 3)
    assert [row[3] for row in found.rows] == [-2.0, 1.0, 0.5]
    assert all(math.isnan(float(row[2])) for row in found.rows)


def test_the_figure_shows_scores_series_and_explained_step() -> None:
    scores, series = torch.tensor([[1.0, -3.0], [2.0, 0.5]]), torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    found = heat_map(result(scores, series, features=["a", "$b$"], step=0))
    sums, first, second, scale = found.axes
    assert [bar.get_height() for bar in sums.patches] == [-2.0, 2.5]
    for axes, row in ((first, 0), (second, 1)):
        [image] = axes.images
        assert image.get_array().tolist() == [scores[:, row].tolist()]
        assert image.get_clim() == (-3.0, 3.0)
        drawn = axes.lines[1].get_ydata()
        assert drawn[0] < drawn[1]
        assert axes.lines[-1].get_xdata() == [0, 0]
    assert second.get_ylabel() == r"\$b\$" and scale.get_ylabel() == "attribution"


@pytest.mark.parametrize("ending", ["png", "SVG", "pdf"])
def test_a_picture_is_a_file_by_its_ending(ending: str, tmp_path: Path) -> None:
    written = picture(result(torch.ones(30, 3), torch.ones(30, 3)), tmp_path / f"a.{ending}")
    starts = {"png": b"\x89PNG", "SVG": b"<?xml", "pdf": b"%PDF"}
    assert written.read_bytes().startswith(starts[ending])


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    shown = result(torch.ones(3, 1))
    with pytest.raises(ig.InputError, match=r"\.png, \.svg or \.pdf \(got 'a\.bmp'\)"):
        picture(shown, tmp_path / "a.bmp")
    with pytest.raises(ig.StorageError, match="cannot write"):
        picture(shown, tmp_path / "no" / "a.png")


def test_the_views_of_a_real_result_are_those_of_the_domain(tmp_path: Path) -> None:
    from ig_sequences.cases.closed_forms import LeakyIntegrator

    x: Tensor = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = ig.attribute(LeakyIntegrator(0.5), x, domain="sequences", feature_names=["rain"])
    assert isinstance(found, Attribution)
    assert "rain, t=0: +0.5" in found.to_html()
    kept = ig.load(found.save(tmp_path / "a.safetensors"))
    assert "rain, t=0: +0.5" in kept.to_html()


def test_the_plot_of_faithfulness_shows_every_ranking_with_its_errors() -> None:
    from ig_sequences.cases.closed_forms import LeakyIntegrator

    x = torch.randn(6, 12, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = faithfulness(LeakyIntegrator(0.8), x, parts=[0.2, 0.5])
    panels = found.plot().axes
    assert [axes.get_title() for axes in panels] == [f"removed: {r}" for r in found.removals]
    for axes, removed in zip(panels, found.removals, strict=True):
        bars = {c.get_label(): c for c in axes.containers}
        for row in found.rows:
            if row.removed == removed:
                line, _, [error] = bars[row.ranking].lines
                assert line.get_data()[1].tolist() == pytest.approx(row.drops)
                tops = [segment[1][1] for segment in error.get_segments()]
                assert tops == pytest.approx(np.add(row.drops, row.errors))
                assert (line.get_color() == GREY) == (row.ranking not in ("ig", "|ig|"))


@pytest.mark.parametrize(
    "told",
    [
        {"series": [1, 2]}, {"series": "abc"}, {"series": [["<b>"] * 2] * 2}, {"features": ["a"]},
        {"features": 5}, {"features": [1, 2]}, {"features": {"a": 1}}, {"step": "2"},
        {"times": "12"}, {"times": [1.0]}, {"times": ["<b>", 2]},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_file_tells_wrongly_is_left_out(told: dict[str, Any]) -> None:
    shown = result([[1.0, -2.0], [0.5, 3.0]])
    shown = replace(shown, display={**shown.display, **told})
    assert "<b>" not in drawing(shown)
    assert len(table(shown).rows) == 4


@pytest.mark.parametrize("wrong", [[1, 2], "text", None])
def test_what_is_no_result_has_no_picture_and_no_table(wrong: Any, tmp_path: Path) -> None:
    told = f"needs the result of a sequence.*got {type(wrong).__name__}"
    for show in (table, heat_map, partial(picture, path=tmp_path / "a.png")):
        with pytest.raises(ig.InputError, match=told):
            show(wrong)
