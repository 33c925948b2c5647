"""Coloured words for a terminal; the sign and the strength are also written without colour."""

from __future__ import annotations

from rich.console import Console
from rich.style import Style
from rich.text import Text

from ig_core import Attribution, signed
from ig_text.view.heat import trust
from ig_text.view.marks import Numbers, Scale
from ig_text.view.reading import Piece, legible, reading

RED, BLUE = "#d6604d", "#4393c3"
"""Both are legible as letters on black and on white, and as a ground of black letters."""

BANDS = (0.05, 0.25, 0.6)
"""Shares of the largest magnitude at which a word gets one, two and three signs."""

UP, DOWN = "\N{SUPERSCRIPT PLUS SIGN}", "\N{SUPERSCRIPT MINUS}"


QUOTES = (
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
)
"""They stand around what is explained."""


def terminal(attribution: Attribution) -> Text:
    """The words in reading order as rich text, with the scale and how far to trust it.

    A word of a quarter of the largest magnitude or more is bold, from 60 % on it stands on
    coloured ground. One to three raised signs behind a word say the same without colour.

    >>> result = ig.attribute(classifier, "a dull film", tokenizer=tokenizer, target=1)
    >>> print(terminal(result))
    good
    a... dull... film...
    ...
    """
    numbers = Numbers.of(attribution)
    scale = Scale.of(numbers.scores)
    told = trust(attribution)
    shown = Text()
    shown.append(f"{legible(told['explained'])}\n", style="bold")
    if told["warning"]:
        shown.append(f"Careful: {legible(told['warning'])}\n", style="yellow")
    sections = reading(attribution)
    for section in sections:
        if len(sections) > 1:
            total = signed(numbers.sum(section.units), 4)
            shown.append(f"\n{section.role} (in sum {total})\n", style="italic")
        for piece in section.pieces:
            shown.append_text(_word(piece, scale.share(numbers.sum(piece.units))))
        shown.append("\n")
    shown.append("\n")
    shown.append(f" {UP * 3} ", style=_style(1.0))
    shown.append(" raises it   ")
    shown.append(f" {DOWN * 3} ", style=_style(-1.0))
    shown.append(f" lowers it   largest {scale.limit:.3g}\n")
    width = max(map(len, told["facts"]))
    for name, fact in told["facts"].items():
        shown.append(f"{legible(name):<{width}}  {legible(fact)}\n", style="dim")
    shown.rstrip()
    return shown


def show(attribution: Attribution, *, console: Console | None = None) -> None:
    """Print the words in colour, or with raised signs alone where colours are not wanted.

    Whether they are is for rich to find out: not if ``NO_COLOR`` is set or the output is no
    terminal.

    >>> show(ig.attribute(classifier, "a dull film", tokenizer=tokenizer, target=1))
    good
    a... dull... film...
    ...
    """
    (console or Console()).print(terminal(attribution))


def _word(piece: Piece, share: float) -> Text:
    """One piece of the text with its raised signs."""
    word = Text(piece.text)
    signs = sum(abs(share) >= band for band in BANDS)
    if signs:
        word.append((UP if share > 0 else DOWN) * signs)
        word.stylize(_style(share))
    elif not piece.units or piece.later:
        word.stylize("dim")
    opening, closing = QUOTES if piece.marked else ("", "")
    return Text.assemble(opening, word, closing)


def _style(share: float) -> Style:
    """Coloured letters; bold ones from the second band on, and on coloured ground in the third."""
    colour = RED if share > 0 else BLUE
    if abs(share) >= BANDS[2]:
        return Style(color="#000000", bgcolor=colour, bold=True)
    return Style(color=colour, bold=abs(share) >= BANDS[1])
