"""A Baseline says where the path starts: what "absence" means for an input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core.errors import BaselineError
from ig_core.example import Example, all_finite

if TYPE_CHECKING:
    from ig_core.domain import Domain

Inputs = Mapping[str, Float[Tensor, "..."]]


class Baseline(ABC):
    """Where the path starts. Several starts are averaged and their spread is reported."""

    name: ClassVar[str]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the baseline is limited to; empty for all."""

    @abstractmethod
    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        """One or several starts, each shaped like ``example.inputs``."""


class Zeros(Baseline):
    """All inputs zero."""

    name = "zeros"

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        return [{name: torch.zeros_like(value) for name, value in example.inputs.items()}]


class Constant(Baseline):
    """Every input element the same number."""

    name = "constant"

    def __init__(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise BaselineError(f"a constant baseline is a number (got {value!r})")
        self.value: float = float(value)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        # By way of float64: what the dtype cannot hold becomes infinite, which is refused later.
        wide = torch.tensor(self.value, dtype=torch.float64)
        return [{n: wide.to(v).expand_as(v).clone() for n, v in example.inputs.items()}]


class Given(Baseline):
    """A tensor of the user's, shaped like one example's input (or a mapping by input name)."""

    name = "given"

    def __init__(self, value: Tensor | Inputs) -> None:
        self.value = value

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        return [_named(self.value, example)]


class Mean(Baseline):
    """The mean of a data set, whose first dimension counts examples."""

    name = "mean"

    def __init__(self, data: Tensor | Inputs) -> None:
        self.data = data

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        return [{n: v.mean(0) for n, v in _data_set(self.data, example).items()}]


class Samples(Baseline):
    """Rows drawn from a data set: the starts of Expected Gradients (Erion et al. 2021,
    arXiv:1906.10670). ``data`` counts examples along its first dimension."""

    name = "samples"

    def __init__(self, data: Tensor | Inputs, count: int = 16) -> None:
        if count < 1:
            raise BaselineError(f"count must be at least 1 (got {count})")
        self.data = data
        self.count = count

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Inputs]:
        data = _data_set(self.data, example)
        size = min(map(len, data.values()))
        drawn = torch.randint(size, (self.count,), generator=generator)
        return [{name: value[i] for name, value in data.items()} for i in drawn.tolist()]


def check_start(example: Example, start: Inputs) -> Inputs:
    """One start of one example, as :func:`check_starts` gives it."""
    return check_starts([example], [[start]])[0][0]


def check_starts(
    examples: Sequence[Example], starts: Sequence[Sequence[Inputs]]
) -> list[list[Inputs]]:
    """The starts, if they fit their examples, with elements of no unit at the input's value.

    Such elements (special tokens, say) take no part in the path whatever the baseline is, and
    removing units never touches them: with all units removed the output is F(x').

    Raises:
        BaselineError: other names, another shape or dtype, NaN or infinity, or no numbers.
    """
    for example, several in zip(examples, starts, strict=True):
        for start in several:
            _check_kind(example, start)
    if not all_finite([value for s in starts for start in s for value in start.values()]):
        named = ((n, v) for several in starts for start in several for n, v in start.items())
        name = next(name for name, value in named if not all_finite([value]))
        raise BaselineError(f"the baseline of {name!r} holds NaN or infinity")
    return [
        [{name: _held(example, name, start[name]) for name in example.inputs} for start in several]
        for example, several in zip(examples, starts, strict=True)
    ]


def _check_kind(example: Example, start: Inputs) -> None:
    if not isinstance(start, Mapping) or start.keys() != example.inputs.keys():
        told = sorted(start) if isinstance(start, Mapping) else type(start).__name__
        raise BaselineError(
            f"the baseline must name the inputs {sorted(example.inputs)} (got {told})"
        )
    for name, value in example.inputs.items():
        got = start[name]
        if not isinstance(got, Tensor) or got.shape != value.shape or got.dtype != value.dtype:
            raise BaselineError(
                f"the baseline of {name!r} must be {_described(value)}, like one example's input "
                f"(got {_described(got)})"
            )
        if got.is_meta:
            raise BaselineError(f"the baseline of {name!r} is on 'meta', without numbers")


def _held(example: Example, name: str, start: Tensor) -> Tensor:
    value = example.inputs[name]
    index = None if example.units is None else example.units.index.get(name)
    if example.units is None or (index is not None and bool((index >= 0).all())):
        return start
    if index is None:
        return value
    moving = (index >= 0).to(value.device).view(*index.shape, *(1,) * (value.dim() - index.dim()))
    return torch.where(moving, start.to(value.device), value)


def _named(value: Tensor | Inputs, example: Example) -> Inputs:
    if not isinstance(value, Tensor):
        return value
    if len(example.inputs) != 1:
        raise BaselineError(
            f"a baseline of {len(example.inputs)} inputs is a mapping with the names "
            f"{sorted(example.inputs)} (got one tensor)"
        )
    return dict.fromkeys(example.inputs, value)


def _data_set(data: Tensor | Inputs, example: Example) -> Inputs:
    named = _named(data, example)
    for name, value in named.items():
        if not isinstance(value, Tensor) or not value.dim() or not value.is_floating_point():
            raise BaselineError(
                f"the baselines' data set for {name!r} must be a tensor of floating-point numbers "
                f"whose first dimension counts examples (got {_described(value)})"
            )
        if not len(value):
            raise BaselineError("the data set to take baselines from is empty")
    return named


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype} of shape {tuple(value.shape)}"
