"""Visited baselines: the mean or median of states that an agent visited, or some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ig_core import Baseline, Domain, Example
from ig_rl.baselines.starts import Found, OnPath, agents_of, counted, each

if TYPE_CHECKING:
    from ig_rl.domain import AgentDomain


class VisitedMean(Baseline):
    """The mean of states that the agent visited: of those given here, or to the domain."""

    name = "visited-mean"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        return [agents_of(domain, self.name).starts.mean(self.states)]


class VisitedMedian(Baseline):
    """The median of visited states, feature by feature, which outliers do not move."""

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
    """

    name = "visited-states"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None, *, count: int = 16) -> None:
        self.states = states
        self.count = counted(count)

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = agents_of(domain, self.name)
        states = self.states
        if states is None and own.states is None:
            states = replayed(own)
        visited = own.starts.visited(states, whose=self.name)
        size = len(next(iter(visited.values())))
        drawn = torch.randint(size, (self.count,), generator=generator)
        some = own.starts.with_actions({n: v[drawn.to(v.device)] for n, v in visited.items()})
        return each(some, self.count)


def replayed(domain: AgentDomain) -> Any:
    """The observations in a model's replay buffer, as the domain takes observations; or None.

    The buffer holds them as the environment gave them, before ``VecNormalize``.
    """
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    model = domain.model
    buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    if buffer is None or not buffer.size():
        return None
    size = buffer.size()

    def flat(stored: Any) -> Any:
        return stored[:size].reshape(-1, *stored.shape[2:])

    held = buffer.observations
    if isinstance(held, dict):
        found: Any = {key: flat(value) for key, value in held.items()}
    else:
        found = flat(held).reshape(-1, *model.observation_space.shape)
    by = model.get_vec_normalize_env()
    fed = domain.observations.normalisation is None and by is not None
    return by.normalize_obs(found) if fed else found
