"""Graph models of PyTorch Geometric: node features and messages, at node, edge or graph level."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import (
    Attribution,
    Cat,
    Domain,
    Example,
    ForwardError,
    IGError,
    InputError,
    Layout,
    OutputError,
    Rows,
    Stack,
    Units,
    UnknownNameError,
)
from ig_graphs import view
from ig_graphs.edges import masked_messages

Explained = Literal["x", "edges"]
Level = Literal["node", "edge", "graph"]
Index = int | tuple[int, int] | None

_PAIR = "edge_label_index"
_OWN = ("x", "edges", "edge_index", "batch", "batch_size", _PAIR)
_NODE = "explained node"  # No identifier, so that no argument of a model can have this name.
_CLASSES = "explained classes"


class GraphDomain(Domain):
    """One ``Data``, a list of them or a ``Batch``; the model takes ``x`` and ``edge_index``.

    The model is called by keyword. Whatever else its ``forward`` names is taken from the data
    (``edge_attr``, ``edge_weight``, ``pos``, ...) and shares a batch as PyG would collate it;
    ``batch`` is the batch vector. The input ``"edges"`` is one number per edge that multiplies
    its messages and moves from 0 to 1. Nodes are called by ``data.labels`` if there are any::

        ig.attribute(model, data, level="node", index=4, explain=("x", "edges"))

    A target is an output; without one a classifier's margin is explained: the output of the
    predicted class at that place minus that of the runner-up. A single output is explained as it
    is.

    Args:
        explain: what moves along the path: ``"x"``, ``"edges"``, or both at once in a tuple.
        level: whether the output has a row per graph, per node, or per pair of nodes in
            ``edge_label_index``.
        index: the explained node, or pair of nodes; a list has one per graph, or several of
            a single graph. A pair ``(data, index)`` among the inputs brings its own.
    """

    name = "graphs"
    requires = ("torch_geometric",)
    extra = "ig-core[graphs]"

    def __init__(
        self,
        model: Any,
        *,
        explain: Explained | Sequence[Explained] = ("x",),
        level: Level = "graph",
        index: Index | list[Index] = None,
    ) -> None:
        super().__init__(model)
        explain = (explain,) if isinstance(explain, str) else explain
        if not isinstance(explain, Collection) or not explain:
            raise InputError(
                f"explain takes ('x',), ('edges',) or ('x', 'edges') (got {explain!r})"
            )
        for kind, names, known in (
            ("part of a graph to explain", explain, get_args(Explained)),
            ("level", [level], get_args(Level)),
        ):
            if unknown := [name for name in names if name not in known]:
                raise UnknownNameError(kind, str(unknown[0]), known)
        self.explain = tuple(name for name in ("x", "edges") if name in explain)
        self.level = level
        self.index = index
        self.named, self.needed = _parameters(model)
        if level == "edge" and _PAIR not in self.named:
            raise InputError(
                "level='edge' needs a model that takes edge_label_index, the pairs of nodes to "
                f"score (its forward takes {', '.join(self.named)})"
            )
        # Without a batch vector the model cannot tell graphs apart: one at a time.
        alone = level == "graph" and "batch" not in self.named
        self.layouts: dict[str, Layout] = {
            "x": Cat(capacity=1) if alone else Cat(),
            "edges": Cat(),
            "edge_index": Cat(dim=1, into="x"),
            _NODE: Cat(into="x"),
            _PAIR: Cat(dim=1, into="x"),
            _CLASSES: Stack(),
        }

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from torch_geometric.data import Data

        parts = raw if isinstance(raw, list) else [raw]
        graphs = [part[0] if isinstance(part, tuple) and part else part for part in parts]
        return callable(model) and bool(graphs) and all(isinstance(g, Data) for g in graphs)

    def split(self, raw: Any) -> Sequence[Any] | None:
        from torch_geometric.data import Batch

        graphs = raw.to_data_list() if isinstance(raw, Batch) else raw
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

    def encode(self, raw: Any, target: Any = None) -> Example:
        data, index = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, self.index)
        x, edge_index = _checked_graph(data)
        mask = torch.ones(
            edge_index.size(1), dtype=x.dtype if x.is_floating_point() else None, device=x.device
        )
        inputs = {n: v for n, v in (("x", x), ("edges", mask)) if n in self.explain}
        context = {} if "x" in inputs else {"x": x}
        context |= {"edge_index": edge_index, **self._extras(data, len(x))}
        chosen = self._chosen(index, len(x))
        if chosen:
            where = torch.tensor(chosen, device=x.device)
            context |= {_NODE: where} if self.level == "node" else {_PAIR: where.view(2, 1)}
        nodes = _labels(data, len(x))
        margin = target is None and x.is_floating_point()
        classes = self._classes({**inputs, **context}) if margin else [-1, -1]
        return Example(
            inputs,
            context | {_CLASSES: torch.tensor(classes, device=x.device)},
            target,
            _units(inputs, nodes, edge_index),
            {
                "explained": _told(target, classes) + _at(chosen, nodes),
                "level": self.level,
                "index": chosen,
                "explain": list(self.explain),
                "nodes": nodes or [str(i) for i in range(len(x))],
                "node_types": [["", len(x)]],
                "edges": edge_index.t().tolist() if edge_index.size(1) <= view.MOST_EDGES else [],
                "relations": [[["", "", ""], edge_index.size(1)]],
            },
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        tensors = {name: rows[name] for name in self.layouts if name in rows}
        outputs = self._outputs(tensors, rows.owners("x"), len(rows))
        classes = rows[_CLASSES]
        if bool((classes >= 0).all()):
            if outputs.dim() != 2 or len(outputs) != len(rows):
                raise OutputError(
                    f"the model must give one row of classes per graph, here {len(rows)} "
                    f"(got shape {tuple(outputs.shape)})"
                )
            first, second = outputs.gather(1, classes).unbind(1)
            return rows.select(first - second)
        return rows.select(outputs)

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        rest = super().render(attribution, fmt)
        return view.drawing(attribution) + rest if fmt == "html" else rest

    @contextmanager
    def prepared(self) -> Iterator[None]:
        with super().prepared(), _without_caches(self.modules()):
            yield

    def _outputs(
        self, tensors: dict[str, Any], batch: Int[Tensor, " nodes"], graphs: int
    ) -> Float[Tensor, "graphs ..."]:
        """What the model says at the explained place of every graph."""
        own = {"batch": batch, "batch_size": graphs}
        given = {n: v for n, v in (tensors | own).items() if n in self.named and n != "edges"}
        with ExitStack() as stack:
            if "edges" in self.explain:
                edges = tensors["edge_index"], tensors["edges"]
                stack.enter_context(masked_messages(self.modules(), *edges, len(batch)))
            outputs = self.model(**given)
        if not isinstance(outputs, Tensor):
            raise OutputError(f"the model must give one tensor (got {type(outputs).__name__})")
        if self.level != "node":
            return outputs
        if outputs.dim() == 0 or len(outputs) != len(batch):
            raise OutputError(
                f"level='node' needs an output row per node: expected {len(batch)} for the "
                f"{graphs} graphs of this pass (got shape {tuple(outputs.shape)})"
            )
        return outputs[tensors[_NODE]]

    def _classes(self, tensors: dict[str, Any]) -> list[int]:
        """The predicted class of one graph and the runner-up; -1 where there are no classes."""
        batch = tensors["x"].new_zeros(len(tensors["x"]), dtype=torch.long)
        try:
            with self.prepared(), torch.no_grad():
                outputs = self._outputs(tensors, batch, 1)
        except IGError:
            raise
        except Exception as error:
            told = f"{type(error).__name__} on a graph of {len(batch)} nodes: {error}"
            raise ForwardError(f"the model raised {told}") from error
        several = outputs.dim() == 2 and len(outputs) == 1 and outputs.size(1) > 1
        return outputs[0].topk(2).indices.tolist() if several else [-1, -1]

    def _chosen(self, index: Any, nodes: int) -> list[int]:
        """The explained node, or the pair of them, or none."""
        wanted = {"graph": 0, "node": 1, "edge": 2}[self.level]
        if wanted == 0 and index is not None:
            raise InputError(f"level='graph' explains the whole graph (got index={index!r})")
        try:
            several = [] if index is None else index if wanted == 2 else [index]
            chosen = [operator.index(i) for i in several if not isinstance(i, bool)]
        except TypeError:
            chosen = []
        if len(chosen) != wanted:
            what = "a pair of nodes (u, v)" if wanted == 2 else "the number of a node"
            raise InputError(f"level={self.level!r} needs index, {what} (got {index!r})")
        if not all(0 <= i < nodes for i in chosen):
            raise InputError(f"index must lie in 0 to {nodes - 1}, the nodes (got {index!r})")
        return chosen

    def _extras(self, data: Any, nodes: int) -> dict[str, Tensor]:
        """What else the model names and the data has, batched by the rules of PyG."""
        extras = {}
        for name in self.named:
            if name in _OWN:
                continue
            value = data.get(name)
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                if name in self.needed:
                    raise InputError(
                        f"the model needs {name!r}, a dense tensor, beside x and edge_index "
                        f"(the data has {', '.join(sorted(data.keys()))})"
                    )
                continue
            extras[name] = value if value.dim() else value.view(1)
            dim, step = data.__cat_dim__(name, value), data.__inc__(name, value)
            if isinstance(step, Tensor) or step not in (0, nodes):
                raise InputError(
                    f"{name!r} counts something else than nodes in a batch (its __inc__ is "
                    f"{step}); only positions of nodes can be shifted"
                )
            self.layouts[name] = (
                Stack() if dim is None else Cat(dim=dim, into="x" if step else None)
            )
        return extras


def _parameters(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a model can be called with by keyword, and what of it has no default.

    Raises:
        InputError: ``x`` and ``edge_index`` are not among it.
    """
    call = model.forward if isinstance(model, nn.Module) else model
    kinds = inspect.Parameter
    own = [
        p
        for p in inspect.signature(call).parameters.values()
        if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    named = tuple(p.name for p in own)
    if not {"x", "edge_index"} <= set(named):
        raise InputError(
            "a graph model is called as model(x=..., edge_index=...); its forward takes "
            f"({', '.join(named)}). Wrap it in an nn.Module whose forward takes x and edge_index"
        )
    return named, tuple(p.name for p in own if p.default is kinds.empty)


def _checked_graph(data: Any) -> tuple[Tensor, Int[Tensor, "2 edges"]]:
    """Node features and edges of one graph.

    Raises:
        InputError: they are missing or do not fit each other.
    """
    from torch_geometric import EdgeIndex
    from torch_geometric.data import Batch, Data

    if not isinstance(data, Data) or isinstance(data, Batch):
        raise InputError(
            f"a graph is a torch_geometric.data.Data, or a pair (Data, index) "
            f"(got {type(data).__name__})"
        )
    x, edge_index = data.x, data.edge_index
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"a graph needs node features x, one row per node (got {got})")
    if not isinstance(edge_index, Tensor):
        raise InputError(
            f"a graph needs edge_index (got {type(edge_index).__name__}); without edges it is "
            "torch.empty(2, 0, dtype=torch.long), and an adj_t has to be given as edge_index"
        )
    if edge_index.dtype != torch.long or edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise InputError(
            "edge_index must be torch.int64 of shape (2, edges) "
            f"(got {edge_index.dtype} of shape {tuple(edge_index.shape)})"
        )
    outside = ((edge_index < 0) | (edge_index >= len(x))).any(0).nonzero().view(-1)
    if len(outside):
        edge = int(outside[0])
        raise InputError(
            f"edge_index must hold nodes from 0 to {len(x) - 1} "
            f"(got {edge_index[:, edge].tolist()} at edge {edge})"
        )
    # The metadata of an EdgeIndex (sorted, sizes) would not hold for a union of graphs.
    return x, edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def _labels(data: Any, nodes: int) -> list[str]:
    labels = [str(label) for label in data["labels"]] if "labels" in data else []
    if labels and len(labels) != nodes:
        raise InputError(f"data.labels must have one entry per node, {nodes} (got {len(labels)})")
    return labels


