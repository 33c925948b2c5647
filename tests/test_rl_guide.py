"""What the guide to reinforcement learning shows runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC

from ig_rl.cases.catch import environment

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/rl.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def small_agents() -> dict[str, Any]:
    """What the guide calls by name."""
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    pendulum = gymnasium.make("Pendulum-v1")
    catch = environment()
    own = {"seed": 3, "device": "cpu"}
    small = {"net_arch": [16, 16]}
    torch.manual_seed(0)
    return {
        "__name__": "guide",
        "env": env,
        "pendulum": pendulum,
        "catch": catch,
        "model": DQN("MlpPolicy", env, buffer_size=100, policy_kwargs={**small}, **own),
        "ppo": PPO("MlpPolicy", env, policy_kwargs={**small, "ortho_init": False}, **own),
        "sac": SAC("MlpPolicy", pendulum, buffer_size=100, policy_kwargs={**small}, **own),
        "lstm_ppo": RecurrentPPO("MlpLstmPolicy", env, policy_kwargs={**small}, **own),
        "catcher": DQN("MlpPolicy", catch, buffer_size=100, policy_kwargs={**small}, **own),
        "q_network": torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
        ),
        "observation": np.array([0.3, -0.8, 0.04, 0.9], dtype=np.float32),
        "swinging": pendulum.reset(seed=0)[0],
    }


def test_the_guide_to_reinforcement_learning_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 8
    names = small_agents()
    for block in BLOCKS:
        exec(compile(block, "docs/rl.md", "exec"), names)
    for file in (
        "decision.html", "decision.png", "episode.html", "episode.png", "episode.gif",
        "episode.csv", "catch.png", "catch.gif", "importance.png", "importance.html",
        "faithfulness.html",
    ):  # fmt: skip
        assert (tmp_path / file).stat().st_size > 1000


def test_every_quantity_of_the_agents_is_in_the_guide() -> None:
    from ig_rl.agents import agent_of

    agents = small_agents()
    told = {*re.findall(r"`([a-z0-9-]+)(?::[\d.]+)?`", GUIDE)}
    for name in ("model", "ppo", "sac", "lstm_ppo"):
        assert {*agent_of(agents[name]).explains} <= told


def test_every_baseline_of_the_plugin_is_in_the_guide() -> None:
    import ig_rl

    for baseline in ig_rl.ig_baselines():
        assert f'`"{baseline.name}"`' in GUIDE or f"`{baseline.__name__}(" in GUIDE
