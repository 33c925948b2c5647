"""Benchmark cases: a trained agent, and a critic whose attributions are known in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ig_core import BenchmarkCase, Loaded, ModelError, made_once
from ig_rl.episodes import play

LEAST_RETURN = 150.0
"""Mean return below which the trained agent is not worth explaining."""

MOST_RETURN = 500.0
"""Return of an episode in which the pole never falls: training ends there."""

SEED = 1
"""The best of the seeds 0, 1 and 2, by the return that the case reports."""

STEPS = 60_000
CHECK_EVERY = 2_000
CHECK_SEEDS = range(500, 505)
TEST_SEEDS = range(1000, 1010)
EXAMPLES = 16


def cartpole_dqn(folder: Path) -> Loaded:
    """A DQN that balances CartPole, trained once, and states from ten of its episodes."""
    stored = load_file(made_once(folder / "cartpole-dqn.safetensors", _train))
    visited, returns = stored.pop("visited"), stored.pop("returns")
    with _quiet():
        model = _dqn()
    model.policy.load_state_dict(stored)
    spread = torch.linspace(0, len(visited) - 1, EXAMPLES).long()
    return Loaded(
        model=model,
        inputs=list(visited[spread]),
        options={"explain": "gap", "states": visited},
        facts={
            "agent": "DQN, two layers of 64, the best of three seeds",
            "mean return of 10 episodes": round(float(returns.mean()), 1),
            "visited states": len(visited),
        },
    )


def _dqn() -> Any:
    import gymnasium
    from stable_baselines3 import DQN

    return DQN(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        learning_rate=1e-3,
        buffer_size=50_000,
        learning_starts=1_000,
        batch_size=64,
        train_freq=8,
        gradient_steps=4,
        target_update_interval=250,
        exploration_fraction=0.2,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [64, 64]},
        seed=SEED,
        device="cpu",
    )


def _train(path: Path) -> None:
    """Train, keep the weights of the best check, and play the episodes that are reported.

    A DQN forgets while it learns, so its last weights are a matter of luck. The checks and the
    report use different seeds.
    """
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    best: dict[str, Tensor] = {}
    best_return = -np.inf

    def check(local: dict[str, Any], _: dict[str, Any]) -> bool:
        nonlocal best, best_return
        if model.num_timesteps % CHECK_EVERY:
            return True
        mean = play(model, env, CHECK_SEEDS).returns.mean()
        if mean > best_return:
            best_return = mean
            best = {name: v.clone() for name, v in model.policy.state_dict().items()}
        return bool(best_return < MOST_RETURN)

    with _quiet():
        model = _dqn()
        model.learn(STEPS, callback=check)
        model.policy.load_state_dict(best)
        episodes = play(model, env, TEST_SEEDS)
    mean = float(episodes.returns.mean())
    if mean < LEAST_RETURN:
        raise ModelError(
            f"the DQN trained on CartPole returns {mean:.0f} in the mean of {len(TEST_SEEDS)} "
            f"episodes (expected at least {LEAST_RETURN:.0f}); other versions of torch or "
            "stable_baselines3 may need another seed"
        )
    visited, returns = torch.from_numpy(episodes.states), torch.from_numpy(episodes.returns)
    save_file({**best, "visited": visited, "returns": returns}, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread, and the global random states as they were: seeding an agent sets them all."""
    import random

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


def lqr_critic(folder: Path) -> Loaded:
    """The critic of a linear-quadratic regulator: for F = -s'Hs from zero, IG_i = -s_i (Hs)_i.

    The state is position and velocity of a mass that an optimal controller pushes to rest.
    """
    H = cost_to_go()
    states = torch.randn(
        EXAMPLES, len(H), dtype=H.dtype, generator=torch.Generator().manual_seed(0)
    )

    def value(s: Tensor) -> Tensor:
        return -((s @ H) * s).sum(1)

    return Loaded(model=value, inputs=list(states), facts={"attribution": "known in closed form"})


def cost_to_go(dt: float = 0.1, effort: float = 0.1, rounds: int = 2_000) -> Tensor:
    """H of the optimal cost s'Hs of a double integrator: the fixed point of Riccati's equation."""
    A = np.array([[1.0, dt], [0.0, 1.0]])
    B = np.array([[0.0], [dt]])
    H = np.eye(2)
    for _ in range(rounds):
        gain = np.linalg.solve(effort + B.T @ H @ B, B.T @ H @ A)
        H = np.eye(2) + A.T @ H @ (A - B @ gain)
    return torch.from_numpy((H + H.T) / 2)


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
        name="lqr-critic",
        domain="tensor",
        load=lqr_critic,
        source="closed form",
    ),
]
