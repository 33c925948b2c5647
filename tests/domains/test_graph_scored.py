"""The graph of a result: scores of nodes, edges and features under one numbering."""

import pytest
import torch

import ig_core as ig

pytest.importorskip("torch_geometric")

from torch_geometric.data import Data
from torch_geometric.nn import SimpleConv

from ig_graphs.scored import scored, tensor_name

STAR = Data(x=torch.tensor([[1.0], [2.0], [-4.0]]), edge_index=torch.tensor([[1, 2], [0, 0]]))


def both(**options: object) -> ig.Attribution:
    model = SimpleConv(aggr="sum")
    return ig.attribute(model, STAR, domain="graphs", level="node", index=0, **options)


def test_scores_are_those_of_the_units() -> None:
    graph = scored(both(explain=("x", "edges")))
    torch.testing.assert_close(graph.nodes, torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64))
    torch.testing.assert_close(graph.edges, torch.tensor([1.0, -2.0], dtype=torch.float64))
    assert graph.edge_index.tolist() == [[1, 2], [0, 0]]
    assert graph.marked == [0]


def test_what_was_not_explained_has_no_scores() -> None:
    assert scored(both(explain="x")).edges is None
    assert scored(both(explain="edges")).nodes is None


def test_nodes_of_one_number_and_graphs_without_edges_have_scores(graph_result) -> None:
    graph = scored(graph_result("ab", [], x=[2.0, -1.0], scores=[]))
    assert graph.nodes.tolist() == [2.0, -1.0] and graph.edges.tolist() == []
    assert graph.features[""].tolist() == [[2.0], [-1.0]]


def test_a_graph_may_have_no_relation_at_all(graph_result) -> None:
    graph = scored(graph_result({"a": ["u"], "b": ["v"]}, {}, x={"a": [[1.0]], "b": [[2.0]]}))
    assert graph.nodes.tolist() == [1.0, 2.0] and graph.edge_index.shape == (2, 0)


def test_names_of_tensors_begin_with_their_type() -> None:
    assert tensor_name(("", "", ""), "edges") == "edges"
    assert tensor_name("paper", "x") == "paper.x"


def test_a_result_of_another_domain_is_refused() -> None:
    [other] = ig.attribute(lambda x: x.sum(1), torch.ones(1, 2))
    with pytest.raises(ig.InputError, match="expected the attribution of a graph"):
        scored(other)
