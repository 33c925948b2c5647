"""Findings from the attributions of many sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ig_core import Analysis, Attribution
from ig_sequences.decay import Decay, find_decay


class AttributionDecay(Analysis):
    """How fast a model's memory fades.

    Options ``burn_in``, ``bootstrap``, ``seed``, ``reduce`` and ``normalise`` are those of
    :func:`ig_sequences.attribution_decay`.
    """

    name = "attribution-decay"
    fits = ("sequences",)

    def find(self, attributions: Sequence[Attribution], **options: Any) -> Decay:
        return find_decay(attributions, **options)
