"""What is told of an example that did not converge: where on its path, and in which units."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

STEEP = 400.0


def step(x: Tensor, at: float = 0.63) -> Tensor:
    """From -1 to 1 where x passes a point, and flat elsewhere."""
    return torch.tanh(STEEP * (x - at))


def stepped(x: Tensor) -> Tensor:
    return torch.sin(x[:, 0]) + step(x[:, 1]) + x[:, 2] ** 2


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def missed(model: object, x: Tensor, **options: object) -> ig.Attribution:
    with pytest.warns(ig.NotConvergedWarning):
        result = ig.attribute(model, x, **({"tol": 1e-6, "budget": 40} | options))[0]
    assert result.status == "budget"
    return result


def test_the_worst_panel_lies_over_the_step_and_names_its_unit() -> None:
    worst = missed(stepped, ones(1, 3)).worst
    assert 1 <= len(worst) <= 3
    first = worst[0]
    assert first.start < 0.63 < first.end and first.end - first.start < 0.3
    assert [label for label, _ in first.units] == ["x[1]"]
    assert first.leg is None
    shares = [panel.share for panel in worst]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 < shares[0] <= sum(shares) <= 1 + 1e-12


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_each_example_of_a_batch_has_its_own(chosen: int) -> None:
    x = torch.tensor([[0.5, 0.9], [0.5, 0.5], [0.9, 0.5]], dtype=torch.float64)
    with pytest.warns(ig.NotConvergedWarning, match="2 of 3 examples missed"):
        found = ig.attribute(lambda x: step(x).sum(1) + torch.exp(x).sum(1), x, tol=1e-6, budget=60)
    steps = {0: "x[1]", 2: "x[0]"}
    assert found[chosen].converged is (chosen not in steps)
    for panel in found[chosen].worst[:1]:
        assert panel.start < 0.71 and panel.end > 0.69
        assert [label for label, _ in panel.units] == [steps[chosen]]
    assert bool(found[chosen].worst) is (chosen in steps)


def test_each_target_of_one_input_has_its_own() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.stack([step(x[:, 0], 0.4), torch.exp(x[:, 0]), step(x[:, 1])], 1)

    with pytest.warns(ig.NotConvergedWarning, match="2 of 3 results missed"):
        [found] = ig.attribute(model, ones(1, 2), targets=[0, 1, 2], tol=1e-6, budget=40)
    assert not found[1].worst
    for result, at, unit in ((found[0], 0.4, "x[0]"), (found[2], 0.63, "x[1]")):
        first = result.worst[0]
        assert first.start < at + 0.01 and first.end > at - 0.01
        assert [label for label, _ in first.units] == [unit]


class Words(ig.Domain):
    """Rows of numbers, one a word."""

    name = "words"
    layouts: ClassVar = {"x": ig.Stack()}

    def encode(self, raw: Tensor, target: object = None) -> ig.Example:
        labels = ("dull", "film", "of", "course")
        return ig.Example({"x": raw}, units=ig.Units(labels, {"x": torch.arange(4)}, kind="word"))

    def forward(self, rows: ig.Rows) -> Tensor:
        return self.model(rows["x"])


def test_a_unit_is_named_for_what_all_its_elements_hold() -> None:
    """No element of the first word is as steep as that of the second, but it has fifty."""

    def model(x: Tensor) -> Tensor:
        return step(x[:, 0]).mean(1) + 0.05 * step(x[:, 1, 0]) + torch.exp(x).sum((1, 2)) / 50

    result = missed(model, [ones(4, 50)], domain=Words(model), tol=1e-4)
    [(label, held)] = result.worst[0].units
    assert label == "dull"
    assert held == pytest.approx(1 / 1.05, rel=0.01)
    assert "mostly in 'dull'" in result.to_text()


def test_units_that_hold_little_are_not_said_to_hold_most() -> None:
    result = missed(lambda x: step(x).sum(1), ones(1, 20), tol=1e-4)
    units = result.worst[0].units
    assert [held for _, held in units] == pytest.approx([0.05] * 3)
    assert "largest in 'x[0]', 'x[1]', 'x[2]'" in result.to_text()


@pytest.mark.parametrize("other", [0.9, 0.3])
def test_of_several_starts_the_one_with_the_largest_error_is_told(other: float) -> None:
    """From 0.9 there is no step; from 0.3 it is wider, and its error smaller."""
    alone = missed(stepped, ones(1, 3), baseline=0.0)
    for baselines in ([0.0, other], [other, 0.0], [0.0, other, 0.0]):
        panels = missed(stepped, ones(1, 3), baseline=baselines).worst
        assert [str(p) for p in panels] == [str(p) for p in alone.worst]


def test_the_leg_is_told_where_there_are_several() -> None:
    class Detour(ig.Path):
        name = "detour"

        def legs(self, example: ig.Example, start: object) -> object:
            """First without the second number, then it alone."""
            middle = {"x": example.inputs["x"].clone()}
            middle["x"][1] = start["x"][1]
            return [(start, middle), (middle, example.inputs)]

        def at(self, start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return start.lerp(end, t), end - start

    result = missed(stepped, ones(2, 3), path=Detour())
    first = result.worst[0]
    assert (first.leg, first.units[0][0]) == (2, "x[1]")
    assert first.start < 0.63 < first.end
    assert " of leg 2: " in result.card().facts["worst panels"]


def test_pieces_between_kinks_are_told_as_well() -> None:
    """Linear to the kink at one half, a wave after it."""

    def model(x: Tensor) -> Tensor:
        return torch.sin(300 * torch.relu(x[:, 0] - 0.5)) + torch.relu(x[:, 1] + 1)

    result = missed(model, ones(1, 2), tol=1e-4)
    assert len(result.worst) >= 1
    for panel in result.worst:
        assert 0.5 - 1e-9 <= panel.start < panel.end <= 1
        assert panel.units == [("x[0]", 1.0)]
    assert sum(p.share for p in result.worst) <= 1 + 1e-12


def test_examples_that_the_pieces_leave_to_the_leaves_keep_their_own() -> None:
    """The first converges, the second has more kinks than the budget allows."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 200), nn.ReLU(), nn.Linear(200, 1)).double()

    def model(x: Tensor) -> Tensor:
        return torch.sin(5 * net(x)[:, 0])

    x = torch.tensor([[1e-3, 1e-3], [50.0, 30.0]], dtype=torch.float64)
    with pytest.warns(ig.NotConvergedWarning, match="1 of 2"):
        first, second = ig.attribute(model, x, tol=1e-5, budget=40)
    assert first.converged and not first.worst
    assert second.worst and all(0 <= p.start < p.end <= 1 for p in second.worst)


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"tol": 1e-2, "budget": 4096}, "converged"),
        ({"rule": "gauss-legendre", "steps": 5}, "budget"),
        ({"method": "negated", "budget": 40}, "one_shot"),
        ({"method": "random"}, "one_shot"),
    ],
)
def test_nothing_is_named_without_an_estimate_or_a_need(
    options: dict[str, object], status: str
) -> None:
    [result] = ig.attribute(stepped, ones(1, 3), **options)
    assert (result.status, list(result.worst)) == (status, [])
    assert "worst panels" not in result.card().facts


def test_what_rounding_explains_is_nobody_s_fault() -> None:
    [result] = ig.attribute(lambda x: torch.exp(x).sum(1) + 1e6, ones(1, 3).float(), tol=1e-4)
    assert (result.status, list(result.worst)) == ("noise_floor", [])
