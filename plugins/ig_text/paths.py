"""Paths through words: DIG and UDIG move every token by way of its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Domain, Example, InputError, Path, Piecewise
from ig_text.anchors import Strategy, Walk
from ig_text.domain import TextDomain

Inputs = Mapping[str, Float[Tensor, "tokens width"]]

KNOTS = 4
"""Legs are integrated, so that few suffice; the papers sum over 30 knots and more."""


class DIG(Piecewise):
    """By way of anchor words: Discretized Integrated Gradients, integrated.

    Sanyal and Ren (2021), arXiv:2108.13654. Every token goes from its baseline to its word by way
    of ``knots`` points that are vocabulary words in most dimensions and monotone in all; the whole
    text moves through them at once. A neighbour of the word is its first anchor, a neighbour of
    that the next one, and so on (:class:`ig_text.anchors.Walk`). Tokens that do not move, special
    ones among them, have no knots.

    What was published is the left sum ``sum_k dF(x^k)/dx (x^(k+1) - x^k)`` over the knots. Here
    each leg is integrated to the tolerance, hence the values sum to F(x) - F(x').

    >>> options = {"tokenizer": tokenizer, "target": 1, "path": DIG(knots=2)}
    >>> result = ig.attribute(classifier, "a dull film", **options)
    >>> result.converged and abs(result.residual) < 1e-3
    True

    Args:
        knots: points between baseline and word; evaluations grow with them.
        neighbours: so many words nearest to an anchor may be the next one.
        strategy: ``"greedy"`` takes the word that is moved least by making it monotone,
            ``"maxcount"`` that with the most monotone dimensions.

    Raises:
        InputError: no whole numbers of at least 1, or another strategy.
    """

    name = "dig"
    fits = ("text",)

    def __init__(
        self, knots: int = KNOTS, neighbours: int = 500, strategy: Strategy = "greedy"
    ) -> None:
        super().__init__(_unknown)
        self.walk = _walk(knots, neighbours, strategy, uniform=False)

    def of(self, domain: Domain) -> Path:
        return _through(self, Knots(self.walk, cast(TextDomain, domain)))


class UDIG(Piecewise):
    """By way of words near the straight line: Uniform Discretized Integrated Gradients, integrated.

    Sinha Roy and Kundu (2024), arXiv:2412.03886. As :class:`DIG`, but the anchors are sought around
    points that divide the straight line from the baseline to the word into equal parts. Published
    is the left sum over the knots; here each leg is integrated to the tolerance.

    >>> options = {"tokenizer": tokenizer, "target": 1, "path": UDIG(knots=2)}
    >>> result = ig.attribute(classifier, "a dull film", **options)
    >>> result.converged and abs(result.residual) < 1e-3
    True

    Args:
        knots: points between baseline and word; evaluations grow with them.
        neighbours: so many words nearest to a point of the line may be its anchor.
        strategy: as for :class:`DIG`.

    Raises:
        InputError: no whole numbers of at least 1, or another strategy.
    """

    name = "udig"
    fits = ("text",)

    def __init__(
        self, knots: int = KNOTS, neighbours: int = 50, strategy: Strategy = "greedy"
    ) -> None:
        super().__init__(_unknown)
        self.walk = _walk(knots, neighbours, strategy, uniform=True)

    def of(self, domain: Domain) -> Path:
        return _through(self, Knots(self.walk, cast(TextDomain, domain)))


class Knots:
    """The knots of examples in one model; those of the last example are kept for its targets."""

    def __init__(self, walk: Walk, domain: TextDomain) -> None:
        self.walk = walk
        self.domain = domain
        self._vocabularies: dict[str, Tensor] = {}
        self._last: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, example: Example, start: Inputs) -> Sequence[Inputs]:
        found = {n: self._of(n, start[n].to(word), word) for n, word in example.inputs.items()}
        return [{n: each[knot] for n, each in found.items()} for knot in range(self.walk.knots)]

    def _of(
        self, name: str, start: Float[Tensor, "tokens width"], word: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "knots tokens width"]:
        last = self._last.get(name)
        if last is not None and torch.equal(last[0], start) and torch.equal(last[1], word):
            return last[2]
        moving = (start != word).any(1)
        dtype = torch.float64 if word.dtype == torch.float64 else torch.float32
        pairs = torch.cat([start, word], dim=1)[moving].to(dtype)
        # A word that comes again has the knots that it had.
        each, place = pairs.unique(dim=0, return_inverse=True)
        if name not in self._vocabularies:
            self._vocabularies[name] = self.domain.vocabulary(name)
        found = self.walk.knots_of(self._vocabularies[name], *each.chunk(2, dim=1))
        knots = word.repeat(self.walk.knots, 1, 1)
        knots[:, moving] = found[:, place].to(word.dtype)
        self._last[name] = start, word, knots
        return knots


def _through(path: Piecewise, knots: Knots) -> Piecewise:
    bound = copy(path)
    bound.points = knots
    return bound


def _unknown(example: Example, start: Inputs) -> Sequence[Inputs]:
    raise InputError("the knots are words of a vocabulary, which path.of(domain) makes known")


def _walk(knots: int, neighbours: int, strategy: Strategy, uniform: bool) -> Walk:
    for name, value in (("knots", knots), ("neighbours", neighbours)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1 (got {value!r})")
    if strategy not in ("greedy", "maxcount"):
        raise InputError(f"strategy must be 'greedy' or 'maxcount' (got {strategy!r})")
    return Walk(knots, neighbours, strategy, uniform)
