"""Paths of sequences: one step after another, against differences of F by hand."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences.baselines import OtherSequences
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.paths import TimeOrdered


def ragged(lengths: Sequence[int] = (5, 1, 9)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in lengths]


def between(
    model: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, groups: Sequence[Sequence[int]]
) -> list[float]:
    """F at the baseline, and after each of these groups of steps has moved, by hand."""
    point, found = start.clone(), [model(start[None])]
    for steps in groups:
        point[list(steps)] = x[list(steps)]
        found.append(model(point[None].clone()))
    return [value.item() for value in found]


@pytest.mark.parametrize("newest_first", [False, True])
def test_every_step_sums_to_its_own_difference_of_F(
    classifier: nn.Module, newest_first: bool
) -> None:
    sequences = ragged()
    path = TimeOrdered(newest_first)
    results = ig.attribute(classifier, sequences, target=1, path=path, tol=1e-6)
    for x, result in zip(sequences, results, strict=True):
        order = [[t] for t in range(len(x))][:: -1 if newest_first else 1]
        F = between(lambda x: classifier(x)[0, 1], x, torch.zeros_like(x), order)
        expected = torch.tensor(F, dtype=torch.float64).diff()
        expected = expected.flip(0) if newest_first else expected
        assert torch.allclose(result.scores, expected, rtol=0, atol=1e-9)
        assert result.display["prefixes"] == pytest.approx(F, abs=1e-12)
        assert result.status == "converged"


def test_what_steps_do_together_is_owed_to_the_one_that_moves_last() -> None:
    def product(x: Tensor) -> Tensor:
        return x[:, 0, 0] * x[:, 1, 0]

    x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    options = {"domain": "sequences"}
    straight = ig.attribute(product, x, **options)
    forward = ig.attribute(product, x, path="time-ordered", **options)
    backward = ig.attribute(product, x, path=TimeOrdered(newest_first=True), **options)
    assert straight.scores.tolist() == pytest.approx([3.0, 3.0])
    assert forward.scores.tolist() == pytest.approx([0.0, 6.0])
    assert backward.scores.tolist() == pytest.approx([6.0, 0.0])


def test_a_linear_model_has_the_same_values_on_both_paths() -> None:
    model, [x, _, _] = LeakyIntegrator(0.5), ragged()
    straight = ig.attribute(model, x, domain="sequences")
    ordered = ig.attribute(model, x, domain="sequences", path="time-ordered")
    assert torch.allclose(straight.values, ordered.values, rtol=0, atol=1e-14)


def test_long_sequences_move_in_groups_of_equal_size_up_to_one(classifier: nn.Module) -> None:
    [x] = ragged((10,))
    groups = [range(4), range(4, 7), range(7, 10)]
    result = ig.attribute(classifier, x, target=0, path=TimeOrdered(most_legs=3), tol=1e-6)
    F = between(lambda x: classifier(x)[0, 0], x, torch.zeros_like(x), groups)
    assert result.display["prefixes"] == pytest.approx(F, abs=1e-12)
    for steps, difference in zip(groups, torch.tensor(F).diff().tolist(), strict=True):
        assert float(result.scores[list(steps)].sum()) == pytest.approx(difference, abs=1e-6)
    fact = result.display["facts"]["completeness"]
    assert fact.startswith("every group of up to 4 steps sums to its own difference of F")


def test_groups_of_the_newest_first_are_the_mirrored_ones(classifier: nn.Module) -> None:
    [x] = ragged((10,))
    path = TimeOrdered(newest_first=True, most_legs=3)
    result = ig.attribute(classifier, x, target=0, path=path, tol=1e-6)
    groups = [range(6, 10), range(3, 6), range(3)]
    F = between(lambda x: classifier(x)[0, 0], x, torch.zeros_like(x), groups)
    assert result.display["prefixes"] == pytest.approx(F, abs=1e-12)
    assert "difference of F, newest first; " in result.display["facts"]["completeness"]


def test_one_leg_is_the_straight_path(classifier: nn.Module) -> None:
    [x] = ragged((10,))
    straight = ig.attribute(classifier, x, target=0)
    one = ig.attribute(classifier, x, target=0, path=TimeOrdered(most_legs=1))
    assert torch.equal(straight.values, one.values)


def test_several_baselines_are_averaged_and_so_is_F_between_the_legs(classifier: nn.Module) -> None:
    [x, other, another] = ragged((4, 4, 4))
    baseline = OtherSequences([other, another])
    result = ig.attribute(classifier, x, target=2, baseline=baseline, path="time-ordered", tol=1e-6)
    order = [[t] for t in range(4)]
    both = [between(lambda x: classifier(x)[0, 2], x, start, order) for start in (other, another)]
    F = torch.tensor(both, dtype=torch.float64).mean(0)
    assert result.display["prefixes"] == pytest.approx(F.tolist(), abs=1e-12)
    assert torch.allclose(result.scores, F.diff(), rtol=0, atol=1e-6)


def test_a_step_that_does_not_move_gets_exactly_0_and_costs_nothing(classifier: nn.Module) -> None:
    [x] = ragged((6,))
    start = torch.zeros_like(x)
    start[2:4] = x[2:4]
    options = {"target": 0, "path": "time-ordered"}
    result = ig.attribute(classifier, x, baseline=start, **options)
    assert result.values[2:4].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert result.values[[0, 1, 4, 5]].ne(0).all()
    assert result.display["prefixes"][2] == result.display["prefixes"][4]
    assert result.evaluations <= ig.attribute(classifier, x, **options).evaluations * 4 / 6


def test_a_sequence_at_its_baseline_gets_exactly_0(classifier: nn.Module) -> None:
    [x] = ragged((3,))
    result = ig.attribute(classifier, x, target=0, path="time-ordered", baseline=x.clone())
    assert result.values.eq(0).all()
    assert len(set(result.display["prefixes"])) == 1


# -- what a path is complete for ------------------------------------------------------------------


def test_every_path_tells_what_it_is_complete_for(classifier: nn.Module) -> None:
    [x] = ragged((4,))
    straight = ig.attribute(classifier, x, target=0)
    assert straight.display["facts"]["completeness"] == "all steps sum to F(x) - F(x')"
    assert "prefixes" not in straight.display
    coarse = {"rule": "midpoint", "steps": 1, "tol": 0.5}
    ordered = ig.attribute(classifier, x, target=0, path="time-ordered", **coarse)
    told = ordered.display["facts"]["completeness"]
    head = "every step sums to its own difference of F, oldest first; largest residual of a step "
    assert told.startswith(head)
    prefixes = torch.tensor(ordered.display["prefixes"], dtype=torch.float64)
    missed = float((ordered.scores - prefixes.diff()).abs().max())
    assert missed > 1e-6
    assert float(told.removeprefix(head)) == pytest.approx(missed, rel=0.05)
    assert "completeness" in ordered.to_html()


def test_a_method_that_promises_no_sum_tells_nothing(classifier: nn.Module) -> None:
    [x] = ragged((4,))
    for path in ("straight", "time-ordered"):
        result = ig.attribute(classifier, x, target=0, path=path, method="gradient-x-input")
        assert "facts" not in result.display and "prefixes" not in result.display


def test_several_targets_have_F_between_the_legs_each(classifier: nn.Module) -> None:
    sequences = ragged()
    together = ig.attribute(classifier, sequences, targets=[0, 2], path="time-ordered")
    for x, own in zip(sequences, together, strict=True):
        for target, result in zip((0, 2), own, strict=True):
            alone = ig.attribute(classifier, x, target=target, path="time-ordered")
            assert result.display["prefixes"] == pytest.approx(alone.display["prefixes"])


@pytest.mark.parametrize("most_legs", [0, True, 2.0])
def test_the_number_of_legs_is_a_whole_number_from_1(most_legs: object) -> None:
    with pytest.raises(ig.InputError, match="most_legs must be a whole number of at least 1"):
        TimeOrdered(most_legs=most_legs)


def test_the_path_is_for_sequences_only() -> None:
    with pytest.raises(ig.InputError, match="is for sequences, not for 'tensor'"):
        ig.attribute(lambda x: x.sum(1), torch.ones(1, 2), path=TimeOrdered())
