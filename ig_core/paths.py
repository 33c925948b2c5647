"""A Path is a curve from the baseline (t = 0) to the input (t = 1)."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core.errors import InputError
from ig_core.example import Example

if TYPE_CHECKING:
    from ig_core.domain import Domain

Inputs = Mapping[str, Float[Tensor, "..."]]
Leg = tuple[Inputs, Inputs]


class Path(ABC):
    """A curve known in advance, as one or several smooth legs.

    Subclass it for another curve; ``at`` is called with packed tensors of many rows::

        class Quadratic(Path):
            name = "quadratic"

            def at(self, start, end, t):
                return start + t**2 * (end - start), 2 * t * (end - start)
    """

    name: ClassVar[str]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the path is limited to; empty for all."""
    straight: ClassVar[bool] = False
    """Whether every leg is a straight line, along which ReLU networks are piecewise linear."""

    def of(self, domain: Domain) -> Path:
        """The path as it runs in this domain's model, asked for once a call.

        Override it for a curve that must know the model, such as its vocabulary; give back
        another object, since this one may serve other models as well.
        """
        return self

    def legs(self, example: Example, start: Inputs) -> Sequence[Leg]:
        """The smooth pieces of the curve, each with its ends; one by default."""
        return [(start, example.inputs)]

    @abstractmethod
    def at(self, start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Point and velocity (derivative by t) of a leg; ``t`` broadcasts against its ends."""


class Straight(Path):
    """x' + t (x - x'), the path of Sundararajan, Taly and Yan (2017, arXiv:1703.01365)."""

    name = "straight"
    straight = True

    def at(self, start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        # lerp meets both ends exactly, which start + t * velocity does not.
        return torch.lerp(start, end, t), end - start


class Piecewise(Straight):
    """Straight legs through given points, on the way from the baseline to the input.

    Completeness holds on every leg, hence in sum. ``points`` are tensors shaped like one
    example's input (or mappings by input name), or a function ``(example, start) -> points``.
    """

    name = "piecewise"

    def __init__(
        self, points: Sequence[Tensor | Inputs] | Callable[[Example, Inputs], Sequence[Inputs]]
    ) -> None:
        self.points = points

    def legs(self, example: Example, start: Inputs) -> Sequence[Leg]:
        points = self.points(example, start) if callable(self.points) else self.points
        stops = [start, *(_as_inputs(point, example) for point in points), example.inputs]
        legs = list(itertools.pairwise(stops))
        # A leg of no length adds nothing, but may lie where the gradient is infinite.
        return [leg for leg in legs if not _same(*leg)] or legs[:1]


def _same(one: Inputs, other: Inputs) -> bool:
    return all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one)


def _as_inputs(point: Tensor | Inputs, example: Example) -> Inputs:
    named = dict.fromkeys(example.inputs, point) if isinstance(point, Tensor) else point
    if not isinstance(named, Mapping) or not all(isinstance(v, Tensor) for v in named.values()):
        raise InputError(f"a point of a piecewise path must be a tensor (got {point!r:.80})")
    wanted = {name: tuple(value.shape) for name, value in example.inputs.items()}
    got = {name: tuple(value.shape) for name, value in named.items()}
    if wanted != got:
        raise InputError(f"a point of a piecewise path must have shapes {wanted} (got {got})")
    return named
