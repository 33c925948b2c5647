"""Pictures of texts: the numbers that they were given, on the text as it was written."""

import io
import itertools
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import ig_core as ig
import ig_text
from ig_core import Attribution, InputError, StorageError, Units
from ig_text.view import heat_map, line
from ig_text.view.heat import MOST_STOPS
from ig_text.view.reading import legible, reading

HOSTILE = "<img src=//x onerror=alert(1)>\x1b[31m\u202e[bold red]\x00"
ACCENTS = "\N{ARABIC LETTER SEEN}\N{ARABIC FATHA}"
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
WIDE_TEXT = "\n".join(
    ["هذا الفيلم رائع جدا ولكن النهاية مملة", "这部电影很好看", f"fine {FAMILY} 👍🏽 café", ""]
)


def view(attribution, fmt):
    return heat_map(attribution) if fmt == "html" else line(attribution)


def made(texts, scores=None, roles=("text",), unit=r"\S+", width=3, seed=0, **fields):
    """An attribution of some texts by hand; a unit is what the pattern finds."""
    spans, index, labels, tokens = [None], [-1], [], ["[CLS]"]
    for number, text in enumerate(texts):
        for found in re.finditer(unit, text):
            spans.append([number, *found.span()])
            index.append(len(labels))
            labels.append(found.group())
            tokens.append(found.group())
    if scores is None:
        draw = torch.Generator().manual_seed(seed)
        scores = torch.randn(len(labels), generator=draw, dtype=torch.float64).tolist()
    index = torch.tensor(index)
    values = torch.zeros(len(index), width, dtype=torch.float64)
    values[index >= 0, 0] = torch.tensor(scores, dtype=torch.float64)
    display = {
        "explained": "good (predicted) minus bad",
        "texts": list(texts),
        "roles": list(roles),
        "tokens": {"embeddings": tokens},
        "spans": {"embeddings": spans},
        **fields.pop("display", {}),
    }
    total = math.fsum(scores)
    return Attribution(
        tensors={"embeddings": values},
        units=Units(labels, {"embeddings": index}, kind="word"),
        at_input=total + 0.5,
        at_baseline=0.5,
        residual=0.0,
        display=display,
        view=view,
        provenance={"method": "ig", "baseline": "pad"},
        **fields,
    )


def generated(tokens=(" Paris", ",", " of", " course"), prompt="The capital of France is"):
    """One attribution for each generated token; later words get exactly zero."""
    text = "".join(tokens)
    words = [found.start() for found in re.finditer(r"\S+", text)]
    results, place = [], 0
    for number, token in enumerate(tokens):
        start = place + len(token) - len(token.lstrip())
        place += len(token)
        before = [float(number + 1)] * len(prompt.split())
        scores = [*before, *(-0.5 * (number + 1) if word < start else 0.0 for word in words)]
        display = {
            "explained": f"log-probability of {token!r}",
            "generated": {"tokens": list(tokens), "explained": [number, number + 1]},
        }
        results.append(made([prompt, text], scores, ("prompt", "generated"), display=display))
    return results


def drawn(html):
    """The words of a fragment with the notes, strengths and signs that they carry."""
    pattern = r'<span class="w([^"]*)"(?: style="--v:([\d.]+)")?( tabindex="0")? data-n="([^"]*)">'
    return [
        {"sign": kind.split()[:1], "strength": float(v or 0), "stop": bool(stop), "note": note}
        for kind, v, stop, note in re.findall(pattern, html)
    ]


# -- the text -------------------------------------------------------------------------------------


def test_white_space_and_words_stand_as_they_were_written():
    text = "  A dull\tfilm,\r\n\n   with  no plot \n"
    [section] = reading(made([text]))
    assert "".join(piece.text for piece in section.pieces) == text.replace("\r\n", "\n")
    assert [p.text for p in section.pieces if p.units] == text.split()
    html = heat_map(made([text]))
    inside = re.search(r'<div class="text" dir="auto">(.*?)</div>', html, re.S)[1]
    assert re.sub("<[^>]*>", "", inside) == text.replace("\r\n", "\n")


@given(
    st.text(max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), min_size=1, max_size=8),
)
def test_a_reading_loses_no_character_and_no_unit(text, places):
    """Whatever the spans, in any order and overlapping; else the units' labels are drawn."""
    spans = [[0, start, start + length] for start, length in places]
    index = torch.arange(len(spans))
    result = replace(
        made([text], unit="(?!)"),
        tensors={"embeddings": torch.ones(len(spans), 1)},
        units=Units([f"u{i}" for i in index.tolist()], {"embeddings": index}),
        display={"texts": [text], "roles": ["text"], "spans": {"embeddings": spans}},
    )
    [section] = reading(result)
    shown = "".join(piece.text for piece in section.pieces)
    assert {u for piece in section.pieces for u in piece.units} == {*index.tolist()}
    assert shown == " ".join(result.units.labels) or shown.replace("\n", "") == legible(
        text
    ).replace("\n", "")


