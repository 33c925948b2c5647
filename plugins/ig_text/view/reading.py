"""A Reading is the text as it was written, cut where its units begin and end."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ig_core import Attribution

JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Characters of the category format that letters and emoji need to look right."""

Range = tuple[int, int]

KEPT = f"\n\t{JOINERS}"


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that is drawn as one.

    ``units`` is empty for white space and for what does not move. Several units share a piece
    where tokens are parts of one character. ``marked`` says that this is what is explained,
    ``later`` that it stands behind it.
    """

    text: str
    units: tuple[int, ...] = ()
    marked: bool = False
    later: bool = False


@dataclass(frozen=True)
class Section:
    """One of the texts, with its role and the units that begin in it."""

    role: str
    pieces: Sequence[Piece]
    units: Sequence[int] = field(default=())


@dataclass(frozen=True)
class _Extent:
    """Where a unit lies: the characters ``start`` to ``end`` of one text."""

    text: int
    start: int
    end: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class Generation:
    """Generated tokens, and where they stand in text ``number`` (-1 if no text is known)."""

    tokens: Sequence[str]
    begin: int
    end: int
    number: int
    ranges: Sequence[Range | None]

    @property
    def explained(self) -> str:
        """The explained tokens as text."""
        return "".join(self.tokens[self.begin : self.end])

    @property
    def explained_range(self) -> Range | None:
        """The first and the last character of the explained tokens, if the text shows them."""
        known = [place for place in self.ranges[self.begin : self.end] if place is not None]
        return (known[0][0], known[-1][1]) if known else None


def reading(attribution: Attribution) -> Sequence[Section]:
    """The texts in reading order; the units' labels one after the other if texts are not known."""
    display = attribution.display
    texts = _texts(display.get("texts"))
    extents = _extents(attribution, texts)
    drawn = {unit for extent in extents for unit in extent.units}
    present = {u for index in attribution.units.index.values() for u in index.flatten().tolist()}
    if not drawn or drawn != present - {-1}:
        return [_labels(attribution)]
    roles = _texts(display.get("roles"))
    first = {unit: extent.text for extent in reversed(extents) for unit in extent.units}
    told = generation(display)
    mark = told.explained_range if told is not None else None
    sections = []
    for number, text in enumerate(texts):
        own = [extent for extent in extents if extent.text == number]
        inside = mark if told is not None and told.number == number else None
        pieces = [*_pieces(text, own, inside)]
        if told is not None and told.number == number and mark is None:
            pieces.append(Piece(legible(told.explained), marked=True))
        role = legible(roles[number]) if len(roles) == len(texts) else f"text {number + 1}"
        units = [unit for unit in sorted(first) if first[unit] == number]
        sections.append(Section(role, pieces, units))
    return sections


def alike(first: Attribution, second: Attribution) -> bool:
    """Whether two attributions are over the same units of the same texts."""
    one, other = first.units, second.units
    return (
        list(one.labels) == list(other.labels)
        and one.index.keys() == other.index.keys()
        and all(torch.equal(index, other.index[name]) for name, index in one.index.items())
        and first.display.get("texts") == second.display.get("texts")
    )


def told_units(*attributions: Attribution) -> str:
    """How many units of which kind each attribution has, for a message."""
    return ", ".join(f"{len(a.units)} {a.units.kind}s" for a in attributions)


def legible(text: str) -> str:
    """The text without what steers a terminal or turns the direction of writing.

    Line breaks become plain ones; tabs and the joiners of letters and emoji stay.
    """
    plain = text.replace("\r\n", "\n")
    return "".join(c if c in KEPT or _harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in plain)


def places(attribution: Attribution) -> Mapping[int, tuple[int, int]]:
    """The number of the text and the first character of each unit, where they are known."""
    extents = _extents(attribution, _texts(attribution.display.get("texts")))
    return {unit: (e.text, e.start) for e in reversed(extents) for unit in e.units}


def generation(display: Mapping[str, Any]) -> Generation | None:
    """The generated tokens and those of them that are explained; None if it is not about any."""
    told = display.get("generated")
    if not isinstance(told, Mapping):
        return None
    tokens, explained = _texts(told.get("tokens")), told.get("explained")
    if not isinstance(explained, list) or [*map(type, explained)] != [int] * 2:
        return None
    begin, end = explained
    if not 0 <= begin < end <= len(tokens):
        return None
    roles, texts = _texts(display.get("roles")), _texts(display.get("texts"))
    number = roles.index("generated") if "generated" in roles[: len(texts)] else -1
    ranges = _found(tokens, texts[number]) if number >= 0 else [None] * len(tokens)
    return Generation(tokens, begin, end, number, ranges)


