"""Starts: where paths of an agent begin, as the networks receive it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import BaselineError, Domain, Example, InputError
from ig_rl.choices import asked
from ig_rl.observations.situations import Situations, plain
from ig_rl.observations.spaces import OBSERVATION, Observations, Tensors

if TYPE_CHECKING:
    from ig_rl.domain import AgentDomain

ACTION = "action"
Found = Sequence[dict[str, Tensor]]
"""Starts of one example."""


class OnPath(dict[str, Tensor]):
    """A start as the networks receive it, which is not to be normalised again."""


class Starts:
    """Visited states of an agent, and the starts that are made of them or given.

    Args:
        observations: their space.
        moves_action: whether a start has an action.
        unrolled: whether it has a dimension of time.
        states: visited states as the user has them, or None.
    """

    def __init__(
        self, observations: Observations, *, moves_action: bool, unrolled: bool, states: Any
    ) -> None:
        self.observations = observations
        self.agent = observations.agent
        self.moves_action = moves_action
        self.unrolled = unrolled
        states = getattr(states, "states", states)  # those of a wrapped agent's ``visited``
        self.states = None if states is None else self.read(states)
        self._mean: OnPath | None = None

    @property
    def count(self) -> int:
        """How many visited states are known."""
        return 0 if self.states is None else len(next(iter(self.states.values())))

    def read(self, states: Any) -> Tensors:
        """Visited states as the networks receive them.

        Raises:
            BaselineError: there are none, or they do not fit the agent.
        """
        try:
            raw, batch = self.observations.read(plain(states))
        except InputError as error:
            raise BaselineError(f"states must be observations of the agent: {error}") from error
        if not batch or not len(next(iter(raw.values()))):
            raise BaselineError(
                "states must be a batch: an array whose first dimension counts states, at least "
                f"one (got {'none' if batch else 'one observation'})"
            )
        if not all(bool(torch.isfinite(value).all()) for value in raw.values()):
            raise BaselineError("states hold NaN or infinity")
        return self.observations.encode(raw)

    def visited(self, states: Any = None, *, whose: str) -> Tensors:
        """Given states, or those that are known.

        Raises:
            BaselineError: there are none of either.
        """
        if states is not None:
            return self.read(states)
        if self.states is None:
            raise BaselineError(
                f"the baseline {whose!r} needs states that the agent visited: pass states= "
                "(an array whose first dimension counts states)"
            )
        return self.states

    def with_actions(self, states: Tensors) -> Tensors:
        """States with the agent's own action at each, if an action moves."""
        if not self.moves_action:
            return states
        points = Situations(observations=self.observations, raw={}, z=states).points()
        with asked():
            return states | {ACTION: torch.cat([self.agent.chosen(point) for point in points])}

    def mean(self, states: Any = None) -> OnPath:
        """The mean of visited states, and of the agent's actions there if an action moves."""
        if states is None and self._mean is not None:
            return self._mean
        visited = self.with_actions(self.visited(states, whose="visited-mean"))
        found = OnPath({n: v.double().mean(0).to(v.dtype) for n, v in visited.items()})
        self._mean = found if states is None else self._mean
        return found

    def usual_action(self) -> Float[Tensor, " size"]:
        """Where an action's path starts: at the mean of the agent's actions in visited states.

        Without visited states that is zero, the middle of the action space.
        """
        return torch.zeros(self.agent.size) if self.states is None else self.mean()[ACTION]

    def finished(self, example: Example, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A start with all inputs of an example, as they move along its path."""
        own = {_input(example, name): value for name, value in given.items()}
        if not isinstance(given, OnPath):
            own = {name: self._on_path(name, value) for name, value in own.items()}
        for name in own.keys() & self.observations.parts.keys() if self.unrolled else ():
            like = example.inputs[name]
            if isinstance(own[name], Tensor) and own[name].shape == like.shape[1:]:
                own[name] = own[name].expand_as(like)
        if self.moves_action and ACTION not in own:
            own[ACTION] = self.usual_action().to(example.inputs[ACTION])
        return own

    def _on_path(self, name: str, given: Any) -> Any:
        """A tensor of the user's as it moves; what does not fit is left for the core to refuse."""
        part = self.observations.parts.get(name)
        if part is None or not isinstance(given, Tensor):
            return given
        normalised = self.observations.normalisation is not None
        if given.is_floating_point() and (not normalised or part.grid.kind == "category"):
            return given
        array = part.read(given)
        steps = self.unrolled and array.dim() == len(part.shape) + 1
        batch = array if steps else array[None]
        if tuple(batch.shape[1:]) != part.shape:
            return given
        part.check(batch)
        z = self.observations.encode({name: batch})[name]
        return z if steps else z[0]


def _input(example: Example, name: str) -> str:
    """The input that a key of an observation is."""
    full = f"{OBSERVATION}.{name}"
    return full if full in example.inputs else name


def agents_of(domain: Domain, baseline: str) -> AgentDomain:
    """The domain of agents, for which a baseline is.

    Raises:
        InputError: it is another.
    """
    from ig_rl.domain import AgentDomain

    if not isinstance(domain, AgentDomain):
        raise InputError(f"the baseline {baseline!r} is for 'rl', not for {domain.name!r}")
    return domain


def each(states: Tensors, count: int) -> Found:
    """States as starts on their own, already as the networks receive them."""
    return [OnPath({name: value[i] for name, value in states.items()}) for i in range(count)]
