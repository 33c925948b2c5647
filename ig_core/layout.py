"""A Layout says how the tensors of many examples share one forward pass.

A plugin declares one layout per tensor and never writes a collate or a split function. The
engine packs the examples once; rows are then gathers from that pack.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ig_core.errors import InputError

Shifts = Mapping[str, Int[Tensor, " rows"]]
"""Where the items of each row begin in the union of the rows, per name of a ``Cat`` tensor."""


class Selection(ABC):
    """Some rows of a pack, in order and with repetition, and the arithmetic on them."""

    sizes: Int[Tensor, " rows"]

    @abstractmethod
    def gather(self, values: Tensor, shifts: Shifts) -> Tensor:
        """The rows' tensors as the model receives them."""

    @abstractmethod
    def spread(self, per_row: Shaped[Tensor, " rows"], like: Tensor) -> Tensor:
        """One number per row, shaped to be multiplied with the gathered tensor ``like``."""

    @abstractmethod
    def flat(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        """The gathered-shaped ``batch`` with one row each, zero behind the row's own items."""

    @abstractmethod
    def owners(self) -> Int[Tensor, " items"]:
        """The row of every item of the gathered tensor's first dimension."""


@dataclass(frozen=True, eq=False)
class Pack(ABC):
    """One tensor of many examples, stored together."""

    values: Tensor
    sizes: Int[Tensor, " examples"]

    def holding(self, values: Tensor) -> Pack:
        """The same geometry around other values."""
        return replace(self, values=values)

    def among(self, others: Iterable[Pack]) -> Pack:
        """The same pack, which finds rows together with others of equal sizes."""
        return self

    @abstractmethod
    def select(self, index: Int[Tensor, " rows"]) -> Selection:
        """Rows by example."""

    @abstractmethod
    def item(self, example: int) -> Tensor:
        """The tensor of one example, without padding."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Elements of the largest example."""

    @abstractmethod
    def unflat(
        self, rows: Float[Tensor, "some width"], examples: Sequence[int]
    ) -> Sequence[Tensor]:
        """The tensors of some examples, from rows as :meth:`Selection.flat` makes them."""


class Layout(ABC):
    """How the tensors of many examples share one batch.

    ``capacity`` bounds the length of a chunk's first dimension (its rows for :class:`Stack`).
    """

    capacity: int

    @abstractmethod
    def pack(self, tensors: Sequence[Tensor], name: str = "input") -> Pack:
        """Store the tensors of many examples.

        Raises:
            InputError: their shapes cannot share this layout.
        """

    @abstractmethod
    def load(self, tensor: Tensor) -> int:
        """How much of ``capacity`` one row with this tensor takes."""


@dataclass(frozen=True)
class Stack(Layout):
    """Equal shapes, stacked along a new first dimension."""

    capacity: int = 4096

    def pack(self, tensors: Sequence[Tensor], name: str = "input") -> Pack:
        shapes = {t.shape for t in tensors}
        if len(shapes) > 1:
            raise InputError(
                f"{name!r} must have one shape in all examples "
                f"(got {sorted(map(tuple, shapes))[:3]}); "
                "a ragged first dimension needs the layout Pad or Cat"
            )
        return _Dense(torch.stack(list(tensors)), torch.ones(len(tensors), dtype=torch.long), False)

    def load(self, tensor: Tensor) -> int:
        return 1


@dataclass(frozen=True)
class Pad(Layout):
    """A ragged first dimension, padded at its end with ``fill``."""

    fill: float = 0.0
    capacity: int = 512

    def pack(self, tensors: Sequence[Tensor], name: str = "input") -> Pack:
        _same_tail(tensors, name)
        sizes = torch.tensor([len(t) for t in tensors])
        values = tensors[0].new_full(
            (len(tensors), int(sizes.max()), *tensors[0].shape[1:]), self.fill
        )
        for row, tensor in zip(values, tensors, strict=True):
            row[: len(tensor)] = tensor
        return _Dense(values, sizes, True)

    def load(self, tensor: Tensor) -> int:
        return max(len(tensor), 1)


@dataclass(frozen=True)
class Cat(Layout):
    """A disjoint union: items of all rows one after another along ``dim``.

    ``into`` marks a tensor of positions, such as an edge index: its values count the items of
    the named tensor and are shifted by where those begin in the union. One name per leading
    index (``into=("user", "item")``) serves edges between two kinds of node.
    """

    dim: int = 0
    into: str | tuple[str, ...] | None = None
    capacity: int = 4096

    def pack(self, tensors: Sequence[Tensor], name: str = "input") -> Pack:
        _same_tail(tensors, name, self.dim)
        moved = [t.movedim(self.dim, 0) for t in tensors]
        sizes = torch.tensor([len(t) for t in moved])
        return _Union(torch.cat(moved), sizes, self.dim, self.into, [])

    def load(self, tensor: Tensor) -> int:
        return max(tensor.shape[self.dim], 1)


def _same_tail(tensors: Sequence[Tensor], name: str, dim: int = 0) -> None:
    flat = any(not -t.dim() <= dim < t.dim() for t in tensors)
    tails = {tuple(t.movedim(dim, 0).shape[1:]) for t in tensors} if not flat else set()
    if flat or len(tails) > 1:
        raise InputError(
            f"{name!r} may differ between examples only in its ragged dimension {dim} "
            f"(got shapes {sorted({tuple(t.shape) for t in tensors})[:3]})"
        )


def _column(per_row: Tensor, like: Tensor) -> Tensor:
    return per_row.to(like.dtype).view(-1, *(1,) * (like.dim() - 1))


@dataclass(frozen=True, eq=False)
class _Dense(Pack):
    """Stack and Pad: examples along the first dimension."""

    ragged: bool

    def select(self, index: Int[Tensor, " rows"]) -> Selection:
        sizes = self.sizes[index]
        width = int(sizes.max()) if self.ragged and len(index) else None
        return _DenseSelection(sizes, index.to(self.values.device), width)

    def item(self, example: int) -> Tensor:
        row = self.values[example]
        return row[: int(self.sizes[example])] if self.ragged else row

    @property
    def width(self) -> int:
        return math.prod(self.values.shape[1:])

    def unflat(
        self, rows: Float[Tensor, "some width"], examples: Sequence[int]
    ) -> Sequence[Tensor]:
        wide = rows.reshape(len(rows), *self.values.shape[1:]).unbind()
        if not self.ragged:
            return wide
        sizes = self.sizes.tolist()
        return [row[: sizes[i]] for row, i in zip(wide, examples, strict=True)]


@dataclass(frozen=True, eq=False)
class _DenseSelection(Selection):
    sizes: Tensor
    index: Tensor
    width: int | None

    def _trim(self, values: Tensor) -> Tensor:
        return values if self.width is None else values[:, : self.width]

    def gather(self, values: Tensor, shifts: Shifts) -> Tensor:
        return self._trim(values).index_select(0, self.index)

    def spread(self, per_row: Tensor, like: Tensor) -> Tensor:
        return _column(per_row, like)

    def flat(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        return batch.flatten(1) if batch.dim() > 1 else batch[:, None]

    def owners(self) -> Int[Tensor, " items"]:
        return torch.arange(len(self.index), device=self.index.device)


@dataclass(frozen=True, eq=False)
class _Union(Pack):
    """Cat: the items of all examples in one long first dimension."""

    dim: int
    into: str | tuple[str, ...] | None
    last: list[tuple[Tensor, _UnionSelection]]
    """The rows that were selected last, of any pack with these sizes."""

    def among(self, others: Iterable[Pack]) -> Pack:
        same = (o for o in others if isinstance(o, _Union) and torch.equal(o.sizes, self.sizes))
        return replace(self, last=next(same, self).last)

    def select(self, index: Int[Tensor, " rows"]) -> Selection:
        if not self.last or not torch.equal(self.last[0][0], index):
            self.last[:] = [(index, self._selected(index))]
        last = self.last[0][1]
        return _UnionSelection(last.sizes, last.items, last.rows, self.dim, self.into)

    def _selected(self, index: Int[Tensor, " rows"]) -> _UnionSelection:
        sizes, begin = self.sizes[index], (self.sizes.cumsum(0) - self.sizes)[index]
        low, high = map(int, self.sizes.aminmax())
        if low == high:
            rows = torch.arange(len(index))[:, None].expand(-1, low).reshape(-1)
            items = (begin[:, None] + torch.arange(low)).reshape(-1)
        else:
            rows = torch.repeat_interleave(sizes)
            items = torch.arange(len(rows)) + (begin - (sizes.cumsum(0) - sizes))[rows]
        device = self.values.device
        return _UnionSelection(sizes, items.to(device), rows.to(device), self.dim, self.into)

    def item(self, example: int) -> Tensor:
        end = int(self.sizes[: example + 1].sum())
        return self.values[end - int(self.sizes[example]) : end].movedim(0, self.dim)

    @property
    def width(self) -> int:
        return int(self.sizes.max()) * math.prod(self.values.shape[1:])

    def unflat(
        self, rows: Float[Tensor, "some width"], examples: Sequence[int]
    ) -> Sequence[Tensor]:
        sizes = self.sizes.tolist()
        wide = rows.reshape(len(rows), max(sizes), *self.values.shape[1:]).unbind()
        return [row[: sizes[i]].movedim(0, self.dim) for row, i in zip(wide, examples, strict=True)]


@dataclass(frozen=True, eq=False)
class _UnionSelection(Selection):
    sizes: Tensor
    items: Tensor
    rows: Tensor
    dim: int
    into: str | tuple[str, ...] | None

    def gather(self, values: Tensor, shifts: Shifts) -> Tensor:
        union = values.index_select(0, self.items)
        if self.into is not None:
            names = (self.into,) if isinstance(self.into, str) else self.into
            shift: Any = torch.stack([shifts[name][self.rows] for name in names], dim=-1)
            tail = union.dim() - 1
            union = union + (shift if tail else shift[:, 0]).to(union.dtype)
        return union.movedim(0, self.dim)

    def spread(self, per_row: Tensor, like: Tensor) -> Tensor:
        return _column(per_row[self.rows], like.movedim(self.dim, 0)).movedim(0, self.dim)

    def flat(self, batch: Tensor) -> Float[Tensor, "rows width"]:
        items = batch.movedim(self.dim, 0)
        longest = int(self.sizes.max()) if len(self.sizes) else 0
        if len(items) == longest * len(self.sizes) and len(items):
            return items.reshape(len(self.sizes), -1)
        before = (self.sizes.cumsum(0) - self.sizes).to(items.device)
        place = torch.arange(len(items), device=items.device) - before[self.rows]
        wide = items.new_zeros(len(self.sizes), longest, *items.shape[1:])
        return wide.index_put((self.rows, place), items).flatten(1)

    def owners(self) -> Int[Tensor, " items"]:
        return self.rows
