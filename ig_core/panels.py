"""A Panel is a leaf without kinks: closed nodes, and the polynomial through them.

The first panel of a leg has 5 nodes and can be raised to 9, 17 and 33 of a closed nested family,
exact to the degrees 7, 13, 25 and 47: each adds the nodes that make it exact to the highest degree
(Kronrod 1964; Patterson 1968, doi:10.1090/S0025-5718-1968-0242370-9; the last two degrees of the
longest are given up to keep its nodes real). A panel that is cut in two keeps its nodes; its halves
get new ones where the old lie furthest apart, measured as Chebyshev's are evenly spaced.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core.leaves import Bank, Leaves, over
from ig_core.quadrature import Goal
from ig_core.shapes import ULPS, Shape

POSITIVE = {
    5: (0.6546536707079771,),
    9: (0.3409822659109928, 0.8904055275126687),
    17: (0.16433743916478444, 0.5089012012693948, 0.7824160411204617, 0.9661998630937088),
    33: (
        0.08245794736637709, 0.2536734061585656, 0.4236361506209081, 0.5900877715190187,
        0.7160751831942329, 0.8417008541166942, 0.9319321257943862, 0.9896813277924447,
    ),
}  # fmt: skip
"""What each number of nodes adds to the one before, on the positive half of [-1, 1]."""

SURE = 0.1
"""The estimate is never less than this part of the distance between the two rules."""

TRUST = {33: 0.5}
"""The estimate of so many nodes is this part of what F tells; of fewer nodes it is all of that."""

HEARD = 0.03
"""Where the coarser rule misses less of F than this part of that distance, F tells nothing."""

SLOW = 0.2
"""Where the misfit falls less than this and is on one side, a panel is cut at its middle node."""

LOPSIDED = {True: 4.0, False: 2.0}
"""A misfit so many times larger on one side is local: on a panel that was not cut, on another."""


def nested(points: int) -> Float[Tensor, " points"]:
    """The closed nested nodes of [-1, 1]: 3, 5, 9, 17 or 33 of them."""
    positive = [x for number, added in POSITIVE.items() if number <= points for x in added]
    nodes = sorted([-1.0, 0.0, 1.0, *positive, *(-x for x in positive)])
    return torch.tensor(nodes, dtype=torch.float64)


class Panel(Shape):
    """The polynomial through all nodes of a leaf, and that through every other of them.

    ``e = D clamp(r, 0.1, 1)``, where D is the L1 distance of the two integrals (not less than r
    times that of the panel this one was raised from) and r is how much less the polynomial of all
    nodes misses the known differences of F between neighbouring nodes.
    """

    def __init__(self, points: int, whole: bool) -> None:
        self.count, self.whole = points, whole
        self.cost = points - 1
        self.raised: Panel | None = None
        self.halved: Panel | None = None

    @cached_property
    def rules(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The weights of a whole panel."""
        return _rules(nested(self.count)[None])

    def measure(self, leaves: Leaves, bank: Bank, goal: Goal) -> Leaves:
        nodes, width = leaves.nodes, leaves.width[:, None]
        slope, value = width * bank.nodes.slope[nodes], bank.nodes.value[nodes]
        noise = goal.noise[leaves.path]
        fine, coarse, *gaps = self.rules if self.whole else _rules(_relative(leaves, bank))
        known = value.diff(dim=1)
        misfit, before = ((gap @ slope[:, :, None])[:, :, 0].sub(known).abs() for gap in gaps)
        weights, doubt = (width * fine).expand(nodes.shape), width * (fine - coarse)
        apart = bank.norms(nodes, doubt.expand(nodes.shape))
        rate = (misfit.sum(1) - 4 * noise).clamp(min=0) / before.sum(1)
        fall = (apart / leaves.distance).nan_to_num(nan=1.0).clamp(max=1.0)
        rate = torch.where(before.sum(1) > HEARD * apart, rate, fall)
        trust = (TRUST.get(self.count, 1.0) * rate).clamp(SURE, 1.0)
        distance = torch.maximum(apart, leaves.distance * rate.clamp(max=1.0))
        residual = known.sum(1) - (slope * fine).sum(1)
        rounding = ULPS * goal.epsilon * leaves.width * bank.nodes.norm[nodes].amax(1)
        beyond = (residual.abs() - noise).clamp(min=0)
        error = torch.maximum((distance - rounding).clamp(min=0) * trust, beyond)
        # The value is moved to what F says only where that is no more than the estimate.
        gain = (slope * (fine - coarse)).sum(1)
        likely = (gain != 0) & (residual.abs() <= trust * gain.abs())
        shift = torch.where(likely, residual / gain, 0.0)
        half = self.count // 2
        sides = torch.stack([misfit[:, :half].sum(1), misfit[:, half:].sum(1)], 1)
        local = sides.amax(1) > LOPSIDED[self.whole] * sides.amin(1)
        return replace(
            leaves,
            weights=weights + shift[:, None] * doubt,
            doubt=doubt * torch.where(apart > 0, error / apart, 0.0)[:, None],
            error=error,
            raw=torch.maximum(distance * trust, residual.abs()),
            distance=distance,
            apart=(rate > SLOW) & local | (self.raised is None),
        )

    def points(self, leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves cost"]:
        if self.whole:
            x = nested(2 * self.count - 1)[1::2].expand(len(leaves.path), -1)
        else:
            x = _between(_relative(leaves, bank), self.cost)
        return leaves.start[:, None] + leaves.width[:, None] * (x + 1) / 2

    def refine(
        self, leaves: Leaves, new: Int[Tensor, "leaves cost"], t: Float[Tensor, " nodes"]
    ) -> list[tuple[Shape, Leaves]]:
        assert self.raised is not None
        nodes = torch.cat([leaves.nodes, new], 1)
        nodes = nodes.gather(1, t[nodes].argsort(1))
        raised = over(leaves.path, leaves.leg, nodes, t)
        return [(self.raised, replace(raised, distance=leaves.distance))]


def _relative(leaves: Leaves, bank: Bank) -> Float[Tensor, "leaves points"]:
    t = bank.nodes.t[leaves.nodes]
    return (2 * (t - t[:, :1]) / leaves.width[:, None] - 1).clamp(-1.0, 1.0)


def _between(x: Float[Tensor, "leaves points"], count: int) -> Float[Tensor, "leaves count"]:
    """New points in the widest gaps of arccos(x), evenly in each."""
    angle = torch.acos(-x)
    gap = angle.diff(dim=1)
    parts = torch.ones_like(gap)
    for _ in range(count):
        widest = (gap / parts).argmax(1, keepdim=True)
        parts.scatter_add_(1, widest, torch.ones_like(parts[:, :1]))
    added = (parts - 1).long()
    which = torch.arange(gap.shape[1]).repeat(len(gap)).repeat_interleave(added.view(-1))
    which = which.view(-1, count)
    place = torch.arange(1, count + 1) - (added.cumsum(1) - added).gather(1, which)
    return -torch.cos(angle.gather(1, which) + place * (gap / parts).gather(1, which))


def _rules(x: Float[Tensor, "leaves points"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and integrals between neighbours, of all nodes and of every other; for width 1."""
    fine, gaps = _interpolation(x, x)
    part, part_gaps = _interpolation(x[:, ::2], x)
    coarse, coarse_gaps = torch.zeros_like(fine), torch.zeros_like(gaps)
    coarse[:, ::2], coarse_gaps[:, :, ::2] = part, part_gaps
    return fine, coarse, gaps, coarse_gaps


def _interpolation(
    x: Float[Tensor, "leaves nodes"], ends: Float[Tensor, "leaves points"]
) -> tuple[Float[Tensor, "leaves nodes"], Float[Tensor, "leaves gaps nodes"]]:
    """What each value counts in the polynomial's integral over [-1, 1], and between the ends."""
    count = x.shape[1]
    basis = _legendre(x, count - 1)
    coefficients = torch.linalg.inv(basis)
    upto = _legendre(ends, count)
    order = torch.arange(1, count)
    sums = torch.cat(
        [ends[:, :, None] + 1, (upto[:, :, 2:] - upto[:, :, :-2]) / (2 * order + 1)], 2
    )
    return coefficients[:, 0], sums.diff(dim=1) @ coefficients / 2


def _legendre(x: Float[Tensor, "leaves points"], degree: int) -> Tensor:
    """Legendre's polynomials P_0 ... P_degree at x."""
    values = [torch.ones_like(x), x]
    for k in range(1, degree):
        values.append(((2 * k + 1) * x * values[-1] - k * values[-2]) / (k + 1))
    return torch.stack(values, -1)


def _family() -> dict[tuple[int, bool], Panel]:
    sizes = [(n, True) for n in (5, 9, 17, 33)] + [(n, False) for n in (3, 5, 9, 17)]
    panels = {size: Panel(*size) for size in sizes}
    for (count, whole), panel in panels.items():
        panel.raised = panels.get((2 * count - 1, whole))
        panel.halved = panels[count // 2 + 1, False] if count > 5 else None
    return panels


PANELS = _family()
"""Panels by number of nodes, and whether these are the nested ones."""
