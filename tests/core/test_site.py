from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig


class Twice(nn.Module):
    """Calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(2 * self.layer(x))


X = torch.tensor([[1.0, 2.0]])


@pytest.mark.parametrize(("call", "out"), [(0, [[20, 20]]), (1, [[10, 10]])])
def test_the_output_of_the_chosen_call_is_replaced(call: int, out: list[list[float]]) -> None:
    net = Twice()
    with ig.Site(net.layer, call).replaced(torch.full((1, 2), 10.0)):
        assert net(X).tolist() == out
    assert net(X).tolist() == [[2, 4]]


def test_gradients_flow_to_the_value_and_not_to_the_input() -> None:
    net, value, x = Twice(), torch.ones(1, 2, requires_grad=True), X.clone().requires_grad_()
    with ig.Site(net.layer).replaced(value):
        value_gradient, x_gradient = torch.autograd.grad(
            net(x).sum(), [value, x], allow_unused=True
        )
    assert value_gradient.tolist() == [[2, 2]]
    assert x_gradient is None


def test_the_output_is_recorded_detached() -> None:
    net = Twice()
    with ig.Site(net.layer, 1).recorded() as seen:
        net(X)
        net(X)
    assert [s.tolist() for s in seen] == [[[2, 4]]]
    assert not seen[0].requires_grad


def test_a_call_that_never_came_is_named() -> None:
    net = Twice()
    told = r"Linear was called 2 times in the forward pass, so its output at call 2"
    with pytest.raises(ig.ModelError, match=told), ig.Site(net.layer, 2).replaced(X):
        net(X)


@pytest.mark.parametrize(
    ("layer", "got"), [(nn.LSTM(2, 2), "got tuple"), (nn.Linear(2, 3), "got (1, 3)")]
)
def test_an_output_that_cannot_be_replaced_is_named(layer: nn.Module, got: str) -> None:
    told = f"{type(layer).__name__} cannot be replaced by a tensor of shape (1, 2) ({got})"
    with pytest.raises(ig.ModelError, match=re.escape(told)), ig.Site(layer).replaced(X):
        layer(X)


def test_an_output_that_is_no_tensor_cannot_be_recorded() -> None:
    layer = nn.LSTM(2, 2)
    told = r"LSTM must be a tensor \(got tuple\)"
    with pytest.raises(ig.ModelError, match=told), ig.Site(layer).recorded():
        layer(X)


def test_the_hook_is_removed_also_after_an_error() -> None:
    net = Twice()
    for manager in (ig.Site(net.layer).replaced(X), ig.Site(net.layer).recorded()):
        with pytest.raises(KeyboardInterrupt), manager:
            raise KeyboardInterrupt
        assert not net.layer._forward_hooks


def test_a_domain_can_integrate_over_the_output_of_a_layer() -> None:
    """F = (2 h).sum() of the layer's output h, hence h * 2 from a baseline of zero."""
    net = Twice()

    class Layer(ig.Domain):
        name = "layer"
        layouts = {"h": ig.Stack(), "x": ig.Stack()}  # noqa: RUF012

        def encode(self, raw, target=None):
            with ig.Site(self.model.layer).recorded() as seen, torch.no_grad():
                self.model(raw[None])
            return ig.Example({"h": seen[0][0]}, {"x": raw}, target)

        def forward(self, rows):
            with ig.Site(self.model.layer).replaced(rows["h"]):
                return rows.select(self.model(rows["x"]))

    results = ig.attribute(net, [X[0], 3 * X[0]], domain=Layer(net), target=1)
    assert [r.values.tolist() for r in results] == [[0, 4], [0, 12]]
    assert not net.layer._forward_hooks
