from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.tensors import TensorDomain, pick

X = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])


class Both(NamedTuple):
    logits: Tensor
    hidden: Tensor


def values(results: list[ig.Attribution], name: str = "x") -> Tensor:
    return torch.stack([r.tensors[name] for r in results])


@pytest.mark.parametrize(
    ("raw", "accepted"),
    [
        (X, True), ([X, X], True), ((X, X), True), ({"a": X}, True), ([(X, X)], True), ([], True),
        ("text", False), ([[1.0]], False), ({"a": 1}, False), (None, False),
    ],
)  # fmt: skip
def test_any_callable_over_tensors_is_accepted(raw: object, accepted: bool) -> None:
    assert TensorDomain.accepts(torch.sum, raw) is accepted
    assert TensorDomain.accepts("no model", raw) is False


def test_one_tensor_is_a_batch() -> None:
    results = ig.attribute(lambda x: (x**2).sum(1), X)
    torch.testing.assert_close(values(results), X**2)


def test_a_tuple_goes_by_position() -> None:
    results = ig.attribute(lambda a, b: (a - 2 * b).sum(1), (X, X + 1))
    torch.testing.assert_close(values(results, "x0"), X)
    torch.testing.assert_close(values(results, "x1"), -2 * (X + 1))


def test_a_dict_goes_by_keyword() -> None:
    results = ig.attribute(lambda *, b, a: (a - 2 * b).sum(1), {"a": X, "b": X + 1})
    torch.testing.assert_close(values(results, "a"), X)
    torch.testing.assert_close(values(results, "b"), -2 * (X + 1))


def test_a_list_holds_single_examples() -> None:
    model = lambda x: (x**2).sum(1)  # noqa: E731
    torch.testing.assert_close(values(ig.attribute(model, list(X))), X**2)
    pairs = [(a, b) for a, b in zip(X, X + 1, strict=True)]
    results = ig.attribute(lambda a, b: (a * b).sum(1), pairs)
    torch.testing.assert_close(values(results, "x0"), X * (X + 1) / 2)
    dicts = [{"a": a} for a in X]
    torch.testing.assert_close(values(ig.attribute(lambda a: (a**2).sum(1), dicts), "a"), X**2)


def test_ragged_examples_come_in_a_list_with_a_ragged_layout() -> None:
    ragged = [torch.ones(2, 3), torch.ones(5, 3), torch.ones(1, 3)]
    results = ig.attribute(lambda x: (x**2).sum((1, 2)), ragged, layouts={"x": ig.Pad()})
    for result, raw in zip(results, ragged, strict=True):
        torch.testing.assert_close(result.values, raw)


def test_arguments_per_example_are_cut_and_shared_ones_are_passed_as_they_are() -> None:
    seen = []

    def model(x: Tensor, *, scale: Tensor, table: Tensor, power: int) -> Tensor:
        seen.append((len(x), len(scale), table is shared))
        return (scale[:, None] * x**power).sum(1) + 0 * table.sum()

    shared = torch.ones(7)
    results = ig.attribute(
        model,
        X,
        per_example={"scale": torch.tensor([1.0, 2.0, 3.0])},
        shared={"table": shared, "power": 2},
    )
    torch.testing.assert_close(values(results), torch.tensor([[1.0], [2], [3]]) * X**2)
    assert all(rows == scales and same for rows, scales, same in seen)


def test_integers_per_example_keep_their_dtype() -> None:
    table = nn.Embedding(4, 2)
    results = ig.attribute(
        lambda x, which: (x * table(which)).sum(1),
        X,
        per_example={"which": torch.tensor([3, 0, 3])},
    )
    torch.testing.assert_close(values(results), X * table.weight.detach()[[3, 0, 3]])


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda o: (o,), None),
        (lambda o: {"logits": o}, None),
        (lambda o: (o * 0, o), 1),
        (lambda o: {"logits": o, "other": None}, "logits"),
        (lambda o: OrderedDict(logits=o, other=o * 0), "logits"),
        (lambda o: Both(o, o * 0), 0),
        (lambda o: Both(o, o * 0), lambda out: out.logits),
    ],
)
def test_the_explained_part_of_an_output_is_selected(wrap: object, output: object) -> None:
    results = ig.attribute(lambda x: wrap((x**2).sum(1)), X, output=output)
    torch.testing.assert_close(values(results), X**2)


def test_a_tensor_needs_no_selector_and_a_selector_cuts_it() -> None:
    assert pick(X, None) is X
    assert pick(X, 1).tolist() == [3, -1]


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        (1, [[0, 1]] * 3),
        ((0,), [[1, 0]] * 3),
        ([1, 0, 1], [[0, 1], [1, 0], [0, 1]]),
        (torch.tensor([0, 0, 1]), [[1, 0], [1, 0], [0, 1]]),
        (lambda o: o[:, 0] - o[:, 1], [[1, -1]] * 3),
    ],
)
def test_targets_pick_one_number_per_example(target: object, weights: list[list[float]]) -> None:
    results = ig.attribute(lambda x: x, X, target=target)
    torch.testing.assert_close(values(results), X * torch.tensor(weights))


def test_units_are_read_in_every_example() -> None:
    words = ig.Units(("first", "second"), {"x": torch.tensor([0, 0, 1])}, kind="word")
    x = torch.arange(12.0).view(2, 3, 2)
    for result, row in zip(ig.attribute(lambda x: x.sum((1, 2)), x, units=words), x, strict=True):
        assert result.scores.tolist() == pytest.approx([float(row[:2].sum()), float(row[2].sum())])
        assert result.units.kind == "word"


def test_one_ready_made_domain_serves_several_calls() -> None:
    domain = TensorDomain(lambda *a: sum((x**2).sum(1) for x in a))
    torch.testing.assert_close(values(ig.attribute(domain.model, X, domain=domain)), X**2)
    pair = ig.attribute(domain.model, (X, X), domain=domain)
    torch.testing.assert_close(values(pair, "x1"), X**2)
    with pytest.raises(ig.InputError, match=r"options \['units'\] belong to the domain"):
        ig.attribute(domain.model, X, domain=domain, units=None)


def test_a_single_example_without_its_dimension_is_told_about_the_batch() -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (x * mask).sum(-1)

    with pytest.raises(ig.OutputError, match=r"one example is x\[:1\]: a tensor is a batch"):
        ig.attribute(Gated(), X[0], per_example={"mask": torch.ones(2)})
    with pytest.raises(ig.InputError, match=r"x\[:1\] is the first alone"):
        ig.attribute(Gated(), X, per_example={"mask": torch.ones(2)})
