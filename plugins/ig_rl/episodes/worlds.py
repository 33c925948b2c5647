"""A World is an environment that can be played: a copy, checked against the agent, and seeded."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ig_core import InputError
from ig_rl.episodes.copies import copied
from ig_rl.episodes.matching import arranged
from ig_rl.observations.normalisation import Normalisation

Change = Callable[[Any], Any]
"""Of what an environment shows."""


class World(ABC):
    """One episode after another in one environment.

    ``count`` is the number of environments that are played at once, of which the first counts.
    """

    count = 1

    def __init__(self, env: Any, normalise: Change, arrange: Change, render: bool) -> None:
        self.env = env
        self.normalise = normalise
        self.arrange = arrange
        self.render = render
        self.notes: list[str] = []
        self.now: Any = None
        self.where = ""
        self.steps = 0
        self.shape: tuple[int, ...] = ()

    def reset(self, seed: int) -> None:
        """The start of the episode that belongs to a seed."""
        self.where = f"in the episode with seed {seed}"
        self.steps = 0
        with self._raising("reset(seed=...)"):
            self.now = self.arrange(self._reset(seed))
        self._check_numbers()

    def step(self, action: Any) -> tuple[float, str]:
        """What is paid for an action, and how the episode ended, empty if it goes on."""
        with self._raising(f"step {self.steps}"):
            self.now, reward, end = self._step(action)
            self.now = self.arrange(self.now)
        if not math.isfinite(reward):
            raise InputError(f"the environment paid {reward} at step {self.steps} {self.where}")
        self.steps += 1
        self._check_numbers()
        return reward, end

    def seen(self) -> Any:
        """What the agent sees now."""
        return self.normalise(self.now)

    def state(self) -> Any:
        """A copy of the present state, in the environment's own numbers."""
        return _each(np.array, self.now)

    def done(self, action: Any) -> Any:
        """The action of the environment that counts."""
        return np.array(action)

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """The environment's picture of the present state."""
        with self._raising("render()"):
            frame = np.array(self._picture())
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise InputError(
                "the environment's render() must give an array of height x width x 3 uint8 "
                f"(got {frame.dtype} of shape {frame.shape})"
            )
        if self.shape not in ((), frame.shape):
            raise InputError(
                f"the environment's pictures must all have one size (got {frame.shape} at step "
                f"{self.steps} {self.where}, and {self.shape} before)"
            )
        self.shape = frame.shape
        return frame

    def _check_numbers(self) -> None:
        """That the agent is shown numbers: of NaN, networks make some action all the same."""
        parts = self.now if isinstance(self.now, Mapping) else {"": self.now}
        for key, value in parts.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(
                    f"the environment showed NaN or infinity{f' in {key!r}' if key else ''} "
                    f"before step {self.steps} {self.where}"
                )

    @contextmanager
    def _raising(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the user's own code may raise anything
            told = f"{type(error).__name__}: {error}"
            raise InputError(
                f"the environment raised at {what} {self.where}: {told}; expected is Gymnasium's "
                "reset(seed=) -> (observation, info) and step(action) -> (observation, reward, "
                "terminated, truncated, info)"
            ) from error

    @abstractmethod
    def _reset(self, seed: int) -> Any: ...

    @abstractmethod
    def _step(self, action: Any) -> tuple[Any, float, str]: ...

    @abstractmethod
    def _picture(self) -> Any: ...


class Single(World):
    """A Gymnasium environment."""

    def _reset(self, seed: int) -> Any:
        observation, _ = self.env.reset(seed=seed)
        return observation

    def _step(self, action: Any) -> tuple[Any, float, str]:
        # A number rather than an array without dimensions, which cannot be a key of a dictionary.
        plain = action[()] if isinstance(action, np.ndarray) else action
        observation, reward, terminated, truncated, _ = self.env.step(plain)
        end = "terminated" if terminated else "truncated" if truncated else ""
        return observation, float(reward), end

    def _picture(self) -> Any:
        return self.env.render()


class First(World):
    """The first environment of a ``VecEnv``; the others are played along."""

    def __init__(self, env: Any, normalise: Change, arrange: Change, render: bool) -> None:
        super().__init__(env, normalise, arrange, render)
        self.count = env.num_envs

    def state(self) -> Any:
        return _each(lambda batch: np.array(batch[0]), self.now)

    def done(self, action: Any) -> Any:
        return np.array(action[0])

    def _reset(self, seed: int) -> Any:
        self.env.seed(seed)
        return self.env.reset()

    def _step(self, action: Any) -> tuple[Any, float, str]:
        observations, rewards, over, infos = self.env.step(action)
        end = "truncated" if infos[0].get("TimeLimit.truncated") else "terminated"
        return observations, float(rewards[0]), end if over[0] else ""

    def _picture(self) -> Any:
        return self.env.get_images()[0]


@contextmanager
def world_of(model: Any, env: Any, vecnormalize: Any, render: bool) -> Iterator[World]:
    """An environment made ready for an agent; what had to be changed in it is put back.

    Raises:
        InputError: it is no environment, or not one of the agent's.
    """
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    if isinstance(env, VecNormalize):  # it is not stepped: only what is inside moves
        vecnormalize, env = env if vecnormalize is None else vecnormalize, env.venv
    if not isinstance(env, (gymnasium.Env, VecEnv)):
        raise InputError(
            "env must be a Gymnasium environment or a VecEnv of stable_baselines3 "
            f"(got {type(env).__name__})"
        )
    arrange = arranged(model, env)
    if render and env.render_mode != "rgb_array":
        raise InputError(
            "pictures need an environment that was made with render_mode='rgb_array' "
            f"(got render_mode={env.render_mode!r})"
        )
    kind = First if isinstance(env, VecEnv) else Single
    by = Normalisation.of(vecnormalize, model)
    normalise = (lambda seen: seen) if by is None else by.normalize_obs
    own, told = copied(env)
    inside = list(_normalisers(own))
    before = [(one, one.training, one.norm_reward) for one in inside]
    try:
        for one in inside:
            one.training = one.norm_reward = False
        world = kind(own, normalise, arrange, render)
        if told:
            world.notes.append(told)
        yield world
    finally:
        for one, training, norm_reward in before:
            one.training, one.norm_reward = training, norm_reward


def _normalisers(env: Any) -> Iterator[Any]:
    """The ``VecNormalize`` wrappers in an environment."""
    from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize):
            yield env
        env = env.venv


def _each(change: Callable[[Any], Any], seen: Any) -> Any:
    """A change of an observation, or of each of a ``Dict``."""
    if isinstance(seen, Mapping):
        return {key: change(value) for key, value in seen.items()}
    return change(seen)