def test_several_texts_stand_under_their_roles_with_their_sums():
    result = made(["who came?", "Ann came late"], [1, 2, -3, 4, 5.5], ("question", "context"))
    question, context = reading(result)
    assert (question.role, context.role) == ("question", "context")
    assert (list(question.units), list(context.units)) == ([0, 1], [2, 3, 4])
    html = heat_map(result)
    assert "question<span>in sum +3</span>" in html
    assert "context<span>in sum +6.5</span>" in html
    assert line(result) == ("question: who[+1] came?[+2]\ncontext: Ann[-3] came[+4] late[+5.5]")


def test_parts_of_one_character_are_drawn_once_with_their_sum():
    """Byte-level tokens of an emoji share its span."""
    result = made(["fine 😀"], [1.0, 0.0])
    index = torch.tensor([-1, 0, 1, 2, 3])
    pieces = replace(
        result,
        tensors={"embeddings": torch.tensor([[0.0], [1.0], [0.5], [-0.25], [2.0]])},
        units=Units(["fine", "ð", "Ł", "ĺ"], {"embeddings": index}, kind="token"),
        display={
            **result.display,
            "spans": {"embeddings": [None, [0, 0, 4], [0, 5, 6], [0, 5, 6], [0, 5, 6]]},
        },
    )
    [section] = reading(pieces)
    assert [(p.text, p.units) for p in section.pieces if p.units] == [
        ("fine", (0,)), ("😀", (1, 2, 3)),
    ]  # fmt: skip
    assert "+2.25 (3 tokens: +0.5, −0.25, +2)" in heat_map(pieces)


def test_regrouped_units_are_drawn_over_what_they_cover():
    result = made(["A film. No plot."], [1, 2, -3, -4])
    index = result.units.index["embeddings"].clone()
    index[index >= 0] = index[index >= 0] // 2
    sentences = replace(
        result, units=Units(["A film.", "No plot."], {"embeddings": index}, kind="sentence")
    )
    [section] = reading(sentences)
    assert [p.text for p in section.pieces if p.units] == ["A film.", "No plot."]
    assert [word["note"] for word in drawn(heat_map(sentences))] == ["+3", "−7"]


@pytest.mark.parametrize(
    "display",
    [
        {},
        {"tokens": ["[CLS]", "a", "dull", "film"], "explained": "x"},
        {"texts": ["a dull film"]},
        {"texts": ["a"], "spans": {"embeddings": [None, [0, 0, 1], [0, 2, 6], [0, 7, 11]]}},
        {"texts": ["a dull film"], "spans": {"embeddings": [None, [3, 0, 1], None, "?"]}},
        {"texts": 3, "spans": [], "roles": None, "generated": "?"},
    ],
)
def test_without_a_known_text_the_units_stand_in_order(display):
    result = replace(made(["a dull film"], [1, -2, 0.5]), display=display)
    [section] = reading(result)
    assert "".join(piece.text for piece in section.pieces) == "a dull film"
    assert [word["note"] for word in drawn(result.to_html())] == ["+1", "−2", "+0.5"]
    assert line(result) == "a[+1] dull[-2] film[+0.5]"


def test_a_text_in_windows_is_drawn_once():
    """Two windows of three tokens share one; the second is one token short."""
    windows = [[1, 2], [2, 3], [4, -1]]
    index = torch.tensor([[0, 1], [1, 2], [3, -1]])
    result = made(["a dull film !"], [0.0] * 4)
    result = replace(
        result,
        tensors={"embeddings": torch.tensor([[1.0, 2.0], [0.5, 4.0], [-8.0, 0.0]])},
        units=Units(result.units.labels, {"embeddings": index}, kind="word"),
        display={**result.display, "windows": windows},
    )
    [section] = reading(result)
    assert "".join(piece.text for piece in section.pieces) == "a dull film !"
    assert [word["note"] for word in drawn(heat_map(result))] == ["+1", "+2.5", "+4", "−8"]


def test_a_unit_without_tokens_takes_no_place():
    result = made(["a film"], [1.0, 2.0])
    more = replace(result, units=Units(["a", "film", "rest"], result.units.index, kind="span"))
    [section] = reading(more)
    assert [p.units for p in section.pieces if p.units] == [(0,), (1,)]


def test_a_loaded_result_has_the_same_picture(tmp_path):
    result = made(["who came?", "Ann\n came"], roles=("question", "context"))
    again = Attribution.load(result.save(tmp_path / "a.safetensors"))
    assert heat_map(again) == heat_map(result)
    assert ig_text.terminal(again).plain == ig_text.terminal(result).plain