def _told(target: Any, classes: Sequence[int]) -> str:
    """What is explained, in words."""
    if callable(target):
        return getattr(target, "__name__", "a function of the output")
    if target is not None:
        return f"output {target}"
    first, second = classes
    return "the output" if first < 0 else f"output {first} (predicted) minus output {second}"


def _at(chosen: Sequence[int], nodes: Sequence[str]) -> str:
    """Where in the graph."""
    names = [nodes[i] if nodes else f"node {i}" for i in chosen]
    return f" at {' and '.join(names)}" if names else ""


def _units(
    inputs: Mapping[str, Tensor], nodes: Sequence[str], edge_index: Int[Tensor, "2 edges"]
) -> Units:
    """Nodes, then edges."""
    labels: list[str] = []
    index = {}
    if "x" in inputs:
        count = len(inputs["x"])
        index["x"] = torch.arange(count)
        labels += nodes or [f"node {i}" for i in range(count)]
    if "edges" in inputs:
        pairs = edge_index.t().tolist()
        index["edges"] = torch.arange(len(pairs)) + len(labels)
        labels += [f"{nodes[u]}-{nodes[v]}" if nodes else f"edge {u}-{v}" for u, v in pairs]
    kind = "part" if len(index) > 1 else "node" if "x" in index else "edge"
    return Units(labels, index, kind)


@contextmanager
def _without_caches(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Layers compute anew what they cached for the graph they saw first; restored outside."""
    every = {m for root in modules for m in root.modules() if vars(m).get("cached") is True}
    kept = [
        (module, name, value)
        for module in every
        for name, value in vars(module).items()
        if name == "cached" or name.startswith("_cached_")
    ]
    try:
        for module, name, _ in kept:
            setattr(module, name, False if name == "cached" else None)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
