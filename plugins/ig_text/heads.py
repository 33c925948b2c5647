"""Heads: what is asked of a sentence embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError


@dataclass(frozen=True, eq=False)
class CosineTo:
    """The cosine of the angle to the embedding of another text, which stays as it is."""

    reference: str | Float[Tensor, " width"]

    def head(
        self, embed: Callable[[str], Float[Tensor, " width"]]
    ) -> Callable[[Float[Tensor, "rows width"]], Float[Tensor, " rows"]]:
        """The function of an embedding; the other text is embedded when it is first needed."""
        known: dict[Any, Tensor] = {}

        def cosine(states: Float[Tensor, "rows width"]) -> Float[Tensor, " rows"]:
            if not known:
                given = self.reference
                known[0] = embed(given) if isinstance(given, str) else given
            other = known[0].to(states)
            if other.shape != states.shape[1:]:
                raise InputError(
                    f"the other embedding must have the width {states.shape[1]} "
                    f"(got shape {tuple(other.shape)})"
                )
            return torch.cosine_similarity(states, other[None], dim=1)

        told = repr(self.reference) if isinstance(self.reference, str) else "the given embedding"
        cosine.__name__ = f"cosine to {told}"
        return cosine


def cosine_to(reference: str | Float[Tensor, " width"]) -> CosineTo:
    """A head: how like another sentence's embedding is, from -1 to 1.

    cos(a, b) = a . b / (|a| |b|), as sentence encoders are compared (Reimers and Gurevych 2019,
    arXiv:1908.10084). Explained are the words of the input; the other sentence does not move.

    >>> head = cosine_to("a dull film")
    >>> result = ig.attribute(encoder, "a dull film", tokenizer=tokenizer, head=head)
    >>> f"{result.at_input:.4f}"
    '1.0000'

    Args:
        reference: the other text, or its embedding.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(reference, (str, Tensor)):
        raise InputError(f"cosine_to needs a text or an embedding (got {reference!r:.80})")
    return CosineTo(reference)
