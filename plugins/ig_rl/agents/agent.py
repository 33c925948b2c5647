"""An Agent is the differentiable part of a policy: its numbers, and what they are called."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import InputError

Observation = Tensor | dict[str, Tensor]

State = tuple[Float[Tensor, "layers hidden"], ...]
"""What a recurrent policy carries from step to step: hidden and cell states."""


@dataclass(frozen=True, eq=False)
class Point:
    """Rows of points of paths, as the networks receive them.

    ``observation`` is what :meth:`Agent.preprocessed` gives, ``action`` a continuous action on
    the scale of :meth:`Agent.scaled`, ``state`` what a recurrent policy carries: tensors (rows,
    layers, hidden). Where the observations of an episode so far move together, ``observation``
    has a dimension of time after that of rows, and ``lengths`` counts the steps of each row
    before the padding.
    """

    observation: Observation
    action: Float[Tensor, "rows size"] | None = None
    state: tuple[Float[Tensor, "rows layers hidden"], ...] | None = None
    lengths: Int[Tensor, " rows"] | None = None

    @property
    def seen(self) -> Observation:
        """The observation for a network to look at: a copy, as some write into what they get."""
        if isinstance(self.observation, dict):
            return {key: value.clone() for key, value in self.observation.items()}
        return self.observation.clone()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        one = self.observation
        return len(next(iter(one.values())) if isinstance(one, dict) else one)


class Agent(ABC):
    """One family of agents, wrapped around one policy.

    ``count`` is the number of discrete actions, ``size`` that of the elements of a continuous one;
    the other is 0. Both are 0 where an action has several discrete parts: their numbers are those
    of :attr:`parts`, and quantities name the part, as in ``"gap:1"``.
    """

    symbol: str
    """What a score of an action is called: Q(right), logit(right)."""
    explains: tuple[str, ...] = ()
    """The quantities that can be explained, the default first."""
    parts: tuple[int, ...] = ()
    """How many choices each part of an action has, where it has several discrete ones."""
    bypassed: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Methods of the policy, or of its parts, whose work is done here instead: where someone's
    own class overrides one, the numbers here would not be those of the agent."""
    recurrent = False
    """Whether the policy carries a state from step to step."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.count, self.size = _actions(policy.action_space)

    # -- the policy -----------------------------------------------------------------------------

    @property
    def observation_space(self) -> Any:
        """Where observations lie, None if that is not known."""
        return self.policy.observation_space

    @property
    def action_space(self) -> Any:
        """Where actions lie, None if that is not known."""
        return self.policy.action_space

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        found: torch.dtype = next(self.policy.parameters()).dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        found: torch.device = next(self.policy.parameters()).device
        return found

    def modules(self) -> Sequence[nn.Module]:
        """What is evaluated, frozen and restored during a call."""
        return [self.policy]

    def converted(self, dtype: torch.dtype) -> Agent:
        """The same agent with a copy of its networks that computes in ``dtype``."""
        changed = copy.copy(self)
        changed.policy = _copied(self.policy).to(dtype)
        return changed

    def preprocessed(self, observations: Observation) -> Observation:
        """A batch of observations as the networks receive it: one-hot, images in [0, 1]."""
        images = self.policy.normalize_images
        return received(observations, self.observation_space, self, images=images)

    # -- quantities -----------------------------------------------------------------------------

    @property
    def default(self) -> str:
        """The quantity that is explained where none is named."""
        return self.explains[0]

    def knows(self, explain: str) -> bool:
        """Whether there is such a quantity.

        Raises:
            InputError: there is, but not with that number behind its name.
        """
        return explain in self.explains

    def takes(self, explain: str) -> int:
        """How many numbers the target of a quantity names: 0, 1, or the 2 of a gap."""
        return {"gap": 2, "value": 0}.get(explain.partition(":")[0], 1)

    def choices(self, explain: str) -> int:
        """Among how many the target of a quantity chooses: actions, or elements of one."""
        part = explain.partition(":")[2]
        if self.takes(explain) == 0:
            return 0
        return self.parts[int(part)] if self.parts and part else self.count or self.size

    def called(self, explain: str) -> str:
        """What the number of one choice is called, as the Q in Q(right)."""
        return self.symbol

    def moves(self, explain: str) -> tuple[str, ...]:
        """What of a point moves along the path."""
        return ("observation",)

    def needs_action(self, explain: str) -> bool:
        """Whether the quantity is one of a given continuous action, moved or not."""
        return "action" in self.moves(explain)

    @abstractmethod
    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows choices"]:
        """A quantity: one number per row, or those among which the target of a row chooses.

        Those of a gap are the two terms' own: their difference is the gap.
        """

    def told(self, explain: str, point: Point) -> str:
        """What is to be said of a quantity at one observation, such as which critic it is."""
        return ""

    # -- actions --------------------------------------------------------------------------------

    def scores(self, point: Point) -> Float[Tensor, "rows count"]:
        """One number per discrete action; the greedy one has the largest."""
        raise NotImplementedError(f"{type(self).__name__} has no discrete actions")

    def ranked(self, explain: str, point: Point) -> Float[Tensor, "rows choices"]:
        """The numbers whose largest is chosen where a target is not given."""
        return self.scores(point) if self.count else self.numbers(explain, point)

    def chosen(self, point: Point) -> Float[Tensor, "rows size"]:
        """The deterministic continuous action, on the scale of ``Point.action``."""
        raise NotImplementedError(f"{type(self).__name__} has no continuous actions")

    def scaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        """Continuous actions of the environment as the networks receive them."""
        return action

    def unscaled(self, action: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
        """The other way round."""
        return action

    # -- memory ---------------------------------------------------------------------------------

    def carried(self, state: Any) -> State:
        """What a recurrent policy's caller carries, as tensors; zeros for None.

        Raises:
            InputError: this agent carries nothing, or something of another shape.
        """
        if state is not None:
            raise InputError("this agent carries no state from step to step")
        return ()

    def after(self, point: Point) -> tuple[Float[Tensor, "rows layers hidden"], ...]:
        """The state carried on from here."""
        return ()

    def along(self, episode: Observation) -> tuple[Float[Tensor, "steps layers hidden"], ...]:
        """What is carried into every step of one episode, seen from its start."""
        return ()


def received(observations: Any, space: Any, agent: Agent, *, images: bool) -> Any:
    """Observations of a space as Stable-Baselines3's ``preprocess_obs`` gives them to networks.

    That function rounds to float32; here numbers have the precision of the agent. ``images`` says
    whether images are divided by 255.
    """
    from gymnasium.spaces import Box, Dict
    from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs

    if isinstance(space, Dict):
        return {
            key: received(one, space[key], agent, images=images)
            for key, one in observations.items()
        }
    if not isinstance(space, Box):
        observations = preprocess_obs(observations, space)
    z = observations.to(agent.device, agent.dtype)
    return z / 255 if isinstance(space, Box) and images and is_image_space(space) else z


def squashed_to_box(space: Any, action: Tensor) -> Tensor:
    """Actions of a Box on the scale of [-1, 1]."""
    low, high = _bounds(space, action)
    return 2 * (action - low) / (high - low) - 1


def box_from_squashed(space: Any, action: Tensor) -> Tensor:
    """Actions on the scale of [-1, 1] in their Box."""
    low, high = _bounds(space, action)
    return low + (action + 1) * (high - low) / 2


def _bounds(space: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (torch.as_tensor(bound).flatten().to(like) for bound in (space.low, space.high))
    return low, high


def _actions(space: Any) -> tuple[int, int]:
    from gymnasium.spaces import Box, Discrete

    count = int(space.n) if isinstance(space, Discrete) else 0
    return count, int(torch.tensor(space.shape).prod()) if isinstance(space, Box) else 0


def _copied(policy: Any) -> Any:
    """A deep copy, which shares distributions: the noise of gSDE in them is part of a graph."""
    noisy = (vars(module).get("action_dist") for module in policy.modules())
    return copy.deepcopy(policy, {id(one): copy.copy(one) for one in noisy if one is not None})
