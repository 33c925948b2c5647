"""Matching: whether what an environment shows and takes is what an agent sees and does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ig_core import InputError


def arranged(model: Any, env: Any) -> Callable[[Any], Any]:
    """What makes an environment's observations those of the agent: nothing, or channels first.

    Raises:
        InputError: nothing does.
    """
    if _sizes(env.action_space) != _sizes(model.action_space):
        raise InputError(
            f"the environment takes actions of {env.action_space}, the agent has "
            f"{model.action_space}: play the environment that it was trained in"
        )
    own, wanted = _sizes(env.observation_space), _sizes(model.observation_space)
    turned = {key for key in own if own[key] != wanted.get(key)}
    if own.keys() != wanted.keys() or any(_channels_first(own[k]) != wanted[k] for k in turned):
        raise InputError(
            f"the environment shows {env.observation_space}, the agent sees "
            f"{model.observation_space}: play the environment that it was trained in, with the "
            "same wrappers"
        )

    def turned_round(seen: Any) -> Any:
        if isinstance(seen, Mapping):
            return {k: np.moveaxis(v, -1, -3) if k in turned else v for k, v in seen.items()}
        return np.moveaxis(seen, -1, -3)

    return turned_round if turned else lambda seen: seen


def normaliser(model: Any, env: Any) -> Any:
    """The ``VecNormalize`` around an environment, or else of the model's own."""
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize

    if isinstance(env, VecNormalize):
        return env
    own = model.get_vec_normalize_env() if isinstance(model, BaseAlgorithm) else None
    # Of a frame stack around it, what the agent receives cannot be normalised from outside.
    return own if own is not None and _fits(own, model) else None


def _fits(env: Any, model: Any) -> bool:
    """Whether an environment's observations are as large as the agent's."""
    return _sizes(env.observation_space) == _sizes(model.observation_space)


def _sizes(space: Any) -> dict[str, Any]:
    """Kind and size of a space, or of each space of a ``Dict``; bounds may differ."""
    from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

    if isinstance(space, Dict):
        return {key: _sizes(one)[""] for key, one in space.spaces.items()}
    if isinstance(space, Box):
        return {"": ("Box", space.shape)}
    if isinstance(space, Discrete):
        return {"": ("Discrete", int(space.n))}
    if isinstance(space, MultiDiscrete):
        return {"": ("MultiDiscrete", tuple(space.nvec.tolist()))}
    return {"": (type(space).__name__, space.shape)}


def _channels_first(size: Any) -> Any:
    kind, shape = size
    return (kind, (shape[2], *shape[:2])) if kind == "Box" and len(shape) == 3 else None
