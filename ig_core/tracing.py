"""Tracing: what a model is made of, and where the kinks of a path are; passes without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import IGError
from ig_core.kinks import Choices, Tracer, structure_of
from ig_core.quadrature import Kinked, Search, Structure
from ig_core.rows import Batch
from ig_core.twins import Shared, Twins

Run = Callable[
    [Int[Tensor, " numbers"], Float[Tensor, " numbers"], bool, Shared | None],
    tuple[Float[Tensor, " numbers"], Mapping[str, Tensor], Any, Any],
]
"""The model on points (leg, t) of paths, with or without a graph: F, what moved, and more."""


def traced(run: Run, leg: int, curve: str) -> Structure:
    """The structure of the model, judged by one point of this leg; nothing if it raises there."""
    row, half = torch.tensor([leg]), torch.full((1,), 0.5, dtype=torch.float64)
    tracer = Tracer(1)
    try:
        output, inputs, *_ = run(row, half, True, None)
        found = structure_of(output, inputs.values())
        if curve:
            return replace(found, linear=False, traced=False, curve=curve)
        if found.traced:
            with tracer:
                run(row, half, False, None)
    except Exception:
        return Structure()  # whoever evaluates the model next meets the same error, and tells it
    return replace(found, operations=tracer.count)


def structures(
    run: Run, batch: Batch, example: Int[Tensor, " legs"], curve: str
) -> list[tuple[Structure, Bool[Tensor, " examples"]]]:
    """The structures of the model, and the examples that each holds for.

    A function as target is part of the model. Each is judged by the leg of a shortest input;
    ``curve`` says why kinks are not to be computed, if so.
    """
    function = batch.targets.function
    found: dict[Structure, dict[int, int]] = {}
    for number in sorted(set(function.tolist())):
        leg = int(torch.where(function == number, batch.room, 0)[example].argmax())
        found.setdefault(traced(run, leg, curve), {})[number] = leg
    parts: list[tuple[Structure, Bool[Tensor, " examples"]]] = []
    for structure, legs in found.items():
        together = not structure.traced or _together(run, [*legs.values()], structure.operations)
        several = [[*legs]] if together else [[number] for number in legs]
        parts += [(structure, torch.isin(function, torch.tensor(n))) for n in several]
    return parts


def _together(run: Run, legs: Sequence[int], operations: int) -> bool:
    """Whether there are no more operations with kinks if all functions are called at once.

    If there are, the functions have kinks of their own.
    """
    if len(legs) == 1:
        return True
    with Tracer(len(legs)) as tracer:
        run(torch.tensor(legs), torch.full((len(legs),), 0.5, dtype=torch.float64), False, None)
    return bool(tracer.count == operations)


def searched(
    run: Run,
    search: Search,
    batch: Batch,
    example: Int[Tensor, " numbers"],
    share: Fraction,
    twins: Twins,
) -> Iterator[Kinked]:
    """The kinks between neighbouring points, in passes over examples of equal shapes.

    Points at which the model raises are left out of what comes back.
    """
    points = twins.evenly(search.leg, search.t)
    example = example[points.chosen]
    alike = batch.alike[example]
    parts = [(alike == group).nonzero().view(-1) for group in sorted(set(alike.tolist()))]
    while parts:
        part = parts.pop()
        size = max(2, int(int(batch.room[example[part]].min()) * share))
        if len(part) > size:  # neighbours share a point
            parts.append(part[size - 1 :])
            part = part[:size]
        try:
            yield _between(run, search, points, part)
        except IGError:
            raise
        except Exception:  # it may be the memory
            if len(part) > 2:
                share = share / 2
                parts.append(part)


def _between(run: Run, search: Search, points: Shared, part: Int[Tensor, " points"]) -> Kinked:
    numbers, shared = points.part(part)
    with Tracer(len(part), search.operation) as tracer:
        output, *_ = run(search.leg[numbers], search.t[numbers], False, shared)
    value = output.to("cpu", torch.float64)
    leg, t = search.leg[points.chosen[part]], search.t[points.chosen[part]]
    first = (leg[1:] == leg[:-1]).nonzero().view(-1)
    if tracer.kinks is None or not len(first):
        return Kinked(numbers, value, first[:0], t[:0], False)
    there = first.to(output.device)
    pair, fraction = tracer.kinks.between(there, there + 1)
    after = first[pair.cpu()]
    place = torch.lerp(t[after], t[after + 1], fraction.cpu())
    number, kink = shared.numbers(after)
    return Kinked(numbers, value, numbers[number], place[kink], isinstance(tracer.kinks, Choices))
