"""The page holds what the run holds, loads nothing, and shows strangers' text as text."""

import re
from html.parser import HTMLParser

import pytest

from ig_core.bench.chart import Axis, chart
from ig_core.bench.folder import RunFolder
from ig_core.bench.page import number

METRICS = ("--metrics", "completeness,removal-area,evaluations")


@pytest.fixture
def page(bench, tmp_path):
    """The report of a run, as text."""

    def made(*args):
        bench(*args, *METRICS, "--out", tmp_path / "out")
        return RunFolder(tmp_path / "out").page.read_text()

    return made


class References(HTMLParser):
    """What a page would load or run."""

    def __init__(self):
        super().__init__()
        self.tags = set()
        self.targets = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        named = ("src", "href", "srcset", "xlink:href", "action", "data", "background", "poster")
        self.targets += [value for name, value in attrs if name in named or name.startswith("on")]


def test_the_page_loads_nothing(page):
    text = page("--cases", "planted/*", "--methods", "ig,random,raising")
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)
    found = References()
    found.feed(text)
    assert found.targets and all(target.startswith("#") for target in found.targets)
    assert not found.tags & {"script", "img", "iframe", "object", "embed", "link", "form", "base"}


def test_strangers_text_stays_text(page):
    text = page("--cases", "planted/<*", "--methods", "ig,raising")
    assert "<img" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text


def test_the_page_tells_numbers_causes_and_what_ran(page):
    text = page("--cases", "planted/*", "--methods", "ig,random,raising")
    for told in (
        "by hand", "pip install &#39;ig-core[moon]&#39;", "does not load", "ZeroDivisionError",
        "higher is better", "Normal noise: a control", "all examples of every case", "What ig says",
    ):  # fmt: skip
        assert told.lower() in text.lower(), told


def test_pictures_outlive_a_resume(bench, page, tmp_path):
    args = ("--cases", "planted/polynomial", "--methods", "ig")
    before = page(*args).count("<figure")
    assert before == 3
    assert page(*args).count("<figure") == before


def test_the_page_can_be_written_anew(bench, page, tmp_path):
    text = page("--cases", "planted/polynomial", "--methods", "ig")
    report = tmp_path / "out" / "report.html"
    report.unlink()
    assert bench("report", tmp_path / "out").exit_code == 0
    assert report.read_text() == text


def test_a_folder_without_a_run_is_a_named_error(bench, tmp_path):
    done = bench("report", tmp_path)
    assert done.exit_code == 5 and "cannot read" in done.output


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (0.483, "0.483"), (-0.0123, "-0.012"),
     (2e-9, "2.0e-09"), (12345, "12345"), (3e7, "3.0e+07")],
)  # fmt: skip
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_an_axis_with_both_signs_is_symmetric_about_zero():
    axis = Axis.over([-0.3, 0.7])
    assert (axis.low, axis.high) == (-1, 1)
    assert axis.place(0) == (axis.place(-1) + axis.place(1)) / 2


def test_an_axis_over_many_decades_is_logarithmic():
    axis = Axis.over([0.0, 1e-3, 50.0])
    assert axis.logarithmic and axis.place(0.0) == axis.place(1e-3)
    assert axis.place(1.0) - axis.place(0.1) == pytest.approx(
        axis.place(10) - axis.place(1), abs=0.2
    )


def test_a_chart_says_its_numbers_in_words():
    drawn = chart("area", {"a<b": {"ig": [0.5, 0.25, 0.75]}})
    assert "a&lt;b: ig 0.5 (3 cases)" in drawn and 'role="img"' in drawn
    assert drawn.count("<circle") == 3
