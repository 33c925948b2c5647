from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_core import engine
from ig_core.adaptive import Adaptive
from ig_core.engine import Integral, integrate
from ig_core.evaluation import evaluate
from ig_core.quadrature import Rule, gauss_legendre

CPU = torch.device("cpu")
STACK = {"x": ig.Stack()}
Forward = Callable[[ig.Rows], Tensor]


def squares(rows: ig.Rows) -> Tensor:
    return (rows["x"] ** 2).flatten(1).sum(1)


def example(*numbers: float) -> ig.Example:
    return ig.Example({"x": torch.tensor(numbers, dtype=torch.float64)})


def zeros(example: ig.Example) -> dict[str, Tensor]:
    return {n: torch.zeros_like(v) for n, v in example.inputs.items()}


def near(tensor: Tensor, numbers: list[float]) -> None:
    torch.testing.assert_close(tensor.flatten(), torch.tensor(numbers, dtype=tensor.dtype))


def solve(
    forward: Forward, examples: list[ig.Example], rule: Rule | None = None, **options: object
) -> list[Integral]:
    settings = {"layouts": STACK, "path": ig.Straight(), "tol": 1e-2, "budget": 512, "device": CPU}
    problems = [(e, [zeros(e)]) for e in examples]
    return list(integrate(forward, problems, rule=rule or Adaptive(), **(settings | options)))


def test_the_integral_of_each_example_comes_in_order() -> None:
    found = solve(squares, [example(1, 2), example(-3, 0.5), example(0, 4)])
    for integral, exact in zip(found, ([1, 4], [9, 0.25], [0, 16]), strict=True):
        near(integral.values["x"], exact)
    assert [(i.at_input, i.at_baseline) for i in found] == [(5, 0), (9.25, 0), (16, 0)]
    assert all(abs(i.residual) <= 1e-14 for i in found)
    assert all(i.status == "converged" and i.evaluations == 5 for i in found)


def test_a_finished_example_leaves_while_others_refine() -> None:
    sizes: list[int] = []

    def mixed(rows: ig.Rows) -> Tensor:
        sizes.append(len(rows))
        x = rows["x"]
        return torch.where(x[:, 1] == 0, x[:, 0] ** 2, torch.sin(8 * x).sum(1))

    smooth, wavy = solve(mixed, [example(3, 0), example(3, 1)], tol=1e-4)
    assert smooth.evaluations == 11 < wavy.evaluations
    assert sum(sizes[-2:]) < 2 * wavy.evaluations


def test_a_stream_is_cut_into_windows_and_read_no_further_than_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "WINDOW_ELEMENTS", 6)
    read: list[int] = []

    def stream():
        for number in range(100):
            read.append(number)
            one = example(number, 1)
            yield one, [zeros(one)]

    found = integrate(
        squares, stream(), STACK, ig.Straight(), Adaptive(), tol=1e-2, budget=64, device=CPU
    )
    near(next(found).values["x"], [0, 1])
    assert len(read) <= 5
    for number in range(1, 8):
        near(next(found).values["x"], [number**2, 1])
    assert len(read) <= 12


def test_a_window_holds_fewer_paths_of_many_legs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WINDOW_ELEMENTS", 12)
    stops = ig.Piecewise([torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0])])
    read: list[int] = []
    for path, most in ((ig.Straight(), 8), (stops, 4)):
        read.clear()

        def stream():
            for number in range(20):
                read.append(number)
                one = example(3, number)
                yield one, [zeros(one)]

        found = integrate(
            squares, stream(), STACK, path, Adaptive(), tol=1e-2, budget=64, device=CPU
        )
        near(next(found).values["x"], [9, 0])
        assert most / 2 < len(read) <= most


def test_an_example_larger_than_a_window_is_integrated_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "WINDOW_ELEMENTS", 1)
    found = solve(squares, [example(1, 2), example(3, 4)])
    near(found[0].values["x"], [1, 4])
    near(found[1].values["x"], [9, 16])


def test_nothing_in_gives_nothing() -> None:
    assert solve(squares, []) == []


def test_an_example_without_a_start_is_refused() -> None:
    with pytest.raises(ig.InputError, match="at least one start"):
        list(
            integrate(
                squares,
                [(example(1), [])],
                STACK,
                ig.Straight(),
                Adaptive(),
                tol=0.1,
                budget=11,
                device=CPU,
            )
        )


def test_several_starts_are_averaged_and_kept() -> None:
    one = example(2.0)
    starts = [{"x": torch.tensor([s], dtype=torch.float64)} for s in (0.0, 1.0, -1.0)]
    [found] = integrate(
        squares, [(one, starts)], STACK, ig.Straight(), Adaptive(), tol=1e-2, budget=64, device=CPU
    )
    assert found.values["x"].item() == pytest.approx((4 + 3 + 3) / 3)
    assert [p["x"].item() for p in found.per_start] == pytest.approx([4, 3, 3])
    assert found.at_baseline == pytest.approx(2 / 3)
    assert found.residual == pytest.approx(0, abs=1e-15)
    assert found.evaluations == 15


