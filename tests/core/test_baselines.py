from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ig_core as ig

X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
DATA = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, 0.0]])


def linear(x: Tensor) -> Tensor:
    """Its attribution is x - start, so that it shows the start."""
    return x.sum(1)


def starts(baseline: object, x: object = X, **options: object) -> list[list[float]]:
    results = ig.attribute(linear, x, baseline=baseline, **options)
    return [(row - r.values).tolist() for r, row in zip(results, x, strict=True)]


def test_nothing_and_zeros_start_at_zero() -> None:
    assert starts(None) == starts("zeros") == starts(ig.Zeros()) == [[0, 0], [0, 0]]


def test_a_number_starts_everything_there() -> None:
    assert starts(0.5) == starts(ig.Constant(0.5)) == [[0.5, 0.5], [0.5, 0.5]]
    assert starts(1) == [[1, 1], [1, 1]]


def test_a_tensor_of_one_example_serves_all() -> None:
    one = torch.tensor([0.5, -0.5])
    assert starts(one) == starts(ig.Given(one)) == starts(one[None]) == [[0.5, -0.5]] * 2


def test_a_tensor_of_the_batch_gives_each_its_row() -> None:
    rows = torch.tensor([[0.5, -0.5], [0.25, 8.0]])
    assert starts(rows) == rows.tolist()
    assert starts({"x": rows}) == rows.tolist()
    assert starts((rows,)) == rows.tolist()


def test_a_function_sees_the_example() -> None:
    assert starts(lambda example: example.inputs["x"] / 2) == [[0.5, 1.0], [1.5, 2.0]]
    assert starts(lambda example: {"x": example.inputs["x"].flip(0)}) == [[2, 1], [4, 3]]


def test_the_mean_of_a_data_set() -> None:
    assert starts(ig.Mean(DATA)) == [[2, 2], [2, 2]]
    assert starts(ig.Mean({"x": DATA})) == [[2, 2], [2, 2]]


def test_a_list_is_averaged_and_its_spread_is_told() -> None:
    results = ig.attribute(linear, X, baseline=[0.0, 1.0, ig.Mean(DATA)])
    assert [r.values.tolist() for r in results] == (X - 1).tolist()
    assert all(r.spread.tolist() == pytest.approx([1, 1]) for r in results)
    assert [r.at_baseline for r in results] == [2, 2]
    assert ig.attribute(linear, X, baseline=[0.5])[0].spread is None


def test_samples_are_rows_of_the_data_and_depend_on_the_seed_only() -> None:
    sampled = ig.Samples(DATA, count=5)
    same = starts(sampled, seed=3)
    assert same == starts(sampled, seed=3)
    assert same == [starts(sampled, X[:1], seed=3)[0], same[1]], "not on the size of the batch"
    assert any(starts(sampled, seed=seed) != same for seed in range(4, 8))
    torch.manual_seed(12)
    assert same == starts(sampled, seed=3), "nor on torch's own seed"
    mean = ig.Samples(DATA, count=4000)
    for start in starts(mean, X[:1]):
        torch.testing.assert_close(torch.tensor(start), DATA.mean(0), rtol=0, atol=0.15)


def test_one_sample_is_a_row_of_the_data() -> None:
    for start in starts(ig.Samples(DATA, count=1)):
        assert start in DATA.tolist()


def test_the_provenance_names_the_baseline() -> None:
    for baseline, told in (
        (None, "zeros"),
        ("zeros", "zeros"),
        (0.5, 0.5),
        (ig.Mean(DATA), "mean"),
        (DATA[0], "given"),
        ([0.0, ig.Zeros()], [0.0, "zeros"]),
    ):
        assert ig.attribute(linear, X, baseline=baseline)[0].provenance["baseline"] == told


@pytest.mark.parametrize("value", ["a", None, True, torch.ones(2)])
def test_a_constant_is_a_number(value: object) -> None:
    with pytest.raises(ig.BaselineError, match="a constant baseline is a number"):
        ig.Constant(value)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (1e39, "the baseline of 'x' holds NaN or infinity"),
        (ig.Mean(torch.tensor([[1, 2], [3, 4]])), "floating-point numbers .*torch.int64"),
        (ig.Mean(torch.zeros(0, 2)), "is empty"),
        (ig.Samples(torch.tensor(1.0)), r"first dimension counts examples \(got .*shape \(\)"),
        (ig.Samples({"x": [1.0]}), r"\(got list\)"),
        (lambda example: example["x"], "the baseline's function raised TypeError"),
    ],
)
def test_a_baseline_that_cannot_start_a_path_is_named(baseline: object, message: str) -> None:
    with pytest.raises(ig.BaselineError, match=message):
        starts(baseline)


def test_a_number_beyond_float32_is_a_start_in_float64() -> None:
    [first, _] = starts(1e39, X.double())
    assert first == pytest.approx([1e39, 1e39], rel=1e-12)
