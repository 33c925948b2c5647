"""Copies of environments, which are played in place of the user's own."""

from __future__ import annotations

import copy
from typing import Any


def copied(env: Any) -> tuple[Any, str]:
    """A copy of an environment, or itself and what is to be told then."""
    try:
        return _twin(env), ""
    except Exception as error:  # the user's own code may raise anything
        told = f"{type(error).__name__}: {error}"
        return env, f"the environment itself was played, as it cannot be copied ({told:.80})"


def _twin(env: Any) -> Any:
    """A deep copy without windows, which are opened anew when they are needed.

    Wrappers of Stable-Baselines3 are taken apart: ``VecNormalize`` copies itself without what it
    wraps, and others hold parts of their class.
    """
    from stable_baselines3.common.vec_env import VecEnvWrapper

    if isinstance(env, VecEnvWrapper):
        own = {k: v for k, v in vars(env).items() if k not in ("venv", "class_attributes")}
        twin = type(env).__new__(type(env))
        vars(twin).update(class_attributes=env.class_attributes, venv=_twin(env.venv))
        vars(twin).update(copy.deepcopy(own))
        return twin
    inner = [one.unwrapped for one in getattr(env, "envs", [env])]
    windows = [v for one in inner for v in vars(one).values() if _is_window(v)]
    return copy.deepcopy(env, {id(window): None for window in windows})


def _is_window(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pygame"
