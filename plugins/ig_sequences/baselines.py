"""Where a path of sequences can start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Baseline, Domain, Example


class TimeMean(Baseline):
    """Every step at the sequence's own mean over time: what it says beyond its level is explained.

    A sequence that never changes gets zero everywhere.
    """

    name = "time-mean"
    fits = ("sequences",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Float[Tensor, "time features"]]]:
        return [{n: x.mean(0, keepdim=True).expand_as(x) for n, x in example.inputs.items()}]
