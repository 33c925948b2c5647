"""Several targets of one input: the results of single calls, for fewer forward passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.engine import Progress

EIGHT = list(range(8))


class Counted(nn.Module):
    """A model that counts its rows and passes, and tells what it has forgotten to restore."""

    def __init__(self, inner: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.rows = self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows, self.passes = self.rows + len(x), self.passes + 1
        return self.inner(x)


class Encoder(nn.Module):
    """A small transformer with eight outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def mlp(activation: nn.Module, *last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(5, 16), activation, nn.Linear(16, 16), activation, nn.Linear(16, 8))
    return nn.Sequential(*layers, *last).double()


def examples(count: int = 3) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(1)).double()


def same(one: ig.Attribution, other: ig.Attribution, tol: float = 1e-12) -> None:
    """All that two results say, up to rounding; NaN is the same as NaN."""
    told = [(a.status, a.reason, a.evaluations, a.provenance, a.display) for a in (one, other)]
    assert told[0] == told[1]
    size = float(sum(v.nan_to_num().abs().sum() for v in one.tensors.values())) or 1.0
    numbers = [
        torch.tensor([a.at_input, a.at_baseline, a.residual, a.error], dtype=torch.float64)
        for a in (one, other)
    ]
    torch.testing.assert_close(*numbers, rtol=1e-6, atol=tol * size, equal_nan=True)
    for name, value in one.tensors.items():
        torch.testing.assert_close(
            value, other.tensors[name], rtol=0, atol=tol * size, equal_nan=True
        )
    for pair in ((one.uncertainty, other.uncertainty), (one.spread, other.spread)):
        assert (pair[0] is None) == (pair[1] is None)
        if pair[0] is not None:
            torch.testing.assert_close(*pair, rtol=1e-6, atol=tol * size, equal_nan=True)


def agree(
    model: Any, inputs: Any, targets: list[Any], **options: Any
) -> list[list[ig.Attribution]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ig.IGWarning)
        together = ig.attribute(model, inputs, targets=targets, **options)
        for number, target in enumerate(targets):
            alone = ig.attribute(model, inputs, target=target, **options)
            for own, expected in zip(together, alone, strict=True):
                same(own[number], expected)
    return together


@pytest.mark.parametrize(
    "options",
    [
        {"tol": 1e-6},
        {"rule": "gauss-legendre", "steps": 7},
        {"rule": "trapezoid", "steps": 5},
        {"baseline": [1.0, ig.Samples({"x": torch.eye(5).double()}, count=2)], "seed": 3},
        {"path": ig.Piecewise([torch.ones(5).double()])},
        {"method": "gradient-x-input"},
        {"method": "negated"},
        {"method": "random"},
        {"tol": 1e-9, "budget": 24},
    ],
    ids=["adaptive", "gauss", "trapezoid", "starts", "path", "gxi", "negated", "random", "budget"],
)
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()], ids=lambda a: type(a).__name__)
def test_each_result_is_that_of_a_call_with_one_target(
    activation: nn.Module, options: dict[str, Any]
) -> None:
    agree(mlp(activation), examples(), EIGHT, **options)


def test_the_exact_rule_integrates_every_target_between_the_same_kinks() -> None:
    found = agree(mlp(nn.ReLU()), examples(), EIGHT, rule="exact")
    assert all(abs(a.residual) <= 1e-12 for own in found for a in own)
    assert all(len({a.evaluations for a in own}) == 1 for own in found)


def test_curved_functions_of_relu_networks_share_the_search_for_kinks() -> None:
    agree(mlp(nn.ReLU(), nn.Softmax(1)), examples(), EIGHT, tol=1e-4)


def test_one_example_gives_one_list_and_a_batch_one_list_for_each() -> None:
    domain = ig.plugins().domain("tensor")(lambda x: x**2)
    batch = ig.attribute(lambda x: x**2, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), targets=[1, 0])
    assert [[a.delta for a in own] for own in batch] == [[4, 1], [16, 9]]
    assert [[a.provenance["target"] for a in own] for own in batch] == [[1, 0], [1, 0]]
    assert ig.attribute(lambda x: x**2, [], domain=domain, targets=[1, 0]) == []
    [one] = ig.attribute(lambda x: x**2, [torch.tensor([1.0, 2.0])], targets=torch.tensor([1]))
    assert [a.delta for a in one] == [4]


def test_a_target_may_be_all_that_it_is_alone() -> None:
    def gap(outputs: Tensor) -> Tensor:
        return outputs[:, 0] - outputs[:, 1]

    def share(outputs: Tensor) -> Tensor:
        return outputs.softmax(1)[:, 2]

    def relu(outputs: Tensor) -> Tensor:
        return outputs.relu()[:, 3]

    def size(outputs: Tensor) -> Tensor:
        return outputs.abs()[:, 3]

    each = [gap, 2, share, [0, 1, 2], (4,), relu, 2, size, torch.tensor(1)]
    for activation in (nn.Tanh(), nn.ReLU()):
        agree(mlp(activation), examples(), each, tol=1e-4)
    agree(lambda x: x.prod(1), examples(), [None, None])


