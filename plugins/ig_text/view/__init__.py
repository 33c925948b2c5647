"""What a text's attribution looks like: on a page, in a terminal, as a matrix, beside another."""

from ig_text.view.console import show, terminal
from ig_text.view.generation import Matrix, matrix
from ig_text.view.heat import heat_map, line
from ig_text.view.pair import Comparison, comparison

__all__ = [
    "Comparison", "Matrix", "comparison", "heat_map", "line", "matrix", "show", "terminal",
]  # fmt: skip
