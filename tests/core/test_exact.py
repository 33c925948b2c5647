"""Paths with kinks that are found: exact between them, and honest where they are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.adaptive import Adaptive


def network(*sizes: int, last: nn.Module | None = None, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(len(sizes))
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers[-1:] = [last] if last is not None else []
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.mul_(scale)
    return nn.Sequential(*layers).double()


def states(count: int, size: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(count, size, generator=generator, dtype=torch.float64)


def by_hand(net: nn.Sequential, x: Tensor, target: int) -> tuple[np.ndarray, int]:
    """Exact IG from zeros for Linear and ReLU in turns, from their matrices alone."""
    layers = [(m.weight.numpy(), m.bias.numpy()) for m in net if isinstance(m, nn.Linear)]
    d = x.numpy()
    points = np.array([0.0, 1.0])
    for depth in range(len(layers) - 1):
        kinks = []
        for low, high in pairwise(points):
            level, slope = affine(layers[: depth + 1], (low + high) / 2, d)
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (low + high) / 2 - level / slope
            kinks += [k for k in t if low + 1e-13 < k < high - 1e-13]
        points = np.unique([*points, *kinks])
    total = np.zeros_like(d)
    for low, high in pairwise(points):
        total += (high - low) * jacobian(layers, (low + high) / 2, d)[target]
    return total * d, len(points) - 1


def jacobian(layers: list[tuple[np.ndarray, np.ndarray]], t: float, d: np.ndarray) -> np.ndarray:
    value, matrix = t * d, np.eye(len(d))
    for number, (weight, bias) in enumerate(layers):
        value, matrix = weight @ value + bias, weight @ matrix
        if number < len(layers) - 1:
            matrix, value = matrix * (value > 0)[:, None], np.maximum(value, 0)
    return matrix


def affine(
    layers: list[tuple[np.ndarray, np.ndarray]], t: float, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    value = t * d
    for number, (weight, bias) in enumerate(layers):
        value = weight @ value + bias
        if number < len(layers) - 1:
            value = np.maximum(value, 0)
    return value, jacobian(layers, t, d) @ d


@pytest.mark.parametrize("rule", ["exact", "adaptive"])
@pytest.mark.parametrize("sizes", [(4, 64, 64, 2), (16, 32, 32, 32, 3), (6, 8, 2)])
@torch.no_grad()
def test_relu_networks_are_exact_to_rounding(sizes: tuple[int, ...], rule: str) -> None:
    net, x = network(*sizes), states(20, sizes[0], 2.0)
    found = ig.attribute(net, x, target=1, rule=rule)
    for result, one in zip(found, x, strict=True):
        exact, pieces = by_hand(net, one, 1)
        error = np.abs(result.values.numpy() - exact).sum() / np.abs(exact).sum()
        assert error <= 1e-12
        assert result.error <= 1e-11
        assert result.status == "converged"
        assert result.evaluations == pieces


def test_float32_comes_to_what_float32_knows_whatever_shares_the_batch() -> None:
    """Where z(t) hardly changes, its rounding moves a kink: few results differ by more."""
    net, x = network(4, 64, 64, 2), states(50, 4, 2.0)
    exact = torch.stack([a.values for a in ig.attribute(net, x, target=0)])
    packed = ig.attribute(net.float(), x.float(), target=0, rule="exact")
    alone = [ig.attribute(net, one[None].float(), target=0, rule="exact")[0] for one in x]
    size = exact.abs().sum(1)
    values, singly = (torch.stack([a.values for a in found]) for found in (packed, alone))
    assert float(((values - exact).abs().sum(1) / size).max()) <= 2e-5
    apart = (values - singly).abs().sum(1) / size
    assert float(apart.quantile(0.9)) <= 2e-6
    assert float(apart.max()) <= 2e-5


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Linear(12, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        x = nn.functional.max_pool2d(nn.functional.hardtanh(self.second(x)), 2)
        return self.out(x.flatten(1))


def test_max_pooling_is_exact() -> None:
    net = Pooled()
    x = states(4, 64).view(4, 1, 8, 8)
    exact = ig.attribute(net, x, target=0, rule="exact", tol=1e-12, budget=2000)
    leaves = ig.attribute(net, x, target=0, rule=Adaptive(pieces=0), tol=1e-8, budget=10_000)
    for one, other in zip(exact, leaves, strict=True):
        assert one.status == "converged"
        assert other.status == "converged"
        norm = float(one.values.abs().sum())
        assert float((one.values - other.values).abs().sum()) <= 2e-8 * norm


class Bags(ig.Domain):
    """Sets of vectors, scored one by one and summed; a union of all sets is one tensor."""

    name = "bags"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.layouts = {"x": ig.Cat()}

    def encode(self, raw: Tensor, target: ig.Target = None) -> ig.Example:
        return ig.Example({"x": raw}, target=target)

    def forward(self, rows: ig.Rows) -> Tensor:
        scores = self.model(rows["x"])[:, 0]
        return scores.new_zeros(len(rows)).index_add(0, rows.owners("x"), scores)


def test_examples_of_several_lengths_are_exact_together() -> None:
    net = network(3, 16, 1)
    bags = [states(n, 3) for n in (5, 2, 5, 1, 9)]
    together = ig.attribute(net, bags, domain=Bags(net), rule="exact")
    for bag, result in zip(bags, together, strict=True):
        alone = ig.attribute(net, bag, domain=Bags(net), rule="exact")
        leaves = ig.attribute(
            net, bag, domain=Bags(net), rule=Adaptive(pieces=0), tol=1e-9, budget=5000
        )
        assert result.status == leaves.status == "converged"
        assert result.evaluations == alone.evaluations
        assert torch.allclose(result.values, alone.values, rtol=0, atol=1e-13)
        assert float((result.values - leaves.values).abs().sum()) <= 1e-8 * abs(result.delta)


def test_a_curved_network_is_refused_by_name() -> None:
    with pytest.raises(ig.InputError, match="got Tanh between input and output"):
        ig.attribute(network(4, 8, 2, last=nn.Tanh()), states(1, 4), target=0, rule="exact")


class Quadratic(ig.Path):
    name = "quadratic"

    def at(self, start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return start + t**2 * (end - start), 2 * t * (end - start)


def test_what_else_keeps_kinks_from_being_computed_is_told() -> None:
    net, x = network(4, 8, 2), states(2, 4)
    with pytest.raises(ig.InputError, match="got a curved path"):
        ig.attribute(net, x, target=0, rule="exact", path=Quadratic())
    with pytest.raises(ig.InputError, match="got rows that do not share a batch"):
        ig.attribute(lambda x: net(x - x.mean(0)), x, target=0, rule="exact", baseline=1.0)
    with pytest.raises(ig.InputError, match="got numbers of half precision"):
        ig.attribute(net.bfloat16(), x.bfloat16(), target=0, rule="exact")


def test_a_model_that_raises_tells_its_own_error() -> None:
    def broken(x: Tensor) -> Tensor:
        if x.requires_grad:
            raise RuntimeError("no graph of mine")
        return x.sum(1)

    with pytest.raises(ig.ModelError, match="no graph of mine"):
        ig.attribute(broken, states(1, 4), rule="exact")


def test_more_kinks_than_the_budget_are_left_to_the_leaves() -> None:
    net, x = network(4, 64, 64, 2), states(10, 4, 2.0)
    exact = ig.attribute(net, x, target=0, rule="exact")
    assert max(a.evaluations for a in exact) > 30
    found = ig.attribute(net, x, target=0, rule="exact", budget=30, tol=0.9)
    for one, other in zip(exact, found, strict=True):
        assert other.evaluations <= 30
        error = float((one.values - other.values).abs().sum() / one.values.abs().sum())
        assert (error <= 1e-12) == (one.evaluations <= 30)


def test_a_kink_that_autograd_hides_is_noticed_where_f_does_not_join() -> None:
    """x * (x > c) jumps, and a ReLU made of a mask bends, without a kink in the graph."""
    net = network(4, 16, 2)

    def masked(x: Tensor) -> Tensor:
        shifted = x - 0.3
        return net(x)[:, 0] + (shifted * (shifted > 0).detach()).sum(1)

    x = states(10, 4, 2.0)
    found = ig.attribute(masked, x, tol=1e-3)
    truth = ig.attribute(masked, x, rule="midpoint", steps=20_000, tol=0.9)
    for one, other in zip(found, truth, strict=True):
        assert one.status == "converged"
        error = float((one.values - other.values).abs().sum() / other.values.abs().sum())
        assert error <= 1e-3


@pytest.mark.parametrize("hidden", [lambda h: h * (h > 0), lambda h: h.masked_fill(h < 0, 0)])
def test_kinks_that_a_mask_hides_are_found_like_those_that_are_seen(
    hidden: Callable[[Tensor], Tensor],
) -> None:
    net = network(8, 24, 3)
    x = states(12, 8, 2.0)
    masked = ig.attribute(lambda x: net[2](hidden(net[0](x))), x, target=0)
    seen = ig.attribute(lambda x: net[2](torch.where(net[0](x) > 0, net[0](x), 0)), x, target=0)
    for one, other in zip(masked, seen, strict=True):
        assert one.values.numpy() == pytest.approx(other.values.numpy(), rel=1e-9)
        assert one.evaluations <= other.evaluations + 1  # one more told that there are kinks


def gap(net: nn.Module, offset: float) -> Callable[[Tensor], Tensor]:
    """A small difference of two numbers that are both about ``offset``."""

    def difference(x: Tensor) -> Tensor:
        q = net(x) + offset
        return q[:, 0] - q[:, 1]

    return difference


@pytest.mark.parametrize("offset", [30.0, 1000.0])
@pytest.mark.parametrize("rule", ["exact", "adaptive"])
def test_a_small_difference_of_large_numbers_ends_where_its_rounding_does(
    rule: str, offset: float
) -> None:
    net, x = network(8, 32, 32, 2), states(40, 8)
    exact = ig.attribute(gap(net, 0.0), x, rule="exact")
    found = ig.attribute(gap(net.float(), offset), x.float(), rule=rule, tol=1e-3)
    for one, other in zip(found, exact, strict=True):
        error = float((one.values - other.values).abs().sum() / other.values.abs().sum())
        assert one.status in ("converged", "noise_floor")
        assert error <= 1e-3
        assert error <= one.error
        assert one.evaluations <= 3 * other.evaluations + 12


def test_rounding_of_a_difference_does_not_pass_for_kinks_that_a_mask_hides() -> None:
    """F misses by less than it is rounded, and only gradients tell the pieces from each other."""
    net, x = network(8, 32, 2), states(40, 8)
    seen = nn.Sequential(net[0], nn.LeakyReLU(0.9), net[2])
    exact = ig.attribute(gap(seen, 0.0), x, rule="exact")
    net = net.float()
    found = ig.attribute(gap(nn.Sequential(net[0], Slope(), net[2]), 1000.0), x.float(), tol=1e-2)
    for one, other in zip(found, exact, strict=True):
        error = float((one.values - other.values).abs().sum() / other.values.abs().sum())
        assert error <= 1e-2


class Slope(nn.Module):
    """A LeakyReLU of slope 0.9, whose mask autograd does not show."""

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.where(h > 0, 1.0, 0.9).to(h)


def test_an_example_that_fails_between_its_ends_fails_alone() -> None:
    net = network(4, 16, 2)

    def fragile(x: Tensor) -> Tensor:
        if bool(((x[:, 0] > 1) & (x[:, 0] < 9)).any()):
            raise RuntimeError("broken there")
        return net(x)[:, 0]

    x = states(3, 4).clamp(-1, 1)
    x[1, 0] = 10.0
    with pytest.warns(ig.IGWarning, match="1 of 3 examples failed"):
        found = ig.attribute(fragile, x)
    assert [a.status for a in found] == ["converged", "failed", "converged"]
    [alone] = ig.attribute(lambda x: net(x)[:, 0], x[:1])
    assert torch.equal(found[0].values, alone.values)


HEADS = {
    "probability": lambda o: o.softmax(1)[:, 0],
    "log-probability": lambda o: o.log_softmax(1)[:, 0],
    "sigmoid": lambda o: torch.sigmoid(o[:, 0]),
    "product": lambda o: o[:, 0] * torch.sigmoid(o[:, 1]) + o[:, 2] ** 2,
    "cosine": lambda o: o[:, 0] / o.norm(dim=1),
    "wave": lambda o: torch.cos(3 * o[:, 0]) * o[:, 1],
}


@pytest.mark.parametrize("tol", [1e-2, 1e-3])
@pytest.mark.parametrize("head", HEADS)
def test_smooth_functions_of_relu_networks_keep_their_tolerance(head: str, tol: float) -> None:
    net, x = network(16, 64, 64, 3, scale=1.5), states(20, 16)
    model = lambda x: HEADS[head](net(x))  # noqa: E731
    found = ig.attribute(model, x, tol=tol)
    truth = ig.attribute(model, x, rule="midpoint", steps=8192, tol=0.9)
    assert all(a.status == "converged" and a.evaluations <= 160 for a in found)
    for one, other in zip(found, truth, strict=True):
        error = float((one.values - other.values).abs().sum() / other.values.abs().sum())
        assert error <= tol


def test_a_gate_of_two_linear_functions_is_exact() -> None:
    """Between kinks the gradient of relu(a) * b is linear, and its mean the one in the middle."""
    torch.manual_seed(0)
    first, second = nn.Linear(6, 8).double(), nn.Linear(6, 8).double()
    model = lambda x: (torch.relu(first(x)) * second(x)).sum(1)  # noqa: E731
    x = states(10, 6)
    found = ig.attribute(model, x, tol=1e-12)
    truth = ig.attribute(model, x, rule=Adaptive(pieces=0), tol=1e-9, budget=20_000)
    for one, other in zip(found, truth, strict=True):
        assert (one.status, other.status) == ("converged", "converged")
        assert float((one.values - other.values).abs().sum()) <= 1e-8 * abs(one.delta)


def test_pieces_that_need_it_are_divided_until_the_budget_ends() -> None:
    net = network(8, 8, 3, scale=2.0)
    model = lambda x: torch.sin(8 * net(x)[:, 0])  # noqa: E731
    x = states(8, 8)
    found = ig.attribute(model, x, tol=1e-4, budget=4096)
    truth = ig.attribute(model, x, rule="midpoint", steps=100_000, tol=0.9)
    for one, other in zip(found, truth, strict=True):
        assert one.status == "converged"
        error = float((one.values - other.values).abs().sum() / other.values.abs().sum())
        assert error <= 1e-4
    assert max(a.evaluations for a in found) > 60
    with pytest.warns(ig.NotConvergedWarning):
        short = ig.attribute(model, x, tol=1e-4, budget=60)
    assert all(a.evaluations <= 60 for a in short)
    missed = [a for a in short if a.status == "budget"]
    assert missed
    assert all(a.error > 1e-4 for a in missed)


def test_a_budget_that_leaves_nothing_to_measure_with_is_not_called_enough() -> None:
    net, x = network(16, 64, 64, 3, scale=1.5), states(4, 16)
    pieces = [a.evaluations for a in ig.attribute(net, x, target=0, rule="exact")]
    for one, count in zip(x, pieces, strict=True):
        with pytest.warns(ig.NotConvergedWarning):
            [result] = ig.attribute(lambda x: net(x).softmax(1)[:, 0], one[None], budget=count)
        assert (result.status, result.evaluations) == ("budget", count)
        assert result.error >= 0.99
