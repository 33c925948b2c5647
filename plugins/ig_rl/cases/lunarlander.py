"""A DQN that lands Gymnasium's LunarLander."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ig_core import BenchmarkCase, Loaded
from ig_rl.cases.training import Recipe

SEED = 1
"""The better of the seeds 0 and 1, by the return that the case reports."""

SOLVED = 200.0
"""Return from which Gymnasium takes the task for solved."""


def environment() -> Any:
    import gymnasium

    return gymnasium.make("LunarLander-v3")


def _dqn(env: Any) -> Any:
    """The settings of RL Baselines3 Zoo (Raffin, 2020) for this environment."""
    from stable_baselines3 import DQN

    return DQN(
        "MlpPolicy",
        env,
        learning_rate=6.3e-4,
        buffer_size=50_000,
        learning_starts=1_000,
        batch_size=128,
        train_freq=4,
        gradient_steps=4,
        target_update_interval=250,
        exploration_fraction=0.12,
        exploration_final_eps=0.1,
        policy_kwargs={"net_arch": [256, 256]},
        seed=SEED,
        device="cpu",
    )


RECIPE = Recipe(
    agent="the DQN trained on LunarLander",
    environment=environment,
    build=_dqn,
    steps=120_000,
    least=150.0,
    enough=260.0,
    check_every=5_000,
    checks=range(500, 510),
)


def lunarlander_dqn(folder: Path) -> Loaded:
    """A DQN that lands, trained once, and states from ten of its episodes.

    Training takes about eleven minutes of one core, hence only the suite ``full`` has it.
    """
    trained = RECIPE.trained(folder / "lunarlander-dqn.safetensors")
    return Loaded(
        model=trained.model,
        inputs=trained.some(),
        options={"explain": "gap", "states": trained.visited},
        facts={
            **trained.facts("DQN, two layers of 256, the better of two seeds"),
            f"episodes above {SOLVED:.0f}": int((trained.returns > SOLVED).sum()),
        },
    )


CASE = BenchmarkCase(
    name="lunarlander-dqn",
    domain="rl",
    load=lunarlander_dqn,
    requires=("stable_baselines3", "gymnasium", "Box2D"),
    tags=("full",),
    licence="MIT",
    source="a DQN of stable-baselines3, trained here on gymnasium's LunarLander-v3",
    real=True,
)
