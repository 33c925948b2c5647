"""Baselines of sequences: what stands for steps at which nothing happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Baseline, BaselineError, Domain, Example
from ig_sequences.domain import SequenceDomain

Steps = Float[Tensor, "time features"]


class FeatureMean(Baseline):
    """Every step at the mean of each feature: a level that is usual, and no event.

    Use it where zero is no usual value, such as unscaled sensors. It says nothing of how the
    features change in time: :class:`TimeShuffled` and :class:`OtherSequences` have that.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> ig.attribute(leaky, x, domain="sequences", baseline="mean").scores.tolist()
    [-0.5, -0.5, 3.0]

    Args:
        data: sequences to take the mean of, such as those of training: a list, or an array
            ``(batch, time, features)``. All sequences of the call by default; a call for one
            sequence then has that sequence's own mean, as ``"time-mean"`` does. Every step counts
            once, hence long sequences count more.
    """

    name = "mean"
    fits = ("sequences",)

    def __init__(self, data: Any = None) -> None:
        self.data = None if data is None else _sequences(data)
        self._mean = None if self.data is None else _mean(self.data)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        mean = self._mean
        if mean is None:
            mean = _mean(cast(SequenceDomain, domain).batch or [*example.inputs.values()])
        return [{n: _fitting(mean, x).expand_as(x).clone() for n, x in example.inputs.items()}]


class TimeMean(Baseline):
    """Every step at the sequence's own mean over time: what it says beyond its level is explained.

    A sequence that never changes gets zero everywhere.
    """

    name = "time-mean"
    fits = ("sequences",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        return [{n: x.mean(0, keepdim=True).expand_as(x) for n, x in example.inputs.items()}]


def _sequences(data: Any) -> list[Steps]:
    """Sequences that a user gave, each (time, features) in float64.

    Raises:
        BaselineError: they are no numbers, empty, of several widths, or hold NaN or infinity.
    """
    if isinstance(data, (Tensor, np.ndarray)):
        several: Sequence[Any] = list(data) if data.ndim == 3 else [data]
    else:
        several = list(data) if isinstance(data, (list, tuple)) else [data]
    found = []
    for one in several:
        numbers = isinstance(one, np.ndarray) and one.dtype.kind in "biuf"
        if not (numbers or isinstance(one, Tensor)) or one.ndim != 2 or 0 in one.shape:
            told = f"shape {tuple(one.shape)}" if hasattr(one, "shape") else type(one).__name__
            raise BaselineError(
                "data to take baselines from are sequences (time, features) of at least one step: "
                f"a list of them, or an array (batch, time, features) (got {told})"
            )
        found.append(torch.as_tensor(one).detach().to("cpu", torch.float64))
    if not found:
        raise BaselineError("the data to take baselines from hold no sequence (got an empty list)")
    if len(widths := sorted({x.shape[1] for x in found})) > 1:
        raise BaselineError(f"the data's sequences must have as many features (got {widths})")
    if bad := [i for i, x in enumerate(found) if not bool(x.isfinite().all())]:
        raise BaselineError(
            f"sequence {bad[0]} of the data to take baselines from holds NaN or infinity; fill the "
            "gaps first, or leave it out"
        )
    return found


def _mean(sequences: Sequence[Steps]) -> Float[Tensor, " features"]:
    steps = sum(len(x) for x in sequences)
    return torch.stack([x.detach().to("cpu", torch.float64).sum(0) for x in sequences]).sum(0) / (
        steps
    )


def _fitting(values: Float[Tensor, "... features"], x: Steps) -> Float[Tensor, "... features"]:
    """Values for the features of a sequence, in its dtype and on its device.

    Raises:
        BaselineError: there are more or fewer features.
    """
    if values.shape[-1] != x.shape[-1]:
        raise BaselineError(
            f"the sequence has {x.shape[-1]} features at every step, the data to take baselines "
            f"from {values.shape[-1]}"
        )
    return values.to(x)
