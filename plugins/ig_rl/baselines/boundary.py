"""The boundary between two actions: the point of a line where an agent is undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Baseline, BaselineError, Domain, Example
from ig_rl.agents import Agent, Point
from ig_rl.baselines.starts import Found, OnPath, agents_of
from ig_rl.choices import asked
from ig_rl.observations.situations import ROWS
from ig_rl.observations.spaces import Tensors

if TYPE_CHECKING:
    from ig_rl.domain import AgentDomain

HALVINGS = 200
"""More than a float64 between 0 and 1 can be halved before its neighbours meet."""


class DecisionBoundary(Baseline):
    """Where the agent is undecided between the two actions of a gap: F(x') = 0.

    x' lies on the line from the observation to the nearest visited state in which the other
    action of the pair has the higher score, found by bisection in float64; distances are counted
    in standard deviations of the visited states. The values then sum to the gap itself (boundary
    attributions: Wang, Fredrikson, Datta 2021, arXiv:2103.11257).

    >>> result = ig.attribute(model, x, baseline=ig_rl.DecisionBoundary(states))
    >>> round(abs(result.at_baseline), 6), round(float(result.scores.sum()), 6)
    (0.0, 2.0)
    """

    name = "decision-boundary"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = agents_of(domain, self.name)
        visited = own.starts.visited(self.states, whose=self.name)
        return [OnPath(_boundary(own, example, visited))]


def _boundary(domain: AgentDomain, example: Example, visited: Tensors) -> Tensors:
    """The point between an observation and the nearest state that prefers the other action.

    Raises:
        BaselineError: the explained number is no gap, or no visited state prefers it.
    """
    if domain.choices.takes != 2 or domain.unrolled:
        raise BaselineError(
            "a decision boundary lies between the two actions of a gap of one observation; "
            f"explain='gap' has one (got explain={domain.explain!r}"
            f"{', unrolled' if domain.unrolled else ''})"
        )
    gap = _Gap(domain, example)
    x = {name: value.double() for name, value in example.inputs.items()}
    states = {name: value.double() for name, value in visited.items()}
    here = float(gap({name: value[None] for name, value in x.items()}))
    if not here:
        return dict(example.inputs)
    other = (gap(states) * here < 0).nonzero().flatten()
    if not len(other):
        first, second = (domain.action_names[a] for a in gap.pair)
        wanted, least = (second, first) if here > 0 else (first, second)
        raise BaselineError(
            f"none of {len(next(iter(states.values())))} visited states has a higher score for "
            f"{wanted} than for {least}: there is no boundary to find; pass more states, or "
            "another pair as target"
        )
    end = _nearest(x, states, other)
    share = _crossing(gap, x, end, here)
    return {n: (v + share * (end[n] - v)).to(example.inputs[n].dtype) for n, v in x.items()}


class _Gap:
    """The explained gap in float64, at any observations in the place of the example's."""

    def __init__(self, domain: AgentDomain, example: Example) -> None:
        wide: Agent = domain.agent.converted(torch.float64)
        self.agent = wide
        self.domain = domain
        self.pair: tuple[int, ...] = example.target  # type: ignore[assignment]
        self.state = [value.double() for name, value in example.context.items() if name != "action"]

    def __call__(self, z: Tensors) -> Float[Tensor, " rows"]:
        rows = len(next(iter(z.values())))
        found = [
            self._some({n: v[a : a + ROWS] for n, v in z.items()}) for a in range(0, rows, ROWS)
        ]
        return torch.cat(found)

    def _some(self, z: Tensors) -> Float[Tensor, " rows"]:
        rows = len(next(iter(z.values())))
        state = tuple(one.expand(rows, *one.shape) for one in self.state) or None
        point = Point(self.domain.observations.received(z), state=state)
        with asked():
            numbers = self.agent.numbers(self.domain.explain, point)
        return numbers[:, self.pair[0]] - numbers[:, self.pair[1]]


def _nearest(x: Tensors, states: Tensors, among: Tensor) -> Tensors:
    """The nearest of some states, in standard deviations of all."""
    distance = torch.zeros(len(among), dtype=torch.float64, device=among.device)
    for name, value in states.items():
        spread = value.std(0, unbiased=False)
        scale = torch.where(spread > 0, spread, torch.ones_like(spread))
        distance += ((value[among] - x[name]) / scale).flatten(1).square().sum(1)
    nearest = int(among[distance.argmin()])
    return {name: value[nearest] for name, value in states.items()}


def _crossing(gap: _Gap, x: Tensors, end: Tensors, here: float) -> float:
    """The share of the way at which the gap is nearest to zero, after bisection."""
    low, high = 0.0, 1.0
    best, least = 0.0, abs(here)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        value = float(gap({n: (v + middle * (end[n] - v))[None] for n, v in x.items()}))
        if abs(value) < least:
            best, least = middle, abs(value)
        if not value:
            break
        low, high = (middle, high) if value * here > 0 else (low, middle)
    return best
