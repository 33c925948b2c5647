from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.metrics import Completeness, Evaluations, RemovalArea
from ig_core.tensors import TensorDomain

WEIGHTS = torch.tensor([4.0, 2.0, 1.0, -3.0], dtype=torch.float64)
ONES = torch.ones(1, 4, dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS


def game(model: object = linear, x: Tensor = ONES, **options: object) -> ig.Game:
    domain = TensorDomain(model)
    return ig.Game(ig.prepare(domain, domain.split(x), **options), 0)


def explained(model: object = linear, x: Tensor = ONES, **options: object) -> ig.Attribution:
    return ig.attribute(model, x, **options)[0]


def test_removed_units_are_set_to_the_baseline() -> None:
    removed = torch.tensor(
        [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool
    )
    assert game().value(removed).tolist() == [4, 0, 5, 0]
    assert game(baseline=1.0).value(removed).tolist() == [4, 4, 4, 4]
    assert game(baseline=0.5).value(removed).tolist() == [4, 2, 4.5, 2]


def test_a_game_with_units_removes_all_elements_of_a_unit() -> None:
    pairs = ig.Units(("front", "back"), {"x": torch.tensor([0, 0, 1, 1])})
    domain = TensorDomain(linear, units=pairs)
    one = ig.Game(ig.prepare(domain, domain.split(ONES)), 0)
    assert one.value(torch.tensor([[True, False], [False, True]])).tolist() == [-2, 6]


def test_a_curve_is_evaluated_once() -> None:
    calls: list[int] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return linear(x)

    one = game(counted)
    for _ in range(3):
        one.value(torch.eye(4, dtype=torch.bool))
    assert calls == [4]


def test_a_game_evaluates_the_model_and_restores_it() -> None:
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 1).double()).train()
    one = game(net)
    full = torch.zeros(1, 4, dtype=torch.bool)
    assert one.value(full)[0] == pytest.approx(net[1](ONES).item())
    assert net.training and net[0].training


def test_completeness_is_the_relative_residual() -> None:
    assert Completeness().measure(explained(), game()) == pytest.approx(0, abs=1e-12)
    result = explained(lambda x: (x**2).sum(1), method="gradient-x-input")
    assert Completeness().measure(result, game()) == pytest.approx(1)


def test_completeness_is_undefined_where_the_output_does_not_change() -> None:
    flat = replace(explained(), at_input=1.0, at_baseline=1.0 + 1e-5)
    assert np.isnan(Completeness().measure(flat, game()))


def test_the_removal_area_of_a_linear_model_is_what_a_pencil_gives() -> None:
    """MoRF: 4 0 -2 -3 0. LeRF: 4 7 6 4 0. Trapezoid over steps of 1/4, range 10."""
    expected = ((4 / 2 + 7 + 6 + 4) - (4 / 2 + 0 - 2 - 3)) / 4 / 10
    assert RemovalArea().measure(explained(), game()) == pytest.approx(expected)


def test_the_removal_area_ranks_the_controls() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(12, generator=generator, dtype=torch.float64)
    x = torch.ones(1, 12, dtype=torch.float64)
    model = lambda x: x @ weights  # noqa: E731
    area = RemovalArea()
    best = area.measure(explained(model, x), game(model, x))
    worst = area.measure(explained(model, x, method="negated"), game(model, x))
    middle = np.mean(
        [
            area.measure(explained(model, x, method="random", seed=s), game(model, x))
            for s in range(40)
        ]
    )
    assert best == pytest.approx(-worst)
    assert best > 0.2
    assert abs(middle) < best / 2


def test_ties_are_broken_by_the_seed_and_not_by_position() -> None:
    tied = replace(explained(), tensors={"x": torch.zeros(4)})
    areas = {RemovalArea().measure(tied, replace(game(), seed=s)) for s in range(20)}
    assert len(areas) > 5
    assert RemovalArea().measure(tied, game()) == RemovalArea().measure(tied, game())


def test_the_removal_area_is_undefined_without_a_curve() -> None:
    flat = lambda x: 0 * x.sum(1) + 2  # noqa: E731
    assert np.isnan(RemovalArea().measure(explained(flat), game(flat)))
    broken = replace(explained(), tensors={"x": torch.full((4,), torch.nan)})
    assert np.isnan(RemovalArea().measure(broken, game()))
    nothing = replace(explained(), tensors={"x": torch.zeros(0)}, units=ig.Units((), {}))
    assert np.isnan(RemovalArea().measure(nothing, game()))


def test_many_units_are_removed_in_groups() -> None:
    x = torch.ones(1, 1000, dtype=torch.float64)
    sizes: list[int] = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.sum(1)

    one = game(counted, x)
    assert RemovalArea().measure(explained(lambda x: x.sum(1), x), one) == pytest.approx(
        0, abs=1e-12
    )
    assert sizes == [33, 33]


def test_evaluations_are_what_was_spent() -> None:
    assert Evaluations().measure(explained(), game()) == 1  # the gradient of a linear model is one
