"""Toys: functions whose Integrated Gradients are known in closed form.

Along the straight path from x' to x, with dx = x - x', the attribution of element i is
dx_i times the mean of dF/dx_i over the path. For the functions here that mean is elementary::

    F(x) = sum_i g(x_i)        g(x_i) - g(x'_i)                     whatever g is
    F(x) = g(w . x)            w_i dx_i / (w . dx) * (F(x) - F(x'))
    F(x) = x . A x, A = A^T    dx_i * (A (x + x'))_i                the gradient at the midpoint
    F(x) = max(x_0, x_1)       dx_i * (the share of the path on which x_i is the larger)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, relu, sigmoid

Function = Callable[[Float[Tensor, "rows width"]], Float[Tensor, " rows"]]


@dataclass(frozen=True, eq=False)
class Toy:
    """A function of rows, one example with its baseline, and its exact attribution (float64).

    >>> toy = named("product")
    >>> float(toy.exact.sum() - toy.delta)
    0.0
    """

    name: str
    formula: str
    model: Function
    example: Float[Tensor, " width"]
    baseline: Float[Tensor, " width"]
    exact: Float[Tensor, " width"]

    def __str__(self) -> str:
        return self.name

    @property
    def delta(self) -> float:
        """F(x) - F(x'), what the exact attribution sums to."""
        at = self.model(torch.stack([self.example, self.baseline]))
        return float(at[0] - at[1])


def named(name: str) -> Toy:
    """The toy of that name."""
    return next(toy for toy in TOYS if toy.name == name)


def _row(*numbers: float) -> Float[Tensor, " width"]:
    return torch.tensor(numbers, dtype=torch.float64)


def _linear() -> Toy:
    weights = _row(2.0, -1.0, 0.0)
    x, start = _row(1.0, 3.0, 5.0), _row(0.5, 0.0, -1.0)
    return Toy(
        "linear",
        "w . x + 1 with w = (2, -1, 0): w_i dx_i; the third element is a dummy",
        lambda rows: rows @ weights.to(rows.dtype) + 1.0,
        x,
        start,
        weights * (x - start),
    )


def _product() -> Toy:
    x, start = _row(3.0, 2.0), _row(1.0, -1.0)
    return Toy(
        "product",
        "x_0 x_1: dx_i times the mean of the other element's two ends",
        lambda rows: rows[:, 0] * rows[:, 1],
        x,
        start,
        (x - start) * (x + start).flip(0) / 2,
    )


def _saturation() -> Toy:
    return Toy(
        "saturation",
        "1 - relu(1 - x) from 0 to 2: 1, although the gradient at x is 0",
        lambda rows: (1 - relu(1 - rows)).sum(1),
        _row(2.0),
        _row(0.0),
        _row(1.0),
    )


def _two_relus() -> Toy:
    return Toy(
        "two-relus",
        "relu(relu(x_0) - 1 - relu(x_1)) at (3, 1): (3/2, -1/2), from arXiv:1703.01365",
        lambda rows: relu(relu(rows[:, 0]) - 1 - relu(rows[:, 1])),
        _row(3.0, 1.0),
        _row(0.0, 0.0),
        _row(1.5, -0.5),
    )


def _additive(name: str, formula: str, g: Callable[[Tensor], Tensor], x: Tensor) -> Toy:
    start = torch.zeros_like(x)
    return Toy(name, formula, lambda rows: g(rows).sum(1), x, start, g(x) - g(start))


def _ridge() -> Toy:
    weights, x, start = _row(1.0, -2.0, 0.5), _row(2.0, -1.0, 1.0), _row(0.0, 1.0, -1.0)
    share = weights * (x - start)
    delta = torch.tanh(weights @ x) - torch.tanh(weights @ start)
    return Toy(
        "ridge",
        "tanh(w . x) with w = (1, -2, 1/2): w_i dx_i / (w . dx) * dF",
        lambda rows: torch.tanh(rows @ weights.to(rows.dtype)),
        x,
        start,
        share / share.sum() * delta,
    )


def _maximum() -> Toy:
    # x_0 = 4t overtakes x_1 = 1 + t at t = 1/3.
    return Toy(
        "maximum",
        "max(x_0, x_1) from (0, 1) to (4, 2): x_1 leads until t = 1/3, so (8/3, 1/3)",
        lambda rows: rows.amax(1),
        _row(4.0, 2.0),
        _row(0.0, 1.0),
        _row(8 / 3, 1 / 3),
    )


def _minimum() -> Toy:
    return Toy(
        "minimum",
        "min(x_0, x_1) from (0, 1) to (4, 2): x_0 is the smaller until t = 1/3, so (4/3, 2/3)",
        lambda rows: rows.amin(1),
        _row(4.0, 2.0),
        _row(0.0, 1.0),
        _row(4 / 3, 2 / 3),
    )


def _quadratic_form() -> Toy:
    form = torch.tensor([[2.0, 1.0, 0.0], [1.0, -1.0, 0.5], [0.0, 0.5, 3.0]], dtype=torch.float64)
    x, start = _row(1.0, -2.0, 0.5), _row(0.5, 1.0, -1.0)
    return Toy(
        "quadratic-form",
        "x . A x with A symmetric: dx_i (A (x + x'))_i",
        lambda rows: ((rows @ form.to(rows.dtype)) * rows).sum(1),
        x,
        start,
        (x - start) * (form @ (x + start)),
    )


TOYS: tuple[Toy, ...] = (
    _linear(),
    _product(),
    _saturation(),
    _two_relus(),
    _additive(
        "steep-sigmoid",
        "sum of sigmoid(10 x_i): sigmoid(10 x_i) - 1/2",
        lambda x: sigmoid(10 * x),
        _row(1.0, -0.3, 0.0),
    ),
    _additive(
        "fast-sine",
        "sum of sin(100 x_i): sin(100 x_i)",
        lambda x: torch.sin(100 * x),
        _row(1.0, 0.25),
    ),
    _additive("cubic", "sum of x_i^3: x_i^3", lambda x: x**3, _row(2.0, -1.5)),
    _ridge(),
    _maximum(),
    _minimum(),
    _quadratic_form(),
)
"""All toys: smooth ones, kinks, and fast waves."""
