from __future__ import annotations

import functools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ig_core.model_state import modules_in, prepared

GLOBAL = nn.Linear(2, 2)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))


def test_inside_the_model_is_evaluated_and_frozen() -> None:
    net = model().train()
    with prepared([net]):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        assert torch.is_grad_enabled()
        out = net(torch.ones(1, 2, requires_grad=True))
        assert out.requires_grad
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def test_gradients_are_on_inside_whatever_the_caller_does() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            with prepared([]):
                assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_is_restored_also_after_an_error(
    left_as_found: Callable, error: type[BaseException] | None
) -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    net[2].eval()
    caught = pytest.raises(error) if error else torch.enable_grad()
    with left_as_found(net), caught, prepared([net]):
        net[1].running_mean += 5
        net[1].running_var = torch.zeros(2)
        net[0].register_forward_hook(lambda *_: None)
        net[1].register_forward_pre_hook(lambda *_: None)
        net[2].train()
        net[0].bias.requires_grad_(True)
        torch.rand(5), np.random.rand(5), random.random()
        if error:
            raise error
    assert net[1].running_mean.tolist() == [0, 0]
    assert net[1].running_var.tolist() == [1, 1]


def test_hooks_that_were_there_stay_and_in_their_order() -> None:
    net = nn.Linear(1, 1)
    called: list[str] = []
    first = net.register_forward_hook(lambda *_: called.append("first"))
    with prepared([net]):
        first.remove()
        net.register_forward_hook(lambda *_: called.append("new"))
    net(torch.zeros(1))
    assert called == ["first"]


def test_buffers_keep_their_identity_and_their_memory() -> None:
    net = model()
    mean = net[1].running_mean
    with prepared([net]):
        net[1].running_mean += 1
    assert net[1].running_mean is mean and mean.tolist() == [0, 0]


def test_buffers_made_in_inference_mode_are_restored_too() -> None:
    with torch.inference_mode():
        net = model()
    with prepared([net]), torch.inference_mode():
        net[1].running_mean += 1
    assert net[1].running_mean.tolist() == [0, 0]


def test_shared_modules_are_restored_once() -> None:
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    with prepared([net, shared]):
        assert not shared.training
    assert shared.training and shared.weight.requires_grad


class Holder:
    def __init__(self, net: nn.Module) -> None:
        self.net, self.label = net, "holder"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def calls_global(x: torch.Tensor) -> torch.Tensor:
    return GLOBAL(x)


def test_the_modules_behind_a_callable_are_found() -> None:
    net = model()
    many = [net, GLOBAL]
    holder = Holder(net)

    def closed(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    for callable_, expected in (
        (net, [net]),
        (net.forward, [net]),
        (closed, [net]),
        (lambda x: closed(x) + 1, [net]),
        (calls_global, [GLOBAL]),
        (lambda x: calls_global(x) + 1, [GLOBAL]),
        (torch.no_grad()(closed), [net]),
        (functools.partial(closed), [net]),
        (functools.partial(lambda m, x: m(x), net), [net]),
        (holder, [net]),
        (holder.predict, [net]),
        (lambda x: sum(m(x) for m in many), [net, GLOBAL]),
        (torch.relu, []),
        (nn.functional.relu, []),
        (lambda x: x.sum(1), []),
        (nn.Linear, []),
    ):
        assert modules_in(callable_) == expected


def test_a_function_that_calls_itself_or_a_name_not_yet_bound_is_no_trap() -> None:
    def recursive(x: int) -> int:
        return later(recursive(x - 1)) if x else 0

    assert modules_in(recursive) == []
    later = GLOBAL
    assert modules_in(recursive) == [GLOBAL]
