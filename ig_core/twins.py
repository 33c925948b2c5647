"""Twins are paths that differ only in the target: one forward pass serves them all."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.example import Example, Target
from ig_core.paths import Leg
from ig_core.quadrature import Request
from ig_core.rows import Batch, kind_of

WAITING = 2**14
"""Numbers in the points of a pass up to which a CPU waits for calls rather than for arithmetic."""


@dataclass(frozen=True, eq=False)
class Shared:
    """Several numbers of the same rows: the row of every number, and its turn among that row's.

    ``chosen`` is one number of every row.
    """

    row: Int[Tensor, " numbers"]
    turn: Int[Tensor, " numbers"]
    chosen: Int[Tensor, " rows"]

    def part(self, rows: Int[Tensor, " part"]) -> tuple[Int[Tensor, " some"], Shared]:
        """The numbers of these rows, which are in order, and how those share them."""
        if len(self.row) == len(self.chosen):
            return self.chosen[rows], one_each(len(rows))
        numbers = torch.isin(self.row, rows).nonzero().view(-1)
        own = torch.searchsorted(rows, self.row[numbers])
        chosen = torch.searchsorted(numbers, self.chosen[rows])
        return numbers, Shared(own, self.turn[numbers], chosen)

    def numbers(
        self, rows: Int[Tensor, " some"]
    ) -> tuple[Int[Tensor, " numbers"], Int[Tensor, " numbers"]]:
        """All numbers of some rows (which may come again), and for which of them each is."""
        count = torch.bincount(self.row)
        which = torch.repeat_interleave(torch.arange(len(rows)), count[rows])
        first = (count[rows].cumsum(0) - count[rows])[which]
        place = (count.cumsum(0) - count)[rows[which]] + torch.arange(len(which)) - first
        return torch.argsort(self.row, stable=True)[place], which


def one_each(count: int) -> Shared:
    """Rows of which one number each is wanted."""
    each = torch.arange(count)
    return Shared(each, torch.zeros_like(each), each)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of a request for one pass; if they are shared, there are several of the same point."""

    rows: Int[Tensor, " numbers"]
    shared: bool


class Twins:
    """For every leg the first one with the same points, as long as sharing them works."""

    def __init__(self, first: Int[Tensor, " legs"]) -> None:
        self.first = first
        self.any = bool((first != torch.arange(len(first))).any())
        self.one = bool((first == 0).all())

    def part(self, legs: Int[Tensor, " some"]) -> None:
        """Let the twins of these legs be on their own from now on."""
        if not len(legs):
            return
        parted = torch.isin(self.first, self.first[legs])
        self.first = torch.where(parted, torch.arange(len(parted)), self.first)

    def of(self, leg: Int[Tensor, ""]) -> Int[Tensor, " twins"]:
        """This leg and its twins."""
        return (self.first == self.first[leg]).nonzero().view(-1)

    def among(self, leg: Int[Tensor, " numbers"]) -> Bool[Tensor, " numbers"]:
        """Which of these legs have twins."""
        if not self.any:
            return torch.zeros(len(leg), dtype=torch.bool)
        return (torch.bincount(self.first, minlength=len(self.first)) > 1)[self.first[leg]]

    def shared(self, leg: Int[Tensor, " numbers"], t: Float[Tensor, " numbers"]) -> Shared:
        """The rows that numbers at these points need."""
        order = torch.argsort(t, stable=True)
        order = order[torch.argsort(self.first[leg[order]], stable=True)]
        same = (self.first[leg[order]].diff() == 0) & (t[order].diff() == 0)
        begins = torch.cat([torch.ones(min(1, len(order)), dtype=torch.bool), ~same])
        begin = begins.nonzero().view(-1)
        row, turn = torch.empty_like(order), torch.empty_like(order)
        row[order] = begins.cumsum(0) - 1
        turn[order] = torch.arange(len(order)) - begin[row[order]]
        return Shared(row, turn, order[begin])

    def evenly(self, leg: Int[Tensor, " numbers"], t: Float[Tensor, " numbers"]) -> Shared:
        """The same, with a row for each where neighbours on a leg are none on its twins."""
        if not self.any:
            return one_each(len(leg))
        shared = self.shared(leg, t)
        even = bool((shared.row.diff() == 1)[leg.diff() == 0].all())
        return shared if even else one_each(len(leg))

    def worthwhile(
        self, leg: Int[Tensor, " numbers"], t: Float[Tensor, " numbers"]
    ) -> Bool[Tensor, " numbers"]:
        """Which numbers had better share rows.

        A row is passed backward as often as the row with the most numbers. If all have more than
        half as many, that costs no more than a row for each number: 1 + c <= 2 * count passes.
        """
        shared = self.shared(leg, t)
        count = torch.bincount(shared.row)
        if not len(count):
            return shared.row > 0
        return ((count > 1) & (2 * count > count.max()))[shared.row]

    def chunks(
        self,
        batch: Batch,
        example: Int[Tensor, " legs"],
        request: Request,
        rows: Int[Tensor, " some"],
        share: Fraction,
    ) -> list[Chunk]:
        """Some rows of a request in chunks that fit one pass, the first one last.

        As many points make a chunk as fit: their backward passes take the memory in turns.
        """
        leg, t = request.leg[rows], request.t[rows]
        if not self.any and len(batch.targets.functions) < 2:
            parts = batch.chunks(example[leg], share)
            return [Chunk(rows[part], False) for part in parts][::-1]
        function = batch.targets.function[example[leg]]
        function = torch.where(self.worthwhile(leg, t), -1, function) if self.any else function
        chunks = []
        kinds: list[int] = torch.unique(function).tolist()
        for kind in kinds:  # a row alone meets no other row's function
            own = (function == kind).nonzero().view(-1)
            group = self.shared(leg[own], t[own]) if kind < 0 else None
            point = own if group is None else own[group.chosen]
            for found in batch.chunks(example[leg[point]], share):
                if group is not None:
                    found = torch.isin(group.row, found).nonzero().view(-1)
                chunks.append(Chunk(rows[own[found]], group is not None))
        return chunks[::-1]


