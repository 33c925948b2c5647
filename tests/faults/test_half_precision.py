"""Models in half precision: the path in float32, and an error that bounds the true one.

The truth is the attribution of the same weights and inputs in float32.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig

pytestmark = pytest.mark.filterwarnings("ignore::ig_core.errors.NotConvergedWarning")


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", batch_first=True)
        self.position = nn.Parameter(torch.randn(5, 16))
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x + self.position).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)[0][:, -1])


def rectified() -> nn.Module:
    layers = [nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    return nn.Sequential(*layers)


class Autocast(nn.Module):
    """Computes in ``dtype`` inside and answers in float32."""

    def __init__(self, body: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.body, self.dtype = body, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self.dtype):
            return self.body(x).float()


SHAPES = {Encoder: (5, 16), Recurrent: (10, 8), rectified: (16,)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("make", SHAPES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", ["cast", "autocast inside", "autocast around"])
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_the_reported_error_bounds_the_true_one(
    make: type, dtype: torch.dtype, kind: str, tol: float
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    x = torch.randn(6, *SHAPES[make]).to(dtype)
    truth = ig.attribute(model, x.float(), target=0, tol=1e-5, budget=4096)
    if kind == "cast":
        found = ig.attribute(copy.deepcopy(model).to(dtype), x, target=0, tol=tol)
    elif kind == "autocast inside":
        found = ig.attribute(Autocast(model, dtype), x.float(), target=0, tol=tol)
    else:
        with torch.autocast("cpu", dtype=dtype):
            found = ig.attribute(model, x.float(), target=0, tol=tol)
    for result, exact in zip(found, truth, strict=True):
        assert result.values.dtype == torch.float32
        size = float(result.values.abs().sum())
        true = float((result.values - exact.values).abs().sum()) / size
        assert true <= result.error, f"{true:.1e} is above the reported {result.error:.1e}"
        assert true <= 2e-2
        assert str(dtype).removeprefix("torch.") in result.reason
        eps = torch.finfo(dtype).eps
        assert result.error >= 0.99 * eps
        assert result.status != "converged" or eps <= tol


def test_float32_and_float64_say_nothing_of_precision() -> None:
    torch.manual_seed(0)
    model, x = rectified(), torch.randn(2, 16)
    for one, values in ((model, x), (copy.deepcopy(model).double(), x.double())):
        assert all(r.reason == "" for r in ig.attribute(one, values, target=0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(
    "baseline",
    [lambda data: 0.5, lambda data: "zeros", ig.Mean, ig.Samples],
    ids=["number", "zeros", "mean", "samples"],
)
def test_baselines_take_the_dtype_of_the_input(dtype: torch.dtype, baseline: Callable) -> None:
    torch.manual_seed(0)
    model, x = rectified().to(dtype), torch.randn(2, 16).to(dtype)
    chosen = baseline(torch.randn(4, 16).to(dtype))
    for result in ig.attribute(model, x, target=0, baseline=chosen, tol=0.1):
        assert result.status in ("converged", "noise_floor", "budget")
        assert torch.isfinite(result.values).all()


def test_a_baseline_of_the_wrong_half_is_refused() -> None:
    x = torch.randn(2, 16).bfloat16()
    for wrong in (torch.zeros(16), torch.zeros(16).half()):
        with pytest.raises(ig.BaselineError, match=r"must be torch.bfloat16 .*got torch.float"):
            ig.attribute(rectified().bfloat16(), x, target=0, baseline=wrong)


def test_an_input_of_another_dtype_than_the_model_is_a_forward_error() -> None:
    with pytest.raises(ig.ForwardError, match="dtype"):
        ig.attribute(rectified().bfloat16(), torch.randn(2, 16), target=0)


def test_an_overflow_of_float16_says_where() -> None:
    model = lambda x: (x * x * 60000).sum(1)  # noqa: E731
    with pytest.raises(ig.NonFiniteError, match=r"output is NaN or infinite at t = 1"):
        ig.attribute(model, torch.full((1, 2), 3.0).half())
