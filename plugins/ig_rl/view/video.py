"""An episode as a video: what was seen, and beside it what spoke for the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from ig_core import InputError, MissingFrameworkError, StorageError, figure_words, new_figure
from ig_rl.view.rows import FeatureRows, feature_rows
from ig_rl.view.screens import coloured, screens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ig_rl.findings.timeline import Timeline

Picture = UInt8[np.ndarray, "height width 3"]

ENDINGS = (".mp4", ".gif")
RED, BLUE = "#d6604d", "#4393c3"
LEFTWARDS, RIGHTWARDS = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"

MOST_BARS = 10
"""Features beside the frame; the smallest share the last bar."""

DPI = 100
WIDE, HIGH = 8.0, 4.0
"""Inches of a frame; in pixels both are multiples of 16, as encoders of video want them."""


def video(found: Timeline, path: str | Path, fps: float = 20.0) -> Path:
    """Write an episode as MP4 or GIF, by the ending: one picture per step.

    On the left the rendered environment, or what the agent saw of it; on the right bars of the
    features on one scale for the whole episode, or the pixels in their colours.

    Raises:
        InputError: another ending, no pictures to show, or frames per second not above 0.
        MissingFrameworkError: imageio, a codec of it, or matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"a video ends in .mp4 or .gif (got {path.name!r})")
    if not np.isfinite(fps) or fps <= 0:
        raise InputError(f"fps must be a number above 0 (got {fps!r})")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with _writer(partial, fps) as writer:
            for picture in pictures(found):
                writer.append_data(picture)
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def pictures(found: Timeline) -> Iterator[Picture]:
    """The pictures of a video, step by step.

    Raises:
        InputError: the environment was not rendered, and observations are no images.
        MissingFrameworkError: matplotlib is not installed.
    """
    if found.frames is None and not found.image:
        raise InputError(
            "a video needs pictures: explain_episode(..., render=True) with an environment made "
            "with render_mode='rgb_array', or observations that are images"
        )
    figure = new_figure(WIDE, HIGH)
    canvas = _canvas(figure)
    left, right = figure.subplots(1, 2)
    draw = _bars(right, found) if not found.image else _pixels(right, found)
    seen = _seen(found)
    shown = left.imshow(seen[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    left.set_axis_off()
    for step in range(len(found.rewards)):
        shown.set_data(seen[step])
        left.set_title(_told(found, step), fontsize=9)
        draw(step)
        canvas.draw()
        figure.set_layout_engine("none")  # as the first picture was laid out, and much faster
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _writer(path: Path, fps: float) -> Any:
    try:
        from imageio import v2 as imageio
    except ImportError as error:
        raise MissingFrameworkError("videos need imageio: pip install 'ig-core[rl]'") from error
    options: dict[str, Any] = (
        {"duration": 1000 / fps, "loop": 0} if path.suffix.lower() == ".gif" else {"fps": fps}
    )
    try:
        return imageio.get_writer(path, **options)
    except (ImportError, ValueError) as error:
        raise MissingFrameworkError(
            f"imageio cannot write {path.suffix} here ({error}): pip install imageio-ffmpeg for "
            ".mp4, pillow for .gif"
        ) from error


def _canvas(figure: Figure) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    return FigureCanvasAgg(figure)


def _seen(found: Timeline) -> Any:
    if found.frames is not None:
        return found.frames
    _, pixels = screens(found)
    return pixels * (255.0 if pixels.max(initial=0.0) <= 1 else 1.0)


def _told(found: Timeline, step: int) -> str:
    action = found.actions[step]
    told = (
        found.action_names[int(action)]
        if found.actions.ndim == 1
        else ", ".join(f"{one:.2f}" for one in np.atleast_1d(action))
    )
    return f"step {step}: {figure_words(told, 30)}, reward {found.rewards[step]:.3g}"


def _bars(axes: Axes, found: Timeline) -> Callable[[int], None]:
    rows = feature_rows(found.names, found.scores, found.values, MOST_BARS)
    places = np.arange(len(rows.names))
    drawn = axes.barh(places, np.zeros(len(places)))
    axes.set_yticks(places, [figure_words(name, 24) for name in rows.names], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(-1.05 * rows.limit, 1.05 * rows.limit)
    axes.tick_params(axis="x", labelsize=7)
    if len(found.pair) == 2:
        ahead, other = (figure_words(found.action_names[a], 20) for a in found.pair)
        axes.set_xlabel(f"{LEFTWARDS} {other}          {ahead} {RIGHTWARDS}", fontsize=9)

    def draw(step: int) -> None:
        for bar, score in zip(drawn, _column(rows, step), strict=True):
            bar.set_width(score)
            bar.set_color(RED if score > 0 else BLUE)
        axes.set_title(_number(found, step), fontsize=9)

    return draw


def _pixels(axes: Axes, found: Timeline) -> Callable[[int], None]:
    scores, seen = screens(found)
    limit = float(np.abs(np.nan_to_num(scores)).max(initial=0.0)) or 1.0

    def draw(step: int) -> None:
        axes.clear()
        coloured(axes, scores[step], seen[step], limit)
        axes.set_title(_number(found, step), fontsize=9)

    return draw


def _column(rows: FeatureRows, step: int) -> Float[np.ndarray, " rows"]:
    return np.nan_to_num(rows.scores[:, step])


def _number(found: Timeline, step: int) -> str:
    told = f"{figure_words(found.quantity, 34)} = {found.outputs[step]:.3g}"
    return f"{told} (baseline {found.base[step]:.3g})"
