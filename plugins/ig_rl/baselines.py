"""Baselines of reinforcement learning: states that an agent visited, begins with, or wavers in.

An action that moves with the observation starts at the agent's own in the same state; at the mean
of its actions in visited states where the start is no state, and in the middle of the action
space where none are known. Of categories, a mean is a distribution over them: the path then moves
probability mass to the present one, and results say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ig_core import Baseline, BaselineError, Domain, Example, InputError
from ig_rl.boundary import boundary
from ig_rl.domain import AgentDomain
from ig_rl.observations import Tensors
from ig_rl.situations import plain
from ig_rl.starts import OnPath

RL: tuple[str, ...] = ("rl",)
Found = Sequence[dict[str, Tensor]]


class VisitedMean(Baseline):
    """The mean of states that the agent visited: of those given here, or to the domain."""

    name = "visited-mean"
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        return [_agents(domain, self.name).starts.mean(self.states)]


class VisitedMedian(Baseline):
    """The median of visited states, feature by feature, which outliers do not move."""

    name = "visited-median"
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        starts = _agents(domain, self.name).starts
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
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, states: Any = None, *, count: int = 16) -> None:
        self.states = states
        self.count = _counted(count)

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = _agents(domain, self.name)
        states = self.states
        if states is None and own.states is None:
            states = replayed(own)
        visited = own.starts.visited(states, whose=self.name)
        size = len(next(iter(visited.values())))
        drawn = torch.randint(size, (self.count,), generator=generator)
        some = own.starts.with_actions({n: v[drawn.to(v.device)] for n, v in visited.items()})
        return _each(some, self.count)


class ResetState(Baseline):
    """States in which episodes begin: one per seed, from ``seed`` on, of a copy of ``env``."""

    name = "reset-state"
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, env: Any, *, count: int = 8, seed: int = 0) -> None:
        self.env = env
        self.count = _counted(count)
        self.seed = seed
        self._found: list[Any] | None = None

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = _agents(domain, self.name)
        if self._found is None:
            self._found = self._begun(own)
        visited = own.starts.with_actions(own.starts.read(self._found))
        return _each(visited, self.count)

    def _begun(self, domain: AgentDomain) -> list[Any]:
        """The first observations of several episodes, as the domain takes observations."""
        from ig_rl.worlds import world_of

        raw = domain.observations.normalisation is not None
        by = None if raw else normaliser_of(self.env)
        with world_of(domain.model, self.env, None, render=False) as world:
            found = []
            for seed in range(self.seed, self.seed + self.count):
                world.reset(seed)
                state = world.state()
                found.append(state if by is None else by.normalize_obs(state))
            return found


class NormalisedZero(Baseline):
    """Zero as the networks receive it: with ``VecNormalize``, the running mean of training.

    An action starts in the middle of its space.
    """

    name = "normalised-zero"
    fits: ClassVar[tuple[str, ...]] = RL

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        _agents(domain, self.name)
        return [OnPath({name: torch.zeros_like(x) for name, x in example.inputs.items()})]


class GivenState(Baseline):
    """One observation, as the environment gives it: "no obstacle", say, or an empty screen."""

    name = "given-state"
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, observation: Any) -> None:
        self.observation = observation

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = _agents(domain, self.name)
        try:
            raw, batch = own.observations.read(plain(self.observation))
        except InputError as error:
            raise BaselineError(
                f"the given state is no observation of the agent: {error}"
            ) from error
        if batch:
            raise BaselineError(
                "GivenState takes one observation (got a batch); a list of GivenState(...) is "
                "averaged"
            )
        return _each(own.starts.with_actions(own.observations.encode(raw)), 1)


class DecisionBoundary(Baseline):
    """Where the agent is undecided between the two actions of a gap: F(x') = 0.

    x' lies on the line from the observation to the nearest visited state in which the other
    action of the pair has the higher score, found by bisection in float64; distances are counted
    in standard deviations of the visited states. The values then sum to the gap itself (boundary
    attributions: Wang, Fredrikson, Datta 2021, arXiv:2103.11257).
    """

    name = "decision-boundary"
    fits: ClassVar[tuple[str, ...]] = RL

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = _agents(domain, self.name)
        visited = own.starts.visited(self.states, whose=self.name)
        return [OnPath(boundary(own, example, visited))]


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


def normaliser_of(env: Any) -> Any:
    """The ``VecNormalize`` that an environment is, or None."""
    from stable_baselines3.common.vec_env import VecNormalize

    return env if isinstance(env, VecNormalize) else None


def _agents(domain: Domain, baseline: str) -> AgentDomain:
    if not isinstance(domain, AgentDomain):
        raise InputError(f"the baseline {baseline!r} is for 'rl', not for {domain.name!r}")
    return domain


def _counted(count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BaselineError(f"count must be a whole number above 0 (got {count!r})")
    return count


def _each(states: Tensors, count: int) -> Found:
    return [OnPath({name: value[i] for name, value in states.items()}) for i in range(count)]


BASELINES: list[type[Baseline]] = [
    VisitedMean,
    VisitedMedian,
    VisitedStates,
    ResetState,
    NormalisedZero,
    GivenState,
    DecisionBoundary,
]
