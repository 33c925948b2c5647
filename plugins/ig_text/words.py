"""Words are the units of a text: what its tokens are put together to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ig_core import Units


def words(encoding: Any, texts: Sequence[str], tokens: Sequence[str]) -> Units:
    """The words of one tokenised text or pair of texts, in reading order.

    A word begins where the tokenizer's own word changes and after white space, so that
    tokenizers without a notion of words give them too. Special tokens belong to no word. A
    tokenizer written in Python knows no offsets; its units are tokens.
    """
    special = torch.tensor(encoding["special_tokens_mask"]).bool()
    if not encoding.is_fast:
        index = (~special).cumsum(0).sub(1).masked_fill(special, -1)
        labels = [t for t, fixed in zip(tokens, special.tolist(), strict=True) if not fixed]
        return Units(labels, {"embeddings": index}, kind="token")
    spans: list[tuple[int, int, int]] = []
    places = []
    before = None
    for fixed, (start, end), word, sequence in zip(
        special.tolist(),
        encoding["offset_mapping"],
        encoding.word_ids(),
        encoding.sequence_ids(),
        strict=True,
    ):
        if fixed:
            places.append(-1)
            before = None
            continue
        text = texts[sequence]
        if before == (sequence, word) and not _parted(text, spans[-1][2], start, end):
            spans[-1] = (sequence, spans[-1][1], max(end, spans[-1][2]))
        else:
            spans.append((sequence, start, end))
        before = (sequence, word)
        places.append(len(spans) - 1)
    labels = [texts[sequence][start:end].strip() for sequence, start, end in spans]
    return Units(labels, {"embeddings": torch.tensor(places)}, kind="word")


def _parted(text: str, last: int, start: int, end: int) -> bool:
    """Whether white space lies between the character ``last`` and the token from start to end."""
    return any(c.isspace() for c in text[last:start]) or text[start:end][:1].isspace()