# -- the numbers ----------------------------------------------------------------------------------


def test_every_word_tells_its_number_and_its_error():
    result = made(
        ["a dull great film"],
        [0.0, -1.23456, 0.61728, 1e-5],
        uncertainty=torch.tensor([0.0, 0.01, 0.002, math.nan]),
        spread=torch.tensor([0.0, 0.3, 0.2, math.nan]),
    )
    words = drawn(heat_map(result))
    assert [word["note"] for word in words] == [
        "0 ± 0 spread 0", "−1.235 ± 0.01 spread 0.3", "+0.6173 ± 0.002 spread 0.2", "+1e-05",
    ]  # fmt: skip
    assert [word["sign"] for word in words] == [[], ["n"], ["p"], []]
    assert [word["strength"] for word in words] == [0, 1, 0.5, 0]


def test_what_is_no_number_is_said_and_not_coloured():
    words = drawn(heat_map(made(["a dull film"], [math.nan, -2.0, math.inf])))
    assert [word["note"] for word in words] == ["not a number", "−2", "+inf"]
    assert [word["sign"] for word in words] == [[], ["n"], []]


def test_all_zeros_have_no_colour_and_say_so():
    html = heat_map(made(["a film"], [0.0, 0.0]))
    assert "every number is 0" in html
    assert all(word["sign"] == [] and word["strength"] == 0 for word in drawn(html))


def test_an_integral_that_did_not_converge_is_announced_before_the_text():
    html = heat_map(made(["a film"], status="budget"))
    assert 0 < html.index("Careful: budget") < html.index('<div class="text"')
    for status in ("converged", "noise_floor", "one_shot"):
        assert "Careful" not in heat_map(made(["a film"], status=status))


def test_the_facts_stand_beneath():
    html = heat_map(made(["a film"], [1.5, 0.5]))
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html))
    assert facts["F(input)"] == "2.5" and facts["F(baseline)"] == "0.5"
    assert facts["difference"] == "2" and facts["baseline"] == "pad"
    assert facts["status"].startswith("converged (")
    assert "<strong>good (predicted) minus bad</strong>" in html


def test_the_strongest_words_are_named_and_all_stand_in_a_table():
    html = heat_map(made(["a b c d"], [1.0, -3.0, 0.0, 2.0]))
    named = re.findall(r"most</dt><dd>(.*?)</dd>", html)
    assert [re.sub("<[^>]*>", "", one) for one in named] == ["d +2 · a +1", "b −3"]
    rows = re.findall(r'<th scope="row"><bdi>(.*?)</bdi></th><td class="number">(.*?)</td>', html)
    assert rows == [("b", "−3"), ("d", "+2"), ("a", "+1"), ("c", "0")]


def test_a_long_text_stays_small_and_has_few_stops():
    text = " ".join(f"word{i}" for i in range(2000))
    html = heat_map(made([text]))
    words = drawn(html)
    assert len(words) == 2000
    assert sum(word["stop"] for word in words) == MOST_STOPS
    assert len(html) < 220_000
    assert "The strongest 200 of 2000 words" in html


def test_beyond_the_limit_words_are_counted_and_summed(monkeypatch):
    monkeypatch.setattr("ig_text.view.heat.MOST_PIECES", 3)
    html = heat_map(made(["a b c d"], [1.0, 2.0, 3.0, 4.5]))
    assert "and 2 more, together +7.5" in html


# -- what generated text adds ---------------------------------------------------------------------


def test_the_explained_token_is_boxed_and_what_follows_is_grey():
    _, second, *_ = generated((" New", "foundland", " is", " cold"))
    html = heat_map(second)
    assert re.findall(r"<mark>.*?</mark>", html)[0].count("boxed")
    [boxed] = re.findall(r'<mark><span class="w[^>]*>([^<]*)</span></mark>', html)
    assert boxed == "foundland"
    later = re.findall(r'<span class="w[^"]* later"[^>]*>([^<]*)<', html)
    assert later == ["is", "cold"]


def test_parts_of_a_character_are_boxed_as_that_character():
    """Byte-level tokens of an emoji are no text of their own."""
    lost = [" a", "\ufffd", "\ufffd", " b", "</s>"]
    silent = [" a", " 😀", "", " b", "</s>"]
    places = [(1, "😀"), (2, "😀"), (3, "b"), (4, "&lt;/s&gt;")]
    for tokens, (place, boxed) in itertools.product((lost, silent), places):
        display = {"generated": {"tokens": tokens, "explained": [place, place + 1]}}
        result = made(["go", " a 😀 b"], None, ("prompt", "generated"), display=display)
        text = heat_map(result).rpartition("generated<span>")[2]
        assert re.findall(r"<mark><span[^>]*>([^<]*)</span></mark>", text) == [boxed]


