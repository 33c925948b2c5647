"""What the figures of sequences share: colours, and words that matplotlib shows as they are."""

from __future__ import annotations

from ig_core import clean

RED, BLUE, PALE_BLUE, PURPLE = "#d6604d", "#2b6ca3", "#4393c3", "#7b5ea7"
GREY, INK = "#8a929b", "#1b1f24"

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters; the last one is an ellipsis where some are left out.

    >>> shortened("cepstrum", 4), shortened("rain", 4)
    ('cep…', 'rain')
    """
    return text if len(text) <= most else text[: most - 1] + ELLIPSIS


def label(text: str, most: int | None = None) -> str:
    """Words of a user that matplotlib does not read as a formula, without control characters.

    >>> label("$x$")
    '\\\\$x\\\\$'
    """
    told = clean(text)
    return (told if most is None else shortened(told, most)).replace("$", r"\$")
