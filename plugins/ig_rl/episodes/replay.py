"""A replay buffer's observations: where an agent went while it learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ig_rl.episodes.episode import States


def replayed(model: Any) -> States:
    """The observations in a model's replay buffer, of all its environments; None without any.

    They are as the environments gave them, before a ``VecNormalize``.
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None or not buffer.size():
        return None

    def flat(stored: Any, space: Any) -> Any:
        return stored[: buffer.size()].reshape(-1, *space.shape)

    space, stored = model.observation_space, buffer.observations
    if isinstance(stored, Mapping):
        return {key: flat(value, space.spaces[key]) for key, value in stored.items()}
    return flat(stored, space)
