"""Where PyG's CaptumExplainer goes wrong on graphs, and ours does not, by numbers.

The truth is by hand: a plain loop over 400 points of the path (2,000 where there are kinks), one
pass each, with what every message is multiplied by put into the layers' own ``message``, call by
call; in float64.
"""

import warnings
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import ig_core as ig

pytest.importorskip("torch_geometric")
pytest.importorskip("captum")

from torch_geometric.data import HeteroData
from torch_geometric.explain import CaptumExplainer, Explainer
from torch_geometric.nn import (
    FastRGCNConv,
    GATConv,
    GCNConv,
    GINConv,
    GraphConv,
    HANConv,
    HeteroConv,
    HGTConv,
    RGCNConv,
    SAGPooling,
    global_add_pool,
)
from torch_geometric.nn.models import AttentiveFP

from ig_graphs import IGExplainer

CLASSES = 3
STEPS = 50
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LINKS = torch.tensor([[0, 1, 2, 3, 4, 5, 1, 3], [1, 2, 3, 4, 5, 0, 0, 1]])
COUNT = LINKS.size(1)


# -- both explainers ----------------------------------------------------------------------------


def explained(algorithm, model, given, *, masks=("attributes", "object"), config=None, **call):
    """What Explainer gives for a class of every row, its own warnings aside."""
    settings = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
    explainer = Explainer(
        model,
        algorithm,
        explanation_type="phenomenon",
        node_mask_type=masks[0],
        edge_mask_type=masks[1],
        model_config={**settings, **(config or {})},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explainer(*given, **{"target": torch.ones(6).long(), **call})


def captum(*args, steps=STEPS, more=None, **options):
    more = {"method": "gausslegendre", **(more or {})}
    algorithm = CaptumExplainer("IntegratedGradients", n_steps=steps, **more)
    return explained(algorithm, *args, **options)


def ours(*args, more=None, **options):
    """By default as precise as it can be made; ``more`` options are those of IGExplainer."""
    more = more or {"tol": 1e-8, "budget": 20_000}
    return explained(IGExplainer(**more), *args, **options)


SAME_RULE = {"rule": "gauss-legendre", "steps": STEPS, "tol": 0.5}


def close(one, other, within):
    torch.testing.assert_close(one.detach().double(), other.detach().double(), atol=within, rtol=0)


def total(found):
    """The sum of all masks."""
    stores = found.stores if isinstance(found, HeteroData) else [found]
    names = ("node_mask", "edge_mask")
    return sum(float(s[n].detach().sum()) for s in stores for n in names if n in s)


# -- the truth ----------------------------------------------------------------------------------


@contextmanager
def multiplied(layer, factors):
    """Messages of a layer are multiplied by these, a tensor for each of its calls in turn."""
    turns, plain = iter(factors), layer.message

    def message(*args, **kwargs):
        messages = plain(*args, **kwargs)
        factor = next(turns)
        return messages * factor.view(-1, *(1,) * (messages.dim() - 1))

    layer.message = message
    try:
        yield
    finally:
        del layer.message


KINKS = 250
"""Panels for a function that is not smooth."""


def points(panels):
    """Places and weights: Gauss' rule of 8 points in each of many panels."""
    place, weight = np.polynomial.legendre.leggauss(8)
    for panel in range(panels):
        for p, w in zip(place, weight, strict=True):
            yield (panel + (1 + p) / 2) / panels, w / 2 / panels


def by_hand(function, *ends, panels=50):
    """The attributions of these tensors on the straight path from zeros, and F at both ends."""
    totals = [torch.zeros_like(end) for end in ends]
    for t, weight in points(panels):
        here = [(end * t).requires_grad_() for end in ends]
        for each, slope in zip(totals, torch.autograd.grad(function(*here), here), strict=True):
            each += weight * slope
    with torch.no_grad():
        start = float(function(*map(torch.zeros_like, ends)))
        return [e * one for e, one in zip(ends, totals, strict=True)], float(function(*ends)), start


def with_masks(model, plan, call):
    """A function of features and masks; ``plan`` has the factors of every layer's calls."""

    def function(x, *masks):
        with ExitStack() as stack:
            for layer, factors in plan(*masks).items():
                stack.enter_context(multiplied(layer, factors))
            return call(model, x)

    return function


ONES = torch.ones(COUNT, dtype=torch.float64)


# -- where it is right --------------------------------------------------------------------------


class Net(nn.Module):
    """Two layers, read out per node, per pair of nodes or per graph."""

    def __init__(self, conv=GCNConv, level="node", out=CLASSES):
        super().__init__()
        torch.manual_seed(0)
        self.level = level
        self.first, self.second = conv(3, 8), conv(8, out)
        self.double()

    def forward(self, x, edge_index, batch=None, edge_label_index=None):
        x = self.second(torch.tanh(self.first(x, edge_index)), edge_index)
        if self.level == "graph":
            return global_add_pool(torch.tanh(x), batch)
        if self.level == "edge":
            return x[edge_label_index[0]] * x[edge_label_index[1]]
        return x


def gin(wide, out):
    return GINConv(nn.Sequential(nn.Linear(wide, out), nn.Tanh(), nn.Linear(out, out)))


@pytest.mark.parametrize("level", ["node", "edge", "graph"])
@pytest.mark.parametrize("conv", [GCNConv, gin, GATConv], ids=["gcn", "gin", "gat"])
def test_both_agree_where_captum_is_right(conv, level):
    model = Net(conv, level)
    call = {"index": 0, "config": {"task_level": level}}
    if level == "edge":  # by position, the batch vector is the third argument
        call |= {"batch": None, "edge_label_index": torch.tensor([[2, 1], [5, 4]])}
    rows = {"node": 6, "edge": 2, "graph": 1}[level]
    call["target"] = torch.ones(rows).long()
    for masks in (("attributes", "object"), ("attributes", None), (None, "object")):
        peer = captum(model, (X, LINKS), masks=masks, **call)
        own = ours(model, (X, LINKS), masks=masks, more=SAME_RULE, **call)
        for name in own.available_explanations:
            close(own[name], peer[name], 1e-6)


def test_both_agree_on_attentive_fingerprints():
    """Their read-out passes messages that are no edges; this version of PyG leaves those alone."""
    torch.manual_seed(0)
    model = AttentiveFP(3, 8, CLASSES, edge_dim=2, num_layers=2, num_timesteps=2).double()
    call = {
        "edge_attr": torch.randn(COUNT, 2, dtype=torch.float64),
        "batch": torch.zeros(6, dtype=torch.long),
        "config": {"task_level": "graph"},
        "target": torch.ones(1).long(),
    }
    peer = captum(model, (X, LINKS), **call)
    own = ours(model, (X, LINKS), more=SAME_RULE, **call)
    close(own.node_mask, peer.node_mask, 1e-6)
    close(own.edge_mask, peer.edge_mask, 1e-6)


def test_captum_takes_one_pass_a_step():
    """Ours packs the steps of a graph, and of several of its nodes, into few."""
    passes = []
    model, call = Net(), {"index": torch.tensor([1, 4])}
    model.register_forward_hook(lambda *_: passes.append(1))
    captum(model, (X, LINKS), **call)
    theirs = len(passes)
    passes.clear()
    ours(model, (X, LINKS), more=SAME_RULE, **call)
    assert theirs >= STEPS and len(passes) <= 10


# -- edges --------------------------------------------------------------------------------------

WRITES, CITES, READS = ("a", "writes", "p"), ("p", "cites", "p"), ("p", "read by", "a")


def library():
    generator = torch.Generator().manual_seed(1)
    data = HeteroData()
    data["p"].x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    data["a"].x = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    data[WRITES].edge_index = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 3]])
    data[CITES].edge_index = torch.tensor([[1, 2, 3], [0, 1, 1]])
    data[READS].edge_index = torch.tensor([[0, 1, 1, 3, 2], [0, 0, 1, 2, 2]])
    return data


