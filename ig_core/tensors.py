"""The generic domain: any callable over tensors whose first dimension counts examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ig_core.domain import Domain
from ig_core.errors import InputError, ModelError, OutputError
from ig_core.example import Example, Target, Units
from ig_core.layout import Layout, Stack
from ig_core.rows import Rows

Selector = str | int | Callable[[Any], Tensor] | None
"""The part of a tuple, dict or ModelOutput to explain: its key, position, or a function of it."""


ONE = "; a tensor is a batch: its first dimension counts examples, and x[:1] is the first alone"


@dataclass(frozen=True, eq=False)
class _Part:
    """One example cut out of a batch, with its own extra arguments."""

    inputs: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]


class TensorDomain(Domain):
    """One tensor, a tuple or a dict of tensors; the first dimension counts examples.

    The model is called as ``model(x)``, ``model(x0, x1)`` or ``model(**inputs)``. Extra arguments
    go by keyword and are declared: ``per_example`` tensors are cut along their first dimension
    like the inputs, ``shared`` values are passed as they are. Nothing is tiled silently.

    Args:
        per_example: extra tensors by argument name, one row per example.
        shared: extra arguments by name, the same for all rows.
        output: which part of a tuple, dict or ModelOutput to explain: key, position or function.
        units: what to read in one example, if not every element on its own.
        layouts: another layout per tensor, for example ``{"x": Pad()}`` for ragged lists.
    """

    name = "tensor"

    def __init__(
        self,
        model: Any,
        *,
        per_example: Mapping[str, Tensor] | None = None,
        shared: Mapping[str, Any] | None = None,
        output: Selector = None,
        units: Units | None = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> None:
        super().__init__(model)
        self.per_example = dict(per_example or {})
        self.shared = dict(shared or {})
        self.output = output
        self.units = units
        self.layouts: dict[str, Layout] = dict(layouts or {})
        self._positional = True

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        examples = raw if isinstance(raw, list) else [raw]
        return callable(model) and all(_is_tensors(one) for one in examples)

    def split(self, raw: Any) -> Sequence[Any] | None:
        if isinstance(raw, list):
            named = [self._named(one) for one in raw]
            count = len(named)
        else:
            batch = self._named(raw)
            counts = {name: len(value) if value.dim() else -1 for name, value in batch.items()}
            if len(set(counts.values())) != 1 or -1 in counts.values():
                raise InputError(
                    "all inputs need the same first dimension, which counts examples "
                    f"(got shapes { {n: tuple(v.shape) for n, v in batch.items()} }){ONE}"
                )
            count = next(iter(counts.values()))
            rows = zip(*(value.unbind() for value in batch.values()), strict=True)
            named = [dict(zip(batch, row, strict=True)) for row in rows]
        if clash := {n for one in named for n in one} & set(self.per_example):
            raise InputError(
                f"{sorted(clash)} names both an input and an extra argument; pass the inputs as "
                "a dict under the names that the model's arguments have"
            )
        for name, value in self.per_example.items():
            if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != count:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(
                    f"per_example[{name!r}] needs one row for each of {count} examples "
                    f"(got {got}); an argument that is the same for all goes into shared{ONE}"
                )
        return [
            _Part(one, {n: v[i] for n, v in self.per_example.items()})
            for i, one in enumerate(named)
        ]

    def encode(self, raw: Any, target: Target = None) -> Example:
        part = raw if isinstance(raw, _Part) else _Part(self._named(raw), {})
        for name in (*part.inputs, *part.extras):
            if name not in self.layouts:
                self.layouts[name] = Stack()
        return Example(part.inputs, part.extras, target, self.units)

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        inputs = {name: rows[name] for name in self._names}
        extras = {name: rows[name] for name in self.per_example if name in rows} | self.shared
        try:
            if self._positional:
                outputs = self.model(*inputs.values(), **extras)
            else:
                outputs = self.model(**inputs, **extras)
        except RuntimeError as error:
            if any(value.dim() > 1 for value in inputs.values()):
                raise
            told = "each example was a single number: a tensor's first dimension counts examples"
            raise ModelError(f"{error}; {told}, and one vector x is the batch x[None]") from error
        return rows.select(pick(outputs, self.output))

    def _named(self, raw: Any) -> dict[str, Tensor]:
        self._positional = not isinstance(raw, Mapping)
        if isinstance(raw, Mapping):
            named = dict(raw)
        elif isinstance(raw, tuple):
            named = {f"x{i}": value for i, value in enumerate(raw)}
        else:
            named = {"x": raw}
        for name, value in named.items():
            if not isinstance(value, Tensor):
                raise InputError(
                    f"{name!r} must be a tensor (got {type(value).__name__}); "
                    "torch.as_tensor(...) makes one of an array"
                )
            if value.is_nested:
                raise InputError(f"{name!r} is nested: pass the list [*x.unbind()], and layouts=")
        if not named:
            raise InputError("there is no input tensor (got an empty collection)")
        self._names = tuple(named)
        return named


def _is_tensors(one: Any) -> bool:
    """One tensor (or an array, which is refused with advice later), a tuple or a dict of them."""
    parts = one.values() if isinstance(one, Mapping) else one if isinstance(one, tuple) else [one]
    return all(isinstance(part, (Tensor, np.ndarray)) for part in parts)


def pick(outputs: Any, selector: Selector) -> Tensor:
    """The tensor to explain in whatever a model returned.

    Raises:
        OutputError: there are several and none is chosen, or the choice is no tensor.
    """
    if callable(selector):
        chosen = selector(outputs)
    elif selector is not None:
        try:
            chosen = outputs[selector]
        except (KeyError, IndexError, TypeError) as error:
            raise OutputError(
                f"output={selector!r} is not in the model's {_kind(outputs)}"
            ) from error
    elif isinstance(outputs, Tensor):
        chosen = outputs
    elif not isinstance(outputs, (Mapping, tuple, list)):
        raise OutputError(f"the model must give tensors (got {_kind(outputs)})")
    else:
        only = list(outputs.values() if isinstance(outputs, Mapping) else outputs)
        if len(only) != 1:
            raise OutputError(
                f"the model gives a {_kind(outputs)}; say which part to explain with output="
            )
        chosen = only[0]
    if not isinstance(chosen, Tensor):
        raise OutputError(f"the explained output must be a tensor (got {type(chosen).__name__})")
    return chosen


def _kind(outputs: Any) -> str:
    name = type(outputs).__name__
    if isinstance(outputs, Mapping):
        return f"{name} with keys {list(outputs)}"
    if isinstance(outputs, (tuple, list)):
        return f"{name} of {len(outputs)} ({', '.join(type(o).__name__ for o in outputs)})"
    return name