@pytest.mark.parametrize("explained", [None, [1], [0, 9], [1, 1], ["0", "1"], [-1, 1]])
def test_a_damaged_range_of_explained_tokens_boxes_nothing(explained):
    display = {"generated": {"tokens": [" on", "</s>"], "explained": explained}}
    result = made(["go", " on"], None, ("prompt", "generated"), display=display)
    assert "<mark>" not in heat_map(result)
    with pytest.raises(InputError, match="generated tokens"):
        ig_text.matrix([result])


def test_an_end_of_text_that_the_text_does_not_show_is_boxed_behind_it():
    result = made(
        ["go", " on"], [1.0, 2.0], ("prompt", "generated"),
        display={"generated": {"tokens": [" on", "</s>"], "explained": [1, 2]}},
    )  # fmt: skip
    assert '<mark><span class="fixed">&lt;/s&gt;</span></mark></div>' in heat_map(result)


# -- nothing steers the reader's machine ----------------------------------------------------------


def test_texts_roles_and_facts_are_shown_as_text():
    result = made([HOSTILE, HOSTILE], roles=(HOSTILE, HOSTILE), status="failed", reason=HOSTILE)
    result = replace(result, display={**result.display, "explained": HOSTILE})
    pair = ig_text.comparison(result, result, names=(HOSTILE, HOSTILE))
    results = [
        replace(one, display=poisoned(one.display), provenance={"baseline": HOSTILE})
        for one in generated()
    ]
    table = ig_text.matrix(results)
    for html in (result.to_html(), pair.to_html(), table.to_html()):
        assert "<img" not in html and "&lt;img" in html
        assert not set("\x00\x1b\u202e") & set(html)
    for text in (result.to_text(), pair.to_text(), table.to_text(), repr(pair),
                 ig_text.terminal(result).plain):  # fmt: skip
        assert not set("\x00\x1b\u202e") & set(text)


def poisoned(value):
    """JSON values with every text but the roles replaced."""
    if isinstance(value, str):
        return value if value in ("prompt", "generated") else HOSTILE
    if isinstance(value, dict):
        return {key: poisoned(part) for key, part in value.items()}
    return [poisoned(part) for part in value] if isinstance(value, list) else value


def test_joiners_of_letters_and_emoji_stay():
    assert legible(FAMILY) == FAMILY and legible("می‌روم") == "می‌روم"
    assert legible("a\u200bb\u2066\ufeff\ud800\ufffe") == "a\ufffdb\ufffd\ufffd\ufffd\ufffd"
    assert FAMILY in heat_map(made([WIDE_TEXT]))


# -- the terminal ---------------------------------------------------------------------------------


def printed(attribution, **options):
    file = io.StringIO()
    ig_text.show(attribution, console=Console(file=file, width=100, **options))
    return file.getvalue()


@pytest.fixture
def four():
    return made(["great [bold]film[/] :smile: dull but"], [2.0, 0.3, 0.0, -2.0, -1.0])


def test_the_terminal_shows_signs_without_colour(four, monkeypatch):
    for plain in (printed(four), printed(four, force_terminal=True, no_color=True)):
        first = re.sub(r"\x1b\[[\d;]*m", "", plain).splitlines()[1]
        assert first == "great⁺⁺⁺ [bold]film[/]⁺ :smile: dull⁻⁻⁻ but⁻⁻"
    assert "\x1b" not in printed(four)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*[34]8;", printed(four, force_terminal=True))


def test_the_terminal_colours_by_sign_and_strength(four):
    shown = printed(four, force_terminal=True, color_system="truecolor")
    assert "\x1b[1;38;2;0;0;0;48;2;214;96;77mgreat" in shown
    assert "\x1b[38;2;214;96;77m[bold]film[/]" in shown
    assert "\x1b[1;38;2;0;0;0;48;2;67;147;195mdull" in shown
    assert "\x1b[1;38;2;67;147;195mbut" in shown


def test_the_terminal_tells_roles_sums_and_facts():
    told = printed(generated()[0])
    assert "prompt (in sum +5)" in told and "generated (in sum 0)" in told
    assert "«Paris»" in told and re.search(r"difference +5\n", told)
    assert "log-probability of ' Paris'" in told
    assert "Careful: budget" in printed(made(["a film"], status="budget"))


# -- the matrix -----------------------------------------------------------------------------------


