"""A Tail is a leaf at an end of a path where the gradient is infinite while F is not: sqrt at 0."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core.leaves import Bank, Leaves, over
from ig_core.panels import PANELS, nested
from ig_core.quadrature import Goal
from ig_core.shapes import ULPS, Shape

GRADE = 8.0
"""A tail is this many times narrower than the one that it was refined from."""

SHAPELESS = 1e-3
"""Where dF/dt is less than this part of the gradient's L1 norm, it says nothing about the rest."""


class Tail(Shape):
    """The open end, a node m near it and the far end b; F is known at all three.

    ``I = int d dF`` with the direction ``d = G / (dF/dt)``, taken to be d(m) up to m and to change
    evenly from there to b: exact where all elements of G follow one power of t. The error is that
    of a direction that is off by as much as it changes from m to b.
    """

    cost = 4

    def measure(self, leaves: Leaves, bank: Bank, goal: Goal) -> Leaves:
        nodes, t = leaves.nodes, bank.nodes.t[leaves.nodes]
        slope, norm = bank.nodes.slope[nodes[:, 1:]], bank.nodes.norm[nodes[:, 1:]]
        forward = torch.sign(t[:, 2:] - t[:, :1])
        near, far = (bank.nodes.value[nodes].diff(dim=1) * forward).unbind(1)
        told = (slope.abs() > SHAPELESS * norm).all(1)
        one = torch.where(told[:, None], 1 / slope, 0.0)
        none = torch.zeros_like(near)
        weights = torch.stack([none, (near + far / 2) * one[:, 0], far / 2 * one[:, 1]], 1)
        reach = near.abs() + far.abs() / 2
        doubt = torch.stack([none, reach * one[:, 0], -reach * one[:, 1]], 1)
        blind = torch.stack([none, leaves.width, none], 1)
        weights = torch.where(told[:, None], weights, blind)
        doubt = torch.where(told[:, None], doubt, blind)
        raw = bank.norms(nodes, doubt)
        rounding = ULPS * goal.epsilon * (reach[:, None] * one.abs() * norm).sum(1)
        return replace(
            leaves, weights=weights, doubt=doubt, error=(raw - rounding).clamp(min=0), raw=raw
        )

    def points(self, leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves cost"]:
        end, m, far = bank.nodes.t[leaves.nodes].unbind(1)
        inner = m[:, None] + (far - m)[:, None] * (nested(5)[1:-1] + 1) / 2
        return torch.cat([(end + (m - end) / GRADE)[:, None], inner], 1)

    def refine(
        self, leaves: Leaves, new: Int[Tensor, "leaves cost"], t: Float[Tensor, " nodes"]
    ) -> list[tuple[Shape, Leaves]]:
        end, m, far = leaves.nodes.unbind(1)
        inner = torch.cat([m[:, None], new[:, 1:], far[:, None]], 1)
        inner = inner.gather(1, t[inner].argsort(1))
        own = leaves.path, leaves.leg
        return [
            (self, over(*own, torch.stack([end, new[:, 0], m], 1), t)),
            (PANELS[5, True], over(*own, inner, t)),
        ]
