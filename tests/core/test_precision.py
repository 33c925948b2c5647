"""The precision of a model is read off its graph, whatever the dtype of its output."""

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core.precision import coarsest, floored, half
from ig_core.quadrature import Outcome


def test_the_coarsest_dtype_is_found_behind_a_float32_output():
    x = torch.randn(2, 3, requires_grad=True)
    linear = nn.Linear(3, 2)
    assert coarsest(linear(x)) == torch.float32
    assert coarsest(linear.double()(x.double())) == torch.float32  # x itself is float32
    assert coarsest(linear.bfloat16()(x.bfloat16()).double()) == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.float16):
        inside = linear.float()(x)
    assert coarsest(inside.float().sum(1)) == torch.float16


def test_an_output_without_a_graph_has_its_own_dtype():
    assert coarsest(torch.zeros(2, dtype=torch.float64)) == torch.float64
    assert half(torch.bfloat16) and half(torch.float16) and not half(torch.float32)


def test_no_error_is_below_one_rounding():
    integral = torch.tensor([[3.0, -1.0, 0.0]], dtype=torch.float64)
    error, doubt = torch.zeros(1, dtype=torch.float64), torch.zeros_like(integral)
    exact = Outcome(torch.tensor([0]), integral, error, doubt, ["converged"])
    eps = 2**-7  # of bfloat16
    found = floored(exact, torch.bfloat16, tol=1e-2)
    assert found.error.tolist() == [4 * eps]
    assert found.doubt.tolist() == [[3 * eps, eps, 0]]
    assert found.status == ["converged"]
    assert floored(exact, torch.bfloat16, tol=1e-3).status == ["noise_floor"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_graph_of_tens_of_thousands_of_operations_in_a_row_is_explained(dtype):
    """Torch frees nodes that Python has seen by recursion: seeing all of them ended the process."""

    def deep(x):
        y = x
        for _ in range(60_000):
            y = y * 1.0
        return y.sum(1)

    [result] = ig.attribute(deep, torch.tensor([[1.0, 2.0]], dtype=dtype))
    assert result.values.tolist() == pytest.approx([1.0, 2.0], abs=1e-6)
    with pytest.raises(ig.InputError, match="more than 16384 operations"):
        ig.attribute(deep, torch.tensor([[1.0, 2.0]], dtype=dtype), rule="exact")
