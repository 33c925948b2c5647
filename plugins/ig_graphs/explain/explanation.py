"""Results as explanations of torch_geometric: masks on nodes and edges beside the graph itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ig_core import Attribution, InputError
from ig_graphs.facts import edgeless
from ig_graphs.graph import read
from ig_graphs.scored import Kind, along, check_graph, kinds_of, tensor_name

MaskType = Literal["attributes", "object", "common_attributes"]
"""A number per feature of every node, per node, or per feature."""

NAMES: Mapping[str, str] = {"x": "node_mask", "edges": "edge_mask"}
"""What PyG calls the masks of these; others are called ``edge_attr_mask`` and so on."""

Parts = Mapping[tuple[Kind, str], Tensor]
"""The values of one result, by node type or relation and by attribute."""


def explanation(
    result: Attribution, data: Any, *, signed: bool = True, arguments: Sequence[str] = ()
) -> Any:
    """An ``Explanation``, or a ``HeteroExplanation``, of one result and its graph.

    ``node_mask`` holds the values of ``x`` and ``edge_mask`` those of ``"edges"``, summed over the
    layers if there is a mask per layer (``edge_mask_layers`` has them apart); whatever else was
    explained is in ``edge_attr_mask`` and so on. ``f_input``, ``f_baseline``, ``residual``,
    ``evaluations`` and ``converged`` say what the values should sum to and how far to trust them,
    ``f_edgeless`` (to five digits) what F at the baseline is without any edge, and
    ``explained`` what was explained, in words. The explained node is ``index``, and its class
    stands at that place in ``target``, which is -1 elsewhere, as PyG's metrics want it; a pair of
    nodes is ``edge_label_index``. A sparse adjacency is given as the ``edge_index`` that the mask
    counts.

    >>> found = explanation(edges, star)
    >>> type(found).__name__, found.edge_mask.tolist(), float(found.f_input)
    ('Explanation', [2.0, -4.0, 8.0], 6.0)

    Args:
        result: of the domain ``"graphs"``.
        data: the graph that it is about.
        signed: False for magnitudes, which is what PyG's subgraphs, thresholds, pictures and
            metrics are made for: they leave out what is below zero.
        arguments: what PyG's metrics call the model with, beside ``x`` and ``edge_index``: names of
            attributes of the data, such as ``"edge_attr"``.

    Raises:
        InputError: the result is of another domain, or of another graph.
    """
    found = parts(result)
    graph = read(data)
    counts = {**graph.sizes, **{r: ends.size(1) for r, ends in graph.edges.items()}}
    for (kind, attribute), value in found.items():
        name = tensor_name(kind, attribute)
        if kind not in counts or value.size(along(name, value)) != counts[kind]:
            raise InputError(
                f"expected the graph that was explained, with {value.size(along(name, value))} "
                f"rows of {name!r} (got one with {counts.get(kind, 'none')})"
            )
    out = masked([found], graph.hetero, signed=signed)
    for (kind, attribute), value in found.items():
        if attribute == "edges" and value.dim() == 2:
            store_of(out, kind, graph.hetero).edge_mask_layers = value if signed else value.abs()
    for name, number in figures([result]).items():
        setattr(out, name, number)
    out.explained = str(result.display.get("explained", ""))
    _copied(out, data, graph)
    _placed(out, result, graph.sizes)
    out._model_args = [*arguments, *(["edge_label_index"] if "edge_label_index" in out else [])]
    return out


def parts(result: Attribution) -> Parts:
    """The values of a result of the domain ``"graphs"``, which are those of its whole graph.

    Raises:
        InputError: it is of another domain.
    """
    check_graph(result)
    kinds = kinds_of(result.display, result.tensors)
    return {
        (kind, name.rpartition(".")[2]): result.tensors[name].detach()
        for name, kind in kinds.items()
    }


def masked(
    each: Sequence[Parts],
    hetero: bool,
    *,
    kind: MaskType = "attributes",
    signed: bool = True,
    apart: bool = False,
) -> Any:
    """An explanation with the sum of the masks of some results; ``apart`` adds those of each."""
    from torch_geometric.explain import Explanation, HeteroExplanation

    out = HeteroExplanation() if hetero else Explanation()
    for of, attribute in each[0]:
        name = NAMES.get(attribute, f"{attribute}_mask")
        shaped = torch.stack([_shaped(one[of, attribute], attribute, kind) for one in each])
        store = store_of(out, of, hetero)
        store[name] = _told(shaped.sum(0), signed)
        if apart:
            store[f"{name}s"] = _told(shaped, signed)
    return out


def figures(results: Sequence[Attribution]) -> dict[str, Tensor]:
    """What each result says of itself, a number per result."""
    numbers = {
        "f_input": [one.at_input for one in results],
        "f_baseline": [one.at_baseline for one in results],
        "residual": [one.residual for one in results],
    }
    found = {name: torch.tensor(one, dtype=torch.float64) for name, one in numbers.items()}
    without = [edgeless(one) for one in results]
    if any(value is not None for value in without):
        told = [math.nan if value is None else value for value in without]
        found["f_edgeless"] = torch.tensor(told, dtype=torch.float64)
    found["evaluations"] = torch.tensor([one.evaluations for one in results])
    found["converged"] = torch.tensor([one.converged for one in results])
    return found


def store_of(data: Any, kind: Kind, hetero: bool) -> Any:
    """Where heterogeneous data keeps what belongs to one type; other data keeps it itself."""
    return data[kind] if hetero else data


def _told(mask: Tensor, signed: bool) -> Tensor:
    return mask if signed else mask.abs()


def _shaped(value: Tensor, attribute: str, kind: MaskType) -> Tensor:
    """Values as masks of PyG: nodes by features, or one number per edge."""
    if attribute == "edges":
        return value if value.dim() == 1 else value.sum(0)
    if attribute != "x":
        return value
    flat = value.view(-1, 1) if value.dim() == 1 else value
    mask = flat if flat.dim() == 2 else flat.flatten(1, -2).sum(1)
    if kind == "attributes":
        return mask
    return mask.sum(1 if kind == "object" else 0, keepdim=True)


def _placed(out: Any, result: Attribution, sizes: Mapping[str, int]) -> None:
    """Say which row of the output was explained, and which class of it."""
    target = result.display.get("target")
    nodes = _in_type(result)
    classes = None if target is None else torch.tensor(target).view(1, -1).squeeze(-1)
    if len(nodes) == 2:
        out.edge_label_index = torch.tensor([[node] for _, node in nodes])
    for node_type, node in nodes[:1] if len(nodes) == 1 else []:
        out.index = torch.tensor([node])
        if classes is not None:
            every = classes.new_full((sizes[node_type], *classes.shape[1:]), -1)
            classes = every.index_copy(0, out.index, classes)
    if classes is not None:
        out.target = classes


def _in_type(result: Attribution) -> list[tuple[str, int]]:
    """The explained nodes of a result in the numbers of their types in the whole graph."""
    display = result.display
    numbers = []
    for node in display["index"]:
        begin = 0
        for place, (node_type, count) in enumerate(display["node_types"]):
            if node < begin + count:
                kept = display["part"]["nodes"][place] if "part" in display else None
                numbers.append((node_type, kept[node - begin] if kept else node - begin))
                break
            begin += count
    return numbers


def _copied(out: Any, data: Any, graph: Any) -> None:
    """Give an explanation what the data has; its edges as they were explained.

    Masks of the data, such as those of planted motifs, say what is true and not what was found.
    """
    others = ("adj_t", "edge_index", *NAMES.values())
    stores = data.stores if graph.hetero else [data._store]
    for store in stores:
        kind = getattr(store, "_key", None)
        own = out if not graph.hetero else out._global_store if kind is None else out[kind]
        for key, value in store.items():
            if key not in others and key not in own:
                own[key] = value
    for relation, ends in graph.edges.items():
        store_of(out, relation, graph.hetero).edge_index = ends
