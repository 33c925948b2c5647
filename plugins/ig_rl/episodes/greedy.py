"""Greedy: what plays for an agent that has no ``predict`` of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ig_rl.agents import Agent
from ig_rl.domain import AgentDomain


@dataclass(frozen=True, eq=False)
class Greedy:
    """The greedy actions of :class:`ig_rl.Functions`, as Stable-Baselines3's agents give theirs."""

    domain: AgentDomain

    @property
    def observation_space(self) -> Any:
        """Where observations lie."""
        return self.domain.agent.observation_space

    @property
    def action_space(self) -> Any:
        """Where actions lie."""
        return self.domain.agent.action_space

    def predict(self, seen: Any, **_: Any) -> tuple[Any, None]:
        """The greedy action at an observation, or at each of a batch, and nothing to carry."""
        alone = self.domain.split(seen) is None
        found = self.domain.actions_of([seen] if alone else seen).numpy()
        return (found[0] if alone else found), None


def player(model: Any) -> Any:
    """The model itself, or what plays for it."""
    return Greedy(AgentDomain(model)) if isinstance(model, Agent) else model