def test_each_example_of_a_batch_may_have_a_function_of_its_own() -> None:
    def steep(outputs: Tensor) -> Tensor:
        return outputs[:, 2].clamp(min=0).sqrt()  # no gradient at 0, and none for other rows

    def square(outputs: Tensor) -> Tensor:
        return outputs[:, 1] ** 2

    x = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    start = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    together = ig.attribute(lambda x: x + 0, x, target=[square, steep], baseline=start)
    for own, function, one, begin in zip(together, (square, steep), x, start, strict=True):
        [alone] = ig.attribute(lambda x: x + 0, one[None], target=function, baseline=begin)
        same(own, alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0, "targets": [1]}, r"target= or targets=, not both \(got 0 and \[1\]\)"),
        ({"targets": []}, r"at least one target \(got \[\]\)"),
        ({"targets": (0, 1)}, r"a list of at least one target \(got \(0, 1\)\)"),
        ({"targets": [0, 8]}, "target 8 is out of range"),
        ({"targets": [0, "x"]}, "a target is an index"),
        ({"targets": [0, None]}, "say which number to explain"),
    ],
    ids=str,
)
def test_targets_that_cannot_be_explained_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ig.TargetError, match=message):
        ig.attribute(mlp(nn.Tanh()), examples(), **options)


@pytest.mark.parametrize("rule", ["midpoint", "adaptive"])
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()], ids=lambda a: type(a).__name__)
def test_eight_targets_cost_the_forward_passes_of_one(rule: str, activation: nn.Module) -> None:
    model = Counted(mlp(activation))
    options: dict[str, Any] = {"rule": rule, "steps": 40 if rule != "adaptive" else None}
    x = examples(20)[:8] + 1
    ig.attribute(model, x, target=0, tol=0.99, **options)
    one, passes = model.rows, model.passes
    model.rows = model.passes = 0
    ig.attribute(model, x, targets=EIGHT, tol=0.99, **options)
    assert model.rows <= 1.05 * one
    assert model.passes <= passes


def test_late_rounds_share_what_few_targets_want() -> None:
    model = Counted(Encoder().double().eval())
    start, *x = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(2)).double()
    found = agree(model, x, EIGHT, tol=1e-5, baseline=start)
    model.rows = 0
    ig.attribute(model, x, targets=EIGHT, tol=1e-5, baseline=start)
    assert len({a.evaluations for own in found for a in own}) > 1
    assert model.rows < 0.5 * sum(a.evaluations for own in found for a in own)


def test_points_are_shared_only_if_everything_but_the_target_is_equal() -> None:
    def baseline(example: ig.Example) -> Tensor:
        return torch.full((5,), float(example.target % 2)).double()

    model = Counted(mlp(nn.Tanh()))
    fixed: dict[str, Any] = {"rule": "gauss-legendre", "steps": 20}
    agree(model, examples(), [0, 1, 2, 3], baseline=baseline, **fixed)
    model.rows = 0
    ig.attribute(model, examples(), targets=[0, 1, 2, 3], baseline=baseline, tol=0.9, **fixed)
    assert 2 * 3 * 20 <= model.rows < 2.3 * 3 * 20


def test_nan_at_one_target_fails_that_result_only() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] ** 2, (x[:, 0] - 0.5137).log(), x[:, 1]], 1)

    def steep(outputs: Tensor) -> Tensor:
        return outputs[:, 2].clamp(min=0).sqrt()  # its gradient at 0 is infinite

    def square(outputs: Tensor) -> Tensor:
        return outputs[:, 2] ** 2

    x = torch.tensor([[1.0, 2.0], [0.25, 1.0], [4.0, 0.0]], dtype=torch.float64)
    fixed: dict[str, Any] = {"rule": "trapezoid", "steps": 64, "tol": 0.9}
    for targets, options in (([0, 1, 2], {}), ([square, steep], fixed)):
        with pytest.warns(ig.IGWarning, match="failed"):
            found = ig.attribute(model, x, targets=targets, **options)
        statuses = [[a.status == "failed" for a in own] for own in found]
        assert statuses == [[False, True, False][: len(targets)]] * 3
        assert [own[0].values.sum().item() for own in found] == pytest.approx(
            [own[0].delta for own in found], rel=1e-2
        )
    agree(model, x, [square, steep])  # an end that is open for one of them
    agree(model, x, [0, 2])


