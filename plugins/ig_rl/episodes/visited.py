"""Visited states: where a wrapped agent has been, which is where its baselines come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ig_rl.episodes.episode import States, play

VISITED_SEEDS = range(10_000, 10_005)
"""Of the episodes that are played for states; explained episodes should have others."""

MOST_STATES = 5_000
MOST_NUMBERS = 20_000_000
"""In all states together, which bounds how many images are kept."""


@dataclass(frozen=True, eq=False)
class Visited:
    """States that an agent visited, None where none are known, and where they are from."""

    states: States
    source: str

    @classmethod
    def of(cls, model: Any, env: Any, vecnormalize: Any, given: Any) -> Visited:
        """The given states, or those of a few episodes, or those of the model's replay buffer."""
        if given is not None:
            return cls(given, "visited states: those given")
        if env is not None:
            played = play(model, env, VISITED_SEEDS, vecnormalize=vecnormalize)
            seeds = f"{VISITED_SEEDS[0]} to {VISITED_SEEDS[-1]}"
            told = f"of {len(VISITED_SEEDS)} episodes with the seeds {seeds}"
            return cls(*_some(played.states, "; ".join([told, *played.notes])))
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None and buffer.size():
            return cls(*_some(_of_buffer(model, buffer), "of the replay buffer, with exploration"))
        return cls(None, "visited states: none known; pass env= or states= for a baseline of them")


def spread(states: States, most: int) -> States:
    """At most so many of the states, at equal distances."""
    count = length(states)
    if count <= most:
        return states
    chosen = np.linspace(0, count - 1, most).round().astype(int)
    if isinstance(states, Mapping):
        return {key: value[chosen] for key, value in states.items()}
    return [states[i] for i in chosen] if isinstance(states, list) else states[chosen]


def length(states: States) -> int:
    """How many states these are."""
    return len(next(iter(states.values())) if isinstance(states, Mapping) else states)


def each(states: States) -> list[Any]:
    """The states one by one."""
    if isinstance(states, Mapping):
        return [{key: value[i] for key, value in states.items()} for i in range(length(states))]
    return list(states)


def _some(states: States, source: str) -> tuple[States, str]:
    arrays = states.values() if isinstance(states, Mapping) else [states]
    numbers = sum(array[0].size for array in arrays)
    kept = spread(states, max(1, min(MOST_STATES, MOST_NUMBERS // numbers)))
    count, whole = length(kept), length(states)
    return kept, f"visited states: {count}{f' of {whole}' if count < whole else ''} {source}"


def _of_buffer(model: Any, buffer: Any) -> States:
    """What a replay buffer holds, which is not normalised; of all its environments."""

    def flat(stored: Any, space: Any) -> Any:
        return stored[: buffer.size()].reshape(-1, *space.shape)

    space, stored = model.observation_space, buffer.observations
    if isinstance(stored, Mapping):
        return {key: flat(value, space.spaces[key]) for key, value in stored.items()}
    return flat(stored, space)
