"""A SAC that swings Gymnasium's Pendulum up and holds it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ig_core import BenchmarkCase, Loaded
from ig_rl.cases.training import EXAMPLES, Recipe

SEED = 0
"""The first that was tried."""

UPRIGHT = 0.9
"""The cosine of the angle above which little happens; no such state is explained."""


def environment() -> Any:
    import gymnasium

    return gymnasium.make("Pendulum-v1")


def _sac(env: Any) -> Any:
    from stable_baselines3 import SAC

    return SAC(
        "MlpPolicy",
        env,
        learning_rate=1e-3,
        buffer_size=10_000,
        learning_starts=200,
        batch_size=128,
        policy_kwargs={"net_arch": [64, 64]},
        seed=SEED,
        device="cpu",
    )


RECIPE = Recipe(
    agent="the SAC trained on Pendulum",
    environment=environment,
    build=_sac,
    steps=5_000,
    least=-250.0,
    enough=-130.0,
    check_every=500,
)


def pendulum_sac(folder: Path) -> Loaded:
    """A SAC that holds Pendulum up: Q of its own action, by the observation and the action."""
    trained = RECIPE.trained(folder / "pendulum-sac.safetensors")
    swinging = trained.visited[trained.visited[:, 0] < UPRIGHT]
    return Loaded(
        model=trained.model,
        inputs=list(swinging[torch.linspace(0, len(swinging) - 1, EXAMPLES).long()]),
        options={"explain": "q", "states": trained.visited},
        facts=trained.facts("SAC, two layers of 64"),
    )


CASE = BenchmarkCase(
    name="pendulum-sac",
    domain="rl",
    load=pendulum_sac,
    requires=("stable_baselines3", "gymnasium"),
    tags=("default",),
    licence="MIT",
    source="a SAC of stable-baselines3, trained here on gymnasium's Pendulum-v1",
    real=True,
)
