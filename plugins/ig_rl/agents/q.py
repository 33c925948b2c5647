"""Agents that value discrete actions: DQN."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ig_rl.agents.agent import Agent, Point


class DeepQ(Agent):
    """DQN: Q(s, a) of the online network; the target network is never evaluated."""

    explains = ("gap", "q")
    symbol = "Q"

    def numbers(self, explain: str, point: Point) -> Float[Tensor, "rows actions"]:
        return self.scores(point)

    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        network = self.policy.q_net
        scores: Tensor = network.q_net(network.features_extractor(point.observation))
        return scores
