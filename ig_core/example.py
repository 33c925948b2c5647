"""An Example is what is explained; Units say what people read in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import InputError

Target = int | tuple[int, ...] | Callable[[Any], Tensor] | None
"""One number of the model's output: an index, an index per dimension, a function of the
output, or None where the output is a single number already."""

TOGETHER = 2**16
"""Elements of several tensors that are checked together."""


@dataclass(frozen=True, eq=False)
class Units:
    """What people read: words, nodes, edges, time steps, state features.

    ``index[name]`` holds the unit of every element of input ``name``, or -1 for elements that
    belong to none: those stay where they are on every path. Its shape is the shape of that
    input, or a leading part of it: token embeddings ``(T, D)`` with words as units have an index
    ``(T,)``.

    >>> words = Units(("dull", "film"), {"x": torch.tensor([0, 0, 1])}, kind="word")
    >>> words.reduce({"x": torch.tensor([[1.0, 1.0], [0.5, 0.5], [4.0, -1.0]])}).tolist()
    [3.0, 3.0]
    """

    labels: Sequence[str]
    index: Mapping[str, Int[Tensor, ...]]
    kind: str = "unit"
    _whole: set[str] = field(default_factory=set, init=False, repr=False)
    """Inputs of which every element belongs to a unit."""

    def __post_init__(self) -> None:
        for name, index in self.index.items():
            if not index.numel():
                continue
            low, high = map(int, index.aminmax())
            if not -1 <= low <= high < len(self.labels):
                raise InputError(
                    f"units of {name!r} must lie in [-1, {len(self.labels) - 1}] "
                    f"(got {low} to {high})"
                )
            if low >= 0:
                self._whole.add(name)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def elements(cls, inputs: Mapping[str, Tensor]) -> Units:
        """One unit for every number of every input, labelled by its position."""
        return _elements(tuple([(name, value.shape) for name, value in inputs.items()]))

    def reduce(self, values: Mapping[str, Tensor]) -> Float[Tensor, " units"]:
        """The plain signed sum over the elements of each unit, in float64."""
        total = torch.zeros(len(self), dtype=torch.float64)
        for name, index in self.index.items():
            value = values[name].detach().to("cpu", torch.float64)
            sums = value.flatten(index.dim()).sum(-1) if value.dim() > index.dim() else value
            if name not in self._whole:
                known = index >= 0
                index, sums = index[known], sums[known]
            total.index_add_(0, index.reshape(-1), sums.reshape(-1))
        return total

    def mask(
        self, chosen: Bool[Tensor, "sets units"], inputs: Mapping[str, Tensor]
    ) -> dict[str, Bool[Tensor, "sets ..."]]:
        """Which elements of each input belong to the chosen units, set by set."""
        masks = {}
        for name, value in inputs.items():
            index = self.index.get(name)
            if index is None:
                masks[name] = torch.zeros(len(chosen), *value.shape, dtype=torch.bool)
                continue
            picked = chosen[:, index.clamp(min=0)] & (index >= 0) if len(self) else None
            if picked is None:
                picked = torch.zeros(len(chosen), *index.shape, dtype=torch.bool)
            trailing = value.dim() - index.dim()
            masks[name] = picked[(...,) + (None,) * trailing].expand(-1, *value.shape)
        return masks


@dataclass(frozen=True, eq=False)
class Example:
    """One thing to explain, without a batch dimension.

    ``inputs`` move along the path, ``context`` (masks, ids, positions, edges, lengths) stays as
    it is. ``display`` is what a view needs and may hold only JSON values.
    """

    inputs: Mapping[str, Float[Tensor, ...]]
    context: Mapping[str, Tensor] = field(default_factory=dict)
    target: Target = None
    units: Units | None = None
    display: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, index in self.units.index.items() if self.units is not None else ():
            shape = tuple(self.inputs[name].shape) if name in self.inputs else ()
            if name not in self.inputs or tuple(index.shape) != shape[: index.dim()]:
                raise InputError(
                    f"the units of {name!r} need the shape of that input, or a leading part of it: "
                    f"{shape} (got {tuple(index.shape)}); the inputs are {[*self.inputs]}"
                )

    @property
    def parts(self) -> Units:
        """The declared units, or every element on its own."""
        return self.units if self.units is not None else Units.elements(self.inputs)


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity; those of one kind are looked at together."""
    alike: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        alike.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(tensor)
    for group in alike.values():
        size = max(1, TOGETHER // max(1, group[0].numel()))
        for begin in range(0, len(group), size):
            some = group[begin : begin + size]
            if not bool(torch.isfinite(torch.stack(some) if some[1:] else some[0]).all()):
                return False
    return True


@lru_cache(maxsize=64)
def _elements(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Units:
    labels: list[str] = []
    index = {}
    for name, shape in shapes:
        count = math.prod(shape)
        index[name] = torch.arange(count).view(shape) + len(labels)
        labels += [f"{name}{list(p)}" if p else name for p in np.ndindex(*shape)]
    return Units(labels, index, kind="element")
