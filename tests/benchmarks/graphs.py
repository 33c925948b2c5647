"""Graphs against PyG's CaptumExplainer, in turns in one run.

``make perf`` prints it. Equal quadrature: 50 Gauss-Legendre nodes, node features and edges move
together from nothing, one output is explained, one thread. Each line gives the median of the ratios
of the turns, in processor time, and what went through the model: passes, and rows of nodes in them.
The floor is what no explainer of this model can beat: a bare forward and backward pass over the
union of all steps of all graphs, made in the number of parts that is best.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from function import seeded
from torch import Tensor, nn

import ig_core as ig

STEPS = 50
PARTS = (1, 4, 8, 16)
"""So many passes the floor may be made in; the cheapest counts."""

Run = Callable[[], object]
Values = Sequence[tuple[Tensor, Tensor]]
"""The values of node features and of edges, result by result."""


@dataclass
class Passed:
    """Forward passes of a model, and the rows of nodes in them."""

    passes: int = 0
    nodes: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Passed]:
    """Count what goes forward through a model."""
    passed = Passed()

    def forward(module: nn.Module, args: Any, kwargs: Any) -> None:
        passed.passes += 1
        passed.nodes += len(args[0] if args else kwargs["x"])

    handle = model.register_forward_pre_hook(forward, with_kwargs=True)
    try:
        yield passed
    finally:
        handle.remove()


def in_turns(bar: float, model: nn.Module, runs: dict[str, Run], turns: int) -> None:
    """Print how much longer every other run takes than the first one, ours; the peer has a bar."""
    passed = {}
    for name, run in runs.items():
        run()
        with counted(model) as passed[name]:
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            begin = time.process_time()
            runs[name]()
            times[name].append(time.process_time() - begin)
    ours, peer, *_ = times
    for name, spent in times.items():
        told = f"  {name:<34} {1000 * statistics.median(spent):8.1f} ms"
        told += f"  {passed[name].passes:5} passes, {passed[name].nodes:7} nodes"
        if name != ours:
            ratios = [their / own for their, own in zip(spent, times[ours], strict=True)]
            median = statistics.median(ratios)
            told += f"  / ours {median:5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
            if name == peer:
                told += f", wanted >= {bar:g}: {'met' if median >= bar else 'missed'}"
        print(told, flush=True)


def differ(ours: Values, theirs: Values) -> str:
    """The largest difference of two sets of values, relative to the largest value."""
    pairs = [
        (a, b)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    largest = max(float(b.abs().max()) for _, b in pairs)
    return f"{max(float((a - b).abs().max()) for a, b in pairs) / largest:.1e}"


def captum(model: nn.Module, level: str) -> Any:
    """PyG's explainer of one output, which is chosen by its position."""
    from torch_geometric.explain import CaptumExplainer, Explainer

    return Explainer(
        model,
        CaptumExplainer("IntegratedGradients", n_steps=STEPS),
        explanation_type="phenomenon",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification", "task_level": level, "return_type": "raw",
        },
    )  # fmt: skip


def explained(model: nn.Module, raw: Any, **options: Any) -> Values:
    """Our values."""
    found = ig.attribute(
        model, raw, domain="graphs", explain=("x", "edges"), target=0,
        rule="gauss-legendre", steps=STEPS, **options,
    )  # fmt: skip
    several = found if isinstance(found, list) else [found]
    return [(one.tensors["x"], one.tensors["edges"]) for one in several]


def masks(found: Any) -> tuple[Tensor, Tensor]:
    """The values of PyG's explanation."""
    return found.node_mask.detach(), found.edge_mask.detach()


