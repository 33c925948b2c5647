"""Colours, shapes and letters: what signs, node types and relations look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ig_graphs.view.canvas import Point, Step, circle, regular
from ig_graphs.view.scene import Scene

RED, BLUE, GREY = "#d6604d", "#4393c3", "#8c8c8c"
"""Raises, lowers, neither; the second is dashed as well."""

INK, SOFT, RULE = "#1b1f24", "#6b7280", "#9aa0a6"

DASH = (7.0, 4.0)
PALE = 0.3
RADIUS, MARGIN = 15.0, 30.0

LONGEST = 18
"""Letters of a label that are drawn; all of it is told under the mouse."""

KINDS = 6
"""Outlines of node types; further types have a second line inside."""


def colour(sign: int) -> str:
    """Of what raises (1), lowers (-1) or does neither (0)."""
    return {1: RED, -1: BLUE}.get(sign, GREY)


def letters(scene: Scene) -> Mapping[int, str]:
    """A letter for every relation that is drawn, if there are several."""
    drawn = sorted({one.relation for one in scene.lines})
    if len(drawn) < 2:
        return {}
    names = [chr(ord("a") + i % 26) + str(i // 26 + 1) * (i >= 26) for i in range(len(drawn))]
    return dict(zip(drawn, names, strict=True))


def outline(at: Point, kind: int, scale: float = 1.0) -> Sequence[Step]:
    """What nodes of one type look like."""
    radius = RADIUS * scale
    x, y = at
    match kind % KINDS:
        case 0:
            return circle(at, radius)
        case 1:
            return regular(at, radius * 1.25, 4, 45)
        case 2:
            return regular((x, y + 0.2 * radius), radius * 1.35, 3)
        case 3:
            return regular(at, radius * 1.3, 4)
        case 4:
            return regular(at, radius * 1.12, 6)
        case _:
            return regular((x, y - 0.2 * radius), radius * 1.35, 3, 180)
