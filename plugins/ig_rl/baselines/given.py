"""Given baselines: one state that is known without visiting others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ig_core import Baseline, BaselineError, Domain, Example, InputError
from ig_rl.baselines.starts import Found, OnPath, agents_of, each
from ig_rl.counts import counted
from ig_rl.observations.situations import plain

if TYPE_CHECKING:
    from ig_rl.domain import AgentDomain


class NormalisedZero(Baseline):
    """Zero as the networks receive it: with ``VecNormalize``, the running mean of training.

    An action starts in the middle of its space.

    >>> result = ig.attribute(model, x, baseline=ig_rl.NormalisedZero())
    >>> round(result.at_baseline, 6)
    0.0
    """

    name = "normalised-zero"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        agents_of(domain, self.name)
        return [OnPath({name: torch.zeros_like(x) for name, x in example.inputs.items()})]


class GivenState(Baseline):
    """One observation, as the environment gives it: "no obstacle", say, or an empty screen.

    >>> result = ig.attribute(model, x, baseline=ig_rl.GivenState(states[0]))
    >>> round(result.at_baseline, 6)
    3.0
    """

    name = "given-state"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, observation: Any) -> None:
        self.observation = observation

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = agents_of(domain, self.name)
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
        return each(own.starts.with_actions(own.observations.encode(raw)), 1)


class ResetState(Baseline):
    """States in which episodes begin: one per seed, from ``seed`` on, of a copy of ``env``.

    >>> result = ig.attribute(model, x, baseline=ig_rl.ResetState(env))
    >>> abs(result.at_baseline) < 0.55  # CartPole begins within 0.05 of zero
    True
    """

    name = "reset-state"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, env: Any, *, count: int = 8, seed: int = 0) -> None:
        self.env = env
        self.count = counted("count", count, error=BaselineError)
        self.seed = seed
        self._found: list[Any] | None = None

    def starts(self, example: Example, domain: Domain, generator: torch.Generator) -> Found:
        own = agents_of(domain, self.name)
        if self._found is None:
            self._found = self._begun(own)
        visited = own.starts.with_actions(own.starts.read(self._found))
        return each(visited, self.count)

    def _begun(self, domain: AgentDomain) -> list[Any]:
        """The first observations of several episodes, as the domain takes observations."""
        from ig_rl.episodes.worlds import world_of

        raw = domain.observations.normalisation is not None
        by = None if raw else _normaliser_of(self.env)
        with world_of(domain.model, self.env, None, render=False) as world:
            found = []
            for seed in range(self.seed, self.seed + self.count):
                world.reset(seed)
                state = world.state()
                found.append(state if by is None else by.normalize_obs(state))
            return found


def _normaliser_of(env: Any) -> Any:
    """The ``VecNormalize`` that an environment is, or None."""
    from stable_baselines3.common.vec_env import VecNormalize

    return env if isinstance(env, VecNormalize) else None
