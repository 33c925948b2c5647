"""A Canvas holds paths and words in pixels, and writes them as SVG or as a PNG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len

from ig_core import clean, new_figure
from ig_graphs.view.pages import rendered

Point = tuple[float, float]

Step = tuple[str, Sequence[Point]]
"""A command of an SVG path (M, L, Q, C or Z) with its points."""

ROUND = 0.5523
"""How far the handles of a quarter of a circle lie from its ends, in radii."""


@dataclass(frozen=True)
class Shape:
    """A path with its paint; ``tip`` is told under the mouse."""

    steps: Sequence[Step]
    stroke: str = "none"
    fill: str = "none"
    width: float = 1.0
    dash: Sequence[float] = ()
    opacity: float = 1.0
    tip: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Word:
    """A line of text, its middle (or start) at a place; a ``halo`` keeps lines off its letters."""

    text: str
    at: Point
    size: float = 12.0
    colour: str = "#1b1f24"
    anchor: str = "middle"
    halo: bool = False
    bold: bool = False
    tip: str = ""

    @property
    def width(self) -> float:
        """About how wide it is, by the mean width of letters; wide ones count twice."""
        return 0.53 * self.size * cell_len(self.text)


@dataclass
class Canvas:
    """Shapes and words, later ones above earlier ones, on white ground."""

    title: str
    width: float = 0.0
    height: float = 0.0
    items: list[Shape | Word] = field(default_factory=list)

    def svg(self) -> str:
        """One ``svg`` element; labels are escaped and free of control characters."""
        return rendered(
            "graph.svg",
            title=clean(self.title),
            width=f"{self.width:.0f}",
            height=f"{self.height:.0f}",
            items=[_drawn(item) for item in self.items],
        )

    def png(self, path: Path, scale: float = 2.0) -> None:
        """A PNG file, ``scale`` pixels per unit (extra ``viz``).

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        inches = 72.0
        figure = new_figure(self.width / inches, self.height / inches)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        for order, item in enumerate(self.items):
            _painted(axes, item, order)
        figure.savefig(path, dpi=inches * scale, format="png", facecolor="white")


def line(*points: Point) -> Sequence[Step]:
    """Straight, curved (3 points) or swung (4 points) from the first to the last point."""
    command = {2: "L", 3: "Q", 4: "C"}[len(points)]
    return [("M", points[:1]), (command, points[1:])]


def polygon(corners: Sequence[Point]) -> Sequence[Step]:
    """Closed and straight."""
    return [("M", corners[:1]), *(("L", [corner]) for corner in corners[1:]), ("Z", [])]


def circle(at: Point, radius: float) -> Sequence[Step]:
    """Four quarters."""
    (x, y), r, k = at, radius, radius * ROUND
    quarters = [
        [(x + r, y + k), (x + k, y + r), (x, y + r)],
        [(x - k, y + r), (x - r, y + k), (x - r, y)],
        [(x - r, y - k), (x - k, y - r), (x, y - r)],
        [(x + k, y - r), (x + r, y - k), (x + r, y)],
    ]
    return [("M", [(x + r, y)]), *(("C", quarter) for quarter in quarters), ("Z", [])]


def regular(at: Point, radius: float, corners: int, turn: float = 0.0) -> Sequence[Step]:
    """A polygon of equal sides; ``turn`` in degrees from a corner at the top."""
    angles = [math.radians(turn - 90 + 360 * i / corners) for i in range(corners)]
    x, y = at
    return polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles])


def _drawn(item: Shape | Word) -> dict[str, str | bool]:
    """What the template needs of one item."""
    if isinstance(item, Word):
        x, y = item.at
        return {
            "word": True,
            "text": clean(item.text),
            "x": f"{x:.1f}",
            "y": f"{y + 0.35 * item.size:.1f}",
            "size": f"{item.size:g}",
            "colour": item.colour,
            "anchor": item.anchor,
            "halo": item.halo,
            "bold": item.bold,
            "tip": _lines(item.tip),
        }
    return {
        "word": False,
        "path": " ".join(
            command + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
            for command, points in item.steps
        ),
        "stroke": item.stroke,
        "fill": item.fill,
        "width": f"{item.width:.2f}",
        "dash": " ".join(f"{length:g}" for length in item.dash),
        "opacity": f"{item.opacity:.2f}" if item.opacity < 1 else "",
        "tip": _lines(item.tip),
        "kind": item.kind,
    }


def _lines(tip: str) -> str:
    return "\n".join(map(clean, tip.split("\n")))


def _painted(axes: object, item: Shape | Word, order: int) -> None:
    """The same on the axes of a matplotlib figure whose points are the canvas's."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
    from matplotlib.patheffects import withStroke

    if isinstance(item, Word):
        sides = {"start": "left", "middle": "center", "end": "right"}
        effects = [withStroke(linewidth=3, foreground="white")] if item.halo else []
        axes.text(  # type: ignore[attr-defined]
            *item.at,
            clean(item.text).replace("$", r"\$"),
            fontsize=item.size,
            color=item.colour,
            ha=sides[item.anchor],
            va="center",
            fontweight="bold" if item.bold else "normal",
            path_effects=effects,
            zorder=order,
        )
        return
    codes = {"M": Outline.MOVETO, "L": Outline.LINETO, "Q": Outline.CURVE3, "C": Outline.CURVE4}
    corners: list[Point] = []
    told = []
    for command, points in item.steps:
        if command == "Z":
            corners.append(corners[0])
            told.append(Outline.CLOSEPOLY)
        else:
            corners += points
            told += [codes[command]] * len(points)
    dash = (0, [length / item.width for length in item.dash]) if item.dash else "-"
    patch = PathPatch(
        Outline(corners, told),
        facecolor=item.fill,
        edgecolor=item.stroke,
        linewidth=item.width,
        linestyle=dash,
        alpha=item.opacity,
        zorder=order,
        capstyle="butt",
    )
    axes.add_patch(patch)  # type: ignore[attr-defined]
