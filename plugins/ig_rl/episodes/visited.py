"""Visited states: where a wrapped agent has been, which is where its baselines come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ig_core import InputError
from ig_rl.episodes.episode import States, play
from ig_rl.episodes.replay import replayed

VISITED_SEEDS = range(10_000, 10_005)
"""Of the episodes that are played for states; explained episodes should have others."""

MOST_VISITED = 1_000
"""Steps after which one of them is cut, lest an endless one be waited for."""

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
            played = play(
                model, env, VISITED_SEEDS, vecnormalize=vecnormalize, most_steps=MOST_VISITED
            )
            seeds = f"{VISITED_SEEDS[0]} to {VISITED_SEEDS[-1]}"
            told = f"of {len(VISITED_SEEDS)} episodes with the seeds {seeds}"
            return cls(*_bounded(played.states, "; ".join([told, *played.notes])))
        if (stored := replayed(model)) is not None:
            return cls(*_bounded(stored, "of the replay buffer, with exploration"))
        return cls(None, "visited states: none known; pass env= or states= for a baseline of them")

    def some(self, states: States, most: int) -> tuple[list[Any], list[str]]:
        """At most so many of the given or else the visited states, and what to say of them.

        Raises:
            InputError: there are none.
        """
        states = states.states if isinstance(states, Visited) else states
        given = self.states if states is None else states
        if given is None:
            raise InputError(
                "there are no states to explain: pass states= (a batch of observations), or env= "
                "to wrap"
            )
        if not length(given):
            raise InputError("there must be at least one state to explain (got none)")
        own = spread(given, most)
        notes = [self.source]
        if (count := length(own)) < length(given):
            notes.append(f"explained: {count} of {length(given)} states")
        return each(own), notes


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
    """How many states these are.

    Raises:
        InputError: they are no batch.
    """
    some = next(iter(states.values()), ()) if isinstance(states, Mapping) else states
    try:
        return len(some)
    except TypeError as error:
        raise InputError(
            "states must be a batch: an array whose first dimension counts states, or a list "
            f"(got {type(some).__name__})"
        ) from error


def each(states: States) -> list[Any]:
    """The states one by one."""
    if isinstance(states, Mapping):
        return [{key: value[i] for key, value in states.items()} for i in range(length(states))]
    return list(states)


def _bounded(states: States, source: str) -> tuple[States, str]:
    arrays = states.values() if isinstance(states, Mapping) else [states]
    numbers = sum(array[0].size for array in arrays)
    kept = spread(states, max(1, min(MOST_STATES, MOST_NUMBERS // numbers)))
    count, whole = length(kept), length(states)
    return kept, f"visited states: {count}{f' of {whole}' if count < whole else ''} {source}"
