"""What a graph's attribution looks like: the drawing, the features, the layers, the molecule."""

from ig_graphs.view.pictures import MOST_EDGES, drawing, picture, svg

__all__ = ["MOST_EDGES", "drawing", "picture", "svg"]
