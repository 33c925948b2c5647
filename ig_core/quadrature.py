"""Nodes, weights and error estimates of one-dimensional integrals; no tensors of a model.

A :class:`Rule` is what the user asks for; :meth:`Rule.begin` gives a :class:`Process`, which is
asked for nodes, fed with what was found there, and says which examples are done. The vectors that
it sums are opaque: it only scales, adds and measures them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import InputError

Status = Literal["converged", "noise_floor", "budget", "failed", "exact"]
"""How an integral ended; :data:`ig_core.attribution.ADVICE` says what each one means."""


class Vectors(Protocol):
    """One vector per example, as the engine sums them."""

    def mix(self, own: float, *others: tuple[float, Any]) -> Any:
        """The linear combination ``own * self + weight * other + ...``."""

    def norms(self) -> Float[Tensor, " examples"]:
        """L1 norm per example."""

    def totals(self) -> Float[Tensor, " examples"]:
        """Signed sum per example."""


@dataclass(frozen=True, eq=False)
class Request:
    """Points at which the integrand is wanted: leg and t of every row."""

    leg: Int[Tensor, " rows"]
    t: Float[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class Found:
    """What the engine found at some rows of a request.

    ``value`` is F, ``slope`` is dF/dt, and ``add(sums, weight)`` adds the weighted gradient
    times velocity of each row to its example's vector.
    """

    rows: Int[Tensor, " part"]
    value: Float[Tensor, " part"]
    slope: Float[Tensor, " part"]
    add: Callable[[Any, Float[Tensor, " part"]], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The integrals of the examples that are done, and how good they are.

    ``error`` is an estimate of the L1 error, ``spread`` the vectors whose absolute values say
    where it sits; both are NaN and None for a rule that has no estimate.
    """

    done: Int[Tensor, " done"]
    integral: Any
    error: Float[Tensor, " examples"]
    spread: Any | None
    spread_scale: Float[Tensor, " examples"]
    status: Sequence[Status]


@dataclass(frozen=True, eq=False)
class Goal:
    """What is to be reached, per example.

    ``owner`` maps legs to examples, ``noise`` is the smallest difference of F that its dtype
    can tell, ``delta`` is F(x) - F(x').
    """

    owner: Int[Tensor, " legs"]
    delta: Float[Tensor, " examples"]
    noise: Float[Tensor, " examples"]
    tol: float
    budget: int

    def per_example(self, per_leg: Float[Tensor, " legs"]) -> Float[Tensor, " examples"]:
        """Sum over the legs of each example."""
        total = torch.zeros(len(self.delta), dtype=torch.float64)
        return total.index_add_(0, self.owner, per_leg)


class Process(ABC):
    """One integration under way, over all examples at once."""

    @abstractmethod
    def request(self) -> Request | None:
        """The next points, or None when every example is done."""

    @abstractmethod
    def receive(self, found: Found) -> None:
        """Take in some rows of the last request."""

    @abstractmethod
    def settle(self) -> Outcome:
        """After the last row of a request: which examples are done with it."""

    @abstractmethod
    def drop(self, examples: Int[Tensor, " failed"]) -> None:
        """Forget examples whose model failed."""


class Rule(ABC):
    """Where the integrand is evaluated, and when that is enough."""

    name: ClassVar[str]

    @abstractmethod
    def begin(self, goal: Goal, zeros: Callable[[], Vectors]) -> Process:
        """Start integrating; ``zeros`` makes one empty vector per example."""