def test_columns_of_a_matrix_sum_to_what_their_targets_have():
    results = generated()
    found = ig_text.matrix(results[::-1])
    assert found.tokens == [" Paris", ",", " of", " course"]
    assert found.units == ["The", "capital", "of", "France", "is", "Paris,", "of", "course"]
    assert torch.equal(found.values, torch.stack([r.scores for r in results], 1))
    assert torch.equal(found.values.sum(0), found.deltas)
    assert found.deltas.tolist() == [5.0, 9.0, 13.5, 16.0]
    assert {role: list(units) for role, units in found.blocks.items()} == {
        "prompt": [0, 1, 2, 3, 4], "generated": [5, 6, 7],
    }  # fmt: skip


def test_words_at_and_behind_a_token_are_empty_and_exactly_zero():
    found = ig_text.matrix(generated())
    assert found.later[:5].sum() == 0
    assert found.later[5:].int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert (found.values[found.later] == 0).all()
    html = found.to_html()
    assert html.count('<td class="none"></td>') == int(found.later.sum())
    assert len(re.findall(r'<td class="cell', html)) == found.values.numel() - int(
        found.later.sum()
    )


def test_a_later_word_that_is_not_zero_is_shown():
    results = generated()
    scores = torch.tensor([1.0, 1, 1, 1, 1, 0, 0, 0.75])
    values = results[0].tensors["embeddings"].clone()
    values[1:, 0] = scores
    results[0] = replace(results[0], tensors={"embeddings": values}, at_input=6.25)
    html = ig_text.matrix(results).to_html()
    assert "course → Paris: +0.75" in html


def test_the_cells_of_a_matrix_tell_exact_numbers_under_headers():
    html = ig_text.matrix(generated()).to_html()
    assert re.findall(r'data-n="(France → [^"]*)"', html) == [
        "France → Paris: +1", "France → ,: +2", "France → of: +3", "France → course: +4",
    ]  # fmt: skip
    assert html.count('<th scope="col"') == 5
    assert html.count('<th scope="row">') == 8 + 2 + 3
    assert "log-probability of &#39; Paris&#39;" in html
    sums = re.findall(r"<td>([^<]*)</td>", html.partition("<tfoot>")[2])
    assert sums[:8] == ["+5", "+9", "+13.5", "+16"] * 2


def test_a_matrix_of_slices_names_their_tokens():
    first, second, *_ = generated()
    display = {**first.display, "generated": {**first.display["generated"], "explained": [2, 4]}}
    found = ig_text.matrix([first, second, replace(first, display=display)])
    assert found.tokens == [" Paris", ",", " of course"]


def test_headings_show_white_space_and_parts_of_characters():
    results = generated((" Paris", "\n", " ", "", "."))
    lines = ig_text.matrix(results).to_text().splitlines()
    assert lines[0].split() == ["Paris", "↵", "␣", "…", "."]


def test_a_matrix_as_plain_text():
    lines = ig_text.matrix(generated()).to_text().splitlines()
    assert lines[0].split() == ["Paris", ",", "of", "course"]
    assert lines[1] == "prompt:"
    assert lines[5].split() == ["France", "+1.00", "+2.00", "+3.00", "+4.00"]
    assert lines[8].split() == ["Paris,", "-1.00", "-1.50", "-2.00"]
    assert lines[-3].split() == ["sum", "+5", "+9", "+13.5", "+16"]
    assert lines[-2].split() == ["difference", "+5", "+9", "+13.5", "+16"]


def test_a_wide_matrix_goes_on_beneath_and_its_weak_words_share_a_row(monkeypatch):
    monkeypatch.setattr("ig_text.view.generation.MOST_ROWS", 3)
    found = ig_text.matrix(generated(tuple(f" t{i}" for i in range(20))))
    text = found.to_text()
    assert max(map(len, text.splitlines())) <= 100
    assert sum(f"t{i}" in text for i in range(20)) == 20
    assert "(2 others)" in text and "(17 others)" in text
    for role, units in found.blocks.items():
        rows = found.rows(role)
        assert len(rows) == 4
        sums = torch.tensor([row.values for row in rows], dtype=torch.float64).sum(0)
        assert torch.equal(sums, found.values[list(units)].sum(0))
    assert 'class="matrix wide"' in found.to_html()


def test_a_matrix_is_drawn_with_empty_cells_left_out():
    pytest.importorskip("matplotlib")
    found = ig_text.matrix(generated())
    prompt, generation, _ = found.plot().axes
    assert prompt.images[0].get_array().shape == (5, 4)
    drawn_values = generation.images[0].get_array()
    assert torch.equal(torch.tensor(drawn_values.mask), found.later[5:])
    assert generation.images[0].get_clim() == (-4.0, 4.0) == prompt.images[0].get_clim()
    assert [label.get_text() for label in prompt.get_yticklabels()][3] == "France"


def test_a_matrix_says_which_columns_did_not_converge():
    results = generated()
    results[2] = replace(results[2], status="budget")
    assert (
        "1 of 4 columns did not reach the tolerance, &#39;of&#39;;"
        in ig_text.matrix(results).to_html()
    )
    assert "Careful" not in ig_text.matrix(generated()).to_html()