@pytest.mark.parametrize("rule", [Adaptive(), gauss_legendre(7)])
def test_every_evaluation_is_counted_and_no_more_are_made(rule: Rule) -> None:
    gradients = 0

    def count(gradient: Tensor) -> None:
        nonlocal gradients
        gradients += len(gradient)

    def counted(rows: ig.Rows) -> Tensor:
        output = squares(rows)
        if output.requires_grad:
            output.register_hook(count)
        return output

    found = solve(counted, [example(1, 2), example(3, 4)], rule)
    assert (
        sum(i.evaluations for i in found)
        == gradients
        == 2 * (5 if isinstance(rule, Adaptive) else 7)
    )


def test_the_model_is_called_once_per_chunk_and_not_once_per_row() -> None:
    calls: list[int] = []

    def counted(rows: ig.Rows) -> Tensor:
        calls.append(len(rows))
        return squares(rows)

    solve(counted, [example(i, 1) for i in range(64)], gauss_legendre(50))
    assert len(calls) <= 4
    assert max(calls) == 3200


def test_the_memory_of_a_chunk_does_not_grow_with_the_steps() -> None:
    largest = []

    def watched(rows: ig.Rows) -> Tensor:
        largest[-1] = max(largest[-1], rows["x"].numel())
        return squares(rows)

    for steps in (50, 400):
        largest.append(0)
        solve(watched, [example(1, 2)], gauss_legendre(steps), layouts={"x": ig.Stack(capacity=40)})
    assert largest == [80, 80]


def test_gradients_are_summed_in_float64_and_given_in_the_dtype_of_the_input() -> None:
    x = torch.tensor([1e4, 1e-4, 3.0])
    [found] = solve(lambda rows: rows["x"].sum(1), [ig.Example({"x": x})], gauss_legendre(500))
    assert found.values["x"].dtype == torch.float32
    assert found.values["x"].tolist() == x.tolist()
    assert abs(found.residual) <= 1e-3


def test_inputs_under_different_layouts_move_together() -> None:
    def forward(rows: ig.Rows) -> Tensor:
        nodes = (
            torch.zeros(len(rows)).double().index_add(0, rows.owners("node"), rows["node"][:, 0])
        )
        return nodes * rows["s"] * rows["seq"].sum((1, 2))

    def three(n: int) -> ig.Example:
        return ig.Example(
            {
                "node": torch.full((n, 1), 2.0).double(),
                "s": torch.tensor(3.0).double(),
                "seq": torch.ones(n + 1, 1).double(),
            }
        )

    layouts = {"node": ig.Cat(), "s": ig.Stack(), "seq": ig.Pad()}
    for found, n in zip(solve(forward, [three(1), three(4)], layouts=layouts), (1, 4), strict=True):
        share = 2 * n * 3 * (n + 1) / 3
        assert found.values["s"].item() == pytest.approx(share)
        assert found.values["node"].sum().item() == pytest.approx(share)
        near(found.values["seq"], [share / (n + 1)] * (n + 1))


def test_uncertainty_bounds_the_error_where_it_sits() -> None:
    """Only the first feature has a kink; only it is uncertain."""
    forward = lambda rows: (rows["x"][:, 0] - 0.3).clamp(min=0) + 2 * rows["x"][:, 1]  # noqa: E731
    [found] = solve(forward, [example(1, 1)], tol=1e-2)
    assert abs(found.values["x"][0].item() - 0.7) <= found.uncertainty["x"][0].item() * 2
    assert found.uncertainty["x"][1].item() <= 1e-12


def test_progress_counts_evaluations_and_open_examples() -> None:
    seen: list[ig.Progress] = []

    def broken(rows: ig.Rows) -> Tensor:
        if bool((rows["x"][:, 0] > 8).any()):
            raise ValueError
        return torch.sin(8 * rows["x"]).sum(1)

    found = solve(broken, [example(1, 1), example(9, 1), example(0, 0)], progress=seen.append)
    assert [i.status for i in found] == ["converged", "failed", "converged"]
    assert [p.total for p in seen] == [3] * len(seen)
    assert seen[-1].open == 0
    assert [p.evaluations for p in seen] == sorted(p.evaluations for p in seen)
    assert seen[-1].evaluations == sum(i.evaluations for i in found)
    assert seen[0].open == 1, "the constant one is done at once, the failed one is not open"


