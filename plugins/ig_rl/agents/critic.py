"""Agents that value continuous actions by critics: SAC, TD3, DDPG, TQC and CrossQ."""

from __future__ import annotations

from abc import abstractmethod
from functools import reduce
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_rl.agents.agent import Agent, Point, box_from_squashed, squashed_to_box


class ContinuousCritic(Agent):
    """Q(s, a) of one or several critics, and an actor that chooses the action.

    ``q`` is the minimum of the critics at every point, which is what the actor is trained on;
    ``q1``, ``q2`` are the critics one by one, and ``value`` is ``q`` at the actor's own action,
    which then follows the observation. ``action`` is one element of that action, in the units of
    the environment. Target networks are never evaluated.

    The forward pass is written here, as Stable-Baselines3's own cuts the gradient of the
    observation wherever critic and actor share what extracts features.
    """

    symbol = "Q"
    bypassed: ClassVar = {
        "critic": ("forward", "extract_features"),
        "actor": ("forward", "extract_features", "get_action_dist_params"),
    }

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        each = tuple(f"q{i + 1}" for i in range(len(policy.critic.q_networks)))
        self.explains = ("q", "value", "action", *each)

    def takes(self, explain: str) -> int:
        return 1 if explain == "action" else 0

    def called(self, explain: str) -> str:
        own = {"q": "Q", "value": "V", "action": "action"}
        return own.get(explain) or explain.upper()

    def moves(self, explain: str) -> tuple[str, ...]:
        return ("observation",) if explain in ("value", "action") else ("observation", "action")

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows size"]:
        if explain == "action":
            return self.unscaled(self.chosen(point))
        if explain == "value":
            point = Point(point.observation, self.chosen(point))
        each = self.critics(point)
        return self.q(each) if explain in ("q", "value") else each[:, int(explain[1:]) - 1]

    def critics(self, point: Point) -> Float[Tensor, "rows critics"]:
        """What every critic says of an observation and an action."""
        critic = self.policy.critic
        assert point.action is not None
        features = critic.features_extractor(point.seen)
        both = torch.cat([features, point.action], dim=1)
        return torch.stack([network(both).mean(1) for network in critic.q_networks], dim=1)

    def q(self, critics: Float[Tensor, "rows critics"]) -> Float[Tensor, " rows"]:
        """What the actor is trained on: the smallest of the critics."""
        return reduce(torch.minimum, critics.unbind(1))

    def told(self, explain: str, point: Point) -> str:
        if explain not in ("q", "value") or len(self.policy.critic.q_networks) == 1:
            return ""
        if explain == "value":
            point = Point(point.observation, self.chosen(point))
        values = self.critics(point)[0].tolist()
        written = ", ".join(f"q{i + 1} = {value:.6g}" for i, value in enumerate(values))
        return f"q{values.index(min(values)) + 1} is the smallest critic here ({written})"

    @abstractmethod
    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        """The actor's deterministic action on the scale of [-1, 1]."""

    def scaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        return squashed_to_box(self.action_space, action)

    def unscaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        return box_from_squashed(self.action_space, action)


class DeterministicActor(ContinuousCritic):
    """TD3 and DDPG: an actor without noise of its own."""

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        actor = self.policy.actor
        action: Tensor = actor.mu(actor.features_extractor(point.seen))
        return action


class SoftActor(ContinuousCritic):
    """SAC and CrossQ: the deterministic action is the squashed mean of the actor's Gaussian."""

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        return _squashed_mean(self.policy.actor, point)


class QuantileCritics(ContinuousCritic):
    """TQC: ``q`` is the mean of all critics' quantiles, which is what the actor is trained on.

    Quantiles are left out only of the targets of the critics (Kuznetsov et al. 2020,
    arXiv:2005.04269).
    """

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        return _squashed_mean(self.policy.actor, point)

    def q(self, critics: Float[Tensor, "rows critics"]) -> Float[Tensor, " rows"]:
        return critics.mean(1)

    def told(self, explain: str, point: Point) -> str:
        return ""


def _squashed_mean(actor: Any, point: Point) -> Float[Tensor, "rows size"]:
    features = actor.features_extractor(point.seen)
    return torch.tanh(actor.mu(actor.latent_pi(features)))
