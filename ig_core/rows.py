"""Rows are what a model sees: many (example, point of the path) pairs in one forward pass."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core.errors import InputError, NoGradientError, OutputError, TargetError
from ig_core.example import Example, Target
from ig_core.layout import Layout, Pack, Selection

CHUNK_ELEMENTS = 2**21
"""Input elements in one chunk at most, whatever the layouts allow."""

WHOLE = Fraction(1)
"""All of the layouts' capacity."""


class Rows:
    """One forward pass worth of rows, as :meth:`Domain.forward` receives them.

    ``rows["x"]`` is the packed tensor of that name: the inputs at their point of the path, the
    context as it is. With the layout Stack its shape is ``(rows, ...)``, with Pad
    ``(rows, longest, ...)``, with Cat ``(items of all rows, ...)``.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        selections: Mapping[str, Selection],
        targets: Targets,
        example: Int[Tensor, " rows"],
        wanted: Wanted | None = None,
    ) -> None:
        self._tensors = tensors
        self._selections = selections
        self._targets = targets
        self._wanted = wanted
        self.example = example

    def __len__(self) -> int:
        return len(self.example)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def owners(self, name: str) -> Int[Tensor, " items"]:
        """The row that every item of ``name`` belongs to (PyG calls it the batch vector)."""
        return self._selections[name].owners()

    def sizes(self, name: str) -> Int[Tensor, " rows"]:
        """The length of the first dimension of ``name`` in every row, before padding."""
        return self._selections[name].sizes.to(self._tensors[name].device)

    @property
    def parts(self) -> int:
        """How many numbers the target of a row names; 0 for functions and where there is none."""
        table = self._targets.table
        return 0 if table is None else table.shape[1]

    def select(
        self, outputs: Float[Tensor, "rows ..."], part: int | None = None
    ) -> Float[Tensor, " numbers"]:
        """The target of each row in the model's output.

        Where several targets of one input are explained, a row is asked for several numbers, and
        there are more numbers than rows; a domain that goes on with them element by element need
        not know. With ``part`` a target that is a tuple names several numbers, such as the two of
        a gap, and that one of them is selected.

        Raises:
            TargetError: a target is missing, of the wrong length or out of range.
            OutputError: the first dimension of ``outputs`` is not the rows.
        """
        return self._targets.select(outputs, self.example, self._wanted, part)


@dataclass(frozen=True, eq=False)
class Wanted:
    """The numbers that are wanted of a pass: the row and the example of each."""

    row: Int[Tensor, " numbers"]
    example: Int[Tensor, " numbers"]


def kind_of(target: Target) -> int | str:
    """Targets of one kind can be in one pass: functions, None, or indices of one length."""
    if target is None or callable(target):
        return "none" if target is None else "function"
    return len(target) if isinstance(target, tuple) else 1


class Targets:
    """The targets of several examples: a table of indices, or functions."""

    def __init__(self, targets: Sequence[Target]) -> None:
        first = targets[0]
        self.functions: list[Callable[[Any], Tensor]] = []
        self.function = torch.zeros(len(targets), dtype=torch.long)
        self.table: Tensor | None = None
        if callable(first) or first is None:
            if len({kind_of(target) for target in targets}) > 1:
                raise TargetError(
                    "targets of one call must be all indices, all None, or all functions "
                    f"(got {[type(t).__name__ for t in targets[:3]]})"
                )
            number = {id(target): target for target in targets if callable(target)}
            self.functions = list(number.values())
            place = {key: i for i, key in enumerate(number)}
            self.function = torch.tensor([place.get(id(target), 0) for target in targets])
            return
        known: dict[int, tuple[int, ...]] = {}  # most calls have one target for all examples
        for target in targets:
            if id(target) not in known:
                known[id(target)] = _indices(target)
        indices = [known[id(target)] for target in targets]
        if len({len(index) for index in indices}) > 1:
            raise TargetError(f"targets of one call must have one length (got {indices[:3]})")
        self.table = torch.tensor(indices, dtype=torch.long)
        self.bounds = self.table.amax(0).tolist()
        self.shared = indices[0] if len(set(known.values())) == 1 else None

    def select(
        self,
        outputs: Tensor,
        example: Tensor,
        wanted: Wanted | None = None,
        part: int | None = None,
    ) -> Tensor:
        """One number per row of ``outputs``, or those that are wanted."""
        if len(self.functions) == 1 and wanted is None:
            return self.functions[0](outputs)
        if self.functions:
            return self._called(outputs, example, wanted)
        if outputs.dim() == 0 and len(example) == 1 and self.table is None:
            return outputs.view(1)  # what a squeeze makes of a single row
        if outputs.dim() == 0 or outputs.shape[0] != len(example):
            raise OutputError(
                f"the model must give one output per row: expected first dimension "
                f"{len(example)} (got shape {tuple(outputs.shape)}); a mean or sum over the "
                "batch has to be left out, and one example is x[:1]: a tensor is a batch, its "
                "first dimension counts examples"
            )
        shape = tuple(outputs.shape[1:])
        if self.table is None:
            if outputs[0].numel() != 1:
                raise TargetError(
                    f"the model gives an output of shape {shape} per example; say which number "
                    f"to explain, e.g. target=0 (0 to {shape[0] - 1})"
                )
            single = outputs.reshape(len(example))
            return single if wanted is None else single[wanted.row.to(single.device)]
        chosen = slice(part, None if part is None else part + 1)
        if len(self.bounds[chosen]) != len(shape):
            raise TargetError(
                f"target needs one index per output dimension: {len(shape)} for output shape "
                f"{shape} (got {len(self.bounds[chosen])})"
            )
        bounds = self.bounds[chosen]
        if any(bound >= size for bound, size in zip(bounds, shape, strict=True)):
            # Ragged outputs are as long as the longest of these rows needs.
            own = self.table[(example if wanted is None else wanted.example).cpu()]
            bounds = own.amax(0)[chosen].tolist()
        for bound, size in zip(bounds, shape, strict=True):
            if bound >= size:
                raise TargetError(
                    f"target {bound} is out of range for an output of shape {shape} "
                    f"(expected 0 to {size - 1})"
                )
        if self.shared is not None and wanted is None:
            place: Any = (slice(None), *self.shared[chosen])
            return outputs[place]  # the gradient of a view is cheaper than that of a gather
        wanted = wanted or Wanted(torch.arange(len(example)), example)
        index = self.table[wanted.example.cpu(), chosen].to(outputs.device)
        return outputs[(wanted.row.to(outputs.device), *index.unbind(1))]

    def _called(self, outputs: Any, example: Tensor, wanted: Wanted | None) -> Tensor:
        """What the functions say of their own rows."""
        own = self.function[(example if wanted is None else wanted.example).cpu()]
        called: list[int] = torch.unique(own).tolist()
        if wanted is None and len(called) == 1:
            found: Tensor = self.functions[called[0]](outputs)
            return found
        row = torch.arange(len(example)) if wanted is None else wanted.row
        numbers = torch.stack([checked(self.functions[f](outputs), len(example)) for f in called])
        place = torch.searchsorted(torch.tensor(called), own)
        return numbers[place.to(numbers.device), row.to(numbers.device)]


def _indices(target: Target) -> tuple[int, ...]:
    index = target if isinstance(target, tuple) else (target,)
    whole = (i for i in index if isinstance(i, (int, np.integer)) and not isinstance(i, bool))
    good = tuple(int(i) for i in whole if 0 <= i < 2**63)
    if len(good) != len(index) or not index:
        raise TargetError(
            "a target is an index of at least 0 (and below 2**63), a tuple of them, a function "
            f"or None (got {target!r})"
        )
    return good


def checked(output: Any, rows: int) -> Tensor:
    """What a domain's forward gave, if it is one floating-point number per row.

    Raises:
        OutputError: it is no tensor, or of another shape.
        NoGradientError: its numbers are whole.
    """
    if not isinstance(output, Tensor):
        raise OutputError(
            f"forward must give a tensor of {rows} numbers, one per row "
            f"(got {type(output).__name__})"
        )
    if tuple(output.shape) != (rows,):
        raise OutputError(
            f"forward must give one number per row: expected shape ({rows},) "
            f"(got {tuple(output.shape)})"
        )
    if not output.is_floating_point():
        raise NoGradientError(
            f"the explained output has dtype {output.dtype}, which has no gradient; explain a "
            "logit or a probability instead of a class"
        )
    return output


class Batch:
    """Examples packed once, from which rows are gathered by example."""

    def __init__(
        self, examples: Sequence[Example], layouts: Mapping[str, Layout], device: torch.device
    ) -> None:
        names = [*examples[0].inputs, *examples[0].context]
        for position, example in enumerate(examples):
            if [*example.inputs, *example.context] != names:
                raise InputError(
                    f"example {position} has tensors {[*example.inputs, *example.context]}, "
                    f"example 0 has {names}; one call needs the same in all"
                )
        if missing := [name for name in names if name not in layouts]:
            raise InputError(f"no layout is declared for {missing} (declared: {sorted(layouts)})")
        self.layouts = layouts
        self.device = device
        self.input_names = tuple(examples[0].inputs)
        self.dtypes = {name: value.dtype for name, value in examples[0].inputs.items()}
        self.targets = Targets([example.target for example in examples])
        self._own = [example.inputs for example in examples]
        self._packs: list[Pack] = []
        self.inputs = self._pack(self._own)
        self.context = {
            name: self._on(layouts[name].pack([e.context[name] for e in examples], name))
            for name in examples[0].context
        }
        self.room = torch.tensor(self._rooms(examples))

    def pack(self, tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, Pack]:
        """Input-shaped tensors of several examples, under the inputs' layouts."""
        if len(tensors) == len(self._own) and all(map(operator.is_, tensors, self._own)):
            return self.inputs
        return self._pack(tensors)

    @torch.no_grad()
    def _pack(self, tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, Pack]:
        return {
            name: self._on(self.layouts[name].pack([_wide(t[name]) for t in tensors], name))
            for name in self.input_names
        }

    def _on(self, pack: Pack) -> Pack:
        self._packs.append(pack.holding(pack.values.to(self.device)).among(self._packs))
        return self._packs[-1]

    def _rooms(self, examples: Sequence[Example]) -> list[int]:
        """How many rows of each example fit; asked once for all examples of the same shapes."""
        shapes = [
            tuple(v.shape for v in (*e.inputs.values(), *e.context.values())) for e in examples
        ]
        one = dict(zip(shapes, examples, strict=True))
        rooms = {shape: self._rows_that_fit(example) for shape, example in one.items()}
        return [rooms[shape] for shape in shapes]

    def _rows_that_fit(self, example: Example) -> int:
        everything = {**example.inputs, **example.context}
        elements = sum(value.numel() for value in example.inputs.values())
        fits = [self.layouts[n].capacity // self.layouts[n].load(v) for n, v in everything.items()]
        return max(1, min(*fits, CHUNK_ELEMENTS // max(elements, 1)))

    def chunks(self, example: Int[Tensor, " rows"], share: Fraction = WHOLE) -> Iterator[Tensor]:
        """Split requested rows, sorted by size, into chunks of positions that fit one pass.

        A chunk takes this share of the layouts' capacity, and at least one row.
        """
        room = self.room[example]
        order = torch.argsort(room, stable=True)
        room = room[order]
        begin = 0
        while begin < len(order):
            count = max(1, int(int(room[begin]) * share))
            yield order[begin : begin + count]
            begin += count

    @cached_property
    def alike(self) -> Int[Tensor, " examples"]:
        """Equal numbers for examples whose tensors have equal shapes."""
        packs = {**self.inputs, **self.context}.values()
        sizes = torch.stack([pack.sizes for pack in packs], dim=1)
        group: Tensor = torch.unique(sizes, dim=0, return_inverse=True)[1]
        return group

    def rows(
        self,
        example: Int[Tensor, " rows"],
        points: Mapping[str, Tensor],
        wanted: Wanted | None = None,
    ) -> Rows:
        """Rows of these examples with the inputs at ``points`` (packed)."""
        packs = {**self.inputs, **self.context}
        selections = {name: pack.select(example) for name, pack in packs.items()}
        shifts = {
            name: (s.sizes.cumsum(0) - s.sizes).to(self.device) for name, s in selections.items()
        }
        tensors = dict(points)
        for name, pack in self.context.items():
            tensors[name] = selections[name].gather(pack.values, shifts)
        return Rows(tensors, selections, self.targets, example, wanted)


class Space:
    """The space of vectors that are shaped like the inputs of each path, one flat row each.

    Rows of shorter paths end in zeros.
    """

    def __init__(self, packs: Mapping[str, Pack], device: torch.device) -> None:
        self.packs = packs
        self.device = device
        self.width = sum(pack.width for pack in packs.values())

    def zeros(self, count: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "count width"]:
        """Empty vectors."""
        return torch.zeros(count, self.width, dtype=dtype, device=self.device)

    def flat(
        self, selections: Mapping[str, Selection], terms: Mapping[str, Tensor]
    ) -> Float[Tensor, "rows width"]:
        """Packed tensors of many rows as vectors."""
        parts = []
        for name, pack in self.packs.items():
            part = selections[name].flat(terms[name])
            parts.append(nn.functional.pad(part, (0, pack.width - part.shape[1])))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def tensors(
        self,
        vectors: Float[Tensor, "some width"],
        paths: Sequence[int],
        dtypes: Mapping[str, torch.dtype] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Vectors as tensors shaped like the inputs of their paths, on the CPU.

        Every tensor has memory of its own, so that one kept result does not keep all others.
        """
        parts = torch.split(vectors.cpu(), [pack.width for pack in self.packs.values()], dim=1)
        columns = []
        for (name, pack), part in zip(self.packs.items(), parts, strict=True):
            wanted = part.to(part.dtype if dtypes is None else dtypes[name])
            columns.append([value.clone() for value in pack.unflat(wanted, paths)])
        return [dict(zip(self.packs, row, strict=True)) for row in zip(*columns, strict=True)]


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
