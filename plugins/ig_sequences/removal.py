"""Removal: what F falls by without the steps that come first in a ranking, removed in two ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core import ForwardError, Game, NonFiniteError, Task

HELD = "forward fill"
"""What the second way of removing steps is called."""


def drops(
    task: Task,
    number: int,
    rankings: Sequence[Float[Tensor, " steps"]],
    parts: Sequence[float],
    seed: int,
) -> tuple[Float[np.ndarray, "removals rankings parts"], float]:
    """The drops of one sequence, whose removals are computed together; and F(x).

    NaN where the model cannot answer for it.
    """
    try:
        return _drops(task, number, rankings, parts, seed)
    except (ForwardError, NonFiniteError):
        return np.full((2, len(rankings), len(parts)), math.nan), math.nan


def _drops(
    task: Task,
    number: int,
    rankings: Sequence[Float[Tensor, " steps"]],
    parts: Sequence[float],
    seed: int,
) -> tuple[Float[np.ndarray, "removals rankings parts"], float]:
    tops = torch.cat([_top(scores, parts, seed) for scores in rankings])
    nothing = torch.zeros(1, tops.shape[1], dtype=torch.bool)
    sets, place = torch.unique(torch.cat([nothing, tops]), dim=0, return_inverse=True)
    [(name, x)] = task.examples[number].inputs.items()
    held = task.values_at(task.examples[number], {name: x[_last_kept(sets).to(x.device)]})
    values = np.stack([Game(task, number).value(sets), held.numpy()])[:, place.numpy()]
    found = (values[:, :1] - values[:, 1:]).reshape(2, len(rankings), len(parts))
    found[:, [not bool(scores.isfinite().all()) for scores in rankings]] = math.nan
    return found, float(values[0, 0])


def _last_kept(removed: Bool[Tensor, "sets steps"]) -> Int[Tensor, "sets steps"]:
    """The step whose value each step holds when these are removed and filled forward."""
    steps = torch.arange(removed.shape[1]).expand(removed.shape)
    last = steps.where(~removed, -1).cummax(1).values
    first = (~removed).long().argmax(1, keepdim=True)  # 0 where none is kept
    return last.where(last >= 0, first)


def _top(
    scores: Float[Tensor, " steps"], parts: Sequence[float], seed: int
) -> Bool[Tensor, "parts steps"]:
    """The steps of highest score, part by part; ties are broken by a seeded shuffle."""
    count = len(scores)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = shuffled[scores[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count)
    sizes = [math.ceil(round(part * count, 9)) for part in parts]
    return rank[None, :] < torch.tensor(sizes)[:, None]
