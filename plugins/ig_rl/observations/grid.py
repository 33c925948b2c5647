"""A Grid says which unit every element of an observation's tensor belongs to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ig_core import Attribution, InputError, Units
from ig_rl.observations.features import aged, category, past

Kind = Literal["feature", "pixel", "category", "action"]

GROUPINGS = ("element", "feature", "pixel", "frame", "key")


@dataclass(frozen=True)
class Grid:
    """The units of one tensor: features of one frame after another, the oldest frame first.

    A feature is an element of a vector or matrix, a pixel with all its channels, or a component
    of a discrete observation with all its categories. ``axis`` is the dimension along which
    frames (or, with ``leading``, one frame each) are stacked; of an image it is that of the
    channels. ``steps`` counts the observations of an episode that move together; 0 says that the
    tensor has no such dimension.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    frames: int = 1
    axis: int = -1
    sizes: tuple[int, ...] = ()
    steps: int = 0

    @property
    def key(self) -> str:
        """The key of an observation in a Dict; empty elsewhere."""
        return self.name.partition(".")[2]

    @property
    def one(self) -> tuple[int, ...]:
        """The shape of the features of one frame."""
        shape = list(self.shape)
        if self.kind == "pixel":
            del shape[self.axis]
        elif self.frames > 1 and shape[self.axis] == self.frames and self.axis == 0:
            del shape[0]
        elif self.frames > 1:
            shape[self.axis] //= self.frames
        return tuple(shape)

    @property
    def count(self) -> int:
        """Features of one frame."""
        return math.prod(self.one)

    @property
    def units(self) -> int:
        """Units of the tensor."""
        return self.count * self.frames * max(self.steps, 1)

    def places(self) -> Int[Tensor, ...]:
        """The unit of every element of the raw observation of one step."""
        where = np.indices(self.shape).reshape(len(self.shape), math.prod(self.shape))
        frame = np.zeros(where.shape[1], dtype=np.int64)
        if self.shape:
            block = self.shape[self.axis] // self.frames
            frame = where[self.axis] // block
            where[self.axis] %= block
        if len(self.one) < len(self.shape):
            where = np.delete(where, self.axis, axis=0)
        feature = np.ravel_multi_index(tuple(where), self.one) if self.one else 0 * frame
        return torch.from_numpy(frame * self.count + feature).view(self.shape)

    def index(self) -> Int[Tensor, ...]:
        """The unit of every element of the tensor that moves, categories after one-hot."""
        found = self.places()
        if self.kind == "category":
            found = torch.repeat_interleave(found.flatten(), torch.tensor(self.sizes))
        if not self.steps:
            return found
        step = torch.arange(self.steps).view(-1, *[1] * found.dim())
        return found + step * (self.count * self.frames)

    def ages(self) -> list[int]:
        """How many steps ago each unit was observed."""
        depth = self.frames * max(self.steps, 1)
        return [depth - 1 - layer for layer in range(depth) for _ in range(self.count)]

    def named(self, features: Sequence[str]) -> list[str]:
        """The names of all units, from those of one frame, or from all frames' of one step."""
        if len(features) == self.count * self.frames and self.frames > 1:
            layers = max(self.steps, 1)
            return [aged(n, layers - 1 - t) for t in range(layers) for n in features]
        every = list(features) * (self.frames * max(self.steps, 1))
        return [aged(name, ago) for name, ago in zip(every, self.ages(), strict=True)]

    def own_names(self) -> list[str]:
        """What the features of one frame are called where nobody named them."""
        key = self.key
        if self.kind == "pixel":
            before = f"{key} pixel" if key else "pixel"
            return [f"{before} ({row}, {column})" for row, column in np.ndindex(*self.one)]
        if self.kind == "category" and not self.shape:
            return [key or "state"]
        key = key or "observation"
        places = [", ".join(map(str, place)) for place in np.ndindex(*self.one)]
        return [f"{key}[{place}]" if place else key for place in places]

    def told(self) -> dict[str, Any]:
        """The grid as JSON holds it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Grid:
        """The grid that :meth:`told` told of."""
        kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
        return cls(**kept)


def regrouped(attribution: Attribution, by: Any) -> Units:
    """Other units of a result; see :meth:`ig_rl.AgentDomain.regroup`.

    Raises:
        InputError: there is no such grouping, or not in this result.
    """
    if by not in GROUPINGS:
        raise InputError(f"an observation has the units {', '.join(GROUPINGS)} (got {by!r})")
    if by == "element":
        return _elements(attribution)
    grids = [Grid.of(told) for told in attribution.display["grids"]]
    kinds = {grid.kind for grid in grids}
    if by == "pixel" and "pixel" not in kinds:
        raise InputError("this result has no pixels; its observation is not an image")
    if by == "frame" and not any(grid.frames > 1 or grid.steps for grid in grids):
        raise InputError("this result has no frames; frames= says how many are stacked")
    names = iter(attribution.display["names"])
    numbers: dict[tuple[str, str], int] = {}
    index = {}
    for grid in grids:
        own = [next(names) for _ in range(grid.units)]
        keys = torch.tensor([numbers.setdefault(k, len(numbers)) for k in _keys(grid, own, by)])
        index[grid.name] = keys[grid.index()]
    return Units(tuple(label for _, label in numbers), index, kind=by)


def has_steps(attribution: Attribution) -> bool:
    """Whether it explains all observations of an episode so far."""
    return any(told["steps"] for told in attribution.display.get("grids", ()))


def latest(attribution: Attribution) -> Attribution:
    """An unrolled episode by the features of its last step, whose scores are sums over all steps.

    Episodes of different lengths have the same units then.
    """
    summed = regrouped(attribution, "feature")
    display = dict(attribution.display)
    names, values = iter(display["names"]), iter(display["values"])
    display |= {"names": [], "values": [], "grids": []}
    for grid in map(Grid.of, attribution.display["grids"]):
        own = [(next(names), next(values)) for _ in range(grid.units)][-grid.count :]
        display["names"] += [name for name, _ in own]
        display["values"] += [value for _, value in own]
        display["grids"].append(replace(grid, steps=0).told())
    return replace(attribution, units=summed, uncertainty=None, spread=None, display=display)


def _elements(attribution: Attribution) -> Units:
    """Every number that moves; what has a name of its own, such as a category, is called by it."""
    found = Units.elements(attribution.tensors)
    labels, names = list(found.labels), iter(attribution.display["names"])
    for grid in (Grid.of(told) for told in attribution.display["grids"]):
        own = [next(names) for _ in range(grid.units)]
        units = grid.index().flatten().tolist()
        places = found.index[grid.name].flatten().tolist()
        if grid.kind == "pixel" or len(places) != len(units):
            continue
        numbers: Counter[int] = Counter()
        for place, unit in zip(places, units, strict=True):
            kind = grid.kind == "category"
            labels[place] = category(own[unit], numbers[unit]) if kind else own[unit]
            numbers[unit] += 1
    return Units(tuple(labels), found.index, kind=found.kind)


def _keys(grid: Grid, names: Sequence[str], by: str) -> list[tuple[str, str]]:
    """What the units of one tensor belong to: a label, which several tensors share or not."""
    if by == "key":
        return [(grid.name, grid.name.removeprefix("observation."))] * len(names)
    if by == "frame" and grid.kind != "action":
        return [("", past(ago)) for ago in grid.ages()]
    newest = names[-grid.count :]  # names need not differ, places do
    places = [i % grid.count for i in range(len(names))]
    return [(f"{grid.name} {place}", newest[place]) for place in places]
