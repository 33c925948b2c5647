"""Baselines of text: every word token at one vector of the embedding space."""

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
        return [text.with_vector(example, text.token_embedding("pad"))]


class MaskToken(Baseline):
    """The mask token's embedding, which masked language models were trained to fill in."""

    name = "mask"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_vector(example, text.token_embedding("mask"))]


class MeanEmbedding(Baseline):
    """The mean of all word embeddings of the vocabulary."""

    name = "mean"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_vector(example, text.mean_embedding)]
