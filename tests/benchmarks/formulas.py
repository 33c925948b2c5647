"""Functions written down: each has one difficulty, and nothing else."""

from __future__ import annotations

import torch
from function import Entry, Formula, Function
from networks import EXAMPLES, from_zero
from torch import Tensor

MIXED = torch.tensor([1.0, 0.8, 0.6, 0.4, -0.3, 0.5])
OTHER = torch.tensor([0.3, -0.5, 0.9, 0.2, 0.7, -0.4])


def positive(scale: float) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(EXAMPLES, len(MIXED), generator=draw) * scale + 0.2


def oscillation() -> Function:
    def formula(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return 0.2 * torch.sin(100 * x[:, 0]) + x @ w + 0.3 * (x @ v) ** 2

    return from_zero(Formula(formula, MIXED, OTHER), positive(1.0))


def saturated_relu() -> Function:
    def formula(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return 1 - torch.relu(1 - x @ w) + 0.5 * torch.relu(x @ v - 0.2)

    return from_zero(Formula(formula, MIXED, OTHER), positive(1.5), smooth=False, nodes=400_000)


def saturated_gate() -> Function:
    def formula(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return torch.sigmoid(10 * (x @ w)) * (1 + 0.3 * torch.tanh(x @ v))

    return from_zero(Formula(formula, MIXED, OTHER), positive(1.5))


def root() -> Function:
    """The slope grows as t^(-1/2) down to t of about 1e-8, where it ends at 1e4 times its size."""

    def formula(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return torch.sqrt((x**2 @ w.abs()).sqrt() + 1e-8) * (1 + 0.3 * torch.tanh(x @ v))

    x = positive(1.0)
    return Function(Formula(formula, MIXED, OTHER), (x,), (1e-8 * x,), grade=4)


def root_mean_square() -> Function:
    """RMSNorm from zero: all of the change lies in a layer of width 1e-3 at the start."""

    def formula(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        normed = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return torch.tanh(normed @ w) + 0.3 * (normed @ v) ** 2

    draw = torch.Generator().manual_seed(1)
    x = torch.randn(EXAMPLES, len(MIXED), generator=draw)
    return from_zero(Formula(formula, MIXED, OTHER), x, grade=4)


ENTRIES = (
    Entry("sin(100x)", "analytic", oscillation),
    Entry("1 - ReLU(1 - x)", "analytic", saturated_relu),
    Entry("saturated gate", "analytic", saturated_gate),
    Entry("root at the start", "analytic", root),
    Entry("RMSNorm from zero", "analytic", root_mean_square),
)
