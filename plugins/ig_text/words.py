"""Words, tokens, spans and sentences: the units of a text, put together from its tokens."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ig_core import Attribution, InputError, Units

Spans = Sequence["tuple[int, int, int] | Sequence[int] | None"]

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which are written without spaces."""

SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+|\n\s*\n"
)
"""Where a sentence ends; abbreviations are not known."""


def numbered(
    texts: Sequence[str], spans: Spans, word_ids: Sequence[int | None] | None = None
) -> list[int]:
    """The number of the word that each token belongs to, -1 for tokens without a span.

    A word begins where the tokenizer's own word changes, after white space, and around letters
    that are written without spaces, but never inside a character that several tokens share.
    Tokens of white space alone belong to the word behind them.
    """
    words: list[int] = []
    count = -1
    before: tuple[int, int | None] | None = None  # text and tokenizer's word of the last token
    begin = last = 0  # where the word so far begins and ends
    for place, span in enumerate(spans):
        if span is None:
            words.append(-1)
            before = None
            continue
        text, start, end = span
        own = (text, None if word_ids is None else word_ids[place])
        if before is not None and before[0] == text:
            shared = start < last and start < end
            blank = not texts[text][begin:last].strip()
            same = before == own and _one_word(texts[text], last, start, end)
            goes_on = shared or blank or same
        else:
            goes_on = False
        if not goes_on:
            count, begin, last = count + 1, start, end
        words.append(count)
        before, last = own, max(end, last)
    return words


def counted(words: Sequence[int]) -> list[int]:
    """Words counted anew from 0, in the order in which they come."""
    order = {word: i for i, word in enumerate(dict.fromkeys(w for w in words if w >= 0))}
    return [order.get(word, -1) for word in words]


def _one_word(text: str, last: int, start: int, end: int) -> bool:
    """Whether a token from start to end goes on with the word that ends at ``last``."""
    if any(c.isspace() for c in text[last:start]) or text[start:end][:1].isspace():
        return False
    return not (UNSPACED.match(text[start:end]) or UNSPACED.match(text[last - 1 : last]))


def units(display: Mapping[str, Any]) -> Units:
    """The words of an example, as its display tells them."""
    return _grouped(display, "words")


def regrouped(attribution: Attribution, by: Any) -> Units:
    """The units of a text in another grouping.

    Args:
        attribution: of a text.
        by: ``"word"``, ``"token"``, ``"sentence"``, or a list of character ranges
            ``(start, end)`` of the first text, or ``(text, start, end)`` of another. Tokens that
            touch several ranges belong to the first; what lies in none belongs to no unit.

    Raises:
        InputError: another grouping, or the tokenizer does not tell where its tokens stand.
    """
    display = attribution.display
    named = by if isinstance(by, str) else ""
    if named in ("word", "words"):
        return _grouped(display, "words")
    if named in ("token", "tokens"):
        return _grouped(display, "tokens")
    texts, spans = display["texts"], display["spans"]
    if not any(span for own in spans.values() for span in own):
        raise InputError(f"by={by!r} needs a tokenizer that tells where its tokens stand")
    if named in ("sentence", "sentences"):
        ranges = [(i, *ends) for i, text in enumerate(texts) for ends in _sentences(text)]
        return _ranged(display, ranges, "sentence")
    return _ranged(display, _checked(by, texts), "span")


def _grouped(display: Mapping[str, Any], kind: str) -> Units:
    """Words, or tokens, in reading order: one after another, input by input."""
    texts, spans, words = display["texts"], display["spans"], display["words"]
    labels: list[list[tuple[int, int, int]]] = []
    spelled: list[str] = []
    number: dict[Hashable, int] = {}
    index = {}
    for name, own in words.items():
        places = []
        rows = zip(own, spans[name], display["tokens"][name], strict=True)
        for place, (word, span, token) in enumerate(rows):
            if word < 0:
                places.append(-1)
                continue
            key = name, (word if kind == "words" else place)
            if key not in number:
                number[key] = len(number)
                labels.append([])
                spelled.append(token)
            places.append(number[key])
            if span is not None:
                labels[number[key]].append(tuple(span))
        index[name] = _placed(display, places)
    named = [_label(texts, own) or token for own, token in zip(labels, spelled, strict=True)]
    located = any(labels)
    if kind == "tokens":
        named = spelled
    return Units(named, index, kind="word" if kind == "words" and located else "token")


def _label(texts: Sequence[str], spans: Sequence[tuple[int, int, int]]) -> str:
    if not spans:
        return ""
    start, end = min(s[1] for s in spans), max(s[2] for s in spans)
    return str(texts[spans[0][0]][start:end]).strip()


def _ranged(display: Mapping[str, Any], ranges: Sequence[tuple[int, int, int]], kind: str) -> Units:
    def unit(span: Sequence[int] | None) -> int:
        if span is None:
            return -1
        text, start, end = span
        end = max(end, start + 1)
        touched = (i for i, (t, a, b) in enumerate(ranges) if t == text and start < b and end > a)
        return next(touched, -1)

    index = {
        name: _placed(display, [unit(span) for span in own])
        for name, own in display["spans"].items()
    }
    labels = [str(display["texts"][t][a:b]).strip() for t, a, b in ranges]
    return Units(labels, index, kind=kind)


def _sentences(text: str) -> list[tuple[int, int]]:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if not ends or text[ends[-1] :].strip():
        ends.append(len(text))
    return [(a, b) for a, b in zip([0, *ends], ends, strict=False) if text[a:b].strip()]


def _checked(by: Any, texts: Sequence[str]) -> list[tuple[int, int, int]]:
    if not isinstance(by, list) or not all(isinstance(r, tuple) for r in by) or not by:
        raise InputError(
            "by= is 'word', 'token', 'sentence' or a list of character ranges (start, end) "
            f"(got {by!r:.80})"
        )
    ranges = [(0, *r) if len(r) == 2 else r for r in by]
    for one in ranges:
        whole = len(one) == 3 and all(type(n) is int for n in one)
        inside = whole and 0 <= one[0] < len(texts) and 0 <= one[1] < one[2] <= len(texts[one[0]])
        if not inside:
            raise InputError(f"{one!r} is no range of characters of {list(texts)!r:.80}")
    return ranges


def _placed(display: Mapping[str, Any], places: Sequence[int]) -> Tensor:
    """The unit of every token; of a text in windows, of every token of every window."""
    index = torch.tensor([*places, -1], dtype=torch.long)
    if windows := display.get("windows"):
        return index[torch.tensor(windows)]  # -1, behind a window's end, belongs to no unit
    return index[:-1]
