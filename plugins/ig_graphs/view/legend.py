"""The legend beneath a drawing: every mark in it with its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ig_core import clean
from ig_graphs.view.canvas import Canvas, Shape, Word, circle, line
from ig_graphs.view.marks import (
    DASH,
    GREY,
    INK,
    KINDS,
    LONGEST,
    MARGIN,
    PALE,
    SOFT,
    colour,
    letters,
    outline,
)
from ig_graphs.view.scene import Scene


def legend_beneath(canvas: Canvas, scene: Scene) -> None:
    """Rows of samples, each with its words."""
    x, y = MARGIN / 2, canvas.height
    for samples, text in _entries(scene):
        wide = (42.0 if samples else 0.0) + Word(text, (0, 0), 12).width + 20
        if x > MARGIN / 2 and x + wide > canvas.width - MARGIN / 2:
            x, y = MARGIN / 2, y + 26
        canvas.items += [_moved(sample, x + 18, y) for sample in samples]
        start = x + 42 if samples else x
        canvas.items.append(Word(text, (start, y), 12, SOFT, "start"))
        x += wide
    canvas.height = y + 22


def _entries(scene: Scene) -> Iterator[tuple[Sequence[Shape | Word], str]]:
    """Samples around (0, 0), and what they mean."""
    graph = scene.graph
    nodes, lines = scene.node_limit, scene.line_limit
    if nodes or lines:
        for sign, text in ((1, "raises the output"), (-1, "lowers it")):
            dash = DASH if sign < 0 else ()
            yield [Shape(line((-16, 0), (16, 0)), colour(sign), width=5, dash=dash)], text
        if lines:
            yield [], f"widest line: {lines:.3g}"
        if nodes:
            yield [], f"fullest colour of a node: {nodes:.3g}"
    else:
        yield [], "every number is 0"
    if len(scene.strong_lines) < len(scene.lines) or len(scene.strong_nodes) < len(scene.nodes):
        yield [Shape(line((-16, 0), (16, 0)), GREY, width=3, opacity=PALE)], "not among the largest"
    if graph.marked:
        yield [Shape(circle((0, 0), 10), INK, width=2.6)], "explained"
    if len(graph.node_types) > 1:
        for kind in sorted({int(graph.node_type[node]) for node in scene.nodes}):
            samples = [Shape(outline((0, 0), kind, 0.65), "#4a4f55", "#fff", 1.6)]
            if kind >= KINDS:
                samples.append(Shape(outline((0, 0), kind, 0.45), "#4a4f55", "none", 1.0))
            yield samples, _short(graph.node_types[kind])
    for relation, letter in letters(scene).items():
        source, name, target = graph.relations[relation]
        back = any(one.back and one.relation == relation for one in scene.lines)
        arrow = "\N{LEFT RIGHT ARROW}" if back and source != target else "\N{RIGHTWARDS ARROW}"
        ends = f" ({_short(source)} {arrow} {_short(target)})" if source or target else ""
        text = _short(name) + ends
        yield [Word(letter, (0, 0), 13, INK, bold=True)], text


def _short(name: str) -> str:
    plain = clean(name)
    return plain if len(plain) <= 2 * LONGEST else plain[: 2 * LONGEST - 1] + "\u2026"


def _moved(item: Shape | Word, x: float, y: float) -> Shape | Word:
    if isinstance(item, Word):
        return Word(item.text, (x, y), item.size, item.colour, item.anchor, item.halo, item.bold)
    steps = [(command, [(a + x, b + y) for a, b in points]) for command, points in item.steps]
    return Shape(steps, item.stroke, item.fill, item.width, item.dash, item.opacity)
