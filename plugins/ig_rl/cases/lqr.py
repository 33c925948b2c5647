"""The critic of a linear-quadratic regulator, whose attributions are known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ig_core import BenchmarkCase, Loaded

EXAMPLES = 16


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


CASE = BenchmarkCase(
    name="lqr-critic",
    domain="tensor",
    load=lqr_critic,
    source="closed form",
)
