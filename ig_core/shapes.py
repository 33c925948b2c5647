"""A Shape says how the leaves of a path are laid out, measured and refined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core.leaves import Bank, Leaves, split
from ig_core.quadrature import Goal

ULPS = 8.0
"""A gradient is taken to be known to this many roundings of its dtype."""


class Shape(ABC):
    """How leaves are laid out, measured and refined."""

    cost: int
    """New nodes for one leaf that is refined."""
    halved: Shape | None = None
    """The shape of the halves of a leaf that is cut at its middle node."""

    @abstractmethod
    def measure(self, leaves: Leaves, bank: Bank, goal: Goal) -> Leaves:
        """New leaves with their weights and errors."""

    def together(
        self, path: Int[Tensor, " leaves"], error: Float[Tensor, " leaves"], paths: int
    ) -> Float[Tensor, " paths"]:
        """The error of every path from those of its leaves: their sum."""
        return torch.zeros(paths, dtype=torch.float64).index_add_(0, path, error)

    @abstractmethod
    def points(self, leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves cost"]:
        """Where the leaves to be refined want new nodes, as t."""

    @abstractmethod
    def refine(
        self, leaves: Leaves, new: Int[Tensor, "leaves cost"], t: Float[Tensor, " nodes"]
    ) -> list[tuple[Shape, Leaves]]:
        """What becomes of every leaf with its new nodes; ``t`` of all nodes."""


MINUS = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
BOOLE = torch.tensor([7, 32, 12, 32, 7], dtype=torch.float64) / 90
SIMPSON = torch.tensor([1, 0, 4, 0, 1], dtype=torch.float64) / 6


def _gap_weights(chosen: tuple[int, ...]) -> Float[Tensor, "4 5"]:
    """What the interpolant through some of five points predicts for each of the four gaps."""
    points = np.linspace(0, 1, 5)
    weights = np.zeros((4, 5))
    for k in chosen:
        basis = np.poly1d([1.0])
        for j in chosen:
            if j != k:
                basis *= np.poly1d([1, -points[j]]) / (points[k] - points[j])
        weights[:, k] = np.diff(np.polyval(basis.integ(), points))
    return torch.as_tensor(weights)


class Bent(Shape):
    """Paths with kinks and bends: Boole's rule B at five points, and its distance D to Simpson's.

    ``e = max(|D|_1 * min(1, max(4 R_B / R_S, 1/2)), |sum B - (F(b) - F(a))|)``, where R is how
    far an interpolant misses the known differences of F between neighbouring points. Two halves
    of one leaf are nine points, and the distance X of their sum to the parent's value is a second,
    sharper estimate: ``e = |X|_1 clamp(2 |X|_1 / sum |D|_1, 1/4, 1)``, a quarter of X where the
    rule converges fast, and all of it at a kink, where X is no smaller than the D of the halves.
    """

    cost = 4
    gaps_boole = _gap_weights((0, 1, 2, 3, 4))
    gaps_simpson = _gap_weights((0, 2, 4))
    sharpest, bluntest = 0.25, 1.0

    def measure(self, leaves: Leaves, bank: Bank, goal: Goal) -> Leaves:
        nodes, width = leaves.nodes, leaves.width
        slope, value = bank.nodes.slope[nodes], bank.nodes.value[nodes]
        noise = goal.noise[leaves.path]
        known = value.diff(dim=1)
        boole = width * (slope @ BOOLE)
        difference = width * (slope @ (BOOLE - SIMPSON))
        residual = value[:, 4] - value[:, 0] - boole
        misfit_boole = (width[:, None] * (slope @ self.gaps_boole.T) - known).abs().sum(1)
        misfit_simpson = (width[:, None] * (slope @ self.gaps_simpson.T) - known).abs().sum(1)
        trust = (4 * (misfit_boole - 4 * noise).clamp(min=0) / misfit_simpson).nan_to_num(nan=0.5)
        trust = trust.clamp(0.5, 1.0)

        doubt = width[:, None] * (BOOLE - SIMPSON)
        distance = bank.norms(nodes, doubt)
        rounding = ULPS * goal.epsilon * width * bank.nodes.norm[nodes].amax(1)
        raw = torch.maximum(distance * trust, residual.abs())
        beyond = (residual.abs() - noise).clamp(min=0)
        error = torch.maximum((distance - rounding).clamp(min=0) * trust, beyond)
        shift = torch.where(
            (difference != 0) & (residual.abs() <= difference.abs()), residual / difference, 0.0
        )
        scaled = torch.where(distance > 0, error / distance, 0.0)
        measured = replace(
            leaves,
            weights=width[:, None] * BOOLE + shift[:, None] * doubt,
            doubt=doubt * scaled[:, None],
            error=error,
            raw=raw,
        )
        return self._with_kin(measured, bank, distance, residual, beyond, rounding)

    def _with_kin(
        self,
        leaves: Leaves,
        bank: Bank,
        own_distance: Tensor,
        residual: Tensor,
        beyond: Tensor,
        rounding: Tensor,
    ) -> Leaves:
        """Nine points: X = B_left + B_right - B_parent; the value gains X / 63."""
        pairs = leaves.nodes.view(-1, 10)
        width = leaves.width.view(-1, 2)
        own = (width[:, :, None] * BOOLE).reshape(-1, 10)
        parent = torch.tensor([7, 0, 32, 0, 6, 6, 0, 32, 0, 7], dtype=torch.float64) / 90
        far = own - width.sum(1)[:, None] * parent
        distance = bank.norms(pairs, far)
        total = (bank.nodes.slope[pairs] * far).sum(1)
        left_over = residual.view(-1, 2).sum(1) - total / 63
        gain = torch.where(
            (total != 0) & (left_over.abs() <= total.abs() / 8), left_over / total, 0.0
        )
        scalar = beyond.view(-1, 2).sum(1) / 4
        slow = (2 * distance / own_distance.view(-1, 2).sum(1)).nan_to_num(nan=0.0)
        sharper = slow.clamp(self.sharpest, self.bluntest)
        vector = (distance - rounding.view(-1, 2).sum(1)).clamp(min=0)
        error = torch.maximum(sharper * vector, scalar) / 2
        raw = torch.maximum(sharper * distance, residual.abs().view(-1, 2).sum(1) / 4) / 2
        return replace(
            leaves,
            kin_weights=(own + (1 / 63 + gain)[:, None] * far).view(-1, 5),
            kin_error=error.repeat_interleave(2),
            kin_raw=raw.repeat_interleave(2),
        )

    def points(self, leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves cost"]:
        eighths = torch.tensor([1, 3, 5, 7], dtype=torch.float64) / 8
        return leaves.start[:, None] + leaves.width[:, None] * eighths

    def refine(
        self, leaves: Leaves, new: Int[Tensor, "leaves cost"], t: Float[Tensor, " nodes"]
    ) -> list[tuple[Shape, Leaves]]:
        old = leaves.nodes
        order = torch.stack(
            [
                old[:, 0], new[:, 0], old[:, 1], new[:, 1], old[:, 2],
                old[:, 2], new[:, 2], old[:, 3], new[:, 3], old[:, 4],
            ],
            dim=1,
        )  # fmt: skip
        halves = split(leaves, order.view(-1, 2, 5), t)
        return [(self, replace(halves, kin=torch.arange(len(halves.leg)) // 2))]


class PiecewiseLinear(Shape):
    """Two points: the share w of the left gradient that gives F(b) - F(a), exact for one kink.

    ``I = h (w G_a + (1 - w) G_b)``. The next point goes just beyond the kink that w predicts, on
    the longer side: if the gradient there equals that of the far end, the far part is exact.
    """

    cost = 1
    either_sign: ClassVar[float] = 3.0
    """How many times the root of the summed squares the error of a path is, at most."""

    def measure(self, leaves: Leaves, bank: Bank, goal: Goal) -> Leaves:
        nodes, width = leaves.nodes, leaves.width
        slope, value = bank.nodes.slope[nodes], bank.nodes.value[nodes]
        noise = goal.noise[leaves.path]
        known = value[:, 1] - value[:, 0]
        apart = width * bank.norms(nodes, MINUS.expand(len(nodes), 2))
        size = width * bank.nodes.norm[nodes].amax(1)
        same = apart <= same_within(goal, size)

        residual = known - width * slope.mean(1)
        lever = width * (slope[:, 0] - slope[:, 1])
        readable = lever.abs() > 4 * noise + 1e-13 * known.abs()
        share = torch.where(readable, 0.5 + residual / lever, 0.5)
        inside = share.clamp(0.0, 1.0)
        left_over = (known - width * (inside * slope[:, 0] + (1 - inside) * slope[:, 1])).abs()
        one_kink = readable & (share >= -1e-6) & (share <= 1 + 1e-6)
        bend = torch.where(one_kink, (4 * inside * (1 - inside)).clamp(min=0.3), 1.0)
        raw = torch.where(same, left_over, 0.35 * apart * bend + left_over * ~one_kink)
        error = torch.where(
            same,
            (left_over - noise).clamp(min=0),
            0.35 * apart * bend + (left_over - noise).clamp(min=0) * ~one_kink,
        )
        raw = torch.maximum(raw, error)
        beyond = (0.05 * goal.tol * size / apart).nan_to_num(nan=0.02).clamp(1e-6, 0.02)
        probe = torch.where(inside <= 0.5, inside + beyond, inside - beyond)
        scaled = torch.where(apart > 0, error / apart, 0.0)
        return replace(
            leaves,
            weights=width[:, None] * torch.stack([inside, 1 - inside], 1),
            doubt=MINUS * (width * scaled)[:, None],
            error=error,
            raw=raw,
            probe=torch.where(one_kink & ~same, probe.clamp(0.0, 1.0), 0.5),
        )

    def together(
        self, path: Int[Tensor, " leaves"], error: Float[Tensor, " leaves"], paths: int
    ) -> Float[Tensor, " paths"]:
        """At most so many times the root of the squares: errors of small kinks have either sign."""
        squares = super().together(path, error**2, paths)
        return torch.minimum(
            super().together(path, error, paths), self.either_sign * squares.sqrt()
        )

    def points(self, leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves cost"]:
        return (leaves.start + leaves.width * leaves.probe)[:, None]

    def refine(
        self, leaves: Leaves, new: Int[Tensor, "leaves cost"], t: Float[Tensor, " nodes"]
    ) -> list[tuple[Shape, Leaves]]:
        left, right = leaves.nodes.unbind(1)
        nodes = torch.stack([left, new[:, 0], new[:, 0], right], 1)
        return [(self, split(leaves, nodes.view(-1, 2, 2), t))]


def same_within(goal: Goal, size: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """By how much two equal gradients of this size may differ through rounding."""
    return 8 * ULPS * goal.epsilon * size
