"""Paths in two legs: features first and then edges, or the other way round.

On a straight path features and edges move together and share what they do together. In two legs
each has a difference of its own: what the features do while the edges are silent, say, and then
what the edges do with the features in place. Every leg is complete for its own difference, and
the answers differ from those of the straight path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from ig_core import Example, InputError, Straight

Inputs = Mapping[str, Tensor]


class Legs(Straight):
    """Two straight legs: what belongs to edges stands still on one and moves on the other."""

    fits = ("graphs",)
    edges_first: ClassVar[bool]
    corner: ClassVar[str]
    """What F between the legs is called."""

    def legs(self, example: Example, start: Inputs) -> Sequence[tuple[Inputs, Inputs]]:
        of_edges = set(example.display["of_edges"])
        if not 0 < len(of_edges) < len(example.inputs):
            raise InputError(
                f"path={self.name!r} needs features of nodes and edges to explain, such as "
                f"explain=('x', 'edges') (got {', '.join(example.inputs)})"
            )
        corner = {
            name: end if (name in of_edges) == self.edges_first else start[name]
            for name, end in example.inputs.items()
        }
        return [(start, corner), (corner, example.inputs)]


class FeaturesThenEdges(Legs):
    """From the baseline to the features without edges, and from there to the graph.

    A sum of messages is nothing without edges, so that all of it is theirs:

    >>> options = {"level": "node", "index": 0, "explain": ("x", "edges")}
    >>> result = ig.attribute(sums, star, path=FeaturesThenEdges(), **options)
    >>> result.tensors["x"].flatten().tolist(), result.tensors["edges"].tolist()
    ([0.0, 0.0, 0.0, 0.0], [2.0, -4.0, 8.0])
    """

    name = "x-then-edges"
    edges_first = False
    corner = "F(x, edges off)"


class EdgesThenFeatures(Legs):
    """From the baseline to the edges between baseline nodes, and from there to the graph.

    Messages of zeros sum to nothing, so that all of a sum is the features':

    >>> options = {"level": "node", "index": 0, "explain": ("x", "edges")}
    >>> result = ig.attribute(sums, star, path=EdgesThenFeatures(), **options)
    >>> result.tensors["x"].flatten().tolist(), result.tensors["edges"].tolist()
    ([0.0, 2.0, -4.0, 8.0], [0.0, 0.0, 0.0])
    """

    name = "edges-then-x"
    edges_first = True
    corner = "F(x', edges on)"
