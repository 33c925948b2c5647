"""Baselines of text: what stands in the embedding space for a text that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ig_core import Baseline, BaselineError, Domain, Example
from ig_text.domain import TextDomain


class _Token(Baseline):
    """One special token in place of every word; ids, mask and positions remain the text's."""

    fits = ("text",)
    kind: ClassVar[Literal["pad", "mask", "unk"]]

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_vectors(example, lambda name: text.token_embedding(self.kind, name))]


class PadToken(_Token):
    """The pad token's embedding, the usual "nothing" of encoders."""

    name = "pad"
    kind = "pad"


class MaskToken(_Token):
    """The mask token's embedding, which masked language models were trained to fill in."""

    name = "mask"
    kind = "mask"


class UnkToken(_Token):
    """The unknown token's embedding."""

    name = "unk"
    kind = "unk"


class MeanEmbedding(Baseline):
    """The mean of all word embeddings of the vocabulary."""

    name = "mean"
    fits = ("text",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [text.with_vectors(example, text.mean_embedding)]


class NeutralText(Baseline):
    """A text that says nothing, said again and again: the tokens of "the" at every word.

    >>> options = {"tokenizer": tokenizer, "target": 1}
    >>> neutral = NeutralText("the")
    >>> result = ig.attribute(classifier, "a dull film", baseline=neutral, **options)
    >>> plain = ig.attribute(classifier, "the the the", **options)
    >>> abs(result.at_baseline - plain.at_input) < 1e-6
    True

    Args:
        text: the neutral text; its tokens are repeated over those of the input.
    """

    name = "neutral"
    fits = ("text",)

    def __init__(self, text: str = " the") -> None:
        self.text = _text(text)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        ids = text.ids(self.text)
        if not ids:
            raise BaselineError(f"the tokenizer finds no token in {self.text!r}")
        return [
            {
                name: _filled(value, example.parts.index[name] >= 0, text.embedded(ids, name))
                for name, value in example.inputs.items()
            }
        ]


class OtherText(Baseline):
    """A counterfactual text, token for token: "a great film" for "a dull film".

    It stands for the text that is read (a prompt, a source); what was generated behind it starts
    at the domain's own baseline. Words that both have get exactly zero.

    >>> other = OtherText("a great film")
    >>> options = {"tokenizer": tokenizer, "target": 1, "baseline": other}
    >>> result = ig.attribute(classifier, "a dull film", **options)
    >>> result.scores[[0, 2]].tolist()
    [0.0, 0.0]

    Args:
        text: a text of as many tokens.
    """

    name = "other"
    fits = ("text",)

    def __init__(self, text: str) -> None:
        self.text = _text(text)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        return [_replaced(example, text, text.ids(self.text), f"{self.text!r} has")]


class TokenIds(Baseline):
    """Ids of the vocabulary in place of the tokens of the text that is read.

    >>> ids = tokenizer("a great film", add_special_tokens=False)["input_ids"]
    >>> options = {"tokenizer": tokenizer, "target": 1, "baseline": TokenIds(ids)}
    >>> result = ig.attribute(classifier, "a dull film", **options)
    >>> result.scores[[0, 2]].tolist()
    [0.0, 0.0]

    Args:
        ids: one for every token that moves (special ones do not), or one for all.
    """

    name = "ids"
    fits = ("text",)

    def __init__(self, ids: int | Sequence[int]) -> None:
        self.ids = ids

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Tensor]]:
        text = cast(TextDomain, domain)
        known = len(text.vocabulary())
        ids = list(self.ids) if isinstance(self.ids, (Sequence, Tensor)) else [self.ids]
        ids = [i.item() if isinstance(i, Tensor) else i for i in ids]
        if bad := [i for i in ids if type(i) is not int or not 0 <= i < known]:
            raise BaselineError(f"the vocabulary has the ids 0 to {known - 1} (got {bad[0]!r})")
        if isinstance(self.ids, int):
            return [text.with_vectors(example, lambda name: text.embedded(ids, name)[0])]
        return [_replaced(example, text, ids, "there are")]


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise BaselineError(f"a text is needed as baseline (got {given!r:.80})")
    return given


def _replaced(
    example: Example, text: TextDomain, ids: Sequence[int], told: str
) -> Mapping[str, Tensor]:
    """These tokens in place of those of the text that is read."""
    if "windows" in example.display:
        raise BaselineError("a text in windows has no other text for a baseline; choose 'pad'")
    roles = example.display["roles"]
    spans = example.display["spans"]["embeddings"]
    written = [span is not None and roles[span[0]] == "generated" for span in spans]
    read = (example.parts.index["embeddings"] >= 0) & ~torch.tensor(written)
    if int(read.sum()) != len(ids):
        raise BaselineError(
            f"another text needs as many tokens as the input, in which {int(read.sum())} move "
            f"({told} {len(ids)}); a word may be several tokens: result.by('token') shows them"
        )
    start = text.baseline(example)
    vectors = _filled(start["embeddings"], read, text.embedded(ids))
    return {**start, "embeddings": vectors}


def _filled(
    value: Float[Tensor, "*tokens width"],
    moving: Bool[Tensor, "*tokens"],
    vectors: Float[Tensor, "some width"],
) -> Float[Tensor, "*tokens width"]:
    """The vectors, one after another and again from the first, at the moving tokens."""
    filled = value.clone()
    moving = moving.to(value.device)
    count = int(moving.sum())
    filled[moving] = vectors[torch.arange(count, device=value.device) % len(vectors)]
    return filled