def test_a_matrix_refuses_what_is_no_generation():
    with pytest.raises(InputError, match="got none"):
        ig_text.matrix([])
    with pytest.raises(InputError, match=r"targets='each'.*good"):
        ig_text.matrix([made(["a film"])])
    results = generated()
    with pytest.raises(InputError, match="same token, number 0 ' Paris'"):
        ig_text.matrix([results[0], *results])
    other = generated(prompt="One capital of France is")
    with pytest.raises(InputError, match=r"same units.*8 words, 8 words"):
        ig_text.matrix([results[0], other[1]])


# -- of models ------------------------------------------------------------------------------------


VOCABULARY = ["<pad>", "</s>", "<unk>", "the", "city", "of", "light", "is", "paris", "indeed"]


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(VOCABULARY)}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_a_language_model_is_drawn_whole(tokenizer, kind):
    """Columns sum to the log-probabilities' differences; no token depends on later ones."""
    import transformers

    torch.manual_seed(0)
    common = {
        "vocab_size": len(VOCABULARY),
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 1,
    }
    if kind == "decoder":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=1, n_head=2, n_positions=32, initializer_range=0.5, **common
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.BartConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.5,
            max_position_embeddings=32, decoder_start_token_id=1, **common,
        )  # fmt: skip
        model = transformers.BartForConditionalGeneration(config)
    results = ig.attribute(
        model.eval().double(), "the city of light", generated=" is paris indeed",
        targets="each", tokenizer=tokenizer, tol=1e-3,
    )  # fmt: skip
    found = ig_text.matrix(results)
    written = [token.strip() for token in found.tokens]
    assert written[:3] == ["is", "paris", "indeed"]
    [source, generation] = found.blocks.values()
    assert [found.units[unit] for unit in source] == ["the", "city", "of", "light"]
    assert torch.allclose(found.values.sum(0), found.deltas, rtol=0, atol=2e-3)
    assert (found.values[found.later] == 0).all() and found.later.any()
    assert [found.units[unit] for unit in generation][:2] == ["is", "paris"]
    assert found.later[generation[0]].tolist()[:2] == [True, False]
    assert float(found.values[generation[0], 1].abs()) > 0
    html = results[1].to_html()
    [boxed] = re.findall(r"<mark><span[^>]*>([^<]*)</span></mark>(?!:)", html.partition("<h4>")[2])
    assert boxed == "paris"
    pair = ig_text.comparison(results[0], results[1])
    assert pair.names == tuple(result.display["explained"] for result in results[:2])
    assert pair.differences.tolist() == (found.values[:, 1] - found.values[:, 0]).tolist()


# -- the comparison -------------------------------------------------------------------------------


def test_correlations_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    text = " ".join("abcdefghij")
    one = made([text], [3, 1, 1, 0, -2, 0, 5, 1, 0.5, 2])
    other = made([text], [2, 1, 0, 0, -1, 1, 4, 1, 1, -2])
    found = ig_text.comparison(one, other)
    a, b = one.scores.numpy(), other.scores.numpy()
    assert found.pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_a_constant_attribution_has_no_correlation():
    found = ig_text.comparison(made(["a b c"], [1, 1, 1]), made(["a b c"], [1, 2, 3]))
    assert math.isnan(found.pearson) and math.isnan(found.spearman)
    assert "not defined" in found.to_text() and "not defined" in found.to_html()


def test_signs_differ_only_beyond_the_estimated_errors():
    text = ["a b c d"]
    one = made(text, [1.0, -1.0, 0.5, 0.0], uncertainty=torch.tensor([0.1, 0.1, 0.6, 0.0]))
    other = made(text, [-1.0, -1.0, -0.5, 2.0])
    found = ig_text.comparison(one, other)
    assert found.flips == [0]
    assert found.differences.tolist() == [-2.0, 0.0, -1.0, 2.0]
    assert found.most_different() == [0, 3, 2]
    assert "1 of 4 words (29 % of the magnitudes)" in found.to_text()
    html = found.to_html()
    assert len(re.findall(r'<span class="w[^"]* flag"', html)) == 2
    assert html.count("<td>differs</td>") == 1


def test_a_comparison_has_one_scale_and_both_numbers():
    one, other = made(["a dull film"], [1.0, -4.0, 0.5]), made(["a dull film"], [1.0, -2.0, 2.0])
    other = replace(other, provenance={"method": "ig", "baseline": "mask"})
    found = ig_text.comparison(one, other)
    assert found.names == ("baseline pad", "baseline mask")
    words = drawn(found.to_html())
    assert [word["strength"] for word in words] == [0.25, 1, 0.125, 0.25, 0.5, 0.5]
    assert words[1]["note"] == words[4]["note"] == "baseline pad: −4; baseline mask: −2"
    [row] = re.findall(r"<bdi>dull</bdi></th>(.*?)</tr>", found.to_html())
    assert re.findall(r">([^<]+)<", row) == ["−4", "−2", "+2"]
    assert re.search(r"dull +-4 +-2 +\+2\n", found.to_text())