def twins_of(
    inputs: Sequence[int],
    examples: Sequence[Example],
    all_legs: Sequence[Leg],
    count: Int[Tensor, " examples"],
) -> Twins:
    """The twins among the legs of examples, ``count`` of each.

    ``inputs`` numbers the raw input of each.
    """
    if len(set(inputs)) == len(inputs):
        return Twins(torch.arange(len(all_legs)))
    legs = [all_legs[end - n : end] for n, end in zip(count, count.cumsum(0), strict=True)]
    first: list[int] = []
    known: list[tuple[int, int]] = []  # examples of the same raw input, and their first legs
    for number, own in enumerate(legs):
        known = known if number and inputs[number] == inputs[number - 1] else []
        same = (b for n, b in known if _alike(examples[number], own, examples[n], legs[n]))
        begin = next(same, len(first))
        if begin == len(first):
            known = [*known, (number, begin)]
        first += range(begin, begin + len(own))
    return Twins(torch.tensor(first))


def by_kind(targets: Sequence[Target], several: int) -> Collection[Sequence[int]]:
    """The numbers of the targets, by their kind where an input has ``several``."""
    kinds: dict[object, list[int]] = {}
    for number, target in enumerate(targets):
        kinds.setdefault(kind_of(target) if several > 1 else None, []).append(number)
    return kinds.values()


def _alike(one: Example, its: Sequence[Leg], other: Example, others: Sequence[Leg]) -> bool:
    return (
        len(its) == len(others)
        and _equal(one.context, other.context)
        and all(
            _equal(end, its_end)
            for leg, its_leg in zip(its, others, strict=True)
            for end, its_end in zip(leg, its_leg, strict=True)
        )
    )


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(map(_same, one.values(), map(other.get, one)))


def _same(one: Tensor, other: Any) -> bool:
    kinds = [(tensor.dtype, tensor.device, tensor.shape) for tensor in (one, other)]
    return one is other or (kinds[0] == kinds[1] and torch.equal(one, other))


def gradients_of(
    output: Float[Tensor, " numbers"],
    points: Sequence[Tensor],
    shared: Shared | None,
    together: int,
) -> Iterator[Sequence[Tensor | None]]:
    """The gradients of the first number of every row, of the second, and so on.

    ``together`` backward passes are made as one, as long as the operations of the model allow it:
    vmap knows no rule for some.
    """
    turns = 1 if shared is None else int(shared.turn.max()) + 1
    if not output.requires_grad:
        yield from [[None] * len(points)] * turns
    elif shared is None:
        yield torch.autograd.grad(output.sum(), points, allow_unused=True)
    else:
        masks = (shared.turn == torch.arange(turns)[:, None]).to(output.device, output.dtype)
        yield from _backward(output, points, masks, together)


def _backward(
    output: Tensor, points: Sequence[Tensor], masks: Tensor, together: int
) -> Iterator[Sequence[Tensor | None]]:
    if not output.is_cuda and sum(point.numel() for point in points) > WAITING:
        together = 1
    done = 0
    while done < len(masks):
        some = masks[done : done + max(1, together)]
        ask = {"retain_graph": done + len(some) < len(masks), "allow_unused": True}
        if len(some) == 1:
            yield torch.autograd.grad(output, points, some[0], **ask)
        else:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "There is a performance drop")
                    found = _batched(output, points, some)
            except (RuntimeError, ValueError, NotImplementedError):
                together = 1
                continue
            for number in range(len(some)):
                yield [None if g is None else g[number] for g in found]
        done += len(some)


def _batched(output: Tensor, points: Sequence[Tensor], masks: Tensor) -> Sequence[Tensor | None]:
    return torch.autograd.grad(
        output, points, masks, retain_graph=True, allow_unused=True, is_grads_batched=True
    )


def collected(
    found: Iterable[Float[Tensor, "rows width"]], shared: Shared | None
) -> Float[Tensor, "numbers width"]:
    """What was found for the first number of every row, the second, and so on, by number."""
    if shared is None:
        return next(iter(found))
    parts = []
    for turn, vectors in enumerate(found):
        own = (shared.turn == turn).nonzero().view(-1)
        parts.append(vectors[shared.row[own].to(vectors.device)])
    whole = torch.cat(parts)
    place = torch.argsort(torch.argsort(shared.turn, stable=True))
    return whole[place.to(whole.device)]
