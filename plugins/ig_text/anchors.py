"""Anchors are words near a token's way from the baseline; knots, what is made of them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VOCABULARY_CHUNK = 2**24
"""Distances, or numbers of the vocabulary, that are held at a time."""

CANDIDATE_CHUNK = 2**23
"""Numbers of the words that are candidates for the anchors at a time."""

Strategy = Literal["greedy", "maxcount"]


@dataclass(frozen=True)
class Walk:
    """How to get from a word to its baseline by other words of the vocabulary.

    The anchor a of every step is one of the ``neighbours`` words nearest to a centre. With
    ``uniform`` the centres divide the straight line into equal parts (Sinha Roy and Kundu 2024,
    arXiv:2412.03886); else each is the anchor before, which is no neighbour of its own (Sanyal
    and Ren 2021, arXiv:2108.13654).
    ``"greedy"`` takes the candidate that making it monotone would move least, ``"maxcount"``
    the one with the most dimensions that are monotone already; of equals the nearer one. No word
    is taken twice, and the baseline's only where there is no other.
    """

    knots: int
    neighbours: int
    strategy: Strategy
    uniform: bool

    @torch.no_grad()
    def knots_of(
        self,
        vocabulary: Float[Tensor, "words width"],
        start: Float[Tensor, "tokens width"],
        word: Float[Tensor, "tokens width"],
    ) -> Float[Tensor, "knots tokens width"]:
        """The knots of every token from its start to its word, monotone in every dimension.

        An anchor lies between the start and the knot before it (seen from the word) in some
        dimensions; in the others the knot c moves by 1 / knots of what is left:
        c_i = a_i, or w_i - (w_i - x'_i) / knots.
        """
        anchor = knot = word
        taken = torch.full((len(word), 0), -1, device=word.device)
        found = []
        for step in range(self.knots):
            left = (self.knots - step) / (self.knots + 1)
            centre = torch.lerp(start, word, left) if self.uniform else anchor
            near = nearest(vocabulary, centre, self.neighbours + (not self.uniform))
            best = self._best(vocabulary, near, taken, start, anchor, word)
            anchor = torch.where((best < 0)[:, None], start, vocabulary[best].to(word))
            taken = torch.cat([taken, best[:, None]], dim=1)
            knot = self._monotone(start, knot, anchor)
            found.append(knot)
        return torch.stack(found[::-1])

    def _best(
        self,
        vocabulary: Float[Tensor, "words width"],
        near: Int[Tensor, "tokens near"],
        taken: Int[Tensor, "tokens steps"],
        start: Float[Tensor, "tokens width"],
        anchor: Float[Tensor, "tokens width"],
        word: Float[Tensor, "tokens width"],
    ) -> Int[Tensor, " tokens"]:
        """The next anchor among the candidates, -1 where there is none but the baseline."""
        size = max(1, CANDIDATE_CHUNK // max(1, near.shape[1] * vocabulary.shape[1]))
        best = []
        for rows in torch.arange(len(near)).split(size):
            ids = near[rows]
            begin, before = start[rows, None], anchor[rows, None]
            candidate = vocabulary[ids].to(word)
            if self.strategy == "greedy":
                cost = (candidate - self._monotone(begin, before, candidate)).norm(dim=2)
            else:
                cost = -between(begin, before, candidate).sum(2).to(word.dtype)
            barred = (candidate == begin).all(2) | (candidate == word[rows, None]).all(2)
            barred |= (ids[:, :, None] == taken[rows][:, None]).any(2)
            barred |= (before == begin).all(2)
            first = cost.masked_fill(barred, torch.inf).argsort(dim=1, stable=True)[:, :1]
            best.append(ids.gather(1, first).masked_fill(barred.gather(1, first), -1)[:, 0])
        return torch.cat(best) if best else taken.new_zeros(0)

    def _monotone(
        self,
        start: Float[Tensor, "... width"],
        word: Float[Tensor, "... width"],
        anchor: Float[Tensor, "... width"],
    ) -> Float[Tensor, "... width"]:
        """The anchor where it is between the start and the word, and a step to the start else."""
        return torch.where(
            between(start, word, anchor), anchor, torch.lerp(word, start, 1 / self.knots)
        )


def between(start: Tensor, word: Tensor, anchor: Tensor) -> Bool[Tensor, ...]:
    """In which dimensions the anchor lies between the two others, which it may meet."""
    low, high = torch.minimum(start, word), torch.maximum(start, word)
    return (low <= anchor) & (anchor <= high)


def nearest(
    vocabulary: Float[Tensor, "words width"], points: Float[Tensor, "points width"], count: int
) -> Int[Tensor, "points near"]:
    """The words with the smallest distance to every point, the nearest first.

    All words if there are fewer than ``count``. The vocabulary is gone through in parts, so that
    no more than some hundred megabytes are held whatever its size.
    """
    size = max(1, VOCABULARY_CHUNK // max(1, len(points), vocabulary.shape[1]))
    distance = points.new_zeros(len(points), 0)  # squared, without what all words share
    ids = torch.zeros(len(points), 0, dtype=torch.long, device=points.device)
    first = 0
    for part in vocabulary.split(size):
        part = part.to(points)
        each = torch.arange(first, first + len(part), device=points.device)
        squares = torch.linalg.vector_norm(part, dim=1).square()
        here = torch.addmm(squares[None], points, part.T, alpha=-2)
        distance = torch.cat([distance, here], dim=1)
        ids = torch.cat([ids, each.expand(len(points), -1)], dim=1)
        distance, place = distance.topk(min(count, distance.shape[1]), dim=1, largest=False)
        ids = ids.gather(1, place)
        first += len(part)
    return ids
