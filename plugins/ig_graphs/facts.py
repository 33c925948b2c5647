"""Facts beside a result: F of the graph without its edges, and F between the legs of a path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ig_core import Attribution, Example, IGError, Task
from ig_graphs.graph import Graph
from ig_graphs.paths import Legs
from ig_graphs.scored import tensor_name

EDGELESS = "F(edgeless)"
"""F of the graph without any edge, with all else as it is at the baseline."""

UNKNOWN = "unknown, because the model cannot be asked"


def masked(inputs: Mapping[str, Tensor]) -> bool:
    """Whether edges are among what is explained."""
    return any(name.rpartition(".")[2] == "edges" for name in inputs)


def edgeless(attribution: Attribution) -> float | None:
    """F(edgeless) of a result, to five digits: NaN if the model fails, None if it is not told."""
    told = attribution.display.get("facts", {}).get(EDGELESS)
    if told is None:
        return None
    return math.nan if told.startswith(UNKNOWN) else float(told)


def added(task: Task, results: Sequence[Attribution], graph: Graph) -> Sequence[Attribution]:
    """The results of a task with these facts, wherever edges are explained."""
    if not results or not masked(task.examples[0].inputs):
        return results
    found = {EDGELESS: _edgeless(task, graph)}
    if isinstance(task.path, Legs):
        found[task.path.corner] = _corner(task)
    return [
        replace(r, display={**r.display, "facts": {name: told[i] for name, told in found.items()}})
        for i, r in enumerate(results)
    ]


def _edgeless(task: Task, graph: Graph) -> Sequence[str]:
    dims = {tensor_name(r, "edge_index"): 1 for r in graph.edges}
    dims |= {column.key: 0 for column in graph.columns if column.kind in graph.edges}
    masks = {tensor_name(r, "edges") for r in graph.edges}

    def without(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: value.narrow(value.dim() - 1 if name in masks else dims[name], 0, 0)
            if name in masks or name in dims
            else value
            for name, value in tensors.items()
        }

    examples = [
        replace(e, inputs=without(e.inputs), context=without(e.context), units=None)
        for e in task.examples
    ]
    return _values(task, examples, [without(starts[0]) for starts in task.starts])


def _corner(task: Task) -> Sequence[str]:
    ends = zip(task.examples, task.starts, strict=True)
    return _values(task, task.examples, [task.path.legs(e, starts[0])[0][1] for e, starts in ends])


def _values(
    task: Task, examples: Sequence[Example], points: Sequence[Mapping[str, Tensor]]
) -> Sequence[str]:
    try:
        return [f"{value:.5g}" for value in task.values_of(examples, points).tolist()]
    except IGError as error:
        return [f"{UNKNOWN}: {error}"] * len(examples)
