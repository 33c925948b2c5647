"""Episodes played by an agent: what it saw and did, and what it was paid."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from ig_core import ForwardError, IGError, InputError
from ig_rl.counts import counted
from ig_rl.episodes.worlds import World, world_of

MOST_STEPS = 10_000
"""Steps after which an episode is cut, because some environments never end one."""

States = Any
"""An array whose first dimension counts states, or of ``Dict`` spaces one for each key."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """One step a row: the state, what was done there and what came of it.

    ``states`` are the environment's own numbers, also where the agent saw them normalised.
    ``carried`` is what a recurrent policy brought into each step. ``end`` is ``"terminated"``,
    ``"truncated"`` by the environment, or ``"cut"`` after :data:`MOST_STEPS`.
    """

    seed: int
    states: States
    actions: np.ndarray
    rewards: Float[np.ndarray, " steps"]
    end: str
    carried: Sequence[Float[np.ndarray, "steps layers size"]] = ()
    frames: UInt8[np.ndarray, "steps height width 3"] | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total(self) -> float:
        """The return, without a discount."""
        return float(self.rewards.sum())


@dataclass(frozen=True, eq=False)
class Episodes:
    """Several episodes in order, and what there is to know about how they were played."""

    episodes: Sequence[Episode]
    notes: Sequence[str] = ()

    @cached_property
    def states(self) -> States:
        """The visited states of all episodes, one after the other."""
        each = [episode.states for episode in self.episodes]
        if isinstance(each[0], Mapping):
            return {key: np.concatenate([one[key] for one in each]) for key in each[0]}
        return np.concatenate(each)

    @property
    def returns(self) -> Float[np.ndarray, " episodes"]:
        """One return per episode."""
        return np.array([episode.total for episode in self.episodes])


def play(
    model: Any,
    env: Any,
    seeds: Iterable[int],
    *,
    vecnormalize: Any = None,
    render: bool = False,
    most_steps: int = MOST_STEPS,
) -> Episodes:
    """Play one episode per seed with the agent's deterministic actions.

    A copy of the environment is played, so that the given one stays where it is; where there is
    none, as of one in other processes, the given one is played and ``notes`` say so. Training
    flags, and the random states of torch, numpy and Python, which are seeded for each episode,
    are put back.

    Args:
        model: an agent with Stable-Baselines3's ``predict``.
        env: a Gymnasium environment, or a ``VecEnv``, of which the first environment is played.
            A ``VecNormalize`` only normalises: its statistics stay as they are.
        seeds: of ``env.reset``.
        vecnormalize: what normalises the observations of an environment that does not, as for
            :class:`ig_rl.AgentDomain`.
        render: keep the environment's pictures, for which it needs ``render_mode="rgb_array"``.
        most_steps: where to cut an episode.

    Raises:
        InputError: there is no seed, the environment is none of the agent's, or it raised.
        ForwardError: the agent raised.
    """
    chosen = seeds_of(seeds)
    if not chosen:
        raise InputError("play needs at least one seed (got none)")
    counted("most_steps", most_steps)
    with _left_as_found(model), world_of(model, env, vecnormalize, render) as world:
        played = [_episode(model, world, seed, most_steps) for seed in chosen]
        notes = list(world.notes)
    if cut := sum(episode.end == "cut" for episode in played):
        notes.append(f"{cut} of {len(played)} episodes were cut after {most_steps} steps")
    return Episodes(played, notes)


def _episode(model: Any, world: World, seed: int, most_steps: int) -> Episode:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    states: list[Any] = []
    actions: list[Any] = []
    rewards: list[float] = []
    frames: list[Any] = []
    carried: list[Any] = []
    memory, first, end = None, np.ones(world.count, bool), ""
    world.reset(seed)
    while not end:
        states.append(world.state())
        if world.render:
            frames.append(world.picture())
        try:
            action, after = model.predict(
                world.seen(), state=memory, episode_start=first, deterministic=True
            )
        except IGError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            where = f"step {len(rewards)} of the episode with seed {seed}"
            raise ForwardError(f"the agent raised at {where}: {told}") from error
        if after is not None:
            before = [np.zeros_like(part) for part in after] if memory is None else memory
            carried.append([np.array(part[:, 0]) for part in before])
        memory, first = after, np.zeros(world.count, bool)
        reward, end = world.step(action)
        actions.append(world.done(action))
        rewards.append(reward)
        if not end and len(rewards) == most_steps:
            end = "cut"
    return Episode(
        seed=seed,
        states=_stacked(states),
        actions=np.stack(actions),
        rewards=np.array(rewards),
        end=end,
        carried=[np.stack(part) for part in zip(*carried, strict=True)],
        frames=np.stack(frames) if frames else None,
    )


def _stacked(states: Sequence[Any]) -> States:
    if isinstance(states[0], Mapping):
        return {key: np.stack([state[key] for state in states]) for key in states[0]}
    return np.stack(states)


def seeds_of(given: Any) -> list[int]:
    """Seeds of episodes, whole numbers.

    Raises:
        InputError: one of them is none, or they are no collection.
    """
    if not isinstance(given, Iterable):
        raise InputError(
            f"seeds are a collection of whole numbers, such as range(20) (got {given!r})"
        )
    return [_seed(seed) for seed in given]


def _seed(value: Any) -> int:
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, bool) or not 0 <= seed < 2**32:
        raise InputError(f"a seed is a whole number from 0 to 2**32 - 1 (got {value!r})")
    return seed


@contextmanager
def _left_as_found(model: Any) -> Iterator[None]:
    """``predict`` leaves a policy in evaluation mode, and seeding sets global random states."""
    roots = [one for one in (model, getattr(model, "policy", None)) if isinstance(one, nn.Module)]
    flags = [(module, module.training) for root in roots for module in root.modules()]
    state, python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(state)
        random.setstate(python)
        for module, training in flags:
            module.training = training