def test_a_raise_fails_all_results_of_that_input() -> None:
    inner = mlp(nn.Tanh())

    def model(x: Tensor) -> Tensor:
        if bool((x[:, 0] > 5).any()):
            raise ValueError("too much")
        return inner(x)

    x = examples()
    x[1, 0] = 9.0
    with pytest.warns(ig.IGWarning, match="3 of 9 results failed"):
        found = ig.attribute(model, x, targets=[0, 1, 2])
    assert [[a.status for a in own] for own in found] == [
        ["converged"] * 3, ["failed"] * 3, ["converged"] * 3,
    ]  # fmt: skip
    assert all("too much" in a.reason for a in found[1])
    agree(inner, x, [0, 1, 2])


class Weighted(ig.Domain):
    """A domain that goes on with the selected numbers in one of several ways."""

    name = "weighted"

    def __init__(self, model: Any, after: Callable[[Tensor, ig.Rows], Tensor]) -> None:
        super().__init__(model)
        self.layouts = {"x": ig.Stack(), "weight": ig.Stack()}
        self.after = after

    def encode(self, raw: Any, target: Any = None) -> ig.Example:
        return ig.Example({"x": raw}, {"weight": raw.sum()}, target)

    def forward(self, rows: ig.Rows) -> Tensor:
        return self.after(rows.select(self.model(rows["x"])), rows)


@pytest.mark.parametrize(
    ("after", "shares"),
    [
        (lambda numbers, rows: numbers, True),
        (lambda numbers, rows: numbers.sigmoid() * 2 - 1, True),
        (lambda numbers, rows: numbers * rows["weight"], False),
        (lambda numbers, rows: numbers[: len(rows)], False),
        (lambda numbers, rows: numbers.reshape(len(rows), 1).sum(1), False),
    ],
    ids=["as it is", "elementwise", "with a number of each row", "cut", "reshaped"],
)
def test_a_domain_that_knows_one_target_only_is_served(
    after: Callable[[Tensor, ig.Rows], Tensor], shares: bool
) -> None:
    model = Counted(mlp(nn.Tanh()))
    domain = Weighted(model, after)
    raws = list(examples(12))
    agree(model, raws, [0, 1, 2, 3], domain=domain, tol=1e-4)
    model.rows = 0
    found = ig.attribute(model, raws, domain=domain, targets=[0, 1, 2, 3], tol=1e-4)
    spent = sum(a.evaluations for own in found for a in own)
    assert (model.rows < spent / 2) == shares


class Doubled(torch.autograd.Function):
    """An operation that vmap does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient if float(gradient.sum()) is not None else gradient


def test_an_operation_that_vmap_cannot_do_is_differentiated_target_by_target() -> None:
    inner = mlp(nn.Tanh())
    model = Counted(lambda x: inner(Doubled.apply(x)))
    agree(model, examples(), EIGHT)
    model.rows = 0
    found = ig.attribute(model, examples(), targets=EIGHT)
    assert model.rows < sum(a.evaluations for own in found for a in own) / 2


def test_rows_that_cannot_share_a_batch_still_share_their_targets() -> None:
    inner = mlp(nn.Tanh())

    def model(x: Tensor) -> Tensor:
        return inner(x - x.mean(0))

    found = agree(model, examples(), [0, 1, 2], rule="gauss-legendre", steps=3)
    assert "evaluated alone" in found[0][0].reason


def test_memory_that_runs_out_halves_the_points_of_a_chunk() -> None:
    inner, sizes = mlp(nn.Tanh()), []

    def model(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return inner(x)

    found = ig.attribute(model, examples(), targets=EIGHT, rule="midpoint", steps=20, tol=0.9)
    for number, own in enumerate(ig.attribute(inner, examples(), target=0, tol=1e-6)):
        assert found[number][0].delta == pytest.approx(own.delta)
    assert max(sizes[3:]) > 10 > min(sizes) and sum(sizes) < 8 * 60


def test_the_model_is_left_as_it_was_found() -> None:
    model = Encoder().train()
    state = {n: v.clone() for n, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    x = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(2))
    ig.attribute(model, x, targets=[0, 1], tol=0.1, baseline=1 - x)
    assert flags == [m.training for m in model.modules()]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, state[n]) for n, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_a_prepared_task_has_an_example_for_each_target() -> None:
    domain = ig.plugins().domain("tensor")(mlp(nn.Tanh()))
    with domain.prepared():
        task = ig.prepare(domain, list(examples(2)), targets=[3, 1])
        assert [e.target for e in task.examples] == [3, 1, 3, 1]
        found = [integral.values["x"] for _, integral in task.integrals()]
    expected = ig.attribute(domain.model, examples(2), targets=[3, 1])
    for value, own in zip(found, [a for each in expected for a in each], strict=True):
        torch.testing.assert_close(value, own.values)


def test_progress_counts_every_result(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Progress] = []
    ig.attribute(
        mlp(nn.Tanh()), examples(), targets=[0, lambda o: o[:, 1], 1], progress=told.append
    )
    assert (told[-1].open, told[-1].total) == (0, 9)
    monkeypatch.setattr("ig_core.engine.WINDOW_ELEMENTS", 11)
    agree(mlp(nn.Tanh()), examples(), [0, 1, 2])
