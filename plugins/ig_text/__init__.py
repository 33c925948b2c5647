"""Text for ig_core: transformers of every kind, explained by the words that they read."""

from __future__ import annotations

from ig_core import Analysis, Baseline, BenchmarkCase, Domain, Method, Path, hookimpl
from ig_text.analyses import RankedWords, TopWords, top_words
from ig_text.baselines import (
    MaskToken,
    MeanEmbedding,
    NeutralText,
    OtherText,
    PadToken,
    TokenIds,
    UnkToken,
)
from ig_text.domain import TextDomain
from ig_text.faithfulness import Faithfulness, faithfulness
from ig_text.heads import cosine_to
from ig_text.methods import LOO, SIG
from ig_text.paths import DIG, UDIG
from ig_text.removal import Removal, removal
from ig_text.view import Comparison, Matrix, comparison, matrix, show, terminal

__all__ = [
    "DIG",
    "LOO",
    "SIG",
    "UDIG",
    "Comparison",
    "Faithfulness",
    "Matrix",
    "NeutralText",
    "OtherText",
    "RankedWords",
    "Removal",
    "TextDomain",
    "TokenIds",
    "TopWords",
    "comparison",
    "cosine_to",
    "faithfulness",
    "matrix",
    "removal",
    "show",
    "terminal",
    "top_words",
]  # fmt: skip


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [TextDomain]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    return [PadToken, MaskToken, UnkToken, MeanEmbedding, NeutralText, OtherText, TokenIds]


@hookimpl
def ig_paths() -> list[type[Path]]:
    return [DIG, UDIG]


@hookimpl
def ig_methods() -> list[type[Method]]:
    return [SIG, LOO]


@hookimpl
def ig_analyses() -> list[type[Analysis]]:
    return [TopWords]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    from ig_text.cases import CASES

    return CASES
