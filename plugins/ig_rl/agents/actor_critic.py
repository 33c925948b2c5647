"""Agents with an actor and a critic of the state: PPO and A2C."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ig_rl.agents.agent import Agent, Point


class ActorCritic(Agent):
    """The actor's raw logits and the critic's value.

    A logit gap is the log-odds of two actions: the softmax divides out.
    """

    symbol = "logit"

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.explains = ("gap", "logit", "value") if self.count else ("value",)

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows actions"]:
        return self.value(point) if explain == "value" else self.scores(point)

    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        policy = self.policy
        features = policy.pi_features_extractor(point.observation)
        logits: Tensor = policy.action_net(policy.mlp_extractor.forward_actor(features))
        return logits

    def value(self, point: Point) -> Float[Tensor, " rows"]:
        """The critic's value of the state."""
        policy = self.policy
        features = policy.vf_features_extractor(point.observation)
        value: Tensor = policy.value_net(policy.mlp_extractor.forward_critic(features))
        return value.squeeze(-1)
