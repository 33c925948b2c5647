"""The page holds what the run holds, loads nothing, and shows strangers' text as text."""

import json
import re
from html.parser import HTMLParser

import pytest

from ig_core.bench.chart import Axis, chart
from ig_core.bench.folder import RunFolder
from ig_core.bench.page import number
from ig_core.errors import StorageError

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


def test_what_has_no_integral_is_a_dash_and_controls_do_not_converge(page):
    text = page("--cases", "planted/polynomial", "--methods", "ig,random,negated")
    told = dict(re.findall(r'<th scope="row">([\w-]+)</th><td>ok</td><td[^>]*>([^<]*)</td>', text))
    assert told == {"ig": "5 converged", "random": "–", "negated": "–"}
    assert "no integral: nothing to converge" in text and "one_shot" not in text


def test_the_head_says_when_on_what_and_how_precisely(page):
    head = page("--cases", "planted/polynomial", "--methods", "ig").partition("<nav")[0]
    assert re.search(r"\d{4}-\d\d-\d\d, torch \S+, .+, \d+ cores, tolerance 0.01, budget 512", head)


def test_abbreviations_and_tags_are_explained(page):
    text = page("--cases", "planted/polynomial", "--methods", "ig")
    assert "LeRF (least relevant first) and MoRF (most relevant first)" in text
    assert "<dt>real model or data</dt>" in text and "<dt>converged</dt>" in text


def test_what_people_know_best_comes_first(page, planted, monkeypatch):
    text = page("--cases", "planted/polynomial", "--methods", "ig")
    assert text.index('href="#results"') < text.index(">tensor</a>")
    from ig_core.bench.page import _place

    mixed = ["tensor", "rl", "moon", "graphs", "text", "sequences"]
    assert sorted(mixed, key=_place) == ["text", "graphs", "sequences", "rl", "moon", "tensor"]


@pytest.mark.parametrize("lost", ["plan", "environment", "written"])
def test_a_run_without_its_plan_is_a_named_error(bench, page, tmp_path, lost):
    page("--cases", "planted/polynomial", "--methods", "ig")
    file = tmp_path / "out" / "run.json"
    record = json.loads(file.read_text())
    del record[lost]
    file.write_text(json.dumps(record))
    with pytest.raises(StorageError, match=f"without a proper '{lost}'"):
        RunFolder(tmp_path / "out").read()
    assert bench("report", tmp_path / "out").exit_code == 5


def test_half_a_surrogate_pair_in_a_fact_breaks_no_page(bench, page, planted, monkeypatch):
    def facts(folder):
        return planted.ig.Loaded(planted.polynomial, planted.inputs(), facts={"name": "x\ud800y"})

    monkeypatch.setitem(planted.CASES[0].__dict__, "load", facts)
    assert "x?y" in page("--cases", "planted/polynomial", "--methods", "ig")
