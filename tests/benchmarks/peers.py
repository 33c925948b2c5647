"""What one does without an error estimate: a fixed rule, or doubling it until it looks done.

The sums are Captum's Gauss-Legendre sums; :func:`against_captum` says how closely. ``in_captum``
runs the same with Captum itself, for the time it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients
from function import Function
from jaxtyping import Bool, Float, Int
from torch import Tensor
from truth import Truth, gauss_legendre, integral, relative

LADDER = (
    4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 150, 200, 300, 400, 500, 700, 1000, 1500,
    2000, 3000, 5000,
)  # fmt: skip
DOUBLED = (25, 50, 100, 200, 400, 800, 1600, 3200)


@dataclass(frozen=True, eq=False)
class Stopped:
    """What every example had cost, and how wrong it was, when its sums were stopped.

    Those that never looked done are not ``claimed``; they have cost all sums of the ladder.
    ``floor`` of them were stopped because the dtype allows no better.
    """

    cost: Int[Tensor, " examples"]
    claimed: Bool[Tensor, " examples"]
    error: Float[Tensor, " examples"]
    floor: int = 0


def best_fixed(
    function: Function, truth: Truth, tolerances: Sequence[float], most: int
) -> dict[float, int | None]:
    """The smallest n of the ladder that serves every example, for someone who knows the truth."""
    found: dict[float, int | None] = dict.fromkeys(tolerances)
    hardest = torch.tensor([0])
    for n in LADDER:
        open_ = [tol for tol in tolerances if found[tol] is None]
        if not open_ or n > most:
            break
        nodes = gauss_legendre(n)
        # Where the example that was worst before misses every tolerance, the others can wait.
        one = Truth(truth.values[hardest], truth.spread[hardest])
        if float(one.errors(integral(function.some(hardest), nodes))) > max(open_):
            continue
        errors = truth.errors(integral(function, nodes))
        hardest = errors.argmax().view(1)
        found.update({tol: n for tol in open_ if float(errors.max()) <= tol})
    return found


def stopped(
    function: Function, truth: Truth, tolerances: Sequence[float], most: int
) -> tuple[dict[float, Stopped], dict[float, Stopped]]:
    """Doubling until two sums agree and the residual passes, and until the residual passes."""
    delta = function.value(function.inputs) - function.value(function.starts)
    examples = len(function)
    agreed, residual_only = (
        {
            tol: Stopped(
                torch.zeros(examples, dtype=torch.long),
                torch.zeros(examples, dtype=torch.bool),
                torch.full((examples,), torch.nan, dtype=torch.float64),
            )
            for tol in tolerances
        }
        for _ in range(2)
    )
    before: Tensor | None = None
    still = torch.arange(examples)
    for n in DOUBLED:
        if n > most or not len(still):
            break
        values = integral(function.some(still), gauss_legendre(n))
        errors = relative(values, truth.values[still])
        norm = values.abs().sum(1)
        residual = (values.sum(1) - delta[still]).abs()
        scale = torch.maximum(delta[still].abs(), norm / 100)
        change = torch.full_like(norm, torch.inf) if before is None else relative(before, values)
        for tol in tolerances:
            complete = residual <= tol * scale
            for ways, done in (
                (agreed[tol], complete & (change <= tol)),
                (residual_only[tol], complete),
            ):
                open_ = ~ways.claimed[still]
                ways.cost[still[open_]] += n
                ways.error[still[open_]] = errors[open_]
                ways.claimed[still[open_ & done]] = True
        left = ~torch.stack([agreed[tol].claimed[still] for tol in tolerances]).all(0)
        still, before = still[left], values[left]
    return agreed, residual_only


def against_captum(function: Function, n: int = 24) -> float:
    """The largest relative difference of our sum from Captum's, of the first two examples."""
    some = function.some(torch.arange(min(2, len(function))))
    theirs = captum_sum(some, n)[0]
    return float(relative(integral(some, gauss_legendre(n)), theirs).max())


def captum_sum(
    function: Function, n: int
) -> tuple[Float[Tensor, "examples width"], Float[Tensor, " examples"]]:
    """Captum's attributions, flat, and its convergence delta."""
    found, delta = IntegratedGradients(function.model).attribute(
        function.inputs,
        function.starts,
        additional_forward_args=tuple(function.extras.values()) or None,
        n_steps=n,
        internal_batch_size=function.chunk,
        return_convergence_delta=True,
    )
    return torch.cat([one.flatten(1) for one in found], 1).double(), delta.double()


def captum_doubled(function: Function, tol: float, most: int) -> None:
    """Doubling with Captum until two sums agree and the delta passes, for the time it takes."""
    before: Tensor | None = None
    for n in DOUBLED:
        if n > most or not len(function):
            break
        values, delta = captum_sum(function, n)
        norm = values.abs().sum(1)
        scale = torch.maximum((values.sum(1) - delta).abs(), norm / 100)
        left = delta.abs() > tol * scale
        left |= True if before is None else relative(before, values) > tol
        function, before = function.some(left.nonzero().view(-1)), values[left]
