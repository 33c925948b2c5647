"""A Recipe trains an agent once, keeps it at its best and plays the episodes that are reported."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor

from ig_core import ModelError, made_once
from ig_rl.episodes import play

EXAMPLES = 16


@dataclass(frozen=True, eq=False)
class Trained:
    """An agent, the states that it visited in its test episodes and the return of each."""

    model: Any
    visited: Shaped[Tensor, "states ..."]
    returns: Float[Tensor, " episodes"]

    def some(self, count: int = EXAMPLES) -> list[Tensor]:
        """Visited states, evenly from the first to the last."""
        return list(self.visited[torch.linspace(0, len(self.visited) - 1, count).long()])

    def facts(self, agent: str) -> dict[str, Any]:
        """What every case of a trained agent tells."""
        return {
            "agent": agent,
            f"mean return of {len(self.returns)} episodes": round(float(self.returns.mean()), 1),
            "visited states": len(self.visited),
        }


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one agent is trained and judged.

    An agent forgets while it learns, so its last weights are a matter of luck: the weights of the
    best check are kept. Checks and tests play episodes of different seeds.

    Args:
        agent: what an error calls it.
        environment: makes what it learns, and is tested, in.
        build: the untrained agent for an environment.
        steps: of training at most.
        least: mean return of the tests below which the agent is not worth explaining.
        enough: mean return of a check after which training ends.
    """

    agent: str
    environment: Callable[[], Any]
    build: Callable[[Any], Any]
    steps: int
    least: float
    enough: float = math.inf
    check_every: int = 2_000
    checks: range = range(500, 505)
    tests: range = range(1000, 1010)

    def trained(self, path: Path) -> Trained:
        """The agent whose weights are at ``path``, trained if there are none.

        Raises:
            ModelError: training gave an agent that is not worth explaining.
        """
        stored = load_file(made_once(path, self._train))
        visited, returns = stored.pop("visited"), stored.pop("returns")
        with quiet():
            model = self.build(self.environment())
        model.policy.load_state_dict(stored)
        return Trained(model, visited, returns)

    def _train(self, partial: Path) -> None:
        env = self.environment()
        best: dict[str, Tensor] = {}
        most = -math.inf

        def check(local: dict[str, Any], _: dict[str, Any]) -> bool:
            nonlocal best, most
            if model.num_timesteps % self.check_every:
                return True
            mean = float(play(model, env, self.checks).returns.mean())
            if mean > most:
                most = mean
                best = {name: v.clone() for name, v in model.policy.state_dict().items()}
            return most < self.enough

        with quiet():
            model = self.build(self.environment())
            model.learn(self.steps, callback=check)
            model.policy.load_state_dict(best)
            episodes = play(model, env, self.tests)
        mean = float(episodes.returns.mean())
        if mean < self.least:
            raise ModelError(
                f"{self.agent} returns {mean:.4g} in the mean of {len(self.tests)} episodes "
                f"(expected at least {self.least:.4g}); other versions of torch or "
                "stable_baselines3 may need another seed"
            )
        visited, returns = torch.from_numpy(episodes.states), torch.from_numpy(episodes.returns)
        save_file({**best, "visited": visited, "returns": returns}, partial)


def small_dqn(env: Any, *, seed: int, policy: str = "MlpPolicy", **changes: Any) -> Any:
    """An untrained DQN with settings that suffice for small environments, but for changes."""
    from stable_baselines3 import DQN

    settings: dict[str, Any] = {
        "learning_rate": 1e-3,
        "buffer_size": 50_000,
        "learning_starts": 1_000,
        "batch_size": 64,
        "train_freq": 8,
        "gradient_steps": 4,
        "target_update_interval": 250,
        "exploration_fraction": 0.2,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [64, 64]},
    }
    return DQN(policy, env, seed=seed, device="cpu", **{**settings, **changes})


@contextmanager
def quiet() -> Iterator[None]:
    """One thread, and the global random states as they were: seeding an agent sets them all."""
    threads, state, python = torch.get_num_threads(), np.random.get_state(), random.getstate()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        np.random.set_state(state)
        random.setstate(python)
