"""The pictures of one attribution: a fragment for a page, an SVG, a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ig_core import Attribution, InputError, StorageError
from ig_graphs.findings.influences import influences
from ig_graphs.scored import ScoredGraph, scored
from ig_graphs.view.canvas import Canvas
from ig_graphs.view.features import feature_bars
from ig_graphs.view.layers import MOST_DRAWN, Layer, layers
from ig_graphs.view.molecule import Molecule, molecule
from ig_graphs.view.network import network
from ig_graphs.view.pages import rendered
from ig_graphs.view.scene import Scene, scene

MOST_EDGES = 100_000
"""Edges that a result remembers for its drawing; a larger graph is shown as bars only."""

GAMES = {
    "message": "message: what travels along an edge is silenced, and the layers' coefficients stay "
    "those of the full graph",
    "existence": "existence: an edge is taken away, and the layers' coefficients are those of the "
    "graph without it",
}
"""What it means that an edge is gone."""


def drawing(attribution: Attribution) -> str:
    """An HTML fragment: the graph, its features and layers, and how far to trust them.

    Nothing if the graph was too large to be kept with the result.
    """
    try:
        graph = scored(attribution)
    except InputError:
        return ""
    found = scene(graph)
    drawn = molecule(attribution, graph)
    by_layer = layers(attribution, graph)
    rows = influences(attribution) if graph.features else None
    status = (attribution.card().facts or {})["status"]
    trusted = attribution.converged or attribution.status == "one_shot"
    return rendered(
        "graph.html",
        parts=_parts(graph),
        explained=str(attribution.display.get("explained", "the output")),
        warning="" if trusted else status,
        notes=_notes(graph),
        graph=Markup(network(found, _title(attribution, found)).svg()),
        caption=_caption(attribution, found),
        molecule=drawn
        and {
            "svg": Markup(drawn.svg()),
            "atoms": drawn.atom_limit,
            "bonds": drawn.bond_limit,
        },
        layers=by_layer,
        panels=_panels(found, by_layer),
        features=feature_bars(graph),
        influences=rows if rows is not None and rows.rows else None,
        routed=bool(graph.marked),
        facts=_facts(attribution),
    )


def svg(attribution: Attribution, *, hops: int | None = None, top: int | None = None) -> str:
    """The graph as one SVG: a molecule as chemists draw it, anything else as nodes and lines.

    Width and fullness are magnitudes; red raises the output, blue (dashed) lowers it.

    >>> drawn = svg(edges, top=1)
    >>> drawn.startswith("<svg"), "graph of the output at a" in drawn
    (True, True)

    Args:
        attribution: a result of the domain ``"graphs"``.
        hops: draw what is at most so many edges away from the explained node, 60 nodes at most;
            without it the nodes with the largest scores on and around them are drawn, as many as
            hold 95 % of all.
        top: so many edges (nodes, where no edge was explained) stand out from the pale others;
            the fewest that hold 80 % of all magnitude if not given.

    Raises:
        InputError: the result is not of a graph, its graph was too large to be kept, or an option
            is no whole number. A molecule with ``hops`` or ``top`` is drawn as nodes and lines.
    """
    drawn = _drawn(attribution, hops, top)
    return drawn.svg()


def picture(
    attribution: Attribution,
    path: str | Path,
    *,
    hops: int | None = None,
    top: int | None = None,
) -> Path:
    """Write the picture of :func:`svg` to a file, as SVG or PNG by its suffix.

    >>> picture(edges, "star.svg").read_text("utf-8") == svg(edges)
    True

    Raises:
        InputError: as :func:`svg`, or the suffix is another.
        MissingFrameworkError: a PNG of nodes and lines needs matplotlib (extra ``viz``).
        StorageError: the file cannot be written.
    """
    place = Path(path)
    if place.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"a picture is written to a .svg or a .png file (got {str(path)!r})")
    drawn = _drawn(attribution, hops, top)
    try:
        if place.suffix.lower() == ".svg":
            place.write_text(drawn.svg(), encoding="utf-8")
        elif isinstance(drawn, Molecule):
            place.write_bytes(drawn.png())
        else:
            drawn.png(place)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error}") from error
    return place


def _drawn(attribution: Attribution, hops: int | None, top: int | None) -> Canvas | Molecule:
    graph = scored(attribution)
    if hops is None and top is None and (drawn := molecule(attribution, graph)) is not None:
        return drawn
    found = scene(graph, hops=hops, top=top)
    return network(found, _title(attribution, found))


def _title(attribution: Attribution, found: Scene) -> str:
    explained = attribution.display.get("explained", "the output")
    return f"graph of {explained}, {_shown(found)}"


def _shown(found: Scene) -> str:
    return f"{len(found.nodes)} of {len(found.graph.labels)} nodes"


def _caption(attribution: Attribution, found: Scene) -> str:
    """What is not drawn."""
    parts = [_shown(found)] if len(found.nodes) < len(found.graph.labels) else []
    if part := attribution.display.get("part"):
        beyond = sum(part["sizes"]) - len(found.graph.labels)
        parts.append(f"{beyond} more nodes of the graph cannot matter to what is explained")
    if found.left_out:
        parts.append(f"{found.left_out} lines of smaller magnitude are left out")
    if not found.directed and any(line.back for line in found.lines):
        parts.append("a line is an edge both ways: as wide as both magnitudes, coloured by the sum")
    elif any(line.forth and line.back and line.source != line.target for line in found.lines):
        parts.append("a line with two heads is an edge each way: as wide as both magnitudes")
    return "; ".join(parts)


def _parts(graph: ScoredGraph) -> str:
    known = [("nodes", graph.nodes), ("edges", graph.edges)]
    return " and ".join(name for name, scores in known if scores is not None) or "parts"


def _notes(graph: ScoredGraph) -> Sequence[str]:
    """What a reader would take for a finding, though it follows from the baseline."""
    if graph.nodes is None or not len(graph.nodes) or bool((graph.nodes != 0).any()):
        return []
    if any(bool((values != 0).any()) for values in graph.features.values()):
        return []
    told = "Every node gets exactly 0, as nodes do whose features equal those of the baseline. "
    return [told + ("Explain the edges as well." if graph.edges is None else "Read the edges.")]


def _panels(found: Scene, by_layer: Sequence[Layer]) -> Sequence[Markup]:
    """The same nodes at the same places for every layer, on one scale."""
    if len(by_layer) > MOST_DRAWN:
        return []
    scenes = [scene(layer.graph, nodes=found.nodes) for layer in by_layer]
    scale = max((one.line_limit for one in scenes), default=0.0)
    return [
        Markup(
            network(
                scene(layer.graph, nodes=found.nodes, scale=scale), f"layer {number}", legend=False
            ).svg()
        )
        for number, layer in enumerate(by_layer, 1)
    ]


def _facts(attribution: Attribution) -> dict[str, str]:
    """What was played; F and the residual stand in the card below."""
    facts = {}
    if game := attribution.display.get("game"):
        facts["game"] = GAMES.get(game, str(game))
    for name in ("path", "baseline", "method"):
        value = attribution.provenance.get(name)
        if isinstance(value, str):
            facts[name] = value
    return facts
