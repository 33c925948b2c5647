"""Integrated Gradients for sequences: what every time step contributed, and how memory fades.

>>> import torch
>>> import ig_core as ig
>>> from ig_sequences.cases.closed_forms import LeakyIntegrator
>>> x = torch.ones(3, 1, dtype=torch.float64)
>>> ig.attribute(LeakyIntegrator(0.5), x, domain="sequences").scores.tolist()
[0.25, 0.5, 1.0]
"""

from __future__ import annotations

from ig_core import Analysis, Baseline, BenchmarkCase, Domain, Method, Path, hookimpl
from ig_sequences.baselines import (
    FeatureMean,
    ForwardFill,
    OtherSequences,
    TimeMean,
    TimeShuffled,
)
from ig_sequences.decay import Decay, Fit, attribution_decay
from ig_sequences.domain import SequenceDomain
from ig_sequences.faithfulness import Faithfulness, faithfulness
from ig_sequences.margins import margin, margins
from ig_sequences.methods import Energy, Occlusion, Recency
from ig_sequences.paths import TimeOrdered
from ig_sequences.sweeps import Sweep, sweep
from ig_sequences.view import heat_map, picture, table

__all__ = [
    "Decay",
    "Energy",
    "Faithfulness",
    "FeatureMean",
    "Fit",
    "ForwardFill",
    "Occlusion",
    "OtherSequences",
    "Recency",
    "SequenceDomain",
    "Sweep",
    "TimeMean",
    "TimeOrdered",
    "TimeShuffled",
    "attribution_decay",
    "faithfulness",
    "heat_map",
    "margin",
    "margins",
    "picture",
    "sweep",
    "table",
]


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [SequenceDomain]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    return [FeatureMean, TimeMean, ForwardFill, TimeShuffled, OtherSequences]


@hookimpl
def ig_paths() -> list[type[Path]]:
    return [TimeOrdered]


@hookimpl
def ig_methods() -> list[type[Method]]:
    return [Occlusion, Recency, Energy]


@hookimpl
def ig_analyses() -> list[type[Analysis]]:
    from ig_sequences.analyses import AttributionDecay

    return [AttributionDecay]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_sequences.cases import CASES

    return CASES