class Papers(nn.Module):
    """Layers of a heterogeneous graph, and a class for each paper."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers).double()

    def forward(self, x_dict, edge_index_dict):
        for layer in self.layers:
            found = layer(x_dict, edge_index_dict)
            x_dict = {name: torch.tanh(one) for name, one in found.items()}
        return x_dict["p"]


def relational(wide, out):
    kinds = {WRITES: GraphConv((wide, wide), out), CITES: GraphConv(wide, out)}
    return HeteroConv({**kinds, READS: GraphConv((wide, wide), out)})


PAPERS = {"index": 1, "target": torch.ones(4).long(), "masks": (None, "object")}


def papers_by_hand(model, data, plan, panels=50):
    """The truth of all edges, one relation after another."""
    sizes = [ends.size(1) for ends in data.edge_index_dict.values()]

    def function(mask):
        parts = dict(zip(data.edge_types, mask.split(sizes), strict=True))
        with ExitStack() as stack:
            for layer, factors in plan(parts):
                stack.enter_context(multiplied(layer, factors))
            return model(data.x_dict, data.edge_index_dict)[1, 1]

    return by_hand(function, torch.ones(sum(sizes), dtype=torch.float64), panels=panels)


def edge_masks(found, data):
    return torch.cat([found[relation].edge_mask for relation in data.edge_types])


def test_masks_on_typed_edges_go_through_a_sigmoid_under_captum():
    """Its path runs from half-open edges to edges of 0.73, and so its sum is another one."""
    torch.manual_seed(0)
    data, model = library(), Papers(relational(3, 4), relational(4, CLASSES))

    def plan(parts):
        for layer in model.layers:
            for relation, conv in zip(data.edge_types, layer.convs.values(), strict=True):
                yield conv, [parts[relation]]

    [truth], end, start = papers_by_hand(model, data, plan)
    at = {}
    for t in (0.0, 1.0):
        with ExitStack() as stack, torch.no_grad():
            ends = data.edge_index_dict.items()
            for conv, [mask] in plan({r: torch.full((n.size(1),), t).double() for r, n in ends}):
                stack.enter_context(multiplied(conv, [mask.sigmoid()]))
            at[t] = float(model(data.x_dict, data.edge_index_dict)[1, 1])
    given = data.x_dict, data.edge_index_dict
    peer = captum(model, given, **PAPERS)
    assert total(peer) == pytest.approx(at[1.0] - at[0.0], abs=1e-5)
    assert abs(total(peer) - (end - start)) > 0.5 * abs(end - start)
    own = ours(model, given, **PAPERS)
    close(edge_masks(own, data), truth, 1e-6)
    assert float(own.f_baseline) == pytest.approx(start, abs=1e-12)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


@pytest.mark.parametrize("every", [True, False], ids=["all nodes", "all but the last"])
def test_self_loops_between_edges_mislead_captum(every):
    """A layer puts the loops of all nodes behind the edges, and captum goes by the count.

    If every node has one, the count is right and the masks are in the wrong order: edges get a
    share that cannot reach node 2. If one is missing, no loop is masked at all.
    """
    nodes = torch.arange(6)
    links = torch.stack([nodes, nodes, nodes, nodes + 1], dim=1).view(-1, 2).t()  # 00 01 11 12 ...
    links = links[:, : 11 if every else 10]  # what leads to node 6 is none of them
    loop = links[0] == links[1]
    model, call = Net(), {"index": 2, "masks": (None, "object")}

    def plan(mask):
        own = torch.cat([mask[~loop], mask[loop], mask.new_ones(6 - int(loop.sum()))])
        return {model.first: [own], model.second: [own]}

    def function(mask):
        return with_masks(model, plan, lambda model, x: model(x, links)[2, 1])(X, mask)

    [truth], end, start = by_hand(function, torch.ones(links.size(1), dtype=torch.float64))
    outside = [0, *range(5, links.size(1))]
    assert (truth == 0).nonzero().view(-1).tolist() == outside
    peer = captum(model, (X, links), **call).edge_mask.detach()
    if every:
        assert float(peer[outside].abs().max()) > 0.02
    else:
        assert bool((peer[loop] == 0).all()) and float(truth[loop].abs().max()) > 0.02
    assert float((peer - truth).abs().max()) > 0.02
    own = ours(model, (X, links), **call)
    assert bool((own.edge_mask[outside] == 0).all())
    close(own.edge_mask, truth, 1e-6)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


class Relations(nn.Module):
    """Two layers with a weight per type of edge."""

    def __init__(self, conv):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = conv(3, 8, 2), conv(8, CLASSES, 2)
        self.double()

    def forward(self, x, edge_index, edge_type):
        x = torch.tanh(self.first(x, edge_index, edge_type))
        return self.second(x, edge_index, edge_type)


TYPES = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("conv", "error"), [(RGCNConv, AssertionError), (FastRGCNConv, TypeError)], ids=["rgcn", "fast"]
)
def test_edges_of_relational_layers_fail_under_captum(conv, error):
    call = {"index": 1, "edge_type": TYPES}
    with pytest.raises(error):
        captum(Relations(conv), (X, LINKS), **call)
    model = Relations(conv)

    def plan(mask):
        each = [mask[TYPES == 0], mask[TYPES == 1]] if conv is RGCNConv else [mask]
        return {model.first: each, model.second: each}

    function = with_masks(model, plan, lambda model, x: model(x, LINKS, TYPES)[1, 1])
    [nodes, edges], end, start = by_hand(function, X, ONES)
    own = ours(model, (X, LINKS), **call)
    close(own.node_mask, nodes, 1e-6)
    close(own.edge_mask, edges, 1e-6)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


class Pooled(nn.Module):
    """A layer, pooling that keeps half of the nodes, and another layer on what is left."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(35)
        self.first, self.pool, self.second = GraphConv(3, 8), SAGPooling(8, 0.5), GraphConv(8, 3)
        self.double()
        self.kept = None

    def forward(self, x, edge_index, batch=None):
        x = torch.tanh(self.first(x, edge_index))
        x, edge_index, _, batch, self.kept, _ = self.pool(x, edge_index, None, batch)
        return global_add_pool(self.second(x, edge_index), batch)


