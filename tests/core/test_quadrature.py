from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ig_core.adaptive import Adaptive, rule_named
from ig_core.errors import InputError, UnknownNameError
from ig_core.panels import PANELS, nested
from ig_core.quadrature import (
    FIXED_RULES,
    Fixed,
    Found,
    Goal,
    Outcome,
    Rule,
    Structure,
    gauss_legendre,
    midpoint,
    trapezoid,
)


class Plane:
    """Vectors of two numbers."""

    def zeros(self, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.zeros(count, 2, dtype=dtype)


Curve = Callable[[Tensor], Tensor]


def integrate(
    rule: Rule,
    gradients: Curve,
    value: Curve,
    *,
    examples: int = 1,
    legs: int = 1,
    tol: float = 1e-2,
    budget: int = 512,
    noise: float = 0.0,
    drop: tuple[int, ...] = (),
    smooth: bool = False,
    outcomes: list[Outcome] | None = None,
) -> tuple[Tensor, dict[int, str], Tensor, list[int]]:
    """The integral over 0..1 of (t -> two numbers), F's value known; all legs are alike."""
    owner = torch.arange(examples).repeat_interleave(legs)
    delta = float(value(torch.ones(1)) - value(torch.zeros(1))) * legs
    goal = Goal(
        owner,
        torch.full((examples,), delta, dtype=torch.float64),
        torch.full((examples,), noise, dtype=torch.float64),
        torch.finfo(torch.float64).eps,
        tol,
        budget,
        Structure(smooth=smooth),
    )
    process = rule.begin(goal, Plane())
    status: dict[int, str] = {}
    spent = [0] * examples
    process.drop(torch.tensor(drop, dtype=torch.long))
    result, error = torch.full((examples, 2), math.nan).double(), torch.full((examples,), math.nan)
    while (request := process.request()) is not None:
        # In two parts and out of order, as the engine's chunks come.
        for rows in (torch.arange(1, len(request.t), 2), torch.arange(0, len(request.t), 2)):
            t, example = request.t[rows], owner[request.leg[rows]]
            found = gradients(t)
            endless = ~found.isfinite().all(1)
            found = torch.where(endless[:, None], 0.0, found)
            alive = ~torch.isin(example, torch.tensor(drop, dtype=torch.long))
            there = (rows, value(t), found.sum(1), found, endless)
            process.receive(Found(*(part[alive] for part in there)))
            example = example[alive]
            for number in example.tolist():
                spent[number] += 1
        outcome = process.settle()
        if outcomes is not None:
            outcomes.append(outcome)
        for row, number in enumerate(outcome.done.tolist()):
            status[number] = outcome.status[row]
            result[number] = outcome.integral[row]
            error[number] = outcome.error[row]
    return result, status, error, spent


def polynomial(t: Tensor) -> Tensor:
    """Integrals 1/4 and -1/3."""
    return torch.stack([t**3, -(t**2)], 1)


def its_sum(t: Tensor) -> Tensor:
    return t.double() ** 4 / 4 - t.double() ** 3 / 3


EXACT = torch.tensor([[1 / 4, -1 / 3]], dtype=torch.float64)


@pytest.mark.parametrize("make", FIXED_RULES.values(), ids=FIXED_RULES)
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_weights_sum_to_one_and_nodes_lie_between_zero_and_one(make: Callable, steps: int) -> None:
    rule = make(steps)
    assert rule.weights.sum() == pytest.approx(1, abs=1e-14)
    assert rule.nodes.min() >= 0 and rule.nodes.max() <= 1
    assert len(rule.nodes) == len(rule.weights) == steps + (make is trapezoid)
    assert rule.weights @ rule.nodes == pytest.approx(1 / 2, abs=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
def test_gauss_legendre_is_exact_to_degree_two_n_minus_one(steps: int) -> None:
    rule = gauss_legendre(steps)
    for degree in range(2 * steps):
        assert rule.weights @ rule.nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-14)
    assert rule.weights @ rule.nodes ** (2 * steps) != pytest.approx(1 / (2 * steps + 1), abs=1e-14)


@pytest.mark.parametrize("make", [midpoint, trapezoid])
def test_midpoint_and_trapezoid_converge_with_the_square_of_the_step(make: Callable) -> None:
    errors = [abs(make(n).weights @ np.exp(make(n).nodes) - (math.e - 1)) for n in (50, 100)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-3)


def test_a_fixed_rule_sums_its_nodes_and_has_no_estimate() -> None:
    result, status, error, spent = integrate(gauss_legendre(2), polynomial, its_sum, examples=3)
    torch.testing.assert_close(result, EXACT.expand(3, 2), rtol=0, atol=1e-15)
    assert status == dict.fromkeys(range(3), "converged")
    assert error.isnan().all()
    assert spent == [2, 2, 2]


def test_a_fixed_rule_that_misses_the_sum_says_budget() -> None:
    _, status, _, _ = integrate(Fixed(np.ones(1), np.ones(1)), polynomial, its_sum)
    assert status == {0: "budget"}


def test_the_adaptive_rule_is_exact_to_degree_five_at_once() -> None:
    result, status, error, spent = integrate(Adaptive(), polynomial, its_sum, tol=1e-10)
    torch.testing.assert_close(result, EXACT, rtol=0, atol=1e-15)
    assert (status, spent) == ({0: "converged"}, [11])
    assert error.item() <= 1e-15


def legendre(degree: int, x: Tensor) -> Tensor:
    return torch.special.legendre_polynomial_p(x, degree)


@pytest.mark.parametrize(("points", "degree"), [(5, 7), (9, 13), (17, 25), (33, 47)])
def test_nested_panels_are_exact_to_a_degree_far_above_their_number_of_nodes(
    points: int, degree: int
) -> None:
    fine, coarse, *_ = PANELS[points, True].rules
    x = nested(points)
    assert set(nested(points // 2 + 1).tolist()) == set(x[::2].tolist())
    assert (fine > 0).all()
    torch.testing.assert_close(fine.sum(), torch.tensor(1.0).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(coarse.sum(), torch.tensor(1.0).double(), rtol=0, atol=1e-14)
    for k in range(1, degree + 1):
        assert abs(float(fine[0] @ legendre(k, x))) < 1e-13
    assert abs(float(fine[0] @ legendre(degree + 1, x))) > 1e-3


def test_a_smooth_path_starts_with_five_nodes_exact_to_degree_seven() -> None:
    powers = lambda t: torch.stack([t**7, -(t**6)], 1)  # noqa: E731
    result, status, error, spent = integrate(
        Adaptive(), powers, lambda t: t.double() ** 8 / 8 - t.double() ** 7 / 7, smooth=True, tol=1
    )
    torch.testing.assert_close(
        result, torch.tensor([[1 / 8, -1 / 7]], dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert (status, spent) == ({0: "converged"}, [5])
    assert error.item() > 0  # it cannot know


def waves(frequency: float) -> tuple[Curve, Curve]:
    return (
        lambda t: torch.stack([torch.cos(frequency * t) * frequency, torch.zeros_like(t)], 1),
        lambda t: torch.sin(frequency * t.double()),
    )


@pytest.mark.parametrize(("smooth", "at_most"), [(False, 115), (True, 33)])
def test_oscillation_is_refined_until_it_is_resolved(smooth: bool, at_most: int) -> None:
    result, status, error, spent = integrate(Adaptive(), *waves(20), tol=1e-4, smooth=smooth)
    assert abs(result[0, 0].item() - math.sin(20)) <= error.item()
    assert result[0, 0].item() == pytest.approx(math.sin(20), rel=1e-4)
    assert status == {0: "converged"}
    assert spent[0] <= at_most


def test_a_layer_at_one_end_is_refined_there_only() -> None:
    """dF/dt = 1 / (t + 1e-3): nine tenths of F lie in a tenth of the path."""
    layer = lambda t: torch.stack([1 / (t + 1e-3), torch.ones_like(t)], 1)  # noqa: E731
    exact = math.log(1.001 / 1e-3)
    result, status, _, spent = integrate(
        Adaptive(), layer, lambda t: (t.double() + 1e-3).log() + t.double(), tol=1e-6, smooth=True
    )
    assert result[0, 0].item() == pytest.approx(exact, rel=1e-6)
    assert status == {0: "converged"}
    assert spent[0] < 110  # what Gauss-Legendre needs, knowing the truth


@pytest.mark.parametrize("period", [1 / 8, 1 / 4, 1 / 10])
def test_two_elements_that_swing_against_each_other_are_seen(period: float) -> None:
    """Their sum is flat, and equispaced nodes meet both at the same phase."""

    def swing(t: Tensor) -> Tensor:
        wave = torch.cos(2 * math.pi * t / period)
        return torch.stack([1 + wave, 1 - wave], 1)

    result, status, _, _ = integrate(
        Adaptive(), swing, lambda t: 2 * t.double(), smooth=True, tol=1e-3
    )
    assert status == {0: "converged"}
    torch.testing.assert_close(result, torch.ones(1, 2).double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("flip", [False, True], ids=["at the start", "at the end"])
def test_an_infinite_gradient_at_an_end_is_no_obstacle(flip: bool, smooth: bool) -> None:
    """F = sqrt(t) + t**0.8 + t**2: two powers at the open end, and a smooth part."""

    def back(t: Tensor) -> Tensor:
        return 1 - t if flip else t

    def gradients(t: Tensor) -> Tensor:
        t = back(t)
        return torch.stack([0.5 / t.sqrt(), 0.8 * t**-0.2 + 2 * t], 1)

    def value(t: Tensor) -> Tensor:
        t = back(t.double())
        return (t.sqrt() + t**0.8 + t**2) * (-1 if flip else 1)

    for tol, at_most in ((1e-2, 31), (1e-4, 90)):
        result, status, error, spent = integrate(
            Adaptive(), gradients, value, tol=tol, smooth=smooth
        )
        assert status == {0: "converged"}
        away = (result - torch.tensor([[1.0, 2.0]])).abs().sum().item()
        assert away <= error.item() <= 3 * tol
        assert spent[0] <= at_most


def test_powers_of_one_exponent_need_no_nodes_near_the_open_end() -> None:
    """The direction of the gradient does not change, and F says how long it is."""
    root = lambda t: torch.stack([0.5 / t.sqrt(), 1.5 / t.sqrt()], 1)  # noqa: E731
    result, status, _, spent = integrate(
        Adaptive(), root, lambda t: 4 * t.double().sqrt(), smooth=True, tol=1e-3
    )
    torch.testing.assert_close(result, torch.tensor([[1.0, 3.0]]).double(), rtol=1e-3, atol=0)
    assert status == {0: "converged"}
    assert spent[0] <= 9


def test_open_ends_that_cancel_in_f_are_still_resolved() -> None:
    cancel = lambda t: torch.stack([1 + 0.5 / t.sqrt(), 1 - 0.5 / t.sqrt()], 1)  # noqa: E731
    result, status, _, _ = integrate(
        Adaptive(), cancel, lambda t: 2 * t.double(), smooth=True, tol=1e-2
    )
    assert status == {0: "converged"}
    torch.testing.assert_close(result, torch.tensor([[2.0, 0.0]]).double(), rtol=0, atol=2e-2)


def test_a_single_kink_is_found_in_a_few_points() -> None:
    """F = max(t - 0.3, 0): a step of the gradient, which fixed steps approach like 1 / n."""
    step = lambda t: torch.stack([(t > 0.3).double(), torch.zeros_like(t)], 1)  # noqa: E731
    result, status, _, spent = integrate(
        Adaptive(), step, lambda t: (t.double() - 0.3).clamp(min=0), tol=1e-4
    )
    assert result[0, 0].item() == pytest.approx(0.7, abs=1e-12)
    assert status == {0: "converged"}
    assert spent[0] <= 14


def rough(t: Tensor) -> Tensor:
    """A gradient that no number of points resolves: a new step at every multiple of 1/997."""
    return torch.stack([1 + (t * 997).floor() % 2, torch.zeros_like(t)], 1)


def its_rough_sum(t: Tensor) -> Tensor:
    whole, part = (t.double() * 997).floor(), t.double() * 997 % 1
    return (whole + (whole / 2).floor() + part * (1 + whole % 2)) / 997


@pytest.mark.parametrize("budget", [11, 16, 17, 100, 512])
def test_the_adaptive_rule_keeps_its_budget(budget: int) -> None:
    _, status, error, spent = integrate(Adaptive(), rough, its_rough_sum, tol=1e-9, budget=budget)
    assert status == {0: "budget"}
    assert budget - 4 < spent[0] <= budget
    assert error.item() > 1e-9


def test_a_path_that_did_not_converge_names_its_worst_leaves() -> None:
    """A gradient with a rough first element in the first quarter of its second leg only."""

    def late(t: Tensor) -> Tensor:
        found = rough(t)
        found[:, 0] = torch.where(t < 0.25, found[:, 0], 1.0)
        return found

    def its_sum(t: Tensor) -> Tensor:
        return its_rough_sum(t.clamp(max=0.25)) + (t.double() - 0.25).clamp(min=0)

    outcomes: list[Outcome] = []
    _, status, _, _ = integrate(
        Adaptive(), late, its_sum, legs=2, tol=1e-9, budget=150, smooth=True, outcomes=outcomes
    )
    assert status == {0: "budget"}
    worst = outcomes[-1].worst
    assert worst is not None
    assert worst.row.tolist() == [0, 0, 0]
    assert set(worst.leg.tolist()) <= {1, 2}
    assert bool(((worst.start >= 0) & (worst.start < worst.end) & (worst.end <= 0.3)).all())
    assert bool((worst.doubt[:, 0] > 0).all()) and not bool(worst.doubt[:, 1:].any())
    shares = worst.share.tolist()
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-12


def test_a_path_that_converged_names_no_leaves() -> None:
    outcomes: list[Outcome] = []
    integrate(Adaptive(), polynomial, its_sum, outcomes=outcomes)
    assert (outcomes[-1].worst, outcomes[-1].sum_only) == (None, [False])


def test_a_sum_that_alone_misses_is_said() -> None:
    """The elements nearly cancel: what is little beside them is much beside F(x) - F(x')."""
    outcomes: list[Outcome] = []
    _, status, error, _ = integrate(
        Adaptive(),
        lambda t: torch.stack([torch.ones_like(t), torch.full_like(t, -0.989)], 1),
        lambda t: 0.01 * t.double(),
        budget=60, tol=1e-2, smooth=True, outcomes=outcomes,
    )  # fmt: skip
    assert status == {0: "budget"}
    assert outcomes[-1].sum_only == [True]
    assert error.item() == pytest.approx(1e-3, rel=1e-6)


def test_examples_do_not_influence_each_other() -> None:
    together = integrate(Adaptive(), polynomial, its_sum, examples=3, tol=1e-10)
    alone = integrate(Adaptive(), polynomial, its_sum, tol=1e-10)
    assert torch.equal(together[0], alone[0].expand(3, 2))
    assert together[3] == alone[3] * 3


def test_the_legs_of_an_example_are_summed_and_share_its_tolerance() -> None:
    result, status, _, spent = integrate(Adaptive(), polynomial, its_sum, examples=2, legs=3)
    torch.testing.assert_close(result, 3 * EXACT.expand(2, 2), rtol=0, atol=1e-14)
    assert spent == [33, 33]
    assert status == {0: "converged", 1: "converged"}


def test_dropped_examples_are_not_asked_for_again() -> None:
    for rule in (Adaptive(), midpoint(4)):
        _, status, _, spent = integrate(rule, polynomial, its_sum, examples=3, drop=(1,), tol=0.5)
        assert set(status) == {0, 2}
        if isinstance(rule, Adaptive):
            assert spent == [11, 0, 11]


def test_a_residual_below_the_noise_is_the_noise_floor() -> None:
    off = lambda t: polynomial(t) + torch.tensor([[1e-5, 0.0]])  # noqa: E731
    _, status, _, spent = integrate(Adaptive(), off, its_sum, tol=1e-6, noise=1e-4)
    assert (status, spent) == ({0: "noise_floor"}, [11])
    _, status, _, _ = integrate(Adaptive(), off, its_sum, tol=1e-6, noise=1e-7)
    assert status == {0: "budget"}


def test_an_integral_of_zero_is_done_at_once() -> None:
    nothing = lambda t: torch.zeros(len(t), 2, dtype=torch.float64)  # noqa: E731
    result, status, _, spent = integrate(Adaptive(), nothing, lambda t: 0 * t.double())
    assert result.tolist() == [[0, 0]]
    assert (status, spent) == ({0: "converged"}, [11])


def test_rules_are_found_by_name() -> None:
    assert isinstance(rule_named("adaptive", None), Adaptive)
    assert len(rule_named("midpoint", 7).nodes) == 7
    with pytest.raises(UnknownNameError, match="no rule is called 'simpson'"):
        rule_named("simpson", 7)
    with pytest.raises(InputError, match="needs steps"):
        rule_named("trapezoid", None)
    with pytest.raises(InputError, match="chooses its own steps"):
        rule_named("adaptive", 7)


def test_the_error_is_never_estimated_below_the_residual() -> None:
    """A gradient that is off by a constant fools the comparison of two rules, not the sum."""
    off = lambda t: polynomial(t) + torch.tensor([[1e-3, 0.0]])  # noqa: E731
    _, status, error, _ = integrate(Adaptive(), off, its_sum, tol=0.1)
    assert status == {0: "converged"}
    assert error.item() == pytest.approx(1e-3, rel=1e-6)
