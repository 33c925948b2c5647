"""Findings from attributions of graphs, against sums by hand and a peer's rank correlation."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ig_core as ig
import ig_graphs
from ig_graphs.facts import UNKNOWN
from ig_graphs.findings.agreement import AgreementOfGames, agreement
from ig_graphs.findings.fidelity import fidelity
from ig_graphs.findings.influences import influences
from ig_graphs.findings.subgraph import subgraph, undirected

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]
WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")
REVIEWS = ("author", "reviews", "paper")


@pytest.fixture(scope="session")
def ring(graph_result):
    """Makes the result of a ring of four nodes from the scores of its edges."""
    return lambda scores, **display: graph_result("abcd", RING, scores=scores, **display)


# -- the subgraph ---------------------------------------------------------------------------------


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=12), st.data())
def test_every_edge_is_kept_or_not_and_none_is_lost(graph_result, scores, data):
    k = data.draw(st.integers(0, len(scores)))
    edges = [(i % 3, (i + 1) % 3) for i in range(len(scores))]
    found = subgraph(graph_result("abc", edges, scores=scores), k)
    assert sorted([*found.kept, *found.rest]) == list(range(len(scores)))
    assert len(found.kept) == k
    kept, rest = ([abs(scores[i]) for i in part] for part in (found.kept, found.rest))
    assert min(kept, default=math.inf) >= max(rest, default=0.0)
    assert found.kept_score + found.rest_score == pytest.approx(math.fsum(scores), abs=1e-12)


def test_edges_that_lower_the_output_are_kept_by_their_magnitude(ring):
    result = ring([1.0, -3.0, 2.0, 0.5])
    found = subgraph(result, 2)
    assert [(row.label, row.score) for row in found.rows] == [("b → c", -3.0), ("c → d", 2.0)]
    assert [row.share for row in found.rows] == pytest.approx([3 / 6.5, 2 / 6.5])
    assert (found.kept_score, found.rest_score) == (-1.0, 1.5)
    assert found.edge_index.tolist() == [[1, 2], [2, 3]]
    assert "these 2 edges together: -1; the other 2: +1.5" in found.to_text()


def test_masks_pick_what_is_kept_out_of_the_graph_of_the_user(graph_result, ring):
    found = subgraph(ring([1.0, -3.0, 2.0, 0.5]), 2)
    assert found.masks[""].tolist() == [False, True, True, False]
    masks = subgraph(_authors(graph_result), 2).masks
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "author__writes__paper": [False, True],
        "author__reviews__paper": [False],
        "paper__cites__paper": [True, False],
    }


def test_of_a_large_graph_the_part_that_can_matter_is_divided():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.nn import SimpleConv

    edges = torch.stack([torch.arange(99), torch.arange(1, 100)])
    data = Data(x=torch.arange(100.0)[:, None], edge_index=edges)
    options = {"domain": "graphs", "level": "node", "index": 50, "explain": ("x", "edges")}
    result = ig.attribute(SimpleConv(aggr="sum"), data, **options)
    found = subgraph(result, 1)
    assert found.masks[""].shape == (99,)
    assert data.edge_index[:, found.masks[""]].tolist() == [[49], [50]]
    assert subgraph(result, 1, of="nodes").masks[""].nonzero().tolist() == [[49]]
    assert [row.label for row in found.rows] == ["49 → 50"]


def test_of_equal_magnitudes_the_first_is_kept(ring):
    assert subgraph(ring([1.0, -1.0, 1.0, -1.0]), 2).kept == [0, 1]


def test_nodes_are_kept_where_no_edge_was_explained_or_when_they_are_asked_for(graph_result):
    nodes = graph_result("abcd", RING, x=[[1.0], [-5.0], [2.0], [-3.0]])
    found = subgraph(nodes, 2)
    assert (found.of, list(found.kept), found.kept_score) == ("nodes", [1, 3], -8.0)
    assert found.edge_index.tolist() == [[], []]
    assert subgraph(nodes, 3).edge_index.tolist() == [[1, 2], [2, 3]]
    both = graph_result("abcd", RING, x=torch.ones(4, 1), scores=[0.0] * 4)
    assert subgraph(both, 1).of == "edges"
    assert subgraph(both, 1, of="nodes").of == "nodes"


def test_a_kept_edge_tells_its_relation(ring, graph_result):
    found = subgraph(_authors(graph_result), 1)
    assert (found.rows[0].label, found.rows[0].relation) == ("Bo → Q", "writes")
    assert "writes" in found.to_text() and "relation" not in subgraph(ring([1.0] * 4), 1).to_text()


def test_findings_escape_labels_and_write_csv(graph_result):
    result = graph_result(["<b>", "c"], [(0, 1)], scores=[1.0])
    for found in (subgraph(result, 1), undirected(result)):
        assert "&lt;b&gt;" in found.to_html() and "<b>" not in found.to_html()
        assert "<b>" in found.table().to_csv()


@pytest.mark.parametrize("k", [-1, 5, 1.0, True, None])
def test_k_is_a_whole_number_of_edges_that_there_are(ring, k):
    with pytest.raises(ig.InputError, match=r"from 0 to 4, the edges \(got"):
        subgraph(ring([1.0] * 4), k)


def test_what_was_not_explained_or_failed_has_no_subgraph(ring, graph_result):
    result = graph_result("ab", [(0, 1)], x=torch.ones(2, 1))
    with pytest.raises(ig.InputError, match="edges of this result were not explained"):
        subgraph(result, 1, of="edges")
    with pytest.raises(ig.InputError, match="of must be"):
        subgraph(result, 1, of="faces")
    failed = replace(ring([1.0, math.nan, 0.0, 0.0]), reason="the model gave NaN")
    with pytest.raises(ig.InputError, match="not finite: the model gave NaN"):
        subgraph(failed, 1)


# -- pairs ----------------------------------------------------------------------------------------


def test_a_pair_is_ranked_by_magnitudes_and_holds_the_signed_sum(graph_result):
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 2), (0, 1)]
    found = undirected(graph_result("abc", edges, scores=[3.0, -2.0, 1.0, 1.0, -0.5, -2.0]))
    assert [(row.labels, row.edges, row.strength, row.score) for row in found.rows] == [
        (("a", "b"), 3, 7.0, -1.0),
        (("b", "c"), 2, 2.0, 2.0),
        (("c", "c"), 1, 0.5, -0.5),
    ]
    assert "a – b" in found.to_text()


@given(st.lists(st.floats(-9, 9), min_size=6, max_size=6))
def test_pairs_sum_to_what_the_edges_sum_to(graph_result, scores):
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (1, 1)]
    rows = undirected(graph_result("abc", edges, scores=scores)).rows
    assert sum(row.score for row in rows) == pytest.approx(math.fsum(scores), abs=1e-12)
    strengths = [row.strength for row in rows]
    assert strengths == sorted(strengths, reverse=True)


# -- agreement ------------------------------------------------------------------------------------


def test_rank_correlations_are_those_of_scipy(ring):
    stats = pytest.importorskip("scipy.stats")
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(-3, 4, (3, 4), generator=draw).double()
    results = [ring(row.tolist()) for row in rows]
    found = agreement(results, names=["a", "b", "c"])
    pairs = [(0, 1), (0, 2), (1, 2)]
    for row, (a, b) in zip(found.rows, pairs, strict=True):
        assert (row.first, row.second) == ("abc"[a], "abc"[b])
        expected = stats.spearmanr(rows[a], rows[b]).statistic
        assert row.signed == pytest.approx(expected, abs=1e-12)
        expected = stats.spearmanr(rows[a].abs(), rows[b].abs()).statistic
        assert row.magnitude == pytest.approx(expected, abs=1e-12)


def test_opposite_signs_agree_in_magnitude_only(ring):
    [row] = agreement([ring([1.0, 2.0, 3.0, 4.0]), ring([-1.0, -2.0, -3.0, -4.0])]).rows
    assert (row.signed, row.magnitude, row.overlap) == pytest.approx((-1.0, 1.0, 1.0))


def test_overlap_is_the_share_of_the_largest_that_both_have(ring):
    pair = [ring([9.0, -8.0, 1.0, 0.0]), ring([0.0, 7.0, -9.0, 1.0])]
    assert agreement(pair, k=2).rows[0].overlap == 0.5
    assert agreement(pair, k=1).rows[0].overlap == 0.0


def test_results_are_compared_on_what_both_explain(graph_result):
    x, scores = [[1.0], [2.0], [3.0], [4.0]], [1.0, 2.0, 3.0, 4.0]
    both = graph_result("abcd", RING, x=x, scores=scores)
    edges, nodes = graph_result("abcd", RING, scores=scores), graph_result("abcd", RING, x=x)
    found = agreement([both, edges, nodes])
    assert [(row.of, row.first, row.second) for row in found.rows] == [
        ("edges", "message, straight, x + edges", "message, straight, edges"),
        ("nodes", "message, straight, x + edges", "straight, x"),
    ]


def test_what_a_graph_without_edges_gives_stands_beside_the_silenced_graph(ring):
    message = ring([1.0] * 4, facts={"F(edgeless)": "0.75"})
    existence = ring([2.0] * 4, game="existence", facts={"F(edgeless)": "0.75"})
    failing = ring([1.0] * 4, facts={"F(edgeless)": UNKNOWN})
    silenced, rewired, unknown = agreement([message, existence, failing]).ends
    assert (silenced.edgeless, silenced.silenced, silenced.difference) == (0.75, 0.5, 0.25)
    assert math.isnan(rewired.silenced) and rewired.edgeless == 0.75
    assert math.isnan(unknown.edgeless) and math.isnan(unknown.difference)
    text = agreement([message, existence]).to_text()
    assert "existence, straight, edges" in text and "F(edgeless)" in text


def test_results_of_the_same_name_are_numbered(ring):
    ends = agreement([ring([1.0] * 4), ring([2.0] * 4)]).ends
    assert [one.name[-2:] for one in ends] == [" 1", " 2"]


def test_only_results_of_one_graph_and_output_are_compared(ring, graph_result):
    one = ring([1.0] * 4)
    for other, what in (
        (graph_result("abcd", RING[::-1], scores=[1.0] * 4), "another graph"),
        (graph_result("abcx", RING, scores=[1.0] * 4), "another graph"),
        (graph_result("abcd", RING, scores=[1.0] * 4, index=[2]), "another explained node"),
        (ring([1.0] * 4, explained="output 2"), "another output"),
        (replace(one, provenance={**one.provenance, "target": 7}), "another output"),
    ):
        with pytest.raises(ig.InputError, match=f"attribution 1 is of {what} than attribution 0"):
            agreement([one, other])
    with pytest.raises(ig.InputError, match=r"at least two results \(got 1\)"):
        agreement([one])
    with pytest.raises(ig.InputError, match=r"expected 2 names.* \(got 1\)"):
        agreement([one, one], names=["a"])
    with pytest.raises(ig.InputError, match="k must be"):
        agreement([one, one], k=0)
    with pytest.raises(ig.InputError, match="not finite"):
        agreement([one, ring([math.nan] * 4)])


def test_the_analysis_is_registered_for_graphs(ring):
    assert AgreementOfGames in ig_graphs.ig_analyses()
    assert AgreementOfGames.fits == ("graphs",)
    pair = [ring([1.0, 2.0, 3.0, 4.0])] * 2
    assert AgreementOfGames().find(pair, k=2).rows == agreement(pair, k=2).rows


# -- fidelity -------------------------------------------------------------------------------------


def star(explain=("x", "edges")):
    """A sum of messages with its graph, and what they are worth to node 0."""
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.nn import SimpleConv

    x = torch.tensor([[1.0], [2.0], [-4.0], [8.0]])
    data = Data(x=x, edge_index=torch.tensor([[1, 2, 3], [0, 0, 0]]))
    model = SimpleConv(aggr="sum")
    options = {"level": "node", "index": 0}
    return model, data, ig.attribute(model, data, domain="graphs", explain=explain, **options)


def test_the_largest_edges_are_removed_first_and_kept_first():
    model, data, result = star()
    found = fidelity(model, data, result, level="node", index=0)
    assert (found.of, found.at_input) == ("edges", 6.0)
    assert [row.k for row in found.rows] == [0, 1, 2, 3]
    assert [row.sparsity for row in found.rows] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    # By magnitude 8, -4, 2: what is left is 6, -2, 2, 0, and alone they are 0, 8, 4, 6.
    assert found.plus.tolist() == [0.0, 8.0, 4.0, 6.0]
    assert found.minus.tolist() == [6.0, -2.0, 2.0, 0.0]
    ends = [found.rows[0], found.rows[-1]]
    assert [(row.random_removed, row.random_alone) for row in ends] == [(6.0, 0.0), (0.0, 6.0)]


def test_nodes_are_removed_with_their_features():
    model, data, result = star("x")
    found = fidelity(model, data, result, level="node", index=0)
    assert found.of == "nodes" and found.plus.tolist() == [0.0, 8.0, 4.0, 6.0, 6.0]


def test_a_removed_edge_is_an_edge_that_is_not_there_where_messages_are_summed():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.nn import GraphConv

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = GraphConv(2, 6), GraphConv(6, 3)

        def forward(self, x, edge_index):
            return self.second(torch.tanh(self.first(x, edge_index)), edge_index)

    draw = torch.Generator().manual_seed(3)
    edges = torch.randint(0, 8, (2, 24), generator=draw)
    model, data = Net(), Data(x=torch.randn(8, 2, generator=draw), edge_index=edges)
    options = {"level": "node", "index": 2, "restrict": False}
    result = ig.attribute(model, data, domain="graphs", target=1, explain="edges", **options)
    found = fidelity(model, data, result, target=1, **options)
    for row in found.rows:
        kept = subgraph(result, row.k).masks[""]
        with torch.no_grad():
            alone, removed = (model(data.x, edges[:, mask])[2, 1] for mask in (kept, ~kept))
        assert row.alone == pytest.approx(float(alone), abs=1e-5)
        assert row.removed == pytest.approx(float(removed), abs=1e-5)


def test_a_curve_is_drawn_and_told(browser, tmp_path):
    model, data, result = star()
    found = fidelity(model, data, result, level="node", index=0)
    assert found.to_text().splitlines()[0].split()[:4] == ["k", "sparsity", "fid+", "fid-"]
    text = found.to_svg()
    assert text.count('class="curve"') == 4 and "fid+: without the largest: 8" in text
    ig.page("curve", found.to_html(), path=tmp_path / "curve.html")
    tab = browser.open(tmp_path / "curve.html")
    assert tab.complaints == []
    boxes = tab.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBBox())"
        ".map(b => [b.x, b.y, b.x + b.width, b.y + b.height])"
    )
    assert min(min(box[:2]) for box in boxes) >= 0
    for one, other in combinations(boxes, 2):
        across = min(one[2], other[2]) - max(one[0], other[0])
        assert across <= 2 or min(one[3], other[3]) - max(one[1], other[1]) <= 2


def test_fidelity_is_of_the_graph_place_and_output_of_the_result():
    model, data, result = star()
    right = {"level": "node", "index": 0}
    other = data.clone()
    other.edge_index = data.edge_index.flip(1)
    for graph, options, what in (
        (other, right, "another graph"),
        (data, {"level": "node", "index": 1}, "another place"),
        (data, {**right, "target": lambda out: out[:, 0]}, "another output"),
    ):
        with pytest.raises(ig.InputError, match=f"the result is of {what}"):
            fidelity(model, graph, result, **options)
    with pytest.raises(ig.InputError, match="takes no explain="):
        fidelity(model, data, result, explain="x", **right)
    with pytest.raises(ig.InputError, match="one graph and one index"):
        fidelity(model, [data], result, **right)
    with pytest.raises(ig.InputError, match="edges of this result were not explained"):
        fidelity(*star("x"), of="edges", **right)


# -- influences -----------------------------------------------------------------------------------


def test_a_feature_is_told_with_its_node_and_the_relations_that_it_takes(graph_result):
    rows = influences(_authors(graph_result)).rows
    told = [(row.node, row.feature, row.through, row.hops, row.score) for row in rows]
    assert told == [
        ("P", "feature 0", "itself", 0, -6.0),
        ("Al", "fame", "reviews / writes", 1, 5.0),
        ("R", "feature 0", "no path", -1, 4.0),
        ("Bo", "fame", "writes → cites", 2, 3.0),
        ("Q", "feature 0", "cites", 1, 2.0),
        ("Bo", "age", "writes → cites", 2, -1.0),
    ]


def test_all_other_features_are_summed(graph_result):
    found = influences(_authors(graph_result), k=2)
    assert [row.score for row in found.rows] == [-6.0, 5.0]
    assert found.rest == pytest.approx(8.0)
    assert "all other features of nodes together: +8" in found.to_text()


def test_without_names_of_relations_a_way_is_as_long_as_its_edges(graph_result):
    chain = graph_result(
        "abcd", [(0, 1), (1, 2), (2, 3)], x=[[4.0], [3.0], [2.0], [1.0]], index=[2]
    )
    told = [(row.node, row.through, row.hops) for row in influences(chain).rows]
    assert told == [
        ("a", "2 edges", 2),
        ("b", "1 edge", 1),
        ("c", "itself", 0),
        ("d", "no path", -1),
    ]
    assert "type" not in influences(chain).table().columns


def test_of_two_explained_nodes_the_nearer_one_counts(graph_result):
    chain = [(0, 1), (1, 2), (2, 3)]
    pair = graph_result("abcd", chain, x=[[4.0], [3.0], [2.0], [1.0]], index=[0, 3])
    told = [(row.node, row.through, row.hops) for row in influences(pair).rows]
    assert told == [("a", "itself", 0), ("b", "2 edges", 2), ("c", "1 edge", 1), ("d", "itself", 0)]


def test_where_nothing_is_explained_in_particular_there_is_no_way(graph_result):
    rows = influences(graph_result("ab", [(0, 1)], x=[[1.0], [0.0]])).rows
    assert [(row.node, row.through, row.hops) for row in rows] == [("a", "", -1)]


def test_influences_need_node_features(graph_result):
    with pytest.raises(ig.InputError, match="no node features were explained"):
        influences(graph_result("ab", [(0, 1)], scores=[1.0]))
    with pytest.raises(ig.InputError, match="k must be"):
        influences(graph_result("ab", [(0, 1)], x=[[1.0], [0.0]]), k=0)


def _authors(graph_result):
    """Al writes and reviews P; Bo writes Q, which cites P; P cites R."""
    return graph_result(
        {"author": ["Al", "Bo"], "paper": ["P", "Q", "R"]},
        {WRITES: [(0, 2), (1, 3)], REVIEWS: [(0, 2)], CITES: [(3, 2), (2, 4)]},
        x={"author": [[0.0, 5.0], [-1.0, 3.0]], "paper": [[-6.0], [2.0], [4.0]]},
        scores={WRITES: [1.0, -4.0], REVIEWS: [0.5], CITES: [2.0, 0.0]},
        index=[2],
        features={"author": ["age", "fame"]},
    )
