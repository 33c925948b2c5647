"""A Continuation is what a language model wrote behind a text, or might have written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ig_core import ForwardError, InputError
from ig_text.tokens import Reader, Span, Tokens
from ig_text.words import counted


class NothingWrittenError(InputError):
    """The model ended at once: there is nothing to explain."""


@dataclass(frozen=True)
class Continuation:
    """A text and the tokens that are written to say it, special ones such as its end included."""

    text: str
    tokens: Tokens

    @property
    def surfaces(self) -> list[str]:
        """The explained tokens as they stand in the text, each with the white space before it."""
        found, end = [], 0
        for place in self.tokens.moving:
            span = self.tokens.spans[place]
            if span is None:
                found.append(self.tokens.names[place])
                continue
            start = max(end, min(span[1], span[2]))
            blank = start - end - len(self.text[end:start].rstrip())
            found.append(self.text[start - blank : span[2]])
            end = span[2]
        return found


def as_text(tokens: Tokens, number: int) -> Tokens:
    """The tokens of a single text as those of the text of this number, words counted from 0."""
    spans: list[Span | None] = [span and (number, *span[1:]) for span in tokens.spans]
    return replace(tokens, spans=spans, words=counted(tokens.words))


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids at the start of two continuations are the same."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


@torch.no_grad()
def greedy(model: Any, ids: Sequence[int], count: int) -> list[int]:
    """These ids (an encoder-decoder model's own start instead) and what the model writes behind.

    At most ``count`` tokens, the most probable one each time.

    Raises:
        InputError: the model cannot generate.
        ForwardError: it raised while it did.
    """
    if not hasattr(model, "generate"):
        raise InputError(
            f"{type(model).__name__} cannot generate; say what was generated: generated=' ...'"
        )
    given = torch.tensor([list(ids)], device=next(model.parameters()).device)
    options = {"max_new_tokens": count, "do_sample": False, "num_beams": 1}
    try:
        [made] = model.generate(given, attention_mask=torch.ones_like(given), **options)
    except Exception as error:
        told = f"{type(error).__name__} while it generated {count} tokens: {error}"
        raise ForwardError(
            f"the model raised {told}; ask for fewer, or say what was generated: generated=' ...'"
        ) from error
    return [int(i) for i in made]


def written(reader: Reader, ids: Sequence[int]) -> Continuation:
    """What a model wrote, without the special tokens at its end.

    Raises:
        NothingWrittenError: nothing is left.
    """
    ids = list(ids)
    while ids and ids[-1] in reader.special:
        ids.pop()
    if not ids:
        raise NothingWrittenError(
            "the model generated nothing; say what to explain: generated=' ...'"
        )
    return Continuation(*reader.written(ids))