def test_edges_of_a_pooled_graph_fail_under_captum():
    call = {"masks": (None, "object"), "config": {"task_level": "graph"}}
    call["target"] = torch.ones(1).long()
    with pytest.raises(AssertionError):
        captum(Pooled(), (X, LINKS), **call)
    model, kept = Pooled(), set()

    def plan(mask):
        def inside():  # asked for when the second layer is called, after the pooling
            kept.add(tuple(sorted(model.kept.tolist())))
            yield mask[torch.isin(LINKS, model.kept).all(0)]

        return {model.first: [mask], model.pool.gnn: [mask], model.second: inside()}

    def function(mask):
        return with_masks(model, plan, lambda model, x: model(x, LINKS)[0, 1])(X, mask)

    [edges], end, start = by_hand(function, ONES)
    assert len(kept) == 1, "the same nodes are kept along the path, or F would jump"
    own = ours(model, (X, LINKS), **call)
    close(own.edge_mask, edges, 1e-6)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


@pytest.mark.parametrize("conv", [HGTConv, HANConv], ids=["hgt", "han"])
def test_edges_of_hgt_and_han_fail_under_captum(conv):
    torch.manual_seed(0)
    data = library()
    layer = conv(3, 4, data.metadata(), heads=2)
    given = data.x_dict, data.edge_index_dict
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        captum(Papers(layer), given, **PAPERS)
    model = Papers(layer)

    def plan(parts):
        each = [parts[relation] for relation in data.edge_types]
        yield layer, each if conv is HANConv else [torch.cat(each)]

    [truth], end, start = papers_by_hand(model, data, plan, KINKS)
    own = ours(model, given, **PAPERS)
    close(edge_masks(own, data), truth, 1e-5)
    assert bool((own[READS].edge_mask == 0).all()) and bool((own[CITES].edge_mask != 0).any())
    assert total(own) == pytest.approx(end - start, abs=1e-5)