def floor(model: nn.Module, graphs: Sequence[Any], batch: bool) -> Run:
    """A bare forward and backward pass over all steps of some graphs, in so many parts as is best.

    Messages are multiplied by masks, as they have to be where edges are explained.
    """
    from torch_geometric.data import Batch
    from torch_geometric.nn import MessagePassing

    def run(parts: Sequence[Any]) -> None:
        for union in parts:
            x = union.x.clone().requires_grad_()
            mask = torch.ones(union.edge_index.size(1), requires_grad=True)
            whole = torch.cat([mask, torch.ones(len(x))])[:, None]  # with the layers' self-loops
            handles = [
                module.register_message_forward_hook(lambda m, i, out, w=whole: out * w)
                for module in model.modules()
                if isinstance(module, MessagePassing)
            ]
            given = {"batch": union.batch} if batch else {}
            torch.autograd.grad(model(x, union.edge_index, **given)[:, 0].sum(), (x, mask))
            for handle in handles:
                handle.remove()

    rows = [graph for graph in graphs for _ in range(STEPS)]
    found: dict[float, Run] = {}
    for count in PARTS:
        size = -(-len(rows) // count)
        parts = [Batch.from_data_list(rows[i : i + size]) for i in range(0, len(rows), size)]
        spent = []
        for _ in range(4):
            begin = time.process_time()
            run(parts)
            spent.append(time.process_time() - begin)
        found[min(spent)] = lambda parts=parts: run(parts)
    return found[min(found)]


def karate() -> None:
    """One node of a small graph."""
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn import GCN

    data = KarateClub()[0]
    with seeded(0):
        model = GCN(34, 16, 2, 4).eval()
    peer, zeros = captum(model, "node"), torch.zeros(34, dtype=torch.long)

    def ours() -> Values:
        return explained(model, data, level="node", index=4)

    def theirs() -> Values:
        return [masks(peer(data.x, data.edge_index, index=4, target=zeros))]

    print(f"KarateClub, GCN 34-16-4, one node: differ by {differ(ours(), theirs())} at most")
    runs = {"ours": ours, "CaptumExplainer": theirs, "floor": floor(model, [data], False)}
    in_turns(8, model, runs, turns=15)


class Pooled(nn.Module):
    """Two layers and a sum over the nodes of each graph."""

    def __init__(self) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        self.first, self.second = GCNConv(8, 32), GCNConv(32, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        from torch_geometric.nn import global_add_pool

        hidden = self.second(self.first(x, edge_index).relu(), edge_index).relu()
        return self.head(global_add_pool(hidden, batch))


def random_graph(nodes: int, edges: int, features: int) -> Any:
    """A graph without self-loops and without edges that occur twice."""
    from torch_geometric.data import Data
    from torch_geometric.utils import remove_self_loops

    edge_index = torch.randint(0, nodes, (2, edges)).unique(dim=1)
    return Data(x=torch.randn(nodes, features), edge_index=remove_self_loops(edge_index)[0])


def many() -> None:
    """Many small graphs in one call."""
    with seeded(1):
        graphs = [random_graph(25, 60, 8) for _ in range(32)]
        model = Pooled().eval()
    peer, target = captum(model, "graph"), torch.zeros(1, dtype=torch.long)
    batch = torch.zeros(25, dtype=torch.long)

    def ours() -> Values:
        return explained(model, graphs)

    def theirs() -> Values:
        return [masks(peer(g.x, g.edge_index, batch=batch, target=target)) for g in graphs]

    print(f"32 graphs of 25 nodes, one call: differ by {differ(ours(), theirs())} at most")
    runs = {"ours": ours, "CaptumExplainer": theirs, "floor": floor(model, graphs, True)}
    in_turns(40, model, runs, turns=5)


def large() -> None:
    """Several nodes of a graph of which each depends on a small part."""
    from torch_geometric.nn import GCN

    with seeded(2):
        data = random_graph(700, 1400, 10)
        model = GCN(10, 20, 3, 4).eval()
    peer, zeros = captum(model, "node"), torch.zeros(700, dtype=torch.long)
    nodes = list(range(0, 20, 2))

    def ours(**options: Any) -> Values:
        return explained(model, data, level="node", index=nodes, **options)

    def theirs() -> Values:
        return [masks(peer(data.x, data.edge_index, index=i, target=zeros)) for i in nodes]

    print(f"700 nodes, GCN of 3 layers, 10 nodes: differ by {differ(ours(), theirs())} at most")
    runs = {
        "ours": ours, "CaptumExplainer": theirs,
        "ours, restrict=False": lambda: ours(restrict=False),
    }  # fmt: skip
    in_turns(10, model, runs, turns=5)


def main() -> None:
    warnings.simplefilter("ignore")  # the peer's, about its own hooks
    torch.set_num_threads(1)
    for part in (karate, many, large):
        part()


if __name__ == "__main__":
    main()
