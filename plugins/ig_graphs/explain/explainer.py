"""IGExplainer: integrated gradients as an algorithm of ``torch_geometric.explain``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import (
    Attribution,
    Example,
    InputError,
    ModelError,
    OutputError,
    Selector,
    attribute,
    pick,
)
from ig_graphs.domain import GraphDomain
from ig_graphs.explain.call import Called
from ig_graphs.explain.explanation import figures, masked, parts, store_of
from ig_graphs.games import Game
from ig_graphs.paths import Legs

OPTIONS = (
    "baseline", "budget", "device", "method", "path", "progress", "rule", "seed", "steps", "strict",
    "tol",
)  # fmt: skip
"""What the explainer hands on to :func:`ig_core.attribute`."""

SAME = 1e-3
"""An output in its own graph and in PyG's call may differ by this part of it, by rounding."""


class IntegratedGradients:
    """Integrated gradients of node features and edges, for ``torch_geometric.explain.Explainer``.

    Every setting of ``Explainer`` works: all modes, return types, levels and mask types, one graph
    or a batch of them, and heterogeneous graphs, with which ``HeteroExplanation`` comes back::

        explainer = Explainer(model, IGExplainer(), explanation_type="model",
                              node_mask_type="attributes", edge_mask_type="object",
                              model_config=dict(mode="multiclass_classification",
                                                task_level="node", return_type="raw"))
        explainer(data.x, data.edge_index, index=4).node_mask

    >>> from torch_geometric.explain import Explainer
    >>> config = {"mode": "regression", "task_level": "node"}
    >>> explainer = Explainer(sums, IGExplainer(), explanation_type="model",
    ...                       edge_mask_type="object", model_config=config)
    >>> explainer(star.x, star.edge_index, index=0).edge_mask.tolist()
    [2.0, -4.0, 8.0]

    What is explained is the output itself, never a loss: of the target's class, of regression the
    number, of binary classification p or 1 - p (the logit or minus the logit) by the target. All
    masks together sum to F(input) - F(baseline), where both start at zero unless a baseline is
    given. Keyword arguments go to the model by name.

    With several indices, and with none, which means all rows, the masks are those of the sum of
    these outputs, because PyG wants one mask. The explanation has what belongs to each index in
    ``node_masks`` and ``edge_masks``, whose first dimension counts indices, as do ``f_input``,
    ``f_baseline``, ``residual``, ``evaluations``, ``converged`` and, where edges are masked,
    ``f_edgeless``: F at the baseline of the graph without edges, to five digits (NaN if the model
    fails on it). An index is an explanation of its own, in time and in memory.

    Args:
        signed: False for magnitudes, which is what PyG's subgraphs, thresholds, pictures and
            metrics are made for: they leave out what is below zero.
        also: other tensors that move along the path, such as ``"edge_attr"`` or ``"edge_weight"``;
            their values are in ``edge_attr_mask`` and so on.
        game: what no edge means; see :class:`ig_graphs.GraphDomain`.
        restrict: leave out what an explained node cannot depend on, exactly.
        output: which part of a tuple or dict that the model returns, and which of several numbers
            of a regression: key, position or function.
        node_type: the type of the explained nodes of a heterogeneous graph, or of both ends of a
            pair, where the rows of the output do not tell.
        options: those of :func:`ig_core.attribute`: ``tol``, ``budget``, ``rule``, ``steps``,
            ``path``, ``baseline``, ``method``, ``seed``, ``strict``, ``device``, ``progress``. A
            tensor as ``baseline`` is where the features start, with a row for each node or as the
            one row for all; all else starts at zero.

    Raises:
        InputError: there is no such option, or index or target do not fit the output.
        ModelError: a row of the output depends on other graphs or pairs of the call.
    """

    explainer_config: Any
    model_config: Any

    def __init__(
        self,
        *,
        signed: bool = True,
        also: str | Sequence[str] = (),
        game: Game = "message",
        restrict: bool = True,
        output: Selector = None,
        node_type: str | tuple[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if unknown := [name for name in options if name not in OPTIONS]:
            raise InputError(
                f"IGExplainer has no option {unknown[0]!r}; it has signed, also, game, restrict, "
                f"output, node_type, {', '.join(OPTIONS)}"
            )
        self.signed = signed
        self.also = (also,) if isinstance(also, str) else tuple(also)
        self.game = game
        self.restrict = restrict
        self.output = output
        self.node_type = node_type
        self.options = options

    def supports(self) -> bool:
        """Whether there is an answer: not for a path in two legs if only one of them is asked."""
        path = self.options.get("path", "straight")
        legs = isinstance(path, Legs) or path in [own.name for own in Legs.__subclasses__()]
        if not legs or len(self._explained()) > 1:
            return True
        logging.error(
            f"IGExplainer with path={getattr(path, 'name', path)!r} expects masks on nodes and on "
            f"edges (got {self._explained()[0]!r} only)"
        )
        return False

    def forward(
        self,
        model: Any,
        x: Tensor | Mapping[str, Tensor],
        edge_index: Tensor | Mapping[Any, Tensor],
        *,
        target: Tensor,
        index: int | Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The explanation of some rows of the output; see :class:`Explainer` of PyG."""
        from torch_geometric.utils import is_sparse

        level = self.model_config.task_level.value
        called = Called.of(model, x, edge_index, kwargs, level)
        batch = called.batch_argument()
        with GraphDomain(model).prepared(), torch.no_grad():
            outputs = self._rows(called.outputs())
            if batch is not None and not self._told_alike(called, batch, outputs):
                batch = None
        rows = _chosen(index, len(outputs))
        classes = self._classes(target, rows, outputs)
        spots = called.spots(rows, len(outputs), level, self.node_type)
        wrapped = called.wrapped(batch)
        domain = GraphDomain(
            wrapped,
            explain=self._explained(),
            level=level,
            game=self.game if "edges" in self._explained() else "message",
            restrict=self.restrict,
            output=self._rows,
        )
        raws = [(called.pieces[spot.piece].data, spot.index) for spot in spots]
        options = {**self.options, "baseline": _baseline(self.options.get("baseline"))}
        results = attribute(wrapped, raws, domain=domain, target=classes, **options)
        _check(results, outputs, rows, classes)
        each = [
            called.whole(parts(one), spot.piece) for one, spot in zip(results, spots, strict=True)
        ]
        mask_type = self.explainer_config.node_mask_type
        kind = "attributes" if mask_type is None else mask_type.value
        out = masked(each, called.hetero, kind=kind, signed=self.signed, apart=True)
        for name, number in figures(results).items():
            setattr(out, name, number)
        relations = edge_index if called.hetero else {("", "", ""): edge_index}
        for relation, ends in relations.items():
            store = store_of(out, relation, called.hetero)
            if is_sparse(ends) and "edge_mask" in store:  # PyG cannot count its edges
                store["num_edges"] = store["edge_mask"].size(0)
        return out

    def _explained(self) -> list[str]:
        """What moves along the path."""
        config = self.explainer_config
        own = {"x": config.node_mask_type, "edges": config.edge_mask_type}
        return [*(name for name, mask in own.items() if mask is not None), *self.also]

    def _told_alike(self, called: Called, batch: str, outputs: Tensor) -> bool:
        """Whether the output is the same if the model is told that all is one graph."""
        try:
            found = self._rows(called.outputs(**{batch: called.one_graph()}))
        except Exception:
            return False
        return found.shape == outputs.shape and torch.allclose(found, outputs)

    def _rows(self, outputs: Any) -> Float[Tensor, "rows classes"]:
        """What a model gives, as a number for each class of every row."""
        mode, returned = self.model_config.mode.value, self.model_config.return_type.value
        several = isinstance(outputs, Mapping) and self.output is None
        part = self.node_type if several and isinstance(self.node_type, str) else self.output
        found = pick(outputs, part)
        if mode == "multiclass_classification":
            if found.dim() != 2:
                raise OutputError(
                    f"{mode} has a row of classes for every node, pair of nodes or graph "
                    f"(got shape {tuple(found.shape)})"
                )
            return found
        single = found.reshape(len(found) if found.dim() else 1, -1)
        if single.size(1) != 1:
            raise OutputError(
                f"{mode} has one number per row (got shape {tuple(found.shape)}); "
                "IGExplainer(output=lambda out: out[:, 0]) explains the first"
            )
        if mode == "regression":
            return single
        return torch.cat([1 - single if returned == "probs" else -single, single], dim=1)

    def _classes(self, target: Any, rows: Sequence[int], outputs: Tensor) -> list[int]:
        """The explained column of every explained row."""
        if self.model_config.mode.value == "regression":
            return [0] * len(rows)
        found = torch.as_tensor(target)
        if found.numel() != len(outputs) or found.is_floating_point():
            raise InputError(
                f"target must hold a class for each of the {len(outputs)} rows of the output "
                f"(got {found.dtype} of shape {tuple(found.shape)})"
            )
        return [int(one) for one in found.reshape(-1)[rows].tolist()]


def _chosen(index: Any, count: int) -> list[int]:
    """The explained rows: one, several, those of a mask, or all."""
    if index is None:
        return list(range(count))
    found = torch.as_tensor(index)
    if found.dtype == torch.bool and len(found) == count:
        found = found.nonzero()
    rows = [int(row) + count * (row < 0) for row in found.reshape(-1).tolist()]
    if not rows or not all(0 <= row < count for row in rows) or found.is_floating_point():
        raise InputError(f"index must hold rows of the output, 0 to {count - 1} (got {index!r})")
    return rows


def _check(
    results: Sequence[Attribution], outputs: Tensor, rows: Sequence[int], classes: Sequence[int]
) -> None:
    """Whether what was explained is what the model gave in PyG's own call.

    Raises:
        ModelError: it is not.
    """
    scale = float(outputs.abs().max())
    for result, row, number in zip(results, rows, classes, strict=True):
        wanted = float(outputs[row, number])
        if result.status != "failed" and abs(result.at_input - wanted) > SAME * max(scale, 1e-6):
            raise ModelError(
                f"the output at row {row} is {wanted:.5g} in this call and {result.at_input:.5g} "
                "for its graph and its place alone: it depends on other graphs or pairs of the "
                "call, or on something else than the arguments"
            )


def _baseline(given: Any) -> Any:
    """A tensor is the start of the features, and everything else starts at zero."""
    if not isinstance(given, Tensor):
        return given

    def start(example: Example) -> dict[str, Tensor]:
        x = example.inputs["x"]
        return {"x": given.to(x) if given.dim() > 1 else given.to(x).expand_as(x)}

    return start


@cache
def _explainer() -> type:
    """The class itself, which inherits from one that is not imported before it is used."""
    from torch_geometric.explain import ExplainerAlgorithm

    names = {"__doc__": IntegratedGradients.__doc__, "__module__": __name__}
    return type("IGExplainer", (IntegratedGradients, ExplainerAlgorithm), names)


def __getattr__(name: str) -> Any:
    if name == "IGExplainer":
        return _explainer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
