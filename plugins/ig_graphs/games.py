"""Games: what "no edge" means to a layer, and which layers can be asked that question.

A layer computes h_i = phi(x_i, AGG_j c_ij(m) psi(x_j, e_ij) m_ij) with a mask m_ij in [0, 1].
*message* keeps the coefficients c_ij of the full graph; *existence* computes them from the masks:

* sums without coefficients: both games are the same;
* degree normalisation with self-loops: the masks are edge weights, the degree is 1 + sum m;
* attention with self-loops: a_ij = m_ij a_ij / (a_ii + sum_k m_ik a_ik).

Where the aggregate is 0-homogeneous in m (a mean, attention or normalisation without self-loops),
Euler's theorem makes the edges sum to exactly 0 while F jumps at the start, and a maximum is not
smooth: such layers are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import InputError, ModelError

Game = Literal["message", "existence"]

Way = Literal["message", "weight", "attention"]
"""Where the masks of a layer go in the game *existence*."""


def way_of(layer: Any) -> Way:
    """How a layer is told which edges exist."""
    takes = inspect.signature(layer.forward).parameters
    if not getattr(layer, "add_self_loops", False) or "edge_index" not in takes:
        return "message"
    if "edge_weight" in takes:
        return "weight" if getattr(layer, "normalize", True) else "message"
    return "attention" if _attends(layer) else "message"


def _attends(layer: Any) -> bool:
    """Whether a softmax over the edges that arrive is all that depends on which there are."""
    filled = getattr(layer, "edge_dim", None) is not None
    fixed = isinstance(getattr(layer, "fill_value", None), (int, float, Tensor))
    return "index" in inspect.signature(layer.edge_update).parameters and (fixed or not filled)


def bound(layer: Any, args: Any, kwargs: Any) -> inspect.BoundArguments:
    """The arguments of a layer's call by name."""
    found = inspect.signature(layer.forward).bind(*args, **kwargs)
    found.apply_defaults()
    return found


def weigh(layer: Any, call: inspect.BoundArguments, mask: Float[Tensor, " edges"]) -> None:
    """Multiply the weights of a layer's edges by their masks.

    A self-loop of the graph takes the place of the one that the layer would add, and gives it back.

    Raises:
        ModelError: which of several self-loops of a node has its place is not known.
    """
    edge_index, weight = call.arguments["edge_index"], call.arguments["edge_weight"]
    own = torch.ones_like(mask) if weight is None else weight
    loops = edge_index[0][edge_index[0] == edge_index[1]]
    if weight is not None and len(loops.unique()) < len(loops):
        raise ModelError(
            f"{type(layer).__name__} keeps one of several self-loops of a node with weights of "
            "their own: torch_geometric.utils.coalesce makes the edges of the graph unique"
        )
    absent = (edge_index[0] == edge_index[1]) * (2.0 if getattr(layer, "improved", False) else 1.0)
    call.arguments["edge_weight"] = mask * own + (1 - mask) * absent.to(mask.dtype)


def shared(
    layer: Any,
    attention: Float[Tensor, "edges ..."],
    mask: Float[Tensor, " edges"],
    edge_index: Int[Tensor, "2 edges"],
) -> Float[Tensor, "edges ..."]:
    """Attention among the edges that are there: shares of the sum over each target.

    Self-loops are always there, since the layer adds those that the graph has not.
    """
    target = edge_index[1 if layer.flow == "source_to_target" else 0]
    mask = torch.where(edge_index[0] == edge_index[1], torch.ones_like(mask), mask)
    part = attention * mask.to(attention.dtype).view(-1, *(1,) * (attention.dim() - 1))
    total = part.new_zeros(int(target.max()) + 1 if len(target) else 0, *part.shape[1:])
    return part / total.index_add(0, target, part)[target].clamp(min=torch.finfo(part.dtype).tiny)


def refused(layers: Sequence[nn.Module]) -> InputError:
    """The error for a model whose layers cannot be told that an edge is not there."""
    named = [f"{type(layer).__name__} ({reason})" for layer in layers if (reason := _reason(layer))]
    others = [type(layer).__name__ for layer in layers]
    told = ", ".join(dict.fromkeys(named or others)) or "no message passing layer"
    return InputError(
        f"game='existence' has no answer for this model ({told}): with masks of 0 and 1 it does "
        "not give what it gives without those edges. Where an aggregate stays the same however "
        "small all masks are (a mean, attention without self-loops), the edges would sum to "
        "exactly 0 while the output jumps, and a maximum is not smooth; game='message' explains it"
    )


def _reason(layer: Any) -> str:
    """Why a layer cannot be asked, if that is known of it."""
    if way_of(layer) != "message":
        return ""
    aggregation = type(layer.aggr_module).__name__.removesuffix("Aggregation").lower()
    if aggregation != "sum":
        return f"aggregates by {aggregation}"
    takes = inspect.signature(layer.forward).parameters
    if getattr(layer, "add_self_loops", None) is True:
        filled = getattr(layer, "edge_dim", None) is not None
        told = "fills in the features of self-loops" if filled else "has coefficients"
        return f"{told} from its edges"
    if getattr(layer, "add_self_loops", None) is False and (
        getattr(layer, "normalize", True) or "edge_weight" not in takes
    ):
        return "normalises without self-loops"
    return ""