def _found(tokens: Sequence[str], text: str) -> Sequence[Range | None]:
    """Where each token stands in the text, one after the other; parts of a character share it."""
    ranges: list[Range | None] = []
    lost: list[int] = []
    cursor = 0
    for place, token in enumerate([*tokens, ""]):
        core = token.strip() or token
        start = text.find(core, cursor) if place < len(tokens) else len(text)
        between = text[cursor:start].strip()
        if start < 0 or (between and not lost):
            lost.append(place)
            ranges.append(None)
            continue
        if between:
            begin = text.index(between, cursor)
            for missing in lost:
                ranges[missing] = (begin, begin + len(between))
        lost.clear()
        cursor = start + len(core)
        # What spells nothing is a further part of the character before it.
        ranges.append((start, cursor) if core else ranges[-1] if ranges else None)
    return ranges[: len(tokens)]


def _labels(attribution: Attribution) -> Section:
    pieces: list[Piece] = []
    for unit, label in enumerate(attribution.units.labels):
        pieces += [Piece(legible(label), (unit,)), Piece(" ")]
    return Section("", pieces[:-1], [*range(len(attribution.units))])


def _extents(attribution: Attribution, texts: Sequence[str]) -> Sequence[_Extent]:
    """What each unit covers, in reading order, without overlaps."""
    spans = attribution.display.get("spans")
    found = []
    for name, index in attribution.units.index.items():
        known = spans.get(name) if isinstance(spans, Mapping) else None
        if not isinstance(known, list):
            return []
        units = _of_tokens(index, len(known), attribution.display.get("windows"))
        for unit, span in zip(units, known, strict=False):
            if unit < 0 or span is None:
                continue
            if not _within(span, texts):
                return []
            start, end = _trimmed(texts[span[0]], span[1], span[2])
            found.append(_Extent(span[0], start, end, (unit,)))
    return _parted(sorted(found, key=lambda e: (e.text, e.start, e.end)))


def _of_tokens(index: Tensor, count: int, windows: Any) -> Sequence[int]:
    """The unit of each token; of a text in windows, by the windows that hold it."""
    if not windows:
        return index.tolist() if index.shape == (count,) else []
    units = [-1] * count
    for place, unit in zip(
        torch.tensor(windows).flatten().tolist(), index.flatten().tolist(), strict=True
    ):
        if 0 <= place < count:
            units[place] = unit
    return units


def _parted(extents: Sequence[_Extent]) -> Sequence[_Extent]:
    """Sorted extents without overlaps; one that has no character left joins its neighbour."""
    parted: list[_Extent] = []
    waiting: tuple[int, ...] = ()
    for extent in extents:
        last = parted[-1] if parted and parted[-1].text == extent.text else None
        start = max(extent.start, last.end) if last else extent.start
        if last and last.units == extent.units:
            parted[-1] = replace(last, end=max(last.end, extent.end))
        elif start < extent.end:
            units = tuple(dict.fromkeys(waiting + extent.units))
            parted.append(_Extent(extent.text, start, extent.end, units))
            waiting = ()
        elif last:
            parted[-1] = replace(last, units=tuple(dict.fromkeys(last.units + extent.units)))
        else:
            waiting += extent.units
    return parted


def _within(span: Any, texts: Sequence[str]) -> bool:
    """Whether a span is the number of a text and two places in it."""
    if not isinstance(span, list) or [*map(type, span)] != [int] * 3:
        return False
    text, start, end = span
    return 0 <= text < len(texts) and 0 <= start <= end <= len(texts[text])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without white space around it, unless it holds nothing else."""
    inside = text[start:end]
    if not inside.strip():
        return start, end
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


def _pieces(text: str, extents: Sequence[_Extent], mark: Range | None) -> Sequence[Piece]:
    """A text cut at the ends of its extents and of what is marked."""
    first, last = mark or (len(text), len(text))
    pieces = []
    cursor = 0
    for extent in [*extents, _Extent(0, len(text), len(text), ())]:
        for start, end, units in (
            (cursor, extent.start, ()),
            (extent.start, extent.end, extent.units),
        ):
            cuts = sorted({start, end, *(c for c in (first, last) if start < c < end)})
            for a, b in pairwise(cuts):
                marked = first <= a < last
                pieces.append(
                    Piece(legible(text[a:b]), units, marked, mark is not None and a >= last)
                )
        cursor = extent.end
    return pieces


def _harmless(character: str) -> bool:
    """Whether a character is visible or white space, as far as this Python knows it."""
    category = unicodedata.category(character)
    return category[0] != "C" or (category == "Cn" and (ord(character) & 0xFFFE) != 0xFFFE)


def _texts(value: Any) -> Sequence[str]:
    """A list of texts from a display, or nothing if it is something else."""
    known = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return value if known else ()
