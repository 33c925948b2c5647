"""Episodes played by an agent: the states that it visits and the returns that it gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_core import InputError


@dataclass(frozen=True, eq=False)
class Episodes:
    """Visited states in order, and one return per episode."""

    states: Float[np.ndarray, "states ..."]
    returns: Float[np.ndarray, " episodes"]


def play(model: Any, env: Any, seeds: Iterable[int]) -> Episodes:
    """Play one episode per seed with the agent's deterministic action in a Gymnasium environment.

    Raises:
        InputError: there is no seed, hence no episode.
    """
    states, returns = [], []
    for seed in seeds:
        state, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            states.append(np.array(state))
            action, _ = model.predict(state, deterministic=True)
            state, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    if not returns:
        raise InputError("play needs at least one seed (got none)")
    return Episodes(np.stack(states), np.array(returns))
