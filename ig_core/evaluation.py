"""Evaluation: F at given points, without a path and without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core.errors import ForwardError, IGError, ModelError
from ig_core.example import Example
from ig_core.layout import Layout
from ig_core.rows import Batch, Rows, checked

Forward = Callable[[Rows], Tensor]
"""The explained number of every row, as :meth:`ig_core.Domain.forward` gives it."""


def evaluate(
    forward: Forward,
    example: Example,
    points: Mapping[str, Float[Tensor, "points ..."]],
    layouts: Mapping[str, Layout],
    device: torch.device,
) -> Float[Tensor, " points"]:
    """F at several points of one example's input space, without gradients."""
    count = len(next(iter(points.values())))
    each = [{name: value[i] for name, value in points.items()} for i in range(count)]
    return evaluate_each(forward, [example], each, [0] * count, layouts, device)


def evaluate_each(
    forward: Forward,
    examples: Sequence[Example],
    points: Sequence[Mapping[str, Tensor]],
    owners: Sequence[int],
    layouts: Mapping[str, Layout],
    device: torch.device,
) -> Float[Tensor, " points"]:
    """F at points of the input spaces of their owners among some examples, without gradients."""
    batch = Batch(examples, layouts, device)
    packs = batch.pack(points)
    owner = torch.tensor(owners, dtype=torch.long)
    result = torch.full((len(owner),), torch.nan, dtype=torch.float64)
    for rows in batch.chunks(owner):
        gathered = {
            n: p.select(rows).gather(p.values, {}).to(batch.dtypes[n]) for n, p in packs.items()
        }
        try:
            with torch.no_grad():
                output = checked(forward(batch.rows(owner[rows], gathered)), len(rows))
        except IGError:
            raise
        except Exception as error:
            raise forward_error(error, "a point between baseline and input") from error
        result[rows] = output.detach().to("cpu", torch.float64)
    return result


def forward_error(error: Exception, place: str) -> IGError:
    """What a model raised, as an error of ours that says where."""
    kind = "" if isinstance(error, ModelError) else f" {type(error).__name__}"
    failure = ForwardError(f"the model raised{kind} at {place}: {error}")
    failure.__cause__ = error
    return failure
