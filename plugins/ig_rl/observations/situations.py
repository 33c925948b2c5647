"""Situations: observations that were read together, with what else an agent is given there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError
from ig_rl.agents import Agent, Point, State
from ig_rl.observations.spaces import Observations, Tensors

ROWS = 1024
"""Observations that the agent is asked about at once."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Situations:
    """A batch of observations, or all observations of one episode so far (``unrolled``).

    ``action`` holds given continuous actions as the networks receive them, one per observation.
    ``found`` keeps what the agent was asked once for all.
    """

    observations: Observations
    raw: Tensors
    z: Tensors
    action: Float[Tensor, "examples size"] | None = None
    state: Sequence[State] = ()
    unrolled: bool = False
    found: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return 1 if self.unrolled else len(next(iter(self.z.values())))

    def inputs(self, place: int) -> Tensors:
        """The tensors of one example."""
        return dict(self.z) if self.unrolled else {n: value[place] for n, value in self.z.items()}

    def points(self) -> Sequence[Point]:
        """All of them as the agent receives them, some at a time."""
        if self.unrolled:
            steps = len(next(iter(self.z.values())))
            whole = {name: value[None] for name, value in self.z.items()}
            received = self.observations.received(whole)
            return [Point(received, self.action, lengths=torch.tensor([steps]))]
        return [self.point(slice(a, a + ROWS)) for a in range(0, len(self), ROWS)]

    def point(self, some: slice) -> Point:
        """Some of them as the agent receives them."""
        z = {name: value[some] for name, value in self.z.items()}
        action = None if self.action is None else self.action[some]
        like = next(iter(self.z.values()))
        states = [torch.stack(parts).to(like) for parts in zip(*self.state[some], strict=True)]
        return Point(self.observations.received(z), action, tuple(states) or None)


@dataclass(frozen=True, eq=False)
class Situation:
    """One of several that were read together."""

    among: Situations
    place: int

    @property
    def raw(self) -> Any:
        """The observation as the user has it."""
        one = self.among.raw
        if not self.among.unrolled:
            one = {name: value[self.place] for name, value in one.items()}
        return self.among.observations.received(one)

    @property
    def state(self) -> State:
        """What a recurrent policy carries."""
        return self.among.state[self.place] if self.among.state else ()

    @property
    def point(self) -> Point:
        """The situation as the agent receives it."""
        if self.among.unrolled:
            return self.among.points()[0]
        return self.among.point(slice(self.place, self.place + 1))


def read(
    raw: Any,
    observations: Observations,
    *,
    action: Any = None,
    state: Any = None,
    unrolled: bool = False,
) -> tuple[list[Situation], bool]:
    """What a user gave as situations, and whether it was a batch.

    Raises:
        InputError: observations, actions or states are not those of this agent, or of other
            lengths.
    """
    agent, raw = observations.agent, plain(raw)
    if unrolled:
        episodes, batch = _episodes(raw, observations)
        given = None if action is None else _actions(action, agent, 1)
        return [Situation(_episode(one, observations, given), 0) for one in episodes], batch
    tensors, batch = observations.read(raw)
    count = len(next(iter(tensors.values())))
    if not count:
        return [], batch
    found = Situations(
        observations=observations,
        raw=tensors,
        z=observations.encode(tensors),
        action=None if action is None else _actions(action, agent, count),
        state=[agent.carried(one) for one in _states(state, count)] if agent.recurrent else (),
    )
    if state is not None and not agent.recurrent:
        agent.carried(state)  # which says that this agent carries nothing
    return [Situation(found, place) for place in range(count)], batch


def plain(raw: Any) -> Any:
    """Raw observations in place of situations, which were read for another call."""
    if isinstance(raw, list):
        return [plain(one) for one in raw]
    return raw.raw if isinstance(raw, Situation) else raw


def _episodes(raw: Any, observations: Observations) -> tuple[list[Any], bool]:
    """The episodes so far in what a user gave: a list of them, or one."""
    if isinstance(raw, list):
        return raw, True
    some = next(iter(raw.values())) if isinstance(raw, Mapping) and raw else raw
    part = next(iter(observations.parts.values()))
    if getattr(some, "ndim", 0) != len(part.shape) + 2:
        return [raw], False
    if isinstance(raw, Mapping):
        return [{key: value[i] for key, value in raw.items()} for i in range(len(some))], True
    return list(raw), True


def _episode(raw: Any, observations: Observations, action: Tensor | None) -> Situations:
    tensors, several = observations.read(raw)
    if not several or not len(next(iter(tensors.values()))):
        raise InputError(
            "unrolled= explains all observations of an episode so far: an array (time, ...) with "
            f"at least one step (got {'no step' if several else 'one observation'}); a list of "
            "them is a batch"
        )
    return Situations(
        observations=observations,
        raw=tensors,
        z=observations.encode(tensors),
        action=action,
        unrolled=True,
    )


def _actions(given: Any, agent: Agent, count: int) -> Float[Tensor, "examples size"]:
    """Continuous actions in the environment's units, as the networks receive them."""
    space = agent.action_space
    try:
        array = torch.as_tensor(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"action must be an array in {space}, or one per observation ({error})"
        ) from error
    shape = tuple(space.shape)
    array = array[None] if array.dim() == 0 and shape == (1,) else array
    several = tuple(array.shape) == (count, *shape)
    if not several and tuple(array.shape) not in (shape, (1, *shape)):
        raise InputError(
            f"action must have the shape {shape}, or {(count, *shape)} with one per observation "
            f"(got {tuple(array.shape)})"
        )
    flat = array.reshape(-1, agent.size).expand(count, agent.size)
    low, high = (torch.as_tensor(b).double().flatten() for b in (space.low, space.high))
    room = 1e-6 * (high - low).clamp(max=1e30)
    if not bool(((flat >= low - room) & (flat <= high + room)).all()):
        raise InputError(
            f"action must lie in {space}, in the environment's own units (got "
            f"{flat.amin():g} to {flat.amax():g})"
        )
    return agent.scaled(flat).to(agent.device, agent.dtype)


def _states(state: Any, count: int) -> list[Any]:
    """What each of several environments carries, of what ``predict`` gives for all together."""
    if state is None:
        return [None] * count
    widths = {np.shape(one)[1] for one in _leaves(state) if np.ndim(one) == 3}
    if len(widths) != 1 or not widths <= {1, count}:
        raise InputError(
            "state= is what predict() gives, arrays (layers, n, hidden), with n = 1 or one for "
            f"each of {count} observations (got shapes {[np.shape(s) for s in _leaves(state)]})"
        )
    if widths == {1}:
        return [state] * count
    return [_cut(state, i) for i in range(count)]


def _leaves(state: Any) -> list[Any]:
    if isinstance(state, (tuple, list)):
        return [leaf for one in state for leaf in _leaves(one)]
    return [state]


def _cut(state: Any, i: int) -> Any:
    if isinstance(state, (tuple, list)):
        return tuple(_cut(one, i) for one in state)
    return state[:, i : i + 1]
