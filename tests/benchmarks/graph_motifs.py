"""Planted motifs: the AUROC of Integrated Gradients and of GNNExplainer on the same nodes.

``python tests/benchmarks/graph_motifs.py`` prints it, as Markdown; it takes minutes, nearly all of
them GNNExplainer's. Both explain the same nodes (or graphs) of the same models and are judged by
:func:`ig_graphs.motif_auroc`: the edges within three hops of the node, both ways one unit, true
where the node's own motif is; the mean over the nodes.

GNNExplainer is PyG's with its own coefficients and learning rate, 200 epochs, masks of edges
(``object``) and features (``attributes``), on the whole graph, as in PyG's example of BA-Shapes.
It explains the model; as all judged predictions are true, the phenomenon would be the same.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import torch
from function import cache
from torch import Tensor

import ig_core as ig
from ig_graphs import motif_auroc
from ig_graphs.cases import infection, motifs, two_motifs
from ig_graphs.cases.planting import Fitted, Network

EPOCHS = 200
COLUMNS = (
    "case", "network", "seed", "test accuracy", "counted", "IG by magnitude", "IG signed",
    "GNNExplainer", "seconds IG", "seconds GNNExplainer",
)  # fmt: skip


def gnn_explainer(fitted: Fitted, level: str) -> list[ig.Attribution]:
    """The edge masks of PyG's GNNExplainer, one for each input."""
    from torch_geometric.explain import Explainer, GNNExplainer

    mode = "multiclass_classification"
    explainer = Explainer(
        fitted.model,
        GNNExplainer(epochs=EPOCHS),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": mode, "task_level": level, "return_type": "raw"},
    )
    torch.manual_seed(0)
    found = []
    for given in fitted.inputs:
        if level == "node":
            data, node = given
            mask = explainer(data.x, data.edge_index, index=node).edge_mask
        else:
            batch = torch.zeros(given.num_nodes, dtype=torch.long)
            mask = explainer(given.x, given.edge_index, batch=batch).edge_mask
        found.append(_masked(mask))
    return found


def _masked(mask: Tensor) -> ig.Attribution:
    units = ig.Units([str(i) for i in range(len(mask))], {"edges": torch.arange(len(mask))})
    return ig.Attribution(
        tensors={"edges": mask}, units=units, at_input=0.0, at_baseline=0.0, residual=0.0
    )


def subjects(
    names: Sequence[str], seeds: Sequence[int], both: bool
) -> Iterator[tuple[str, str, int, str, Fitted]]:
    """Case, network, seed of the weights, level and the fitted model."""
    folder = cache("graph_motifs")
    for recipe in (motifs.BA_SHAPES, motifs.TREE_CYCLES, motifs.TREE_GRID):
        kinds = get_args(Network) if both else (recipe.network,)
        wanted = product(kinds, seeds) if recipe.name in names else ()
        for kind, seed in wanted:
            try:
                own = replace(recipe, network=kind, seed=seed).fitted(folder)
            except ig.ModelError as error:
                print(f"{recipe.name}, {kind}, seed {seed}: {error}")
                continue
            yield recipe.name, kind, seed, "node", own
    if "two-motifs" in names:
        yield "two-motifs", "sums", 0, "graph", two_motifs.fitted(folder)
    if "infection" in names:
        yield "infection", "sums", 0, "node", infection.fitted(folder)


def row(name: str, kind: str, seed: int, level: str, fitted: Fitted) -> list[Any]:
    begun = time.perf_counter()
    ours = fitted.explained({"level": level, "explain": ("edges",)})
    between = time.perf_counter()
    theirs = gnn_explainer(fitted, level)
    ended = time.perf_counter()
    by_size, signed = (motif_auroc(ours, fitted.truth, by=by) for by in ("magnitude", "signed"))
    peer = motif_auroc(theirs, fitted.truth)
    return [
        name, kind, seed, f"{fitted.accuracy:.3f}", by_size.counted, f"{by_size.mean:.3f}",
        f"{signed.mean:.3f}", f"{peer.mean:.3f}", f"{between - begun:.1f}",
        f"{ended - between:.1f}",
    ]  # fmt: skip


def main() -> None:
    every = ["ba-shapes", "tree-cycles", "tree-grid", "two-motifs", "infection"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=every, help=", ".join(every))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0], help="of the weights")
    parser.add_argument("--both", action="store_true", help="a GCN and sums for every case")
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    for subject in subjects(given.cases, given.seeds, given.both):
        print("| " + " | ".join(map(str, row(*subject))) + " |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
