"""Baselines of text: every token but the special ones at one vector of the embedding space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from ig_core import Baseline, Domain, Example
from ig_text.domain import TextDomain


class PadToken(Baseline):
    """The pad token's embedding; ids, mask and positions remain those of the text."""

    name = "pad"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_content(example, text.token_embedding("pad"))]


class MaskToken(Baseline):
    """The mask token's embedding, which masked language models were trained to fill in."""

    name = "mask"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_content(example, text.token_embedding("mask"))]


class MeanEmbedding(Baseline):
    """The mean of all word embeddings of the vocabulary."""

    name = "mean"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_content(example, text.mean_embedding)]


class ZeroEmbedding(Baseline):
    """The zero vector, with special tokens left in place."""

    name = "zeros"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_content(example, torch.zeros_like(example.inputs["embeddings"][0]))]
