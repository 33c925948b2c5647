"""Nodes, weights and error estimates of one-dimensional integrals; no tensors of a model.

A :class:`Rule` is what the user asks for; :meth:`Rule.begin` gives a :class:`Process`, which is
asked for nodes, fed with what was found there, and says which paths are done. The vectors that it
sums are flat rows to it: it only scales, adds and measures them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import InputError

NOISE_ULPS = 8.0
"""F is taken to be known to this many units of its dtype's rounding."""

Status = Literal["converged", "noise_floor", "budget", "failed", "one_shot"]
"""How an integral ended; :data:`ig_core.attribution.ADVICE` says what each one means."""


class Space(Protocol):
    """Where the vectors of the integrals live: one row for each path."""

    def zeros(self, count: int, dtype: torch.dtype = ...) -> Float[Tensor, "count width"]:
        """Empty vectors."""


@dataclass(frozen=True, eq=False)
class Request:
    """Points at which the integrand is wanted: leg and t of every row."""

    leg: Int[Tensor, " rows"]
    t: Float[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class Search:
    """Neighbouring points of paths, in order of leg and t, between which there may be kinks.

    Those of the ``operation``-th operation of a forward pass that has any are wanted.
    """

    leg: Int[Tensor, " points"]
    t: Float[Tensor, " points"]
    operation: int


@dataclass(frozen=True, eq=False)
class Kinked:
    """What the engine found at some points of a search.

    ``value`` is F there, ``after`` the point before each kink and ``t`` its place. ``choices``:
    between neighbours there may be more kinks than were found.
    """

    points: Int[Tensor, " part"]
    value: Float[Tensor, " part"]
    after: Int[Tensor, " kinks"]
    t: Float[Tensor, " kinks"]
    choices: bool


@dataclass(frozen=True, eq=False)
class Found:
    """What the engine found at some rows of a request.

    ``value`` is F, ``slope`` is dF/dt, ``vectors`` the gradient times velocity. ``endless`` says
    where the gradient is not finite while F is; slope and vector are zero there.
    """

    rows: Int[Tensor, " part"]
    value: Float[Tensor, " part"]
    slope: Float[Tensor, " part"]
    vectors: Float[Tensor, "part width"]
    endless: Bool[Tensor, " part"] | None = None


@dataclass(frozen=True, eq=False)
class Troubles:
    """The worst leaves of the paths that did not converge, the worst of each path first.

    ``row`` is the path's place in what this belongs to. ``leg`` counts from 1 within the path, and
    is 0 where that has only one; ``start`` and ``end`` are t. ``share`` is the leaf's part of the
    summed errors of the path's leaves, ``doubt`` says which elements its own error sits in.
    """

    row: Int[Tensor, " leaves"]
    leg: Int[Tensor, " leaves"]
    start: Float[Tensor, " leaves"]
    end: Float[Tensor, " leaves"]
    share: Float[Tensor, " leaves"]
    doubt: Float[Tensor, "leaves width"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The integrals of the paths that are done, one row each, and how good they are.

    ``error`` is an estimate of the L1 error and ``doubt`` says which elements it sits in; NaN and
    None for a rule that has no estimate. ``sum_only`` says that the leaves' errors pass and only
    the sum misses F(x) - F(x'); ``worst`` is None where all converged, or a rule does not say.
    """

    done: Int[Tensor, " done"]
    integral: Float[Tensor, "done width"]
    error: Float[Tensor, " done"]
    doubt: Float[Tensor, "done width"] | None
    status: Sequence[Status]
    sum_only: Sequence[bool] = ()
    worst: Troubles | None = None


@dataclass(frozen=True)
class Structure:
    """What the operations between the inputs and F are, as far as autograd tells.

    ``smooth``: none of them has a kink. ``linear``: each is affine or has kinks, so that F is
    piecewise linear along a straight leg; ``curve`` says why it is not. ``traced``: what
    has kinks is given piecewise linear arguments, so that the kinks can be computed;
    ``operations`` in a forward pass have them.
    """

    smooth: bool = False
    linear: bool = False
    traced: bool = False
    operations: int = 0
    curve: str = ""


@dataclass(frozen=True, eq=False)
class Goal:
    """What is to be reached, path by path.

    ``owner`` maps legs to paths, ``delta`` is F(x) - F(x'), ``epsilon`` the rounding of the
    dtype of F and ``noise`` the smallest difference of F that can be told with it. ``tol`` is
    relative, ``budget`` counts the points of a path.
    """

    owner: Int[Tensor, " legs"]
    delta: Float[Tensor, " paths"]
    noise: Float[Tensor, " paths"]
    epsilon: float
    tol: float
    budget: int
    structure: Structure = Structure()

    def allowed(self, norm: Float[Tensor, " paths"]) -> Float[Tensor, " paths"]:
        """The L1 error that an integral of this L1 norm may have: tol * |I|_1, or tol for zero."""
        return self.tol * torch.where(norm > 0, norm, torch.ones_like(norm))

    def residual_passes(
        self, total: Float[Tensor, " paths"], norm: Float[Tensor, " paths"]
    ) -> Bool[Tensor, " paths"]:
        """|sum I - dF| <= tol * max(|dF|, |I|_1 / 100), or within the noise of F."""
        residual = (total - self.delta).abs()
        scale = torch.maximum(self.delta.abs(), 0.01 * norm)
        return (residual <= self.tol * scale) | (residual <= self.noise)


class Process(ABC):
    """One integration under way, over all examples at once."""

    open_ends: bool = False
    """May the gradient be infinite at the ends of a leg?"""

    @abstractmethod
    def request(self) -> Request | Search | None:
        """The next points, or None when every example is done."""

    @abstractmethod
    def receive(self, found: Found) -> None:
        """Take in some rows of the last request."""

    def meet(self, kinks: Kinked) -> None:
        """Take in a part of what a search found."""
        raise NotImplementedError("a process that searches for kinks takes them in")

    @abstractmethod
    def settle(self) -> Outcome:
        """After the last row of a request: which examples are done with it."""

    @abstractmethod
    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        """Forget paths on which the model failed."""


class Rule(ABC):
    """Where the integrand is evaluated, and when that is enough."""

    name: ClassVar[str]
    looks: ClassVar[bool] = False
    """Whether it wants to know the structure of the model, which costs passes over one row."""

    @abstractmethod
    def begin(self, goal: Goal, space: Space) -> Process:
        """Start integrating over all paths at once."""


@dataclass(frozen=True, eq=False)
class Fixed(Rule):
    """The same nodes for every leg, for reproducing papers and for comparing.

    It has no error estimate: ``error`` is NaN, and the status says whether the residual passed.
    """

    name: ClassVar[str] = "fixed"
    nodes: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]

    def begin(self, goal: Goal, space: Space) -> Process:
        return _FixedProcess(self, goal, space)


def gauss_legendre(steps: int) -> Fixed:
    """Gauss-Legendre: exact for polynomials of degree 2 * steps - 1.

    >>> rule = gauss_legendre(3)
    >>> float(rule.weights @ rule.nodes**5)  # doctest: +ELLIPSIS
    0.1666666666...
    """
    nodes, weights = _leggauss(_positive(steps))
    return Fixed((nodes + 1) / 2, weights / 2)


@cache
def _leggauss(steps: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    return np.polynomial.legendre.leggauss(steps)


def midpoint(steps: int) -> Fixed:
    """Midpoints of equal intervals: the Riemann sum of most papers, centred."""
    return Fixed((np.arange(_positive(steps)) + 0.5) / steps, np.full(steps, 1 / steps))


def trapezoid(steps: int) -> Fixed:
    """Trapezoid on ``steps`` equal intervals; its weights sum to one."""
    weights = np.full(_positive(steps) + 1, 1 / steps)
    weights[[0, -1]] /= 2
    return Fixed(np.linspace(0, 1, steps + 1), weights)


def _positive(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number of at least 1 (got {steps!r})")
    return steps


class _FixedProcess(Process):
    def __init__(self, rule: Fixed, goal: Goal, space: Space) -> None:
        self.goal = goal
        self.open = torch.ones(len(goal.delta), dtype=torch.bool)
        self.total = space.zeros(len(goal.delta))
        legs = torch.arange(len(goal.owner))
        self.asked = Request(
            legs.repeat_interleave(len(rule.nodes)),
            torch.as_tensor(rule.nodes, dtype=torch.float64).repeat(len(legs)),
        )
        self.weights = torch.as_tensor(rule.weights, dtype=torch.float64).repeat(len(legs))

    def request(self) -> Request | None:
        return self.asked if bool(self.open.any()) else None

    def receive(self, found: Found) -> None:
        path = self.goal.owner[self.asked.leg[found.rows]].to(self.total.device)
        weight = self.weights[found.rows].to(self.total.device)
        self.total.index_add_(0, path, found.vectors.double() * weight[:, None])

    def settle(self) -> Outcome:
        done = self.open.nonzero().view(-1)
        self.open = torch.zeros_like(self.open)
        passed = self.goal.residual_passes(self.total.sum(1).cpu(), self.total.abs().sum(1).cpu())
        return Outcome(
            done,
            self.total[done.to(self.total.device)],
            torch.full((len(done),), torch.nan, dtype=torch.float64),
            None,
            ["converged" if passed[i] else "budget" for i in done.tolist()],
        )

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False


FIXED_RULES: dict[str, Callable[[int], Fixed]] = {
    "gauss-legendre": gauss_legendre,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
}
"""Rules that need ``steps``, by name."""
