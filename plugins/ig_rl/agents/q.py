"""Agents that value discrete actions: DQN and QR-DQN."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from fractions import Fraction
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from ig_core import InputError
from ig_rl.agents.agent import Agent, Point


class ValuedActions(Agent):
    """Q(s, a) of every discrete action, and what follows from it.

    ``advantage`` is Q less its mean over the actions, the form in which dueling networks write it
    (Wang et al. 2016, arXiv:1511.06581); ``value`` is that of the greedy action, max Q.
    """

    explains: tuple[str, ...] = ("gap", "q", "advantage", "value")
    symbol = "Q"

    def called(self, explain: str) -> str:
        return {"advantage": "A", "value": "max Q"}.get(explain, self.symbol)

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows actions"]:
        q = self.scores(point)
        if explain == "advantage":
            return q - q.mean(1, keepdim=True)
        return q.max(1).values if explain == "value" else q

    @abstractmethod
    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        """Q of every action."""


class DeepQ(ValuedActions):
    """DQN: Q(s, a) of the online network; the target network is never evaluated."""

    bypassed: ClassVar = {"q_net": ("forward", "extract_features")}

    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        network = self.policy.q_net
        scores: Tensor = network.q_net(network.features_extractor(point.seen))
        return scores


class QuantileQ(ValuedActions):
    """QR-DQN: the mean of N quantiles of the return, or one of them (arXiv:1710.10044).

    ``"quantile:0.1"`` is the quantile at that level: the one whose midpoint (2i + 1) / 2N is
    nearest to it. Q is the mean, and the greedy action is the one of largest mean.
    """

    bypassed: ClassVar = {"quantile_net": ("forward", "extract_features")}

    def __init__(self, policy: Any) -> None:
        super().__init__(policy)
        self.explains = (*ValuedActions.explains, "quantile:LEVEL")

    def knows(self, explain: str) -> bool:
        name, _, level = explain.partition(":")
        if name != "quantile" or level == "LEVEL":
            return explain in ValuedActions.explains
        if not re.fullmatch(r"0?\.\d+", level) or not 0 < float(level) < 1:
            raise InputError(
                f"the level of a quantile lies between 0 and 1, as in 'quantile:0.1' "
                f"(got {explain!r})"
            )
        return True

    def called(self, explain: str) -> str:
        level = explain.partition(":")[2]
        return f"quantile {level} of Z" if level else super().called(explain)

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows actions"]:
        if explain.startswith("quantile:"):
            return self.quantiles(point)[:, self._nearest(explain)[0]]
        return super().numbers(explain, point)

    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        return self.quantiles(point).mean(1)

    def quantiles(self, point: Point) -> Float[Tensor, "rows quantiles actions"]:
        """Every quantile of every action's return, by the online network."""
        network = self.policy.quantile_net
        flat: Tensor = network.quantile_net(network.features_extractor(point.seen))
        return flat.view(-1, network.n_quantiles, self.count)

    def told(self, explain: str, point: Point) -> str:
        if not explain.startswith("quantile:"):
            return ""
        place, count = self._nearest(explain)
        return (
            f"quantile {place + 1} of {count}, whose level {(2 * place + 1) / (2 * count):.4g} is "
            f"the nearest to {explain.partition(':')[2]}"
        )

    def _nearest(self, explain: str) -> tuple[int, int]:
        """Which quantile is meant, from 0, and of how many."""
        level, count = (
            Fraction(explain.partition(":")[2]),
            int(self.policy.quantile_net.n_quantiles),
        )
        return math.ceil(level * count) - 1, count  # the lower one of two that are equally near