@dataclass(frozen=True, eq=False)
class Fixed(Rule):
    """The same nodes for every leg, for reproducing papers and for comparing.

    It has no error estimate: ``error`` is NaN, and the status says whether the residual passed.
    """

    name: ClassVar[str] = "fixed"
    nodes: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]

    def begin(self, goal: Goal, zeros: Callable[[], Vectors]) -> Process:
        return _FixedProcess(self, goal, zeros)


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
    def __init__(self, rule: Fixed, goal: Goal, zeros: Callable[[], Vectors]) -> None:
        self.goal = goal
        self.open = torch.ones(len(goal.delta), dtype=torch.bool)
        self.total = zeros()
        legs = torch.arange(len(goal.owner))
        self.wanted: Request | None = Request(
            legs.repeat_interleave(len(rule.nodes)),
            torch.as_tensor(rule.nodes, dtype=torch.float64).repeat(len(legs)),
        )
        self.weights = torch.as_tensor(rule.weights, dtype=torch.float64).repeat(len(legs))

    def request(self) -> Request | None:
        wanted, self.wanted = self.wanted, None
        return wanted

    def receive(self, found: Found) -> None:
        found.add(self.total, self.weights[found.rows])

    def settle(self) -> Outcome:
        done = self.open.nonzero().view(-1)
        passed = _residual_passes(self.goal, self.total)
        return Outcome(
            done,
            self.total,
            torch.full_like(self.goal.delta, torch.nan),
            None,
            torch.full_like(self.goal.delta, torch.nan),
            ["converged" if passed[i] else "budget" for i in done.tolist()],
        )

    def drop(self, examples: Int[Tensor, " failed"]) -> None:
        self.open[examples] = False


def _residual_passes(goal: Goal, total: Vectors) -> Bool[Tensor, " examples"]:
    """|sum I - dF| <= tol * max(|dF|, |I|_1 / 100), or within the noise of F."""
    residual = (total.totals() - goal.delta).abs()
    scale = torch.maximum(goal.delta.abs(), 0.01 * total.norms())
    return (residual <= goal.tol * scale) | (residual <= goal.noise)


# Five equispaced points on a panel of length 1: what Boole's rule and Simpson's rule (which uses
# three of them) predict for the integral over each of the four gaps.
_POINTS = np.linspace(0, 1, 5)


def _gap_weights(chosen: Sequence[int]) -> Float[np.ndarray, "4 5"]:
    weights = np.zeros((4, 5))
    for k in chosen:
        basis = np.poly1d([1.0])
        for j in chosen:
            if j != k:
                basis *= np.poly1d([1, -_POINTS[j]]) / (_POINTS[k] - _POINTS[j])
        weights[:, k] = np.diff(np.polyval(basis.integ(), _POINTS))
    return weights


_GAPS_BOOLE = torch.as_tensor(_gap_weights((0, 1, 2, 3, 4)))
_GAPS_SIMPSON = torch.as_tensor(_gap_weights((0, 2, 4)))


@dataclass(frozen=True)
class Doubling(Rule):
    """Closed equispaced nodes, doubled until the error estimate and the residual both pass.

    Every point is reused. The value is Boole's rule B, the estimate its L1 distance D to
    Simpson's rule on half the nodes, scaled by how much better B than Simpson predicts the
    differences of F between neighbouring nodes, which are known exactly::

        e = max(|D|_1 * min(1, max(4 R_B / R_S, 1/2)), |sum B - (F(x) - F(x'))|)
    """

    name: ClassVar[str] = "adaptive"
    first: int = 8

    def begin(self, goal: Goal, zeros: Callable[[], Vectors]) -> Process:
        return _DoublingProcess(self, goal, zeros)


