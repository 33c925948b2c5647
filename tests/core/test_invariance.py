"""Models that see no scale at their baseline are told, and ordinary saturation is not."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.invariance import LOOKS, TIMES, remark


class Decoder(nn.Module):
    """A tiny pre-norm language model without positions, read at its last token."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(8, eps=1e-6), nn.RMSNorm(8, eps=1e-6)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.first(x)
        x = x + 20 * self.attention(normed, normed, normed, need_weights=False)[0]
        return self.out(self.second(x))[:, -1]


class Positioned(nn.Module):
    """Norms what words and positions add up to, as BERT and MiniLM do."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(4, 8))
        self.norm, self.out = nn.LayerNorm(8, eps=1e-12), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.norm(x + self.position))).mean(1)


def normed() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(8, bias=False), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 5))


def inputs(*shape: int) -> Tensor:
    return 20 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("make", "shape"), [(Decoder, (3, 4, 8)), (normed, (3, 8))])
@pytest.mark.parametrize("rule", [{}, {"rule": "gauss-legendre", "steps": 50}])
def test_a_norm_of_zeros_is_told_once_with_a_baseline_to_choose(make, shape, rule) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = ig.attribute(make(), inputs(*shape), target=1, **rule)
    assert len(caught) == 1 and issubclass(caught[0].category, ig.IGWarning)
    assert "3 of 3 examples: F jumps by" in str(caught[0].message) and LOOKS in str(
        caught[0].message
    )
    assert "choose one with the scale of real inputs" in str(caught[0].message)
    assert all(LOOKS in r.reason for r in results)


@pytest.mark.filterwarnings("ignore::ig_core.errors.NotConvergedWarning")
@pytest.mark.parametrize("make", [Decoder, normed])
def test_a_baseline_with_a_scale_is_sound(make) -> None:
    torch.manual_seed(0)
    x = inputs(3, 4, 8) if make is Decoder else inputs(3, 8)
    for result in ig.attribute(make(), x, target=1, baseline=x.flip(0) + 1):
        assert LOOKS not in result.reason


@pytest.mark.filterwarnings("ignore::ig_core.errors.NotConvergedWarning")
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.sigmoid(50 * x.abs().sum(1)),
        lambda x: torch.sigmoid(30 * (x.abs().sum(1) - 1)),
        lambda x: torch.tanh(10 * x.abs().sum(1)),
        lambda x: torch.relu(x).sum(1).sqrt(),
        lambda x: torch.sin(100 * x.sum(1)),
        lambda x: torch.relu(3 * x - 1).sum(1),
    ],
    ids=["sigmoid", "late sigmoid", "tanh", "root", "sine", "relu"],
)
def test_ordinary_saturation_is_not_called_scale_invariant(model, tol) -> None:
    for result in ig.attribute(
        model, inputs(3, 8).abs() / 80, tol=tol, rule="gauss-legendre", steps=9
    ):
        assert LOOKS not in result.reason


def test_norms_behind_positions_are_sound() -> None:
    torch.manual_seed(0)
    for result in ig.attribute(Positioned(), inputs(3, 4, 8), target=1, tol=1e-4, budget=2048):
        assert result.reason == ""


def test_a_line_and_no_change_are_sound() -> None:
    assert remark(TIMES, 1.0) == ""
    assert remark([t**0.1 for t in TIMES], 1.0) == ""
    assert remark([1.0] * len(TIMES), 1.0) == ""
    assert remark([0.0, *[1.0] * 9], 1.0).startswith("F jumps by 1 before t = 0.0002 ")
    assert remark([1e4, *[1e4 + 0.5] * 9], 1e4 + 0.5) == "", "which may be rounding"
