"""Graph models of PyTorch Geometric: nodes, edges and their features, at every level."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import (
    Attribution,
    Domain,
    Example,
    InputError,
    Layout,
    OutputError,
    Rows,
    Selector,
    Stack,
    Task,
    Units,
    UnknownNameError,
)
from ig_graphs import facts, view
from ig_graphs.caches import without_caches
from ig_graphs.games import Game
from ig_graphs.graph import COUNT
from ig_graphs.model import GraphModel
from ig_graphs.place import Level
from ig_graphs.scored import Relation, tensor_name
from ig_graphs.session import Seen, Session
from ig_graphs.units import regrouped, units_of
from ig_graphs.whole import within

CLASSES = "explained classes"
"""No identifier, so that no argument of a model can have this name."""


class GraphDomain(Domain):
    """One ``Data`` or ``HeteroData``, a list of them or a ``Batch``.

    The model is called by keyword: every argument of its ``forward`` gets what the data has under
    that name (``x``, ``edge_index``, ``edge_attr``, ``pos``, ..., or ``x_dict`` and so on where
    nodes have types); ``batch`` is the batch vector, and a model with the one argument ``data``
    gets a ``Batch``. A sparse adjacency is turned into an ``edge_index``. ``"edges"`` is one number
    per edge that goes from 0 to 1::

        ig.attribute(model, data, level="node", index=4, explain=("x", "edges"))

    A sum of messages, of nodes b, c and d with the features 2, -4 and 8, at node a:

    >>> domain = GraphDomain(sums, level="node", index=0, explain="edges")
    >>> result = ig.attribute(sums, star, domain=domain)
    >>> list(zip(result.units.labels, result.values.tolist()))
    [('b-a', 2.0), ('c-a', -4.0), ('d-a', 8.0)]

    Nodes are called by ``data.labels`` and features by ``data.feature_names``, if there are any. A
    target is an output; without one a classifier's margin is explained: the output of the
    predicted class at that place minus that of the runner-up. A single output is explained as it
    is.

    Args:
        explain: what moves along the path: any of ``"x"``, ``"edges"``, ``"edge_attr"``,
            ``"edge_weight"`` and other tensors that the model takes, for all types of nodes and
            edges, or for one as in ``"paper.x"`` and ``"author__writes__paper.edges"``.
        level: whether the output has a row per graph, per node, or per pair of nodes in
            ``edge_label_index``.
        index: the explained node, or pair of nodes, as ``("paper", 4)`` where nodes have types; a
            list has one per graph, or several of a single graph. A pair ``(data, index)`` among
            the inputs brings its own.
        game: what no edge means: ``"message"``, nothing arrives along it but the layers'
            coefficients are those of the full graph; ``"existence"``, it is not there.
        per_layer: one mask per edge and layer; the values have the shape ``(layers, edges)`` and
            their sum over the layers is what one mask for all gives.
        restrict: leave out what the explained node cannot depend on, exactly.
        output: which part of a tuple or dict that the model returns: key, position or function.
    """

    name = "graphs"
    requires = ("torch_geometric",)
    extra = "ig-core[graphs]"

    def __init__(
        self,
        model: Any,
        *,
        explain: str | Sequence[str] = ("x",),
        level: Level = "graph",
        index: Any = None,
        game: Game = "message",
        per_layer: bool = False,
        restrict: bool = True,
        output: Selector = None,
    ) -> None:
        super().__init__(model)
        several = (explain,) if isinstance(explain, str) else explain
        named = isinstance(several, Collection) and all(isinstance(one, str) for one in several)
        if not named or not several:
            raise InputError(
                "explain takes one or several names, such as 'x', 'edges', 'edge_attr' or "
                f"'edge_weight' (got {explain!r})"
            )
        for kind, name, known in (("level", level, Level), ("game of edges", game, Game)):
            if name not in get_args(known):
                raise UnknownNameError(kind, str(name), get_args(known))
        if per_layer and game != "message":
            raise InputError("per_layer=True needs game='message': an edge exists for all layers")
        if (per_layer or game != "message") and not any(map(_is_of_edges, several)):
            option = "per_layer=True" if per_layer else f"game={game!r}"
            raise InputError(
                f"{option} is about edges, and none are explained: pass explain='edges' or "
                f"('x', 'edges') (got {explain!r})"
            )
        self.explain = tuple(dict.fromkeys(several))
        self.level = level
        self.index = index
        self.game = game
        self.per_layer = per_layer
        self.restrict = restrict
        self.output = output
        self.layouts: dict[str, Layout] = {CLASSES: Stack()}
        self._calls, self._thread = 0, 0
        self._session = self._begun()
        self._model: GraphModel | None = None

    def _begun(self) -> Session:
        return Session(
            self.model,
            self.modules(),
            level=self.level,
            game=self.game,
            output=self.output,
            restrict=self.restrict,
            moving=self.explain,
        )

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from torch_geometric.data import Data, Dataset, HeteroData

        parts = raw if isinstance(raw, list) else [raw[0] if isinstance(raw, Dataset) else raw]
        graphs = [part[0] if isinstance(part, tuple) and part else part for part in parts]
        known = all(isinstance(graph, (Data, HeteroData)) for graph in graphs)
        return callable(model) and bool(graphs) and known

    def split(self, raw: Any) -> Sequence[Any] | None:
        from torch_geometric.data import Batch, Dataset

        graphs = raw.to_data_list() if isinstance(raw, Batch) else raw
        graphs = [*graphs] if isinstance(graphs, Dataset) else graphs
        if not isinstance(self.index, list):
            return graphs if isinstance(graphs, list) else None
        if not isinstance(graphs, list):
            return [(graphs, index) for index in self.index]
        if len(graphs) != len(self.index):
            raise InputError(
                f"index must have one entry for each of {len(graphs)} graphs "
                f"(got {len(self.index)})"
            )
        return list(zip(graphs, self.index, strict=True))

    @contextmanager
    def prepared(self) -> Iterator[None]:
        self._check_initialized()
        with super().prepared(), without_caches(self.modules()):
            self._calls += 1
            self._thread = get_ident()
            try:
                yield
            finally:
                self._calls -= 1
                if not self._calls:  # the user may change the graphs before the next call
                    self._session = self._begun()

    def _check_initialized(self) -> None:
        """Refuse a model whose sizes are not known yet, as those of ``GCNConv(-1, 16)``."""
        for name, parameter in (p for m in self.modules() for p in m.named_parameters()):
            if isinstance(parameter, nn.UninitializedParameter):
                raise InputError(
                    f"the model's parameter {name!r} is not initialized: call the model once with "
                    "the graph, as a size of -1 demands, and load or train its weights"
                )

    def _inside(self) -> bool:
        """Whether this thread has prepared the model."""
        return self._calls > 0 and self._thread == get_ident()

    def encode(self, raw: Any, target: Any = None) -> Example:
        data, index = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, self.index)
        with nullcontext() if self._inside() else self.prepared():
            seen = self._session.see(data, index)
            self._model = seen.model
            return self._example(seen, target)

    def _example(self, seen: Seen, target: Any) -> Example:
        tensors = seen.graph.tensors()
        device = next(iter(tensors.values())).device
        tensors |= seen.place.tensors(device)
        inputs = self._inputs(seen, tensors)
        # Without a batch vector the model cannot tell graphs apart: one at a time.
        alone = self.level == "graph" and not seen.model.call.takes("batch")
        self.layouts |= seen.graph.layouts(alone=alone, per_layer=self.per_layer)
        self.layouts |= seen.place.layouts()
        if self.game == "existence":
            self._session.check_existence(seen)
        classes = self._classes(seen) if target is None else [-1, -1]
        context = {name: value for name, value in tensors.items() if name not in inputs}
        units = units_of(seen.graph, inputs)
        if seen.part is not None:
            self._session.wholes.remember(units, seen.whole)
        kinds = seen.graph.kinds
        return Example(
            inputs,
            context | {CLASSES: torch.tensor(classes, device=device)},
            target,
            units,
            {
                "explained": _told(target, classes) + seen.origin.told(seen.whole),
                **({} if target is None or callable(target) else {"target": target}),
                "level": self.level,
                "index": [seen.graph.at(*node) for node in seen.place.nodes],
                "explain": list(self.explain),
                "of_edges": [name for name in inputs if isinstance(kinds.get(name), tuple)],
                **({"game": self.game} if facts.masked(inputs) else {}),
                **seen.graph.display(view.MOST_EDGES),
                **({} if seen.part is None else {"part": seen.part.display(seen.whole)}),
            },
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        model = self._model
        assert model is not None, "rows are made of examples, which come from encode"
        tensors = {name: rows[name] for name in self.layouts if name in rows}
        classes = rows[CLASSES]
        owners = {t: rows.owners(tensor_name(t, COUNT)) for t in model.graph.sizes}
        outputs = model(tensors, owners, len(rows))
        if bool((classes >= 0).all()):
            if outputs.dim() != 2 or len(outputs) != len(rows):
                raise OutputError(
                    f"the model must give one row of classes per graph, here {len(rows)} "
                    f"(got shape {tuple(outputs.shape)})"
                )
            first, second = outputs.gather(1, classes).unbind(1)
            return rows.select(first - second)
        return rows.select(outputs)

    def finish(self, task: Task, results: Sequence[Attribution]) -> Sequence[Attribution]:
        """The results with what F is without edges, and with the values of the whole graph."""
        graph = None if self._model is None else self._model.graph
        told = results if graph is None else facts.added(task, results, graph)
        return [self._session.wholes.completed(result) for result in told]

    def start(self, example: Example, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A start for the whole graph or for some inputs; all others start where they do alone."""
        named = isinstance(given, Mapping) and set(given) <= set(example.inputs)
        if not named or not given:
            return given
        return {**self.baseline(example), **within(example, given)}

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        rest = super().render(attribution, fmt)
        return view.drawing(attribution) + rest if fmt == "html" else rest

    @classmethod
    def regroup(cls, attribution: Attribution, by: Any) -> Units:
        """Other units of a graph.

        They are ``"part"``, all nodes and edges; ``"pair"``, the same with both directions of an
        edge together; ``"type"``, node types and relations; and ``"feature"``, every feature of
        every node, with the relation through which that node reaches what is explained.

        Raises:
            InputError: there is no such grouping.
        """
        return regrouped(attribution, by)

    def _inputs(self, seen: Seen, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What moves along the path: of nodes, then of edges, in the order of the graph."""
        graph = seen.graph
        found: dict[str, Tensor] = {}
        for name in self.explain:
            own = {tensor_name(r, "edges"): r for r in graph.edges}
            masks = {key: r for key, r in own.items() if name in ("edges", key)}
            columns = [column for column in graph.columns if name in (column.name, column.key)]
            found |= {key: self._mask(seen, r, tensors) for key, r in masks.items()}
            found |= {column.key: column.value for column in columns}
            if not masks and not columns:
                known = [column.key for column in graph.columns]
                if name in seen.model.call.known:
                    raise InputError(
                        f"the model is not given {name!r}, so that it cannot be explained: its "
                        f"forward takes {', '.join(seen.model.call.roles)}"
                    )
                raise UnknownNameError("part of this graph to explain", name, (*known, *own))
        for name, value in found.items():
            if not value.is_floating_point():
                raise InputError(
                    f"{name!r} has dtype {value.dtype}, along which there is no path: pass "
                    f"floating-point numbers (data.{name} = data.{name}.float()) if the model "
                    "takes them; of a model that embeds integers the edges can be explained "
                    "(explain='edges')"
                )
        return {name: found[name] for name in (*graph.kinds, *found) if name in found}

    def _mask(self, seen: Seen, relation: Relation, tensors: Mapping[str, Tensor]) -> Tensor:
        wide = (v.dtype for v in tensors.values() if v.is_floating_point())
        count, dtype = seen.graph.edges[relation].size(1), next(wide, torch.get_default_dtype())
        ones = seen.graph.edges[relation].new_ones(count, dtype=dtype)
        if not self.per_layer:
            return ones
        layers = self._session.layers(relation, seen)
        return ones.expand(layers, -1).contiguous()

    def _classes(self, seen: Seen) -> list[int]:
        """The predicted class of one graph and the runner-up; -1 where there are no classes."""
        outputs = self._session.output(seen)
        several = outputs.dim() == 1 and len(outputs) > 1
        return outputs.topk(2).indices.tolist() if several else [-1, -1]


def _is_of_edges(name: str) -> bool:
    return name.rpartition(".")[2] == "edges"


def _told(target: Any, classes: Sequence[int]) -> str:
    """What is explained, in words."""
    if callable(target):
        return getattr(target, "__name__", "a function of the output")
    if target is not None:
        return f"output {target}"
    first, second = classes
    return "the output" if first < 0 else f"output {first} (predicted) minus output {second}"
