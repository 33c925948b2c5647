"""Tracing: what a model is made of, and where the kinks of a path are; passes without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core.errors import IGError
from ig_core.kinks import Choices, Tracer, structure_of
from ig_core.quadrature import Kinked, Search, Structure
from ig_core.rows import Batch

Run = Callable[
    [Int[Tensor, " rows"], Float[Tensor, " rows"], bool],
    tuple[Float[Tensor, " rows"], Sequence[Tensor]],
]
"""The model on points (leg, t) of paths, with or without a graph: F and the tensors moved."""


def traced(run: Run, leg: int, straight: bool) -> Structure:
    """The structure of the model, judged by one point of this leg; nothing if it raises there."""
    row, half = torch.tensor([leg]), torch.full((1,), 0.5, dtype=torch.float64)
    tracer = Tracer(1)
    try:
        output, inputs = run(row, half, True)
        found = structure_of(output, inputs)
        if not straight:
            return replace(found, linear=False, traced=False, curve="a curved path")
        if found.traced:
            with tracer:
                run(row, half, False)
    except Exception:
        return Structure()  # whoever evaluates the model next meets the same error, and tells it
    return replace(found, operations=tracer.count)


def searched(
    run: Run, search: Search, batch: Batch, example: Int[Tensor, " points"], share: Fraction
) -> Iterator[Kinked]:
    """The kinks between neighbouring points, in passes over examples of equal shapes.

    Points at which the model raises are left out of what comes back.
    """
    alike = batch.alike[example]
    parts = [(alike == group).nonzero().view(-1) for group in sorted(set(alike.tolist()))]
    while parts:
        part = parts.pop()
        size = max(2, int(int(batch.room[example[part]].min()) * share))
        if len(part) > size:  # neighbours share a point
            parts.append(part[size - 1 :])
            part = part[:size]
        try:
            yield _between(run, search, part)
        except IGError:
            raise
        except Exception:  # it may be the memory
            if len(part) > 2:
                share = share / 2
                parts.append(part)


def _between(run: Run, search: Search, part: Int[Tensor, " points"]) -> Kinked:
    leg, t = search.leg[part], search.t[part]
    with Tracer(len(part), search.operation) as tracer:
        output, _ = run(leg, t, False)
    value = output.to("cpu", torch.float64)
    first = (leg[1:] == leg[:-1]).nonzero().view(-1)
    if tracer.kinks is None or not len(first):
        return Kinked(part, value, first[:0], t[:0], False)
    there = first.to(output.device)
    pair, fraction = tracer.kinks.between(there, there + 1)
    after = first[pair.cpu()]
    place = torch.lerp(t[after], t[after + 1], fraction.cpu())
    return Kinked(part, value, part[after], place, isinstance(tracer.kinks, Choices))
