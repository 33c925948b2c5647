"""Which networks are piecewise linear, and where their kinks are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ig_core.kinks import Choices, Levels, Tracer, structure_of
from ig_core.quadrature import Structure

Model = Callable[[Tensor], Tensor]


def structure(model: Model, shape: tuple[int, ...] = (1, 6)) -> Structure:
    torch.manual_seed(0)
    if isinstance(model, nn.Module):
        model.eval().requires_grad_(False)
    x = torch.randn(shape, requires_grad=True)
    return structure_of(model(x.clone()).reshape(len(x), -1).sum(1), [x])


def dense(*after: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), *after)


PIECEWISE_LINEAR: dict[str, tuple[Model, tuple[int, ...]]] = {
    "dense": (dense(), (1, 6)),
    "in place": (nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)), (1, 6)),
    "normalised": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.LeakyReLU()), (1, 6)),
    "convolution": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU6(), nn.MaxPool2d(2), nn.AvgPool2d(2)),
        (1, 1, 8, 8),
    ),
    "one dimension": (nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2)), (1, 1, 8)),
    "residual": (lambda x: x + torch.relu(x.flip(1)) * 3 - x / 2, (1, 6)),
    "constant mask": (lambda x: (x * torch.ones(6)).masked_fill(torch.eye(6)[0] > 0, 0), (1, 6)),
    "largest": (lambda x: x.max(dim=1).values, (1, 6)),
}


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_networks_of_affine_and_kinked_operations_are_linear(name: str) -> None:
    found = structure(*PIECEWISE_LINEAR[name])
    assert found.linear
    assert not found.curve
    assert found.traced == (not found.smooth)


@pytest.mark.parametrize(
    ("model", "curve"),
    [
        (dense(nn.Tanh()), "Tanh"),
        (dense(nn.Softmax(1)), "Softmax"),
        (nn.Sequential(nn.Linear(6, 4), nn.GELU()), "Gelu"),
        (lambda x: x * x, "Mul"),
        (lambda x: torch.relu(x) / (2 + x.abs()), "Div"),
        (lambda x: torch.einsum("bi,bi->b", x, x), "Bmm"),
    ],
)
def test_a_network_with_any_other_operation_is_not_linear(model: Model, curve: str) -> None:
    found = structure(model)
    assert not found.linear
    assert found.curve == f"{curve} between input and output"


def test_a_network_without_kinks_is_smooth() -> None:
    assert structure(nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.LayerNorm(4))).smooth
    assert structure(nn.Linear(6, 4)) == Structure(smooth=True, linear=True)
    assert not structure(dense()).smooth
    assert not structure(lambda x: x.sort(1).values).smooth
    assert not structure(lambda x: torch.where(x > 0, x, x * x)).smooth


def test_operations_may_have_kinks_by_their_numbers() -> None:
    assert structure(nn.ELU()).smooth
    assert structure(lambda x: F.celu(x, 3.0)).smooth
    assert not structure(nn.SELU()).smooth
    assert not structure(nn.ELU(alpha=3.0)).smooth
    assert structure(lambda x: x.norm(dim=1)).smooth
    assert not structure(lambda x: x.norm(p=1, dim=1)).smooth
    assert not structure(lambda x: x.norm(p=float("inf"), dim=1)).smooth
    assert structure(lambda x: torch.cdist(x, 1 + x.detach())).smooth
    assert not structure(lambda x: torch.cdist(x, 1 + x.detach(), p=1)).smooth
    assert not structure(lambda x: torch.dist(x, 1 + x.detach(), p=1)).smooth


@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.fmax(x, 0 * x.detach()),
        lambda x: torch.fmin(x, 0 * x.detach()),
        lambda x: torch.copysign(x, torch.ones(6)),
        lambda x: F.huber_loss(x, 0 * x.detach(), reduction="none"),
        lambda x: F.rrelu(x, training=False),
        lambda x: F.multi_margin_loss(x, torch.zeros(1, dtype=torch.long), reduction="none"),
        lambda x: x.renorm(2, 0, 1.0),
    ],
)
def test_a_network_with_a_rarer_kinked_operation_is_not_smooth(model: Model) -> None:
    assert not structure(model).smooth


def test_a_clamp_that_guards_a_norm_is_no_kink() -> None:
    assert structure(lambda x: F.normalize(x.exp(), dim=1)).smooth
    assert structure(lambda x: x.exp().clamp(min=1e-6)).smooth
    assert not structure(lambda x: F.normalize(1e-12 * x, dim=1)).smooth
    assert not structure(lambda x: x.exp().clamp(min=1e-6, max=9.0)).smooth
    assert not structure(lambda x: x.exp().clamp(min=0.0)).smooth


def test_kinks_are_traced_as_long_as_nothing_curved_comes_before_them() -> None:
    assert structure(dense(nn.Softmax(1))).traced
    assert structure(lambda x: torch.relu(x) * x.flip(1)).traced
    assert not structure(nn.Sequential(nn.Tanh(), nn.Linear(6, 4), nn.ReLU())).traced
    assert not structure(lambda x: torch.relu(x * x - 1)).traced
    assert not structure(lambda x: torch.relu(x.sort(1).values)).traced


def test_what_autograd_does_not_show_may_be_anything() -> None:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient

    found = structure(lambda x: Hidden.apply(3 * x))
    assert (found.smooth, found.linear, found.traced) == (False, False, False)
    assert structure(lambda x: torch.ones(1, 2)) == Structure()


def test_only_what_depends_on_the_inputs_counts() -> None:
    weight = torch.randn(6, requires_grad=True)
    found = structure(lambda x: x * weight.exp().tanh())
    assert found.linear
    assert found.smooth


KINKED: dict[str, Model] = {
    "relu": torch.relu,
    "relu in place": lambda x: (x * 1).relu_(),
    "leaky": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
    "relu6": lambda x: F.relu6(4 * x),
    "hardtanh": F.hardtanh,
    "hardsigmoid": lambda x: F.hardsigmoid(4 * x),
    "abs": torch.abs,
    "clamp": lambda x: x.clamp(-0.4, 0.7),
    "clamp below": lambda x: x.clamp(min=-0.2),
    "clamp above": lambda x: x.clamp(max=0.2),
    "clamp_min": lambda x: torch.clamp_min(x, 0.1),
    "clamp_max": lambda x: torch.clamp_max(x, 0.1),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "maximum": lambda x: torch.maximum(x, x.flip(1) / 2),
    "minimum": lambda x: torch.minimum(x, x.flip(1) / 2),
    "max of two": lambda x: torch.max(x, x.flip(1) / 2),
    "max along": lambda x: x.view(-1, 3, 2).max(dim=1).values,
    "max pooling": lambda x: F.max_pool2d(x.view(-1, 1, 2, 3), 2, stride=1),
}


@pytest.mark.parametrize("name", KINKED)
def test_between_the_kinks_that_are_found_an_operation_is_linear(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    start, end = 2 * torch.randn(2, 6, generator=generator, dtype=torch.float64)

    def at(t: Tensor) -> Tensor:
        return KINKED[name](torch.lerp(start, end, t[:, None])).flatten(1)

    points = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for _ in range(4):  # what chooses shows its kinks one behind the other
        with Tracer(len(points), operation=0) as tracer:
            at(points)
        assert tracer.count == 1
        assert isinstance(tracer.kinks, (Levels, Choices))
        first = torch.arange(len(points) - 1)
        pair, fraction = tracer.kinks.between(first, first + 1)
        kinks = torch.lerp(points[pair], points[pair + 1], fraction)
        points = torch.cat([points, kinks]).unique()
    assert len(points) > 2
    middle = at((points[1:] + points[:-1]) / 2)
    mean = (at(points)[1:] + at(points)[:-1]) / 2
    assert torch.allclose(middle, mean, rtol=0, atol=1e-14)


def test_an_operation_that_does_not_work_on_rows_has_no_kinks() -> None:
    with Tracer(3, operation=0) as tracer:
        torch.relu(torch.randn(7))
    assert (tracer.count, tracer.kinks) == (1, None)
    with Tracer(3, operation=0) as tracer:
        torch.randn(3, 2).max(dim=0)
    assert (tracer.count, tracer.kinks) == (1, None)
