"""The drawing of a scene: nodes, lines and a legend on a canvas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ig_core import clean, signed
from ig_graphs.view.canvas import Canvas, Point, Shape, Word, circle, line, polygon
from ig_graphs.view.layout import places
from ig_graphs.view.legend import legend_beneath
from ig_graphs.view.marks import (
    DASH,
    INK,
    KINDS,
    LONGEST,
    MARGIN,
    PALE,
    RADIUS,
    RULE,
    SOFT,
    colour,
    letters,
    outline,
)
from ig_graphs.view.scene import Line, Scene

WIDEST = 9.0
EDGE, ROOM = 84.0, (700.0, 600.0)
NARROWEST = {True: 600.0, False: 220.0}
"""A canvas is so wide at least, with a legend or without."""

BEND = 26.0
"""How far apart lines between the same two nodes are in their middle."""

SHORT = 4
"""Letters of a label that fit into a node; beside longer ones those of 3."""

LETTERS_EVERYWHERE = 40
"""Up to so many lines all carry the letter of their relation, else only those that stand out."""

Curve = Sequence[Point]


def network(scene: Scene, title: str, *, legend: bool = True) -> Canvas:
    """The picture of a scene, with its legend beneath or without it."""
    crowded = _longest(scene) > SHORT
    width, height = ROOM
    found = places(
        scene.nodes,
        [(one.source, one.target) for one in scene.lines],
        edge=EDGE * (1.25 if crowded else 1.0),
        width=width,
        height=height,
        gap=2 * RADIUS + (22 if crowded else 12),
    )
    side = MARGIN + (40 if crowded else 0)
    wide = max((x for x, _ in found.values()), default=0.0)
    tall = max((y for _, y in found.values()), default=0.0)
    canvas = Canvas(title, width=max(NARROWEST[legend], wide + 2 * side))
    left, above = (canvas.width - wide) / 2, MARGIN + 14 * crowded
    canvas.height = tall + 2 * above
    spots = {node: (x + left, y + above) for node, (x, y) in found.items()}
    canvas.items += _lines(scene, spots)
    tags = [item for item in canvas.items if isinstance(item, Word)]
    canvas.items += _nodes(scene, spots, tags)
    canvas.height += 8
    if legend:
        legend_beneath(canvas, scene)
    return canvas


# -- lines ----------------------------------------------------------------------------------------


def _lines(scene: Scene, spots: Mapping[int, Point]) -> Iterator[Shape | Word]:
    """From the palest to the strongest, then the letters of their relations."""
    centres = np.array([spots[node] for node in scene.nodes])
    limit = scene.line_limit
    named = letters(scene)
    words = []
    for number in reversed(range(len(scene.lines))):
        one = scene.lines[number]
        strong = number in scene.strong_lines
        share = one.size / limit if limit else 0.0
        width = 1.2 if scene.graph.edges is None else 1 + (WIDEST - 1) * share
        if one.source == one.target:
            curve = _loop(scene, one, spots)
        else:
            curve = _curve(scene, one, spots, centres)
        opacity = 1.0 if strong else PALE
        heads = (scene.directed and one.back, scene.directed and one.forth)
        yield from _arrow(curve, heads, width, scene.sign(one), opacity, _told(scene, one))
        if one.relation in named and (strong or len(scene.lines) <= LETTERS_EVERYWHERE):
            tint = INK if strong else RULE
            words.append(Word(named[one.relation], _middle(curve), 12, tint, halo=True, bold=True))
    yield from words


def _curve(
    scene: Scene, one: Line, spots: Mapping[int, Point], centres: Float[np.ndarray, "nodes 2"]
) -> Curve:
    """From rim to rim, bent beside its fellows and around nodes in between."""
    start, end = np.array(spots[one.source]), np.array(spots[one.target])
    along = end - start
    across = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-9)
    own = (one.place - (one.beside - 1) / 2) * BEND
    others = centres[[node not in (one.source, one.target) for node in scene.nodes]]
    t = np.linspace(0.1, 0.9, 17)[:, None]

    def bent(bend: float) -> Float[np.ndarray, "3 2"]:
        return np.stack([start, (start + end) / 2 + 2 * bend * across, end])

    def hits(bend: float) -> int:
        a, b, c = bent(bend)
        points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        near = np.linalg.norm(points[:, None] - others[None], axis=-1) < RADIUS + 2
        return int(near.any(0).sum())

    tries = [own, *(own + sign * step for step in (12.0, 22.0, 34.0) for sign in (1, -1))]
    best = min(tries, key=hits) if len(others) else own  # the first of equals
    a, b, c = bent(best)
    rims = [RADIUS + 7 * (end in scene.graph.marked) for end in (one.source, one.target)]
    a = a + (b - a) / max(float(np.linalg.norm(b - a)), 1e-9) * rims[0]
    c = c + (b - c) / max(float(np.linalg.norm(b - c)), 1e-9) * rims[1]
    curve = [a, c] if best == 0 else [a, b, c]
    return [(float(x), float(y)) for x, y in curve]


def _loop(scene: Scene, one: Line, spots: Mapping[int, Point]) -> Curve:
    """Out of a node and back into it, on the side where it has no neighbours."""
    x, y = spots[one.source]
    beside = [
        spots[line.target if line.source == one.source else line.source]
        for line in scene.lines
        if one.source in (line.source, line.target) and line.source != line.target
    ]
    angles = sorted(math.atan2(to_y - y, to_x - x) for to_x, to_y in beside)
    gaps = [
        (b - a, (a + b) / 2) for a, b in pairwise([*angles, *(a + math.tau for a in angles[:1])])
    ]
    away = max(gaps)[1] if gaps else -math.pi / 2
    rim = RADIUS + 7 * (one.source in scene.graph.marked)
    spread, reach = 0.5, rim * (3.2 + 1.1 * one.place)
    first, last = away - spread, away + spread

    def at(angle: float, far: float) -> Point:
        return x + far * math.cos(angle), y + far * math.sin(angle)

    return [at(first, rim), at(first - 0.2, reach), at(last + 0.2, reach), at(last, rim)]


def _arrow(
    curve: Curve, heads: tuple[bool, bool], width: float, sign: int, opacity: float, tip: str
) -> Iterator[Shape]:
    """A line whose heads end where it would."""
    points = list(curve)
    size = 6 + 1.1 * width
    made = []
    for place, wanted in ((0, heads[0]), (-1, heads[1])):
        if not wanted:
            continue
        (x, y), (from_x, from_y) = points[place], points[1 if place == 0 else -2]
        length = max(math.hypot(x - from_x, y - from_y), 1e-9)
        dx, dy = (x - from_x) / length, (y - from_y) / length
        base = (x - size * dx, y - size * dy)
        half = 0.5 * size
        made.append([(x, y), (base[0] - half * dy, base[1] + half * dx),
                     (base[0] + half * dy, base[1] - half * dx)])  # fmt: skip
        points[place] = base
    tint = colour(sign)
    dash = DASH if sign < 0 else ()
    yield Shape(line(*points), tint, "none", width, dash, opacity, tip, "line")
    for corners in made:
        yield Shape(polygon(corners), "none", tint, 1.0, (), opacity, tip, "head")


def _middle(curve: Curve) -> Point:
    weights = {2: (0.5, 0.5), 3: (0.25, 0.5, 0.25), 4: (0.125, 0.375, 0.375, 0.125)}[len(curve)]
    x, y = (sum(w * p[axis] for w, p in zip(weights, curve, strict=True)) for axis in (0, 1))
    return x, y


def _told(scene: Scene, one: Line) -> str:
    """Every edge of a line with its score."""
    graph = scene.graph
    told = []
    for edge in one.edges:
        u, v = graph.edge_index[:, edge].tolist()
        name = graph.relation_name(edge)
        sign = "\N{EN DASH}" if not scene.directed and not name else "\N{RIGHTWARDS ARROW}"
        middle = f" {sign}{name + sign if name else ''} "
        score = "" if graph.edges is None else f": {signed(float(graph.edges[edge]), 4)}"
        told.append(f"{graph.labels[u]}{middle}{graph.labels[v]}{score}")
    more = len(told) - 8
    return "\n".join([*told[:8], *([f"and {more} more"] if more > 0 else [])])


# -- nodes ----------------------------------------------------------------------------------------


def _nodes(
    scene: Scene, spots: Mapping[int, Point], tags: Sequence[Word]
) -> Iterator[Shape | Word]:
    graph, limit = scene.graph, scene.node_limit
    for node in scene.nodes:
        score = 0.0 if graph.nodes is None else float(graph.nodes[node])
        share = abs(score) / limit if limit and math.isfinite(score) else 0.0
        strong = node in scene.strong_nodes
        kind = int(graph.node_type[node])
        tip = f"{graph.labels[node]}: {signed(score, 4)}" if graph.nodes is not None else ""
        tip = tip or str(graph.labels[node])
        if len(graph.node_types) > 1:
            tip += f" ({graph.node_types[kind]})"
        if node in graph.marked:
            yield Shape(circle(spots[node], RADIUS + 5.5), INK, "#fff", 2.6, kind="explained")
        yield from _node(spots[node], kind, score, share, strong, tip)
    yield from _labels(scene, spots, tags)


def _node(
    at: Point, kind: int, score: float, share: float, strong: bool, tip: str
) -> Iterator[Shape]:
    """Ground, then colour; what lowers has a dashed rim."""
    steps = outline(at, kind)
    sign = 0 if share < 0.01 else 1 if score > 0 else -1
    rim = ("#4a4f55" if strong else RULE) if sign == 0 else colour(sign)
    yield Shape(steps, "none", "#fff")
    if sign:
        yield Shape(steps, "none", colour(sign), opacity=share)
    dash = (4.0, 2.5) if sign < 0 else ()
    yield Shape(steps, rim, "none", 1.6 if strong else 1.1, dash, 1.0, tip, "node")
    if kind >= KINDS:
        yield Shape(outline(at, kind, 0.75), rim, "none", 1.0)


def _longest(scene: Scene) -> int:
    return max((len(clean(str(scene.graph.labels[node]))) for node in scene.nodes), default=0)


def _labels(scene: Scene, spots: Mapping[int, Point], tags: Sequence[Word]) -> Iterator[Word]:
    """Short labels inside, long ones beside their nodes where there is room."""
    graph = scene.graph
    fits = SHORT if _longest(scene) <= SHORT and len(graph.node_types) == 1 else SHORT - 1
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in spots.values()]
    taken += [(x - 6, y - 7, x + 6, y + 7) for x, y in (tag.at for tag in tags)]
    order = sorted(scene.nodes, key=lambda n: (n not in graph.marked, n not in scene.strong_nodes))
    for node in order:
        label = clean(str(graph.labels[node]))
        tint = INK if node in scene.strong_nodes else SOFT
        x, y = spots[node]
        if len(label) <= fits:
            size = 12.0 if len(label) <= 3 else 9.5
            yield Word(label, (x, y), size, tint, tip=label)
            continue
        if len(label) > LONGEST:
            label = label[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
        word = Word(label, (x, y), 11.0, tint, halo=True, bold=node in graph.marked)
        half, far = word.width / 2, RADIUS + (14 if node in graph.marked else 9)
        for place, anchor, box in (
            ((x, y + far), "middle", (x - half, y + far - 6, x + half, y + far + 6)),
            ((x, y - far), "middle", (x - half, y - far - 6, x + half, y - far + 6)),
            ((x + far, y), "start", (x + far, y - 6, x + far + 2 * half, y + 6)),
            ((x - far, y), "end", (x - far - 2 * half, y - 6, x - far, y + 6)),
        ):
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield Word(label, place, 11.0, tint, anchor, True, node in graph.marked)
                break


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
