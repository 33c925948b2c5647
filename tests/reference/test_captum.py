"""Agreement with Captum on the same nodes. Its float32 weights end the agreement near 1e-9."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

import ig_core as ig

STEPS = 50


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()


def captum(model: object, inputs: object, **options: object) -> object:
    return IntegratedGradients(model).attribute(
        inputs, n_steps=STEPS, method="gausslegendre", **options
    )


def ours(model: object, inputs: object, **options: object) -> list[ig.Attribution]:
    return ig.attribute(model, inputs, rule="gauss-legendre", steps=STEPS, **options)


def stacked(results: list[ig.Attribution], name: str = "x") -> Tensor:
    return torch.stack([result.tensors[name] for result in results])


def agree(mine: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-8)


def test_one_input_with_one_target(net: nn.Module) -> None:
    x = double(7, 5)
    agree(stacked(ours(net, x, target=1)), captum(net, x, target=1))


def test_one_target_per_example(net: nn.Module) -> None:
    x, target = double(4, 5), [2, 0, 1, 1]
    agree(stacked(ours(net, x, target=target)), captum(net, x, target=torch.tensor(target)))


def test_a_relu_network() -> None:
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    x = double(6, 5)
    agree(stacked(ours(net, x, tol=0.5)), captum(net, x, target=0))


def test_a_baseline_of_the_batch_shape(net: nn.Module) -> None:
    x, start = double(3, 5), double(3, 5)
    agree(
        stacked(ours(net, x, target=0, baseline=start)), captum(net, x, target=0, baselines=start)
    )


def test_a_baseline_of_one_row_is_shared(net: nn.Module) -> None:
    x, start = double(3, 5), double(1, 5)
    agree(
        stacked(ours(net, x, target=0, baseline=start)), captum(net, x, target=0, baselines=start)
    )


def test_a_number_as_baseline(net: nn.Module) -> None:
    x = double(3, 5)
    agree(stacked(ours(net, x, target=0, baseline=0.3)), captum(net, x, target=0, baselines=0.3))


def test_several_inputs_of_different_shape() -> None:
    model = lambda a, b: (a.sum((1, 2)) * torch.tanh(b).sum(1)).sin()  # noqa: E731
    a, b = double(4, 2, 3), double(4, 5)
    theirs = captum(model, (a, b))
    mine = ours(model, (a, b), tol=0.5)
    agree(stacked(mine, "x0"), theirs[0])
    agree(stacked(mine, "x1"), theirs[1])


def test_several_inputs_with_several_baselines() -> None:
    model = lambda a, b: (a * b[:, :3]).sum(1).tanh() + b.pow(2).sum(1)  # noqa: E731
    a, b, a0, b0 = double(4, 3), double(4, 5), double(4, 3), double(4, 5)
    theirs = captum(model, (a, b), baselines=(a0, b0))
    mine = ours(model, (a, b), baseline=(a0, b0))
    agree(stacked(mine, "x0"), theirs[0])
    agree(stacked(mine, "x1"), theirs[1])


def test_an_extra_argument_with_a_row_per_example(net: nn.Module) -> None:
    x, scale = double(4, 5), double(4, 1)
    theirs = captum(lambda x, s: net(x * s), x, target=2, additional_forward_args=(scale,))
    agree(stacked(ours(lambda x, s: net(x * s), x, target=2, per_example={"s": scale})), theirs)


def test_an_extra_argument_that_is_shared(net: nn.Module) -> None:
    x = double(4, 5)
    theirs = captum(lambda x, p: net(x) ** p, x, target=2, additional_forward_args=(2,))
    agree(stacked(ours(lambda x, p: net(x) ** p, x, target=2, shared={"p": 2})), theirs)


def test_a_tuple_as_target_of_an_output_with_two_dimensions(net: nn.Module) -> None:
    model = lambda x: net(x)[:, None, :] * x[:, :2, None]  # noqa: E731
    x = double(4, 5)
    agree(stacked(ours(model, x, target=(1, 2))), captum(model, x, target=(1, 2)))


def test_a_convolutional_network() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).double()
    x = double(3, 2, 6, 6)
    agree(stacked(ours(net, x, target=1)), captum(net, x, target=1))


def test_the_residual_is_what_captum_calls_the_convergence_delta(net: nn.Module) -> None:
    x = double(5, 5) * 3
    method = IntegratedGradients(net)
    _, deltas = method.attribute(
        x, target=0, n_steps=2, method="gausslegendre", return_convergence_delta=True
    )
    mine = ig.attribute(net, x, target=0, rule="gauss-legendre", steps=2, tol=0.99)
    assert deltas.abs().max() > 1e-3
    torch.testing.assert_close(
        torch.tensor([r.residual for r in mine], dtype=torch.float64), deltas, rtol=0, atol=1e-8
    )
