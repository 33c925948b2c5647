"""The precision of a model is read off its graph, whatever the dtype of its output."""

import torch
from torch import nn

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
