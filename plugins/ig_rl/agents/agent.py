"""An Agent is the differentiable part of a policy: its numbers, and what they are called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Observation = Tensor | dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Point:
    """Rows of points of paths, as the networks receive them.

    ``observation`` is what Stable-Baselines3's ``preprocess_obs`` gives, ``action`` a continuous
    action on the scale of [-1, 1] on which critics receive it, ``state`` what a recurrent policy
    carries: tensors (rows, layers, hidden). Where the observations of an episode so far move
    together, ``observation`` has a dimension of time after that of rows, and ``lengths`` counts
    the steps of each row before the padding.
    """

    observation: Observation
    action: Float[Tensor, "rows size"] | None = None
    state: tuple[Float[Tensor, "rows layers hidden"], ...] | None = None
    lengths: Int[Tensor, " rows"] | None = None


class Agent(ABC):
    """One family of agents, wrapped around one policy.

    ``count`` is the number of discrete actions, ``size`` that of the elements of a continuous one;
    the other is 0.
    """

    symbol: str
    """What a score of an action is called: Q(right), logit(right)."""
    explains: tuple[str, ...]
    """The quantities that can be explained, the default first."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.count, self.size = _actions(policy.action_space)

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        found: torch.dtype = next(self.policy.parameters()).dtype
        return found

    def modules(self) -> Sequence[nn.Module]:
        """What is evaluated, frozen and restored during a call."""
        return [self.policy]

    @abstractmethod
    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows choices"]:
        """A quantity: one number per row, or those among which the target of a row chooses."""

    def takes(self, explain: str) -> int:
        """How many numbers the target of a quantity names: 0, 1, or the 2 of a gap."""
        return {"gap": 2, "value": 0}.get(explain, 1)

    def moves(self, explain: str) -> tuple[str, ...]:
        """What of a point moves along the path."""
        return ("observation",)

    def scores(self, point: Point) -> Float[Tensor, "rows count"]:
        """One number per discrete action; the greedy one has the largest."""
        raise NotImplementedError(f"{type(self).__name__} has no discrete actions")

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        """The deterministic continuous action, on the scale of [-1, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no continuous actions")

    def told(self, explain: str, point: Point) -> str:
        """What is to be said of a quantity at one observation, such as which critic it is."""
        return ""


def _actions(space: Any) -> tuple[int, int]:
    from gymnasium.spaces import Box, Discrete

    count = int(space.n) if isinstance(space, Discrete) else 0
    return count, int(torch.tensor(space.shape).prod()) if isinstance(space, Box) else 0
