"""Text for ig_core: classifiers and sentence encoders of transformers, explained by words."""

from __future__ import annotations

from ig_core import Baseline, BenchmarkCase, Domain, hookimpl
from ig_text.domain import TextDomain

__all__ = ["TextDomain"]


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [TextDomain]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    from ig_text.baselines import MaskToken, MeanEmbedding, PadToken

    return [PadToken, MaskToken, MeanEmbedding]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_text.cases import CASES

    return CASES