def test_edges_of_a_sparse_adjacency_fail_under_captum():
    ones = torch.ones(COUNT, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparse = torch.sparse_coo_tensor(LINKS.flip(0), ones, (6, 6)).to_sparse_csr()
    with pytest.raises(RuntimeError, match="Sparse CSR"):
        captum(Net(GraphConv), (X, sparse), index=1)
    model = Net(GraphConv)

    def plan(mask):
        return {model.first: [mask], model.second: [mask]}

    function = with_masks(model, plan, lambda model, x: model(x, LINKS)[1, 1])
    [nodes, edges], end, start = by_hand(function, X, ONES)
    own = ours(model, (X, sparse), index=1)
    close(own.node_mask, nodes, 1e-6)
    order = (LINKS[1] * 6 + LINKS[0]).argsort()  # by rows of the adjacency, which are the targets
    close(own.edge_mask, edges[order], 1e-6)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


# -- arguments ----------------------------------------------------------------------------------


class Weighted(Net):
    """A layer with weights and features of edges, both with a default."""

    def __init__(self):
        super().__init__(GraphConv)
        self.of_edges = nn.Linear(1, 1, bias=False).double()

    def forward(self, x, edge_index, edge_weight=None, edge_attr=None):
        weight = 1.0 if edge_weight is None else edge_weight
        weight = (
            weight if edge_attr is None else weight + torch.tanh(self.of_edges(edge_attr))[:, 0]
        )
        weight = weight * torch.ones(edge_index.size(1), dtype=x.dtype)
        x = torch.tanh(self.first(x, edge_index, weight))
        return self.second(x, edge_index, weight)


WEIGHT = torch.linspace(0.5, 2.0, COUNT, dtype=torch.float64)
ATTR = torch.linspace(-1.0, 1.5, COUNT, dtype=torch.float64).view(-1, 1)


def test_captum_binds_arguments_by_position():
    """Features of edges alone arrive as their weights: another function is explained."""
    model, call = Weighted(), {"index": 1, "masks": ("attributes", None)}
    [truth], end, start = by_hand(lambda x: model(x, LINKS, edge_attr=ATTR)[1, 1], X)
    [other], _, _ = by_hand(lambda x: model(x, LINKS, ATTR[:, 0])[1, 1], X)
    peer = captum(model, (X, LINKS), edge_attr=ATTR[:, 0], **call)
    close(peer.node_mask, other, 1e-5)
    assert float((peer.node_mask - truth).abs().max()) > 0.05
    own = ours(model, (X, LINKS), edge_attr=ATTR, **call)
    close(own.node_mask, truth, 1e-6)
    assert total(own) == pytest.approx(end - start, abs=1e-6)


def test_features_and_weights_of_edges_have_no_attribution_under_captum():
    model = Weighted()
    call = {"index": 1, "edge_weight": WEIGHT, "edge_attr": ATTR}
    peer = captum(model, (X, LINKS), **call)
    assert sorted(peer.available_explanations) == ["edge_mask", "node_mask"]

    def plan(mask):
        return {model.first: [mask], model.second: [mask]}

    def function(x, mask, weight, attr):
        run = with_masks(model, plan, lambda model, x: model(x, LINKS, weight, attr)[1, 1])
        return run(x, mask)

    parts, end, start = by_hand(function, X, ONES, WEIGHT, ATTR)
    more = {"tol": 1e-8, "budget": 20_000, "also": ("edge_weight", "edge_attr")}
    own = ours(model, (X, LINKS), more=more, **call)
    names = ("node_mask", "edge_mask", "edge_weight_mask", "edge_attr_mask")
    for name, truth in zip(names, parts, strict=True):
        close(own[name], truth, 1e-6)
        assert float(truth.abs().sum()) > 2e-3
    assert sum(float(own[name].sum()) for name in names) == pytest.approx(end - start, abs=1e-6)


def test_several_indices_are_one_under_captum():
    """Their sum is all that it gives; which part belongs to which is not to be had."""
    model, index = Net(), torch.tensor([1, 4])
    peer = captum(model, (X, LINKS), index=index)
    own = ours(model, (X, LINKS), index=index, more=SAME_RULE)
    each = [ours(model, (X, LINKS), index=int(one), more=SAME_RULE) for one in index]
    assert peer.node_mask.shape == X.shape and "node_masks" not in peer
    for place, one in enumerate(each):
        close(own.node_masks[place], one.node_mask, 1e-9)
        close(own.edge_masks[place], one.edge_mask, 1e-9)
        assert float((peer.edge_mask.detach() - one.edge_mask).abs().max()) > 0.02
    close(peer.node_mask, sum(one.node_mask for one in each), 1e-6)
    close(own.edge_mask, peer.edge_mask, 1e-6)


def test_graphs_of_a_batch_are_one_under_captum():
    """It has no word for which graph is explained by what; the sum of all is right."""
    links = torch.tensor([[0, 1, 2, 3, 4, 5, 4], [1, 2, 0, 4, 5, 3, 3]])
    batch, model = torch.tensor([0, 0, 0, 1, 1, 1]), Net(GraphConv, "graph")
    call = {"batch": batch, "config": {"task_level": "graph"}, "target": torch.ones(2).long()}
    peer = captum(model, (X, links), **call)
    own = ours(model, (X, links), more=SAME_RULE, **call)
    close(own.node_mask, peer.node_mask, 1e-6)
    close(own.edge_mask, peer.edge_mask, 1e-6)
    single = {"config": call["config"], "target": torch.ones(1).long()}
    for number, (nodes, edges) in enumerate(
        ((slice(0, 3), slice(0, 3)), (slice(3, 6), slice(3, 7)))
    ):
        ends = links[:, edges] - 3 * number

        def plan(mask):
            return {model.first: [mask], model.second: [mask]}

        def call_one(model, x, ends=ends):
            return model(x, ends, torch.zeros(3).long())[0, 1]

        ones = torch.ones(ends.size(1), dtype=torch.float64)
        (of_nodes, of_edges), end, start = by_hand(
            with_masks(model, plan, call_one), X[nodes], ones
        )
        close(own.node_masks[number, nodes], of_nodes, 1e-6)
        close(own.edge_masks[number, edges], of_edges, 1e-6)
        assert float(own.f_input[number]) == pytest.approx(end, abs=1e-12)
        assert float(own.f_baseline[number]) == pytest.approx(start, abs=1e-12)
        alone = ours(model, (X[nodes], ends), more=SAME_RULE, **single)
        close(own.node_masks[number, nodes], alone.node_mask, 1e-9)


# -- what comes back, and what is left behind ---------------------------------------------------


def test_masks_require_grad_under_captum():
    peer, own = (explains(Net(), (X, LINKS), index=1) for explains in (captum, ours))
    assert peer.edge_mask.requires_grad
    assert not own.edge_mask.requires_grad and not own.node_mask.requires_grad


def test_captum_leaves_its_masks_on_a_model_that_raised():
    class Failing(Net):
        fails = False

        def forward(self, x, edge_index):
            x = super().forward(x, edge_index)
            if self.fails:
                raise ArithmeticError("no")
            return x

    def attempt(explains, error):
        model = Failing()
        before = model(X, LINKS).detach()
        model.fails = True
        with pytest.raises(error, match="no"):
            explains(model, (X, LINKS), index=1)
        model.fails = False
        return model, before

    model, _ = attempt(captum, ArithmeticError)
    assert model.first.explain is True and model.first._edge_mask is not None
    with pytest.raises(AssertionError):  # the mask of all edges does not fit some
        model(X, LINKS[:, :3])
    model, before = attempt(ours, (ArithmeticError, ig.ForwardError))
    assert model.first.explain is None and model.first._edge_mask is None
    assert torch.equal(model(X, LINKS), before)
    assert model(X, LINKS[:, :3]).shape == (6, CLASSES)


def test_asking_captum_for_its_convergence_crashes():
    with pytest.raises(AttributeError, match="'tuple' object has no attribute 'squeeze'"):
        captum(Net(), (X, LINKS), index=1, more={"return_convergence_delta": True})
    own = ours(Net(), (X, LINKS), index=1)
    assert float(own.residual) == pytest.approx(
        total(own) - float(own.f_input - own.f_baseline), abs=1e-9
    )
    assert abs(float(own.residual)) < 1e-8 and own.converged.all()


def test_captum_refuses_logits_of_two_classes():
    model = Net(out=1)
    config = {"mode": "binary_classification", "return_type": "raw"}
    with pytest.raises(ValueError, match="does not support the given explanation settings"):
        captum(model, (X, LINKS), index=1, config=config)

    def plan(mask):
        loops = torch.cat([mask, mask.new_ones(6)])  # of the layer's own
        return {model.first: [loops], model.second: [loops]}

    function = with_masks(model, plan, lambda model, x: model(x, LINKS)[1, 0])
    [nodes, edges], end, start = by_hand(function, X, ONES)
    for target, sign in ((1, 1.0), (0, -1.0)):
        call = {"config": config, "target": torch.full((6,), target)}
        own = ours(model, (X, LINKS), index=1, **call)
        close(own.node_mask, sign * nodes, 1e-6)
        close(own.edge_mask, sign * edges, 1e-6)
        assert total(own) == pytest.approx(sign * (end - start), abs=1e-6)


@pytest.mark.parametrize(("kind", "dim"), [("object", 1), ("common_attributes", 0)])
def test_captum_refuses_masks_of_whole_nodes_or_features(kind, dim):
    with pytest.raises(ValueError, match="does not support the given explanation settings"):
        captum(Net(), (X, LINKS), index=1, masks=(kind, None))
    model = Net()
    [truth], _, _ = by_hand(lambda x: model(x, LINKS)[1, 1], X)
    own = ours(model, (X, LINKS), index=1, masks=(kind, None))
    close(own.node_mask, truth.sum(dim, keepdim=True), 1e-6)
