"""Agents with an actor and a critic of the state: PPO, A2C, TRPO, MaskablePPO and RecurrentPPO."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from ig_rl.agents.agent import Agent, Point, box_from_squashed, squashed_to_box


class StochasticActor(Agent):
    """The distribution of an actor over actions, and the critic's value of the state.

    Of discrete actions: raw logits before any mask, their gap, which is the log-odds of two
    actions as the softmax divides out, and log-probabilities. Where an action has several
    discrete parts, quantities are those of one part, as ``"gap:1"``; a binary part has the
    choices 0 and 1, whose gap is its logit.

    Of continuous actions: ``value``, ``action`` (an element of the mean action, as ``predict``
    gives it before it clips) and ``log-prob`` (the density of a given action).
    """

    symbol = "logit"
    bypassed: ClassVar = {
        "": (
            "extract_features",
            "get_distribution",
            "predict_values",
            "_get_action_dist_from_latent",
            "_process_sequence",
        ),
        "action_dist": ("proba_distribution", "log_prob", "mode"),
    }

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.parts = _parts(policy.action_space)
        kinds = ("gap", "logit", "log-prob")
        if self.parts:
            each = [f"{kind}:{part}" for kind in kinds for part in range(len(self.parts))]
            self.explains = (*each, "value")
        elif self.count:
            self.explains = (*kinds, "value")
        else:
            self.explains = ("value", "action", "log-prob")

    def takes(self, explain: str) -> int:
        return 0 if explain == "log-prob" and self.size else super().takes(explain)

    def called(self, explain: str) -> str:
        name = explain.partition(":")[0]  # the names of choices tell the part
        return {"value": "V", "action": "action", "log-prob": "log-prob"}.get(name, self.symbol)

    def needs_action(self, explain: str) -> bool:
        return explain == "log-prob" and self.size > 0

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows choices"]:
        if explain == "value":
            latent = self.policy.mlp_extractor.forward_critic(self.for_critic(point))
            value: Tensor = self.policy.value_net(latent)
            return value.squeeze(-1)
        if explain == "action":
            return self.unscaled(self.chosen(point))
        if self.size:
            return self._density(point)
        name, _, part = explain.partition(":")
        logits = self._logits(point, int(part)) if part else self.scores(point)
        return logits.log_softmax(1) if name == "log-prob" else logits

    def scores(self, point: Point) -> Float[Tensor, "rows count"]:
        logits: Tensor = self.policy.action_net(self._latent(point))
        return logits

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        mean: Tensor = self.policy.action_net(self._latent(point))
        return torch.tanh(mean) if self.policy.squash_output else mean

    def scaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        squashed = self.policy.squash_output
        return squashed_to_box(self.action_space, action) if squashed else action

    def unscaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        squashed = self.policy.squash_output
        return box_from_squashed(self.action_space, action) if squashed else action

    @abstractmethod
    def for_actor(self, point: Point) -> Float[Tensor, "rows features"]:
        """What the actor's layers are given."""

    @abstractmethod
    def for_critic(self, point: Point) -> Float[Tensor, "rows features"]:
        """What the critic's layers are given."""

    def _latent(self, point: Point) -> Float[Tensor, "rows latent"]:
        latent: Tensor = self.policy.mlp_extractor.forward_actor(self.for_actor(point))
        return latent

    def _logits(self, point: Point, part: int) -> Float[Tensor, "rows choices"]:
        from gymnasium.spaces import MultiBinary

        logits: Tensor = self.policy.action_net(self._latent(point))
        if isinstance(self.action_space, MultiBinary):
            one = logits[:, part]
            return torch.stack([torch.zeros_like(one), one], dim=1)
        return logits.split(self.parts, dim=1)[part]

    def _density(self, point: Point) -> Float[Tensor, " rows"]:
        """The log-density of a given action, also differentiable in the noise of gSDE.

        Stable-Baselines3 cuts the gradient of the observation in the spread of gSDE's noise.
        """
        policy, action = self.policy, point.action
        assert action is not None
        latent = self._latent(point)
        mean, noise = policy.action_net(latent), policy.action_dist
        if not policy.use_sde:
            return Normal(mean, policy.log_std.exp().expand_as(mean)).log_prob(action).sum(1)
        variance = latent**2 @ noise.get_std(policy.log_std) ** 2
        correction = torch.zeros_like(mean)
        if noise.bijector is not None:
            action = noise.bijector.inverse(action)
            correction = noise.bijector.log_prob_correction(action)
        density = Normal(mean, (variance + noise.epsilon).sqrt()).log_prob(action)
        return (density - correction).sum(1)


class ActorCritic(StochasticActor):
    """PPO, A2C, TRPO and MaskablePPO: actor and critic of one observation."""

    def for_actor(self, point: Point) -> Float[Tensor, "rows features"]:
        features: Tensor = self.policy.pi_features_extractor(point.seen)
        return features

    def for_critic(self, point: Point) -> Float[Tensor, "rows features"]:
        features: Tensor = self.policy.vf_features_extractor(point.seen)
        return features


def _parts(space: Any) -> tuple[int, ...]:
    """The choices of every part of an action that has several discrete ones."""
    from gymnasium.spaces import MultiBinary, MultiDiscrete

    if isinstance(space, MultiDiscrete):
        return tuple(int(n) for n in space.nvec.flatten())
    return (2,) * math.prod(space.shape) if isinstance(space, MultiBinary) else ()
