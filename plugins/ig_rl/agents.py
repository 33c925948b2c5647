"""Families of agents: what they compute from a preprocessed observation, and what it is called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError


class Agent(ABC):
    """The differentiable part of one agent, after ``preprocess_obs``."""

    explains: tuple[str, ...]
    """The quantities that can be explained."""
    symbol: ClassVar[str]
    """What a score of an action is called: Q(right), logit(right)."""

    def __init__(self, model: Any) -> None:
        self.policy = model.policy

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        found: torch.dtype = next(self.policy.parameters()).dtype
        return found

    @abstractmethod
    def scores(self, z: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows actions"]:
        """One number per action; the greedy action has the largest."""

    def value(self, z: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        """The value of the state."""
        raise NotImplementedError(f"{type(self).__name__} has no value network")


class DeepQ(Agent):
    """DQN: Q(s, a) of the online network; the target network is never evaluated."""

    explains = ("gap", "q")
    symbol = "Q"

    def scores(self, z: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows actions"]:
        network = self.policy.q_net
        scores: Tensor = network.q_net(network.features_extractor(z))
        return scores


class ActorCritic(Agent):
    """PPO and A2C: the actor's raw logits and the critic's value.

    A logit gap is the log-odds of two actions: the softmax divides out.
    """

    symbol = "logit"

    def __init__(self, model: Any) -> None:
        from gymnasium.spaces import Discrete

        super().__init__(model)
        discrete = isinstance(model.action_space, Discrete)
        self.explains = ("gap", "logit", "value") if discrete else ("value",)

    def scores(self, z: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows actions"]:
        policy = self.policy
        latent = policy.mlp_extractor.forward_actor(policy.pi_features_extractor(z))
        logits: Tensor = policy.action_net(latent)
        return logits

    def value(self, z: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        policy = self.policy
        latent = policy.mlp_extractor.forward_critic(policy.vf_features_extractor(z))
        value: Tensor = policy.value_net(latent)
        return value.squeeze(-1)


def agent_of(model: Any) -> Agent:
    """The agent of a Stable-Baselines3 model.

    Raises:
        InputError: its algorithm is not one of those above.
    """
    from stable_baselines3 import A2C, DQN, PPO

    if isinstance(model, DQN):
        return DeepQ(model)
    if isinstance(model, (PPO, A2C)):
        return ActorCritic(model)
    raise InputError(
        f"the rl domain explains DQN, PPO and A2C of stable_baselines3 (got "
        f"{type(model).__module__}.{type(model).__name__}); any other network can be explained as "
        "a function of tensors with domain='tensor'"
    )
