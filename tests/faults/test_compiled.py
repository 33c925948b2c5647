"""Compiled models: the eager result, few compilations, and the model left as found."""

import copy
import shutil
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters

import ig_core as ig


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(0.5))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x))


@pytest.fixture
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def same(found: list[ig.Attribution], expected: list[ig.Attribution]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-6)
        assert a.status == b.status == "converged"


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [None, True])
def test_a_compiled_model_gives_the_eager_result_from_few_graphs(
    fresh: None, net: Net, backend: str, dynamic: bool | None
) -> None:
    batches = [torch.randn(count, 3) for count in (1, 2, 7, 30)]
    expected = [ig.attribute(net, x, target=1, tol=1e-4) for x in batches]
    compiled = torch.compile(net, backend=backend, dynamic=dynamic)
    for x, eager in zip(batches, expected, strict=True):
        same(ig.attribute(compiled, x, target=1, tol=1e-4), eager)
    assert counters["stats"]["unique_graphs"] <= 6
    assert net.training and compiled.training


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_model_compiled_in_place_keeps_its_class(fresh: None, net: Net, backend: str) -> None:
    x = torch.randn(5, 3)
    expected = ig.attribute(net, x, target=1, tol=1e-4)
    net.compile(backend=backend, dynamic=True)
    found = ig.attribute(net, x, target=1, tol=1e-4)
    same(found, expected)
    assert found[0].provenance["model"] == "Net"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_default_backend_gives_the_eager_result(fresh: None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(5, 3)
    expected = ig.attribute(net, x, target=1)
    same(ig.attribute(torch.compile(copy.deepcopy(net), dynamic=True), x, target=1), expected)
    assert counters["stats"]["unique_graphs"] <= 6
