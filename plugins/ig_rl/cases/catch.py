"""Catch: a ball falls, a paddle must be under it, and a distractor means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded
from ig_rl.cases.training import Recipe, small_dqn

SIDE = 10
BRIGHT, DIM = 255, 128
ROUNDS = 10
"""Balls in an episode, so that the return is how many of them were caught."""

SEED = 0
"""The first that was tried."""

MOVES = (-1, 0, 1)
ACTIONS = ("left", "stay", "right")

Screen = UInt8[np.ndarray, "1 10 10"]


def environment() -> Any:
    """The environment; its class is made here since Gymnasium is imported when it is used."""
    import gymnasium

    class Catch(gymnasium.Env[Screen, Any]):
        """One bright pixel falls, one is moved in the last row, and a dim one wanders anywhere."""

        observation_space = gymnasium.spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8)
        action_space = gymnasium.spaces.Discrete(len(MOVES))

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Screen, Any]:
            super().reset(seed=seed)
            self.left = ROUNDS
            self.paddle = int(self.np_random.integers(SIDE))
            self._drop()
            return self._screen(), {}

        def step(self, action: Any) -> tuple[Screen, float, bool, bool, Any]:
            self.paddle = min(max(self.paddle + MOVES[int(action)], 0), SIDE - 1)
            self.row += 1
            reward = 0.0
            if self.row == SIDE - 1:
                reward = float(self.column == self.paddle)
                self.left -= 1
                self._drop()
            return self._screen(), reward, self.left == 0, False, {}

        def _drop(self) -> None:
            self.row, self.column = 0, int(self.np_random.integers(SIDE))

        def _screen(self) -> Screen:
            screen = np.zeros((1, SIDE, SIDE), np.uint8)
            wanders = self.np_random.integers(SIDE - 1), self.np_random.integers(SIDE)
            screen[0, wanders[0], wanders[1]] = DIM
            screen[0, self.row, self.column] = BRIGHT
            screen[0, SIDE - 1, self.paddle] = BRIGHT
            return screen

    return Catch()


def _network() -> Any:
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class Small(BaseFeaturesExtractor):
        """Two convolutions for ten by ten pixels; Stable-Baselines3's own want at least 36."""

        def __init__(self, observation_space: Any, features_dim: int = 64) -> None:
            super().__init__(observation_space, features_dim)
            self.layers = nn.Sequential(
                *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()),
                *(nn.Flatten(), nn.Linear(16 * 25, features_dim), nn.ReLU()),
            )

        def forward(self, x: Float[Tensor, "rows 1 10 10"]) -> Float[Tensor, "rows features"]:
            return self.layers(x)

    return Small


def _dqn(env: Any) -> Any:
    return small_dqn(
        env,
        seed=SEED,
        policy="CnnPolicy",
        buffer_size=20_000,
        exploration_fraction=0.3,
        exploration_final_eps=0.05,
        gamma=0.95,
        policy_kwargs={"net_arch": [], "features_extractor_class": _network()},
    )


RECIPE = Recipe(
    agent="the DQN trained on Catch",
    environment=environment,
    build=_dqn,
    steps=20_000,
    least=0.9 * ROUNDS,
    enough=float(ROUNDS),
    check_every=1_000,
    checks=range(500, 510),
)


def catch_dqn(folder: Path) -> Loaded:
    """A DQN that sees Catch, trained once, and screens from ten of its episodes."""
    trained = RECIPE.trained(folder / "catch-dqn.safetensors")
    return Loaded(
        model=trained.model,
        inputs=trained.some(),
        options={"explain": "gap", "states": trained.visited, "action_names": ACTIONS},
        facts={
            **trained.facts("DQN, two convolutions of 16 channels and a layer of 64"),
            "caught": f"{float(trained.returns.mean()) / ROUNDS:.2f} of the balls",
        },
    )


def things(screen: UInt8[Tensor, "1 10 10"]) -> dict[str, tuple[int, int]]:
    """Row and column of what is to be seen: ball, paddle and, unless the ball hides it, distractor.

    It is true by construction: only the distractor is dim, only the paddle is in the last row.
    """
    found = {}
    for row, column in screen[0].nonzero().tolist():
        dim = int(screen[0, row, column]) == DIM
        found["distractor" if dim else "paddle" if row == SIDE - 1 else "ball"] = row, column
    return found


def masses(
    screens: Sequence[UInt8[Tensor, "1 10 10"]], values: Sequence[Float[Tensor, "1 10 10"]]
) -> dict[str, float]:
    """The share of the absolute attribution that lies on each thing, in the mean of the screens."""
    shares: dict[str, list[float]] = {"ball": [], "paddle": [], "distractor": []}
    for screen, value in zip(screens, values, strict=True):
        mass = value[0].abs() / value.abs().sum()
        places = things(screen)
        for name, found in shares.items():
            found.append(float(mass[places[name]]) if name in places else 0.0)
    return {name: sum(found) / len(found) for name, found in shares.items()}


CASE = BenchmarkCase(
    name="catch-dqn",
    domain="rl",
    load=catch_dqn,
    requires=("stable_baselines3", "gymnasium"),
    tags=("default",),
    licence="MIT",
    source="a DQN of stable-baselines3, trained here on a Catch of ten by ten pixels",
    real=True,
)
