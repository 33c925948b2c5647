"""Models whose attribution decay is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded


class LeakyIntegrator(nn.Module):
    """h_t = decay * h_{t-1} + x_t; answers h after the last step, summed over features.

    Linear, so IG at lag k is exactly decay^k (x - x'), and the half-life ln(1/2) / ln(decay).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def forward(
        self, x: Float[Tensor, "rows time features"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        time = torch.arange(x.shape[1], device=x.device)
        lag = lengths.to(x.device)[:, None] - 1 - time
        weight = torch.where(lag >= 0, self.decay ** lag.clamp(min=0).to(x.dtype), 0.0)
        return (weight * x.sum(2)).sum(1)


def leaky_integrator(folder: Path) -> Loaded:
    """Ragged noise through a leak of 0.8, whose half-life is known."""
    generator = torch.Generator().manual_seed(0)
    lengths = range(12, 36, 3)
    sequences = [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in lengths]
    return Loaded(
        LeakyIntegrator(0.8),
        sequences,
        facts={"half-life": round(math.log(0.5) / math.log(0.8), 4)},
    )


CASE = BenchmarkCase(
    name="leaky-integrator",
    domain="sequences",
    load=leaky_integrator,
    source="closed form",
)