def test_one_failing_start_fails_the_example() -> None:
    starts = [{"x": torch.tensor([s], dtype=torch.float64)} for s in (0.0, -5.0)]
    forward = lambda rows: torch.where(rows["x"][:, 0] < -4, torch.nan, rows["x"][:, 0])  # noqa: E731
    problems = [(example(2.0), starts), (example(3.0), starts[:1])]
    failed, fine = integrate(
        forward, problems, STACK, ig.Straight(), Adaptive(), tol=1e-2, budget=64, device=CPU
    )
    assert failed.status == "failed" and "t = 0 " in failed.reason
    near(fine.values["x"], [3])


def test_evaluate_gives_f_at_points_without_gradients() -> None:
    points = {"x": torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])}
    found = evaluate(squares, ig.Example({"x": torch.zeros(2)}), points, STACK, CPU)
    assert found.tolist() == [5, 25, 0]
    assert found.dtype == torch.float64 and not found.requires_grad


def test_evaluate_of_no_points_is_empty_and_chunks_are_put_in_order() -> None:
    points = {"x": torch.arange(20.0)[:, None]}
    found = evaluate(
        squares, ig.Example({"x": torch.zeros(1)}), points, {"x": ig.Stack(capacity=3)}, CPU
    )
    assert found.tolist() == [i**2 for i in range(20)]


def test_the_mean_over_starts_has_the_status_of_the_worst() -> None:
    """From 0.5 on the function is linear; from -1 on it oscillates on the way."""

    def forward(rows: ig.Rows) -> Tensor:
        x = rows["x"][:, 0]
        return x + torch.where(x < 0, torch.sin(300 * x), 0.0)

    starts = [{"x": torch.tensor([s], dtype=torch.float64)} for s in (0.5, -1.0)]
    for order in (starts, starts[::-1]):
        [found] = integrate(
            forward, [(example(2.0), order)], STACK, ig.Straight(), Adaptive(),
            tol=1e-6, budget=33, device=CPU,
        )  # fmt: skip
        assert found.status == "budget"


def mixes(name: str) -> Callable[[ig.Rows], Tensor]:
    """Models whose rows influence each other, each in a way that is easy to overlook."""

    def forward(rows: ig.Rows) -> Tensor:
        x = rows["x"]
        own = torch.tanh(x).sum(1) + x[:, 0]
        return {
            "by position": own * torch.where(torch.arange(len(own)) == 0, 1.0, 0.5),
            "running sum": own.cumsum(0),
            "mean of the batch": own * (1 + 0.1 * own.mean()),
            "beside a giant": own * (1 + 0.2 * x.mean(0).tanh().sum())
            + 1e4 * torch.sigmoid(x[:, 0] - 20),
        }[name]

    return forward


@pytest.mark.parametrize(
    "name", ["by position", "running sum", "mean of the batch", "beside a giant"]
)
def test_rows_that_mix_are_noticed_and_evaluated_alone(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    data = torch.cat([data, torch.full((1, 3), 30.0, dtype=torch.float64)])
    problems = [(ig.Example({"x": row}), [{"x": torch.zeros_like(row)}]) for row in data]
    settings = {"tol": 1e-2, "budget": 512, "device": CPU}
    found = list(integrate(mixes(name), problems, STACK, ig.Straight(), Adaptive(), **settings))
    for together, problem in zip(found, problems, strict=True):
        assert "do not share a batch" in together.reason
        [alone] = integrate(mixes(name), [problem], STACK, ig.Straight(), Adaptive(), **settings)
        apart = (together.values["x"] - alone.values["x"]).abs().sum()
        assert apart <= 2e-2 * alone.values["x"].abs().sum()


def test_rows_of_a_union_are_noticed_that_mix_at_one_end_only() -> None:
    """F = x (x - 3/8): at t = 3/8 the mean of all rows counts for nothing."""
    union = {"x": ig.Cat()}
    problem = (ig.Example({"x": torch.ones(1)}), [{"x": torch.zeros(1)}])
    settings = {"tol": 1e-2, "budget": 512, "device": CPU}
    mean_of_all = lambda rows: rows["x"].mean() * (rows["x"] - 0.375)  # noqa: E731
    [found] = integrate(mean_of_all, [problem], union, ig.Straight(), Adaptive(), **settings)
    assert "do not share a batch" in found.reason
    assert float(found.values["x"]) == pytest.approx(0.625)


def test_rounding_of_a_small_difference_is_not_mixing() -> None:
    """A gap between two large numbers in float32 depends on the batch it was computed in."""
    network = torch.nn.Linear(64, 2)
    with torch.no_grad():
        network.bias.fill_(1e4)
        network.weight.mul_(1e-2)
    forward = lambda rows: network(rows["x"])[:, 0] - network(rows["x"])[:, 1]  # noqa: E731
    rows = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    problems = [(ig.Example({"x": row}), [{"x": torch.zeros_like(row)}]) for row in rows]
    found = integrate(
        forward, problems, STACK, ig.Straight(), Adaptive(), tol=1e-2, budget=64, device=CPU
    )
    assert all("share a batch" not in integral.reason for integral in found)
