"""Pixels: the frame that the agent sees, and the same under the colours of its attribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ig_core import Attribution, InputError, figure_words, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.findings.timeline import Timeline

Pixels = Float[np.ndarray, "height width"]

MOST_SCREENS = 8
"""Steps in a strip of frames."""

MARKED = 3
"""Pixels of either sign that carry it as a mark as well, for whom colours do not tell."""

LEAST_MARKED, DARK = 0.1, 0.7
"""Shares of the scale above which a pixel is worth a mark, and above which its colour is dark."""

GHOST = 0.3
"""How dark the brightest pixel of a frame is beneath the colours."""


def overlay(attribution: Attribution) -> Figure:
    """The frame and, beside it, the attribution on a pale copy of it; of a stack, every frame.

    Red speaks for the explained number and blue against it, symmetric about zero; the strongest
    pixels of either sign carry it as a mark.

    Raises:
        InputError: the observation is no image.
        MissingFrameworkError: matplotlib is not installed.
    """
    image = attribution.display.get("image")
    if not isinstance(image, dict):
        raise InputError(
            "an overlay needs an agent's result on an image (got a result on features; its plot() "
            "draws them as bars)"
        )
    height, width = image["shape"]
    frames = int(image.get("frames", 1))
    first = int(image.get("first", 0))  # of the image's units among those of a Dict
    own = slice(first, first + frames * height * width)
    scores = attribution.scores.numpy()[own].reshape(frames, height, width)
    values = attribution.display.get("values")
    seen = (
        np.asarray(image["pixels"], dtype=float)[None]
        if values is None
        else np.asarray(values, dtype=float)[own].reshape(scores.shape)
    )
    limit = _limit(scores)
    figure = new_figure(2.6 + 2.6 * frames, 3.2)
    every = figure.subplots(1, 1 + frames, squeeze=False)[0]
    _frame(every[0], seen[-1])
    every[0].set_title("observation" if frames == 1 else "newest frame", fontsize=9)
    for i, axes in enumerate(every[1:]):
        drawn = coloured(axes, scores[i], seen[min(i, len(seen) - 1)], limit)
        ago = frames - 1 - i
        axes.set_title("attribution" if frames == 1 else _when(ago), fontsize=9)
    figure.colorbar(drawn, ax=every[1:].tolist(), pad=0.02, shrink=0.9, label="attribution")
    figure.suptitle(figure_words(str(attribution.display.get("quantity", "")), 70), fontsize=10)
    return figure


def filmstrip(found: Timeline) -> Figure:
    """Some steps of an episode, each as the frame above its attribution, on one scale."""
    scores, seen = screens(found)
    steps = np.unique(np.linspace(0, len(scores) - 1, MOST_SCREENS).round().astype(int))
    limit = _limit(scores)
    figure = new_figure(1.3 * len(steps) + 0.8, 3.4)
    every = figure.subplots(2, len(steps), squeeze=False)
    for place, step in enumerate(steps.tolist()):
        _frame(every[0, place], seen[step])
        drawn = coloured(every[1, place], scores[step], seen[step], limit)
        action = found.actions[step]
        told = found.action_names[int(action)] if found.actions.ndim == 1 else ""
        every[0, place].set_title(f"step {step}\n{figure_words(told, 14)}", fontsize=8)
    figure.colorbar(drawn, ax=every[1].tolist(), pad=0.01, label="attribution")
    figure.suptitle(
        f"{figure_words(found.quantity, 60)}, {len(found.rewards)} steps, return {found.total:.4g}",
        fontsize=10,
    )
    return figure


def screens(
    found: Timeline,
) -> tuple[Float[np.ndarray, "steps height width"], Float[np.ndarray, "steps height width"]]:
    """Scores and pixels of every step's newest frame."""
    _, height, width = found.image
    last = slice(-height * width, None)
    shape = (-1, height, width)
    return found.scores[:, last].reshape(shape), found.values[:, last].reshape(shape)


def coloured(axes: Axes, scores: Pixels, seen: Pixels, limit: float) -> Any:
    """The colours of the scores over a pale copy of what was seen, and marks on the strongest."""
    axes.imshow(_grey(seen) * GHOST, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    share = np.clip(np.nan_to_num(scores) / limit, -1, 1)
    drawn = axes.imshow(
        np.nan_to_num(scores),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        alpha=np.abs(share) ** 0.5,
        interpolation="nearest",
    )
    order = np.argsort(scores, axis=None)
    for mark, places in (("+", order[::-1][:MARKED]), ("\N{MINUS SIGN}", order[:MARKED])):
        for y, x in zip(*np.unravel_index(places, scores.shape), strict=True):
            size = share[y, x] * (1 if mark == "+" else -1)
            if size > LEAST_MARKED:
                colour = "white" if size > DARK else "#1b1f24"
                axes.text(x, y, mark, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn


def _frame(axes: Axes, seen: Pixels) -> None:
    axes.imshow(_grey(seen), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _grey(seen: Pixels) -> Pixels:
    """Pixels from 0 to 1, whatever scale they came in."""
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    if low >= 0 and high <= 1:
        return np.nan_to_num(seen)
    if low >= 0 and high <= 255:
        return np.nan_to_num(seen) / 255
    return (np.nan_to_num(seen, nan=low) - low) / ((high - low) or 1.0)


def _when(ago: int) -> str:
    return f"{ago} frame{'s' if ago > 1 else ''} earlier" if ago else "now"


def _limit(scores: Float[np.ndarray, ...]) -> float:
    return float(np.abs(np.nan_to_num(scores)).max(initial=0.0)) or 1.0
