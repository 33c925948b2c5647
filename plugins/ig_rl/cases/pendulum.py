"""A SAC that swings Gymnasium's Pendulum up and holds it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded, Units
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


class Critic(nn.Module):
    """The smaller of the two critics' values of an observation and an action from -1 to 1."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.critic = policy.critic

    def forward(
        self, observation: Float[Tensor, "rows 3"], action: Float[Tensor, "rows 1"]
    ) -> Float[Tensor, " rows"]:
        return torch.cat(self.critic(observation, action), dim=1).min(1).values


def pendulum_sac(folder: Path) -> Loaded:
    """A SAC that holds Pendulum up: Q of its own action, by the observation and the action."""
    trained = RECIPE.trained(folder / "pendulum-sac.safetensors")
    states = trained.visited
    actions = torch.from_numpy(trained.model.predict(states.numpy(), deterministic=True)[0]) / 2
    swinging = (states[:, 0] < UPRIGHT).nonzero()[:, 0]
    shown = swinging[torch.linspace(0, len(swinging) - 1, EXAMPLES).long()].tolist()
    labels = ["cos of angle", "sin of angle", "angular velocity", "torque"]
    index = {"observation": torch.arange(3), "action": torch.tensor([3])}
    return Loaded(
        Critic(trained.model.policy).eval(),
        [{"observation": states[i], "action": actions[i]} for i in shown],
        baseline={"observation": states.mean(0), "action": actions.mean(0)},
        options={"units": Units(labels, index, "state feature")},
        facts={
            **trained.facts("SAC, two layers of 64"),
            "explained": "the smaller of both critics at the actor's action",
            "baseline": "the mean of visited states and of the actions there",
        },
    )


CASE = BenchmarkCase(
    name="pendulum-sac",
    domain="tensor",
    load=pendulum_sac,
    requires=("stable_baselines3", "gymnasium"),
    tags=("default",),
    licence="MIT",
    source="a SAC of stable-baselines3, trained here on gymnasium's Pendulum-v1",
    real=True,
)