class _DoublingProcess(Process):
    def __init__(self, rule: Doubling, goal: Goal, zeros: Callable[[], Vectors]) -> None:
        self.goal = goal
        self.open = torch.ones(len(goal.delta), dtype=torch.bool)
        self.intervals = rule.first
        self.sums = [zeros(), zeros(), zeros()]  # trapezoid on n, n / 2 and n / 4 intervals
        legs = len(goal.owner)
        self.value = torch.zeros(legs, rule.first + 1, dtype=torch.float64)
        self.slope = torch.zeros(legs, rule.first + 1, dtype=torch.float64)
        self.position = torch.arange(rule.first + 1)
        self.wanted: Request | None = None
        self.column: Tensor = torch.empty(0)

    def request(self) -> Request | None:
        legs = self.open[self.goal.owner].nonzero().view(-1)
        if not len(legs):
            return None
        count = len(self.position)
        self.column = self.position.repeat(len(legs))
        t = self.column.double() / self.intervals
        self.wanted = Request(legs.repeat_interleave(count), t)
        return self.wanted

    def receive(self, found: Found) -> None:
        assert self.wanted is not None
        leg, column = self.wanted.leg[found.rows], self.column[found.rows]
        self.value[leg, column] = found.value
        self.slope[leg, column] = found.slope
        first = len(self.position) == self.intervals + 1
        ends = (column == 0) | (column == self.intervals)
        for sums, stride in zip(self.sums, (1, 2, 4) if first else (1,), strict=False):
            weight = (column % stride == 0) * (1 - 0.5 * ends.double())
            found.add(sums, weight * stride / self.intervals)

    def settle(self) -> Outcome:
        newest, half, quarter = self.sums
        simpson_half = half.mix(4 / 3, (-1 / 3, quarter))
        boole = newest.mix(64 / 45, (-16 / 45, half), (-1 / 15, simpson_half))
        difference = boole.mix(1.0, (-1.0, simpson_half))

        goal = self.goal
        norm, residual = boole.norms(), (boole.totals() - goal.delta).abs()
        scale = torch.where(norm > 0, norm, torch.ones_like(norm))
        trust = (4 * self._misfit(_GAPS_BOOLE) / self._misfit(_GAPS_SIMPSON)).nan_to_num(nan=0.5)
        trust = trust.clamp(0.5, 1.0)
        error = torch.maximum(difference.norms() * trust, residual)
        near = (error <= goal.tol * scale) & (
            residual <= goal.tol * torch.maximum(goal.delta.abs(), 0.01 * norm)
        )
        floor = (error - goal.noise <= goal.tol * scale) & (residual <= goal.noise)
        legs = goal.per_example(torch.ones(len(goal.owner), dtype=torch.float64))
        spent = legs * (2 * self.intervals + 1) > goal.budget
        done = self.open & (near | floor | spent)
        status: list[Status] = [
            "converged" if near[i] else "noise_floor" if floor[i] else "budget"
            for i in done.nonzero().view(-1).tolist()
        ]
        self.open = self.open & ~done
        if bool(self.open.any()):
            self._double(newest, half)
        return Outcome(done.nonzero().view(-1), boole, error, difference, trust, status)

    def _double(self, newest: Vectors, half: Vectors) -> None:
        self.intervals *= 2
        self.sums = [newest.mix(0.5), newest, half]
        self.position = torch.arange(1, self.intervals, 2)
        self.value, self.slope = _spaced(self.value), _spaced(self.slope)

    def _misfit(self, gaps: Float[Tensor, "4 5"]) -> Float[Tensor, " examples"]:
        """How far the rule's interpolant misses the known differences of F, gap by gap."""
        slope = self.slope.unfold(1, 5, 4)
        exact = self.value.unfold(1, 5, 4).diff(dim=2)
        predicted = slope @ gaps.T * (4 / self.intervals)
        return self.goal.per_example((predicted - exact).abs().sum((1, 2)))

    def drop(self, examples: Int[Tensor, " failed"]) -> None:
        self.open[examples] = False


def _spaced(known: Float[Tensor, "legs old"]) -> Float[Tensor, "legs new"]:
    """Room between neighbouring columns for what will be found there."""
    wide = known.new_zeros(len(known), 2 * known.shape[1] - 1)
    wide[:, ::2] = known
    return wide


RULES: dict[str, Callable[[int], Rule]] = {
    "gauss-legendre": gauss_legendre,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
}
"""Fixed rules by name; ``"adaptive"`` is :class:`Doubling`."""


def rule_named(name: str, steps: int | None) -> Rule | None:
    """The rule of that name, or None when there is no such rule.

    Raises:
        InputError: a fixed rule without ``steps``, or the adaptive rule with them.
    """
    if name == Doubling.name:
        if steps is not None:
            raise InputError(
                f"rule='adaptive' chooses its own steps (got steps={steps}); set tol and budget, "
                "or ask for rule='gauss-legendre'"
            )
        return Doubling()
    if name not in RULES:
        return None
    if steps is None:
        raise InputError(f"rule={name!r} needs steps, e.g. steps=50")
    return RULES[name](steps)
