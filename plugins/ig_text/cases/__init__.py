"""The benchmark cases of text: real models that come in packages, one module each."""

from __future__ import annotations

from ig_text.cases import messages, nanoguard, reviews, smollm2, translation

CASES = [reviews.CASE, messages.CASE, nanoguard.CASE, smollm2.CASE, translation.CASE]
