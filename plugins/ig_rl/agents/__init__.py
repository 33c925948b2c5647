"""Families of agents, told apart by their policy."""

from __future__ import annotations

from typing import Any

from ig_core import InputError
from ig_rl.agents.actor_critic import ActorCritic
from ig_rl.agents.agent import Agent, Observation, Point
from ig_rl.agents.q import DeepQ

__all__ = ["ActorCritic", "Agent", "DeepQ", "Observation", "Point", "agent_of"]


def agent_of(model: Any) -> Agent:
    """The agent of a Stable-Baselines3 model.

    Raises:
        InputError: its algorithm is not one of those above.
    """
    from stable_baselines3 import A2C, DQN, PPO

    if isinstance(model, DQN):
        return DeepQ(model.policy)
    if isinstance(model, (PPO, A2C)):
        return ActorCritic(model.policy)
    raise InputError(
        f"the rl domain explains DQN, PPO and A2C of stable_baselines3 (got "
        f"{type(model).__module__}.{type(model).__name__}); any other network can be explained as "
        "a function of tensors with domain='tensor'"
    )
