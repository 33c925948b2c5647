from __future__ import annotations

import pytest
import torch

import ig_core as ig


def test_a_straight_path_meets_both_ends_exactly() -> None:
    """start + t * velocity would miss: 1e8 + (1.5 - 1e8) is 0 in float32."""
    start, end = torch.tensor([[1e8], [0.1]]), torch.tensor([[1.5], [0.7]])
    for t, meets in ((0.0, start), (1.0, end)):
        point, velocity = ig.Straight().at(start, end, torch.full((2, 1), t))
        assert torch.equal(point, meets)
        assert torch.equal(velocity, end - start)


def test_a_straight_path_is_linear_in_t() -> None:
    start, end = torch.zeros(3, 2), torch.tensor([[4.0, -8.0]]).expand(3, 2)
    point, _ = ig.Straight().at(start, end, torch.tensor([[0.25], [0.5], [0.75]]))
    assert point.tolist() == [[1, -2], [2, -4], [3, -6]]


def test_f_at_the_input_is_what_the_model_says() -> None:
    x = torch.tensor([[1.5, 0.1, 3.3]])
    [result] = ig.attribute(lambda x: x[:, 0], x, baseline=1e8)
    assert result.at_input == 1.5
    assert result.at_baseline == 1e8


def test_piecewise_legs_join_the_points() -> None:
    example = ig.Example({"x": torch.tensor([3.0])})
    start = {"x": torch.tensor([0.0])}
    legs = ig.Piecewise([torch.tensor([1.0]), {"x": torch.tensor([7.0])}]).legs(example, start)
    assert [(a["x"].item(), b["x"].item()) for a, b in legs] == [(0, 1), (1, 7), (7, 3)]


def test_piecewise_points_may_depend_on_the_example() -> None:
    """Along the axes, one feature after the other, a product is attributed to the last mover."""
    corner = lambda example, start: [{"x": torch.stack([example.inputs["x"][0], start["x"][1]])}]  # noqa: E731
    x = torch.tensor([[2.0, 3.0], [4.0, 5.0]])
    results = ig.attribute(lambda x: x[:, 0] * x[:, 1], x, path=ig.Piecewise(corner))
    for result, row in zip(results, x, strict=True):
        torch.testing.assert_close(result.values, torch.tensor([0.0, float(row.prod())]))


def test_a_curve_of_one_s_own_is_integrated_with_its_velocity() -> None:
    class Quadratic(ig.Path):
        name = "quadratic"

        def at(self, start, end, t):
            """The second feature follows the square of the first."""
            bend = torch.cat([t, t**2], 1)
            return start + bend * (end - start), torch.cat([torch.ones_like(t), 2 * t], 1) * (
                end - start
            )

    x = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    [result] = ig.attribute(lambda x: x[:, 0] * x[:, 1], x, path=Quadratic())
    torch.testing.assert_close(
        result.values, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert result.provenance["path"] == "quadratic"


def test_a_path_that_must_know_the_model_is_told_it_once_a_call() -> None:
    """By way of the model's own corner a product is attributed to whatever moves last."""
    told = []

    class Corner(ig.Piecewise):
        name = "corner"

        def __init__(self) -> None:
            super().__init__([])

        def of(self, domain):
            told.append(domain)
            return ig.Piecewise([domain.model.corner])

    class Product(torch.nn.Module):
        def __init__(self, corner) -> None:
            super().__init__()
            self.corner = torch.tensor(corner)

        def forward(self, x):
            return x.prod(1)

    path, x = Corner(), torch.tensor([[2.0, 3.0], [2.0, 3.0]])
    for corner, values in (([2.0, 0.0], [0.0, 6.0]), ([0.0, 3.0], [6.0, 0.0])):
        for result in ig.attribute(Product(corner), x, path=path):
            torch.testing.assert_close(result.values, torch.tensor(values))
    assert len(told) == 2, "once for both examples of a call"
    assert path.points == [], "the path itself knows no model"


def test_a_path_without_a_curve_cannot_be_made() -> None:
    class Nowhere(ig.Path):
        name = "nowhere"

    with pytest.raises(TypeError, match="abstract"):
        Nowhere()


def test_a_leg_of_no_length_adds_nothing_where_the_gradient_is_infinite() -> None:
    x = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    here = ig.Piecewise(lambda example, start: [start, start, example.inputs])
    [found] = ig.attribute(lambda x: x.abs().sum(1).sqrt(), x, path=here)
    [alone] = ig.attribute(lambda x: x.abs().sum(1).sqrt(), x)
    assert found.values.tolist() == alone.values.tolist()
    assert found.values.tolist() == pytest.approx([1.5, 0.5], rel=1e-2)
    [none] = ig.attribute(lambda x: x.sum(1), 0 * x, path=here)
    assert none.values.tolist() == [0, 0]