def test_a_comparison_of_different_numbers_says_so():
    one, other = generated()[:2]
    found = ig_text.comparison(one, other, names=("first", "second"))
    assert "they explain different numbers" in found.to_html()
    assert found.to_text().startswith("log-probability of ' Paris' and log-probability of ','")


def test_a_comparison_refuses_other_units():
    one = made(["a dull film"])
    with pytest.raises(InputError, match=r"3 words, 2 words.*\.by\('word'\)"):
        ig_text.comparison(one, made(["a film"]))
    with pytest.raises(InputError, match="same text"):
        ig_text.comparison(one, made(["a  dull film"]))
    with pytest.raises(InputError, match="names must be two texts"):
        ig_text.comparison(one, one, names=("only",))


def test_pages_are_written(tmp_path):
    for found in (ig_text.matrix(generated()), ig_text.comparison(*generated()[:2])):
        page = found.to_html(tmp_path / "x.html")
        assert (tmp_path / "x.html").read_text(encoding="utf-8") == page
        assert found._repr_html_() in page and "<html" not in found._repr_html_()
        with pytest.raises(StorageError):
            found.to_html(tmp_path)


# -- in a browser ---------------------------------------------------------------------------------


LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages that the browser opens, by name."""
    folder = tmp_path_factory.mktemp("pages")
    long = " ".join(f"word{i}" + "\n" * (i % 90 == 89) for i in range(2000))
    texts = ["who <b>came</b>?\n\n  & when", WIDE_TEXT + LONG_WORD]
    text = made(texts, roles=("question", "context"), status="budget")
    results = generated(tuple(f" t{i}" for i in range(20)))
    other = replace(text, tensors={"embeddings": text.tensors["embeddings"].flip(1) - 0.4})
    found = {
        "text": text,
        "long": made([long]),
        "later": generated()[1],
        "matrix": ig_text.matrix(generated()),
        "wide": ig_text.matrix(results),
        "comparison": ig_text.comparison(text, other, names=("one", "other")),
        "hostile": made([HOSTILE + "</style><script>document.title='x'</script>"]),
    }
    for name, one in found.items():
        one.to_html(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in found}


NAMES = ["text", "long", "later", "matrix", "wide", "comparison", "hostile"]

CONTRASTS = """
(() => {
  const channels = css => {
    const found = css.match(/[\\d.]+/g).map(Number);
    return found.length > 3 ? found : [...found, 1];
  };
  const over = (top, ground) => [0, 1, 2].map(i => top[i] * top[3] + ground[i] * (1 - top[3]));
  const ground = element => {
    const own = channels(getComputedStyle(element).backgroundColor);
    return own[3] >= 1 ? own : over(own, element.parentElement ? ground(element.parentElement)
                                                             : [255, 255, 255]);
  };
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(c => (c /= 255) <= 0.04045
      ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll('.ig-text, .ig-text *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || element.tagName === 'STYLE') continue;
    const pair = [light(channels(getComputedStyle(element).color)), light(ground(element))];
    pair.sort((a, b) => a - b);
    found.push([(pair[1] + 0.05) / (pair[0] + 0.05), element.className + ' '
                + element.tagName + ' ' + element.textContent.slice(0, 20)]);
  }
  found.sort((a, b) => a[0] - b[0]);
  return [found.length, ...found[0]];
})()
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(browser, pages, name):
    tab = browser.open(pages[name])
    assert tab.requested == [pages[name].as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("document.scripts.length + document.images.length") == 0
    assert tab.evaluate("document.title") != "x"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_letters_stand_out_from_their_ground(browser, pages, name, dark):
    """WCAG 2.1, 1.4.3: a contrast of 4.5 to 1 at least, of every text on the page."""
    tab = browser.open(pages[name], dark=dark)
    count, least, where = tab.evaluate(CONTRASTS)
    assert count > 10
    assert least >= 4.5, where


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_wider_than_its_window(browser, pages, name, width):
    tab = browser.open(pages[name], width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate("[...document.querySelectorAll('details')].forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["text", "matrix", "comparison"])
def test_words_in_tables_are_not_broken_into_letters(browser, pages, name):
    tab = browser.open(pages[name], width=400)
    tab.evaluate("[...document.querySelectorAll('details')].forEach(d => d.open = true)")
    lines = tab.evaluate(
        "[...document.querySelectorAll('th bdi')].filter(e => /^[ -~]{1,12}$/.test(e.textContent))"
        ".map(e => e.getClientRects().length)"
    )
    assert len(lines) > 3 and set(lines) == {1}


def test_text_in_the_page_is_the_text_that_was_written(browser, pages):
    tab = browser.open(pages["text"])
    shown = tab.evaluate("[...document.querySelectorAll('.text')].map(e => e.innerText)")
    assert shown == ["who <b>came</b>?\n\n  & when", WIDE_TEXT + LONG_WORD]
    shown = json.dumps(tab.evaluate("getComputedStyle(document.querySelector('.text')).whiteSpace"))
    assert "pre-wrap" in shown


def test_arabic_is_set_from_right_to_left(browser, pages):
    tab = browser.open(pages["text"])
    first, second, other = tab.evaluate(
        "['هذا', 'الفيلم', 'fine'].map(t => [...document.querySelectorAll('.text .w')]"
        ".find(w => w.textContent === t).getBoundingClientRect().left)"
    )
    assert first > second > other


NOTE = """(() => {
  const style = getComputedStyle(document.activeElement, '::after');
  return [document.activeElement.textContent, style.content, style.position];
})()"""


def test_the_tabulator_key_reaches_every_word_and_shows_its_number(browser, pages):
    tab = browser.open(pages["later"])
    words = drawn(pages["later"].read_text(encoding="utf-8"))
    before = tab.evaluate("getComputedStyle(document.querySelector('.w'), '::after').content")
    assert before == "none"
    for word in words:
        tab.press("Tab", 9)
        _, content, position = tab.evaluate(NOTE)
        assert (content, position) == (f'"{word["note"]}"', "fixed")


@pytest.mark.parametrize("name", ["later", "matrix", "wide", "comparison"])
def test_a_number_shows_under_the_mouse_inside_the_window(browser, pages, name):
    tab = browser.open(pages[name], width=400, height=900)
    x, y, note = tab.evaluate(
        "(() => { const w = document.querySelector('.w.p, .cell.p'); w.scrollIntoView({block:"
        " 'center', inline: 'end'}); const r = w.getClientRects()[0];"
        " return [r.left + r.width / 2, r.top + r.height / 2, w.dataset.n]; })()"
    )
    tab.hover(x, y)
    hovered = "getComputedStyle(document.querySelector('[data-n]:hover'), '::after')"
    assert tab.evaluate(f"{hovered}.content") == f'"{note}"'
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_signs_are_told_by_lines_above_and_below(browser, pages):
    tab = browser.open(pages["later"])
    up, down = tab.evaluate(
        "['.w.p', '.w.n'].map(s => getComputedStyle(document.querySelector(s)).boxShadow)"
    )
    assert "0px 2px 0px" in up and "0px -2px 0px" in down


def test_both_maps_of_a_comparison_break_their_lines_alike(browser, pages):
    tab = browser.open(pages["comparison"], width=900)
    one, other = tab.evaluate(
        "[1, 2].map(c => [...document.querySelectorAll('.pair > div:nth-child(' + c + ') .w')].map("
        "w => { const r = w.getBoundingClientRect(), p = w.closest('.text')"
        ".getBoundingClientRect(); return [r.left - p.left, r.top - p.top]; }))"
    )
    assert len(one) > 10
    assert torch.allclose(torch.tensor(one), torch.tensor(other), atol=0.6)


def test_on_paper_a_page_is_light_and_keeps_its_colours(browser, pages):
    tab = browser.open(pages["later"], dark=True)
    tab.media("print")
    ground, adjust = tab.evaluate(
        "[getComputedStyle(document.querySelector('.ig-text')).backgroundColor,"
        " getComputedStyle(document.querySelector('.w.p')).printColorAdjust]"
    )
    assert (ground, adjust) == ("rgb(255, 255, 255)", "exact")


@pytest.mark.parametrize(
    ("notebook", "ground"),
    [
        ('data-jp-theme-light="false"', "rgb(13, 17, 23)"),
        ('data-jp-theme-light="true"', "rgb(255, 255, 255)"),
        ('class="vscode-dark"', "rgb(13, 17, 23)"),
    ],
)
def test_in_a_notebook_the_theme_of_the_notebook_decides(browser, tmp_path, notebook, ground):
    cell = made(["a dull film"])._repr_html_()
    page = tmp_path / "cell.html"
    page.write_text(f"<!doctype html><body {notebook}><div>{cell}</div>", encoding="utf-8")
    for dark in (False, True):
        tab = browser.open(page, dark=dark)
        shown = "getComputedStyle(document.querySelector('.ig-text')).backgroundColor"
        assert tab.evaluate(shown) == ground
        assert tab.evaluate(CONTRASTS)[1] >= 4.5
