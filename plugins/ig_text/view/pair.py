"""A Comparison: two attributions of one text, word by word on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ig_core import Attribution, InputError, clean, page, signed
from ig_text.view.heat import LONG, drawn, trust
from ig_text.view.marks import Numbers, Scale
from ig_text.view.pages import fragment
from ig_text.view.reading import alike, legible, reading, told_units

MOST_DIFFERENT = 10
"""Words that are listed, those of the largest difference."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two attributions over the same units, such as of two baselines or of two methods."""

    first: Attribution
    second: Attribution
    names: tuple[str, str]

    @property
    def differences(self) -> Float[Tensor, " units"]:
        """The second's scores minus the first's."""
        return self.second.scores - self.first.scores

    @property
    def pearson(self) -> float:
        """The linear correlation of the scores; NaN if one of them does not vary."""
        return _correlation(self.first.scores, self.second.scores)

    @property
    def spearman(self) -> float:
        """The correlation of the ranks of the scores, equal scores sharing their mean rank."""
        return _correlation(_ranks(self.first.scores), _ranks(self.second.scores))

    @property
    def flips(self) -> Sequence[int]:
        """The units whose two scores have opposite signs, each beyond its estimated error."""
        one, other = (_beyond_doubt(result) for result in (self.first, self.second))
        return (one * other < 0).nonzero().flatten().tolist()

    def most_different(self, count: int = MOST_DIFFERENT) -> Sequence[int]:
        """The units of largest difference, the largest first; none of difference 0."""
        size = self.differences.abs().nan_to_num(nan=0.0)
        order = size.argsort(descending=True, stable=True)[:count]
        return [unit for unit in order.tolist() if size[unit] > 0]

    def to_html(self, path: str | Path | None = None) -> str:
        """A self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page(" and ".join(self.names), self._repr_html_(), path=path)

    def to_text(self) -> str:
        """Plain text: how well they agree, and the words that differ most."""
        one, other = self.first.scores.tolist(), self.second.scores.tolist()
        told = dict.fromkeys(clean(trust(a)["explained"]) for a in (self.first, self.second))
        lines = [" and ".join(told), ""]
        lines += [f"{name:<12}  {value}" for name, value in self._facts.items()]
        labels = {unit: clean(self.first.units.labels[unit]) for unit in self.most_different()}
        if labels:
            first, second = (clean(name) for name in self.names)
            side = max(len(self.first.units.kind), *map(len, labels.values()))
            wide = [max(10, len(first)), max(10, len(second))]
            lines.append("")
            lines.append(
                f"{self.first.units.kind:<{side}}  {first:>{wide[0]}}  {second:>{wide[1]}}"
                f"  {'difference':>10}"
            )
            flipped = set(self.flips)
            for unit, label in labels.items():
                a, b = one[unit], other[unit]
                lines.append(
                    f"{label:<{side}}  {a:>+{wide[0]}.4g}  {b:>+{wide[1]}.4g}  {b - a:>+10.4g}"
                    + "  sign differs" * (unit in flipped)
                )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        pair = (self.first, self.second)
        numbers = [Numbers.of(result) for result in pair]
        scale = Scale.of([score for one in numbers for score in one.scores])
        names = [legible(name) for name in self.names]

        def note(units: Sequence[int]) -> str:
            return "; ".join(
                f"{name}: {one.told(units)}" for name, one in zip(names, numbers, strict=True)
            )

        flips = self.flips
        sections = reading(self.first)
        maps = [drawn(sections, one, scale, note, set(flips)) for one in numbers]
        told = [trust(result) for result in pair]
        return fragment(
            "comparison.html",
            names=names,
            scale=scale,
            sections=[*zip(*maps, strict=True)],
            long=len(numbers[0].scores) > LONG,
            told=told,
            facts=self._facts,
            rows=[
                {
                    "label": self.first.units.labels[unit],
                    "numbers": [one.told([unit]) for one in numbers],
                    "difference": signed(numbers[1].scores[unit] - numbers[0].scores[unit], 4),
                    "flip": unit in flips,
                }
                for unit in self.most_different()
            ],
            kind=numbers[0].kind,
            flips=len(flips),
        )

    @property
    def _facts(self) -> dict[str, str]:
        first, second = self.first.scores.abs(), self.second.scores.abs()
        total = float((first + second).sum())
        share = float((first + second)[self.flips].sum()) / total if total > 0 else 0.0
        found = len(self.flips)
        return {
            "Pearson": _told(self.pearson),
            "Spearman": _told(self.spearman),
            "sign differs": f"{found} of {len(first)} {self.first.units.kind}s"
            + f" ({100 * share:.2g} % of the magnitudes)" * (found > 0),
        }

    def __repr__(self) -> str:
        names = " and ".join(clean(name) for name in self.names)
        return f"Comparison({names}: Pearson {self.pearson:.3f}, Spearman {self.spearman:.3f})"


def comparison(
    first: Attribution, second: Attribution, names: tuple[str, str] | None = None
) -> Comparison:
    """Two attributions of one text beside each other, on one scale.

    Their ``names`` are by default what tells them apart: the method, the baseline or what is
    explained.

    >>> options = {"tokenizer": tokenizer, "target": 1}
    >>> pad, mask = (
    ...     ig.attribute(classifier, "a dull film", baseline=name, **options)
    ...     for name in ("pad", "mask")
    ... )
    >>> comparison(pad, mask).names
    ('baseline pad', 'baseline mask')

    Raises:
        InputError: they are over different units or of different texts, or ``names`` are not two.
    """
    if not alike(first, second):
        raise InputError(
            "only attributions over the same units of the same text can be compared (got "
            f"{told_units(first, second)}); bring both to the same units with .by('word')"
        )
    if names is None:
        names = _names(first, second)
    if isinstance(names, str) or len(names) != 2 or not all(isinstance(n, str) for n in names):
        raise InputError(f"names must be two texts (got {names!r:.80})")
    return Comparison(first, second, (names[0], names[1]))


def _names(first: Attribution, second: Attribution) -> tuple[str, str]:
    """What tells two attributions apart, in words."""
    told: tuple[list[str], list[str]] = ([], [])
    for key in ("method", "baseline", "path", "model"):
        one, other = (str(a.provenance.get(key, "")) for a in (first, second))
        if one != other:
            told[0].append(f"{key} {one}".strip())
            told[1].append(f"{key} {other}".strip())
    one, other = (str(a.display.get("explained", "")) for a in (first, second))
    if one != other:
        told[0].append(one)
        told[1].append(other)
    return ", ".join(told[0]) or "first", ", ".join(told[1]) or "second"


def _beyond_doubt(attribution: Attribution) -> Float[Tensor, " units"]:
    """The scores, 0 where the estimated error is as large."""
    scores = attribution.scores
    doubt = attribution.uncertainty
    return scores if doubt is None else scores.where(scores.abs() > doubt.nan_to_num(), 0.0)


def _correlation(one: Float[Tensor, " units"], other: Float[Tensor, " units"]) -> float:
    """Pearson's correlation, NaN where it is not defined."""
    a, b = one - one.mean(), other - other.mean()
    return float((a @ b) / (a.norm() * b.norm()))


def _ranks(scores: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Ranks from 1 on; equal scores share the mean of theirs."""
    _, group, count = scores.unique(sorted=True, return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    return (last - (count - 1) / 2).to(scores.dtype)[group]


def _told(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:+.3f}"
