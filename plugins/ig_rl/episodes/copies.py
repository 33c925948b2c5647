"""Copies of environments, which are played in place of the user's own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any


def copied(env: Any) -> tuple[Any, str]:
    """A copy of an environment, or itself and what is to be told then."""
    try:
        _check_here(env)
        return _twin(env), ""
    except Exception as error:  # the user's own code may raise anything
        told = f"{type(error).__name__}: {error}"
        return env, f"the environment itself was played, as it cannot be copied ({told:.80})"


def _check_here(env: Any) -> None:
    """That no part of an environment is in another process.

    A copy of a pipe to one is a second owner of its file descriptor, and closes it.
    """
    from multiprocessing.connection import Connection

    for layer in _layers(env):
        for value in vars(layer).values():
            held = value if isinstance(value, (tuple, list)) else [value]
            if any(isinstance(each, Connection) for each in held):
                raise TypeError("it is in another process")


def _twin(env: Any) -> Any:
    """A deep copy without windows, which are opened anew when they are needed.

    The file of a ``Monitor`` stays the given environment's alone. Wrappers of Stable-Baselines3
    are taken apart: ``VecNormalize`` copies itself without what it wraps, and others hold parts of
    their class.
    """
    from stable_baselines3.common.vec_env import VecEnvWrapper

    if isinstance(env, VecEnvWrapper):
        own = {k: v for k, v in vars(env).items() if k not in ("venv", "class_attributes")}
        twin = type(env).__new__(type(env))
        vars(twin).update(class_attributes=env.class_attributes, venv=_twin(env.venv))
        vars(twin).update(copy.deepcopy(own, _without_outside([env])))
        return twin
    return copy.deepcopy(env, _without_outside(_layers(env)))


def _layers(env: Any) -> Iterator[Any]:
    """An environment, and those that it wraps."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

    yield env
    within: list[Any] = env.envs if isinstance(env, DummyVecEnv) else []
    if isinstance(env, (gymnasium.Wrapper, VecEnvWrapper)):
        within = [env.venv if isinstance(env, VecEnvWrapper) else env.env]
    for inner in within:
        yield from _layers(inner)


def _without_outside(layers: Iterable[Any]) -> dict[int, Any]:
    """A memory of ``deepcopy`` that knows windows and files as None."""
    return {id(v): None for one in layers for v in vars(one).values() if _is_outside(v)}


def _is_outside(value: Any) -> bool:
    """Whether it is a window, or a file to which episodes are written."""
    from stable_baselines3.common.monitor import ResultsWriter

    return isinstance(value, ResultsWriter) or type(value).__module__.partition(".")[0] == "pygame"
