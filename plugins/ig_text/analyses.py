"""Findings from the attributions of many texts: the words that speak for a class and against it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from ig_core import Analysis, Attribution, InputError, Table


@dataclass(frozen=True)
class WordScore:
    """One word's mean score in the texts of one class.

    ``count`` counts its occurrences and ``texts`` the texts that hold it; ``error`` is the
    standard error of the mean over the occurrences, NaN for a single one.
    """

    explained: str
    word: str
    count: int
    texts: int
    mean: float
    error: float


@dataclass(frozen=True, eq=False, kw_only=True)
class RankedWords:
    """The words of highest and of lowest mean score, by what was explained.

    ``highest`` and ``lowest`` hold at most k words of each class, the most extreme one first; no
    word is in both. ``texts`` counts the texts of each class, ``rare`` the words that were seen too
    rarely to be ranked, ``failed`` the texts that could not be explained.
    """

    highest: Sequence[WordScore]
    lowest: Sequence[WordScore]
    texts: dict[str, int]
    rare: int
    failed: int

    @property
    def rows(self) -> list[WordScore]:
        """All words: class by class, from the highest mean to the lowest."""
        return [
            row
            for explained in self.texts
            for rows in (self.highest, reversed(self.lowest))
            for row in rows
            if row.explained == explained
        ]

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        counted = ", ".join(f"{count} of {name}" for name, count in self.texts.items())
        notes = [f"texts: {counted}", f"words seen too rarely to be ranked: {self.rare}"]
        if self.failed:
            notes.append(f"texts that could not be explained: {self.failed}")
        columns = ["explained", "word", "count", "texts", "mean score", "standard error"]
        return Table(columns, [astuple(row) for row in self.rows], notes)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


class TopWords(Analysis):
    """Which words speak for a class, and which against it, over many texts.

    Units of the same spelling are put together, whatever the text. The texts of a class are those
    that the model put into it, whichever class was the runner-up; where a target was given, what
    was explained takes the place of the class. Scores are in the units of the explained number,
    and relative to the baseline.
    """

    name = "top-words"
    fits = ("text",)

    def find(self, attributions: Sequence[Attribution], **options: Any) -> RankedWords:
        """The ranked words; the options are ``k``, ``least`` and ``lower`` of :func:`top_words`."""
        return top_words(attributions, **options)


def top_words(
    attributions: Sequence[Attribution], *, k: int = 10, least: int = 2, lower: bool = True
) -> RankedWords:
    """The words of highest and of lowest mean score in attributions of many texts.

    Args:
        attributions: of texts; those with a score that is not finite are counted as failed.
        k: words at each end.
        least: occurrences that a word needs to be ranked.
        lower: put spellings together that differ in upper and lower case only.

    Raises:
        InputError: no word is left, or ``k`` or ``least`` is no whole number of at least 1.
    """
    for name, given in (("k", k), ("least", least)):
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise InputError(f"{name} must be a whole number of at least 1 (got {given!r})")
    known = [a for a in attributions if bool(a.scores.isfinite().all())]
    texts: dict[str, int] = {}
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for number, attribution in enumerate(known):
        explained = _explained(attribution)
        texts[explained] = texts.get(explained, 0) + 1
        for label, score in zip(attribution.units.labels, attribution.scores.tolist(), strict=True):
            found[explained, label.casefold() if lower else label].append((number, score))
    ranked = [_score(*key, seen) for key, seen in found.items() if len(seen) >= least]
    if not ranked:
        most = max(map(len, found.values()), default=0)
        raise InputError(
            f"no word is seen {least} times in {len(known)} explained texts (at most {most} "
            "times); pass more texts, or a smaller least="
        )
    highest, lowest = [], []
    for explained in texts:
        own = sorted((r for r in ranked if r.explained == explained), key=lambda r: -r.mean)
        highest += own[:k]
        lowest += own[k:][::-1][:k]
    return RankedWords(
        highest=highest,
        lowest=lowest,
        texts=texts,
        rare=len(found) - len(ranked),
        failed=len(attributions) - len(known),
    )


def _explained(attribution: Attribution) -> str:
    """The predicted class, without the runner-up; or what else was explained."""
    told = str(attribution.display.get("explained", "the output"))
    return told.partition(" (predicted) minus ")[0]


def _score(explained: str, word: str, seen: Sequence[tuple[int, float]]) -> WordScore:
    scores = np.array([score for _, score in seen])
    count = len(scores)
    error = float(scores.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    texts = len({number for number, _ in seen})
    return WordScore(explained, word, count, texts, float(scores.mean()), error)
