"""Visited baselines: the mean or median of states that an agent visited, or some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ig_core import Baseline, BaselineError, Domain, Example
from ig_rl.baselines.starts import Found, OnPath, agents_of, each
from ig_rl.counts import counted
from ig_rl.episodes.replay import replayed

if TYPE_CHECKING:
    from ig_rl.domain import AgentDomain


class VisitedMean(Baseline):
    """The mean of states that the agent visited: of those given here, or to the domain.

    >>> result = ig.attribute(model, x, baseline=ig_rl.VisitedMean(states))
    >>> round(result.at_baseline, 6)
    0.0
    """

    name = "visited-mean"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        return [agents_of(domain, self.name).starts.mean(self.states)]


class VisitedMedian(Baseline):
    """The median of visited states, feature by feature, which outliers do not move.

    >>> result = ig.attribute(model, x, baseline=ig_rl.VisitedMedian(states))
    >>> round(result.at_baseline, 6)
    0.0
    """

    name = "visited-median"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        starts = agents_of(domain, self.name).starts
        visited = starts.with_actions(starts.visited(self.states, whose=self.name))
        arrays = {name: np.median(v.double().cpu().numpy(), axis=0) for name, v in visited.items()}
        return [OnPath({n: torch.as_tensor(a).to(visited[n]) for n, a in arrays.items()})]


class VisitedStates(Baseline):
    """``count`` visited states, drawn with replacement: expected gradients.

    The values are the mean over the starts, and their spread is reported (Erion et al. 2021,
    arXiv:1906.10670). States are those given here or to the domain, or else the observations in
    the model's replay buffer.

    >>> result = ig.attribute(model, x, baseline=ig_rl.VisitedStates(states[:1], count=4))
    >>> round(result.at_baseline, 6)
    3.0
    """

    name = "visited-states"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None, *, count: int = 16) -> None:
        self.states = states
        self.count = counted("count", count, error=BaselineError)

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = agents_of(domain, self.name)
        states = self.states
        if states is None and own.states is None:
            states = _replayed(own)
        visited = own.starts.visited(states, whose=self.name)
        size = len(next(iter(visited.values())))
        drawn = torch.randint(size, (self.count,), generator=generator)
        some = own.starts.with_actions({n: v[drawn.to(v.device)] for n, v in visited.items()})
        return each(some, self.count)


def _replayed(domain: AgentDomain) -> Any:
    """The observations in a model's replay buffer, as the domain takes observations; or None."""
    found = replayed(domain.model)
    if found is None or domain.observations.normalisation is not None:
        return found
    by = domain.model.get_vec_normalize_env()
    return found if by is None else by.normalize_obs(found)
