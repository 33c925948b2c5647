"""Pictures of graphs: the numbers that they were given, as widths, colours, bars and words."""

import itertools
import math
import random
import re
import sys
from dataclasses import replace
from html import escape
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ig_core as ig
from ig_graphs import picture, svg
from ig_graphs.scored import scored
from ig_graphs.view import MOST_EDGES, drawing
from ig_graphs.view.features import feature_bars
from ig_graphs.view.layers import layers
from ig_graphs.view.layout import places
from ig_graphs.view.marks import BLUE, GREY, RED
from ig_graphs.view.molecule import molecule
from ig_graphs.view.scene import MOST_LINES, scene

EVIL = "<script>alert(1)</script>\x1b[31m\u202e"
WRITES, BACK = ("author", "writes", "paper"), ("paper", "rev_writes", "author")
CITES = ("paper", "cites", "paper")
BOTH_WAYS = [(0, 1), (1, 0), (1, 2), (2, 1)]
ETHANOL = [(0, 1), (1, 2), (1, 0), (2, 1)]


def elements(text, kind):
    """The paths of one kind in an SVG, which has to be well-formed."""
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    return [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("class") == kind]


def tips(found):
    return [element[0].text for element in found]


def words(text):
    return [
        element.text for element in ElementTree.fromstring(text).iter() if "text" in element.tag
    ]


def lines(text):
    """What is drawn of each line, by what is told under the mouse."""
    return {
        element[0].text: (
            element.get("stroke"),
            float(element.get("stroke-width")),
            element.get("stroke-dasharray") is not None,
            float(element.get("opacity", 1)),
        )
        for element in elements(text, "line")
    }


# -- lines ----------------------------------------------------------------------------------------


def test_width_is_magnitude_and_colour_and_dashes_are_the_sign(graph_result):
    drawn = lines(svg(graph_result("abcd", [(0, 1), (1, 2), (2, 3)], scores=[2.0, -1.0, 0.0])))
    assert drawn == {
        "a → b: +2": (RED, 9.0, False, 1.0),
        "b → c: −1": (BLUE, 5.0, True, 1.0),
        "c → d: 0": (GREY, 1.0, False, 0.3),
    }


def test_edges_both_ways_are_one_line_as_wide_as_both_magnitudes(graph_result):
    text = svg(graph_result("abc", BOTH_WAYS, scores=[3.0, -1.0, 1.0, 1.0]))
    assert lines(text) == {
        "a – b: +3\nb – a: −1": (RED, 9.0, False, 1.0),
        "b – c: +1\nc – b: +1": (RED, 5.0, False, 1.0),
    }
    assert not elements(text, "head")


def test_what_cancels_is_wide_and_has_no_colour(graph_result):
    [drawn] = lines(svg(graph_result("ab", [(0, 1), (1, 0)], scores=[2.0, -2.0]))).values()
    assert drawn == (GREY, 9.0, False, 1.0)


def test_heads_tell_the_way_where_it_matters(graph_result):
    def heads(edges):
        return len(elements(svg(graph_result("abc", edges, scores=[1.0] * len(edges))), "head"))

    assert heads([(0, 1), (1, 2)]) == 2
    assert heads([(0, 1), (1, 0), (1, 2)]) == 3
    assert heads(BOTH_WAYS) == 0


def test_equal_edges_are_drawn_beside_each_other(graph_result):
    text = svg(graph_result("ab", [(0, 1)] * 3, scores=[1.0, -2.0, 3.0]))
    assert sorted(tips(elements(text, "line"))) == ["a → b: +1", "a → b: +3", "a → b: −2"]
    assert len({element.get("d") for element in elements(text, "line")}) == 3


def test_very_many_equal_edges_are_one_line(graph_result):
    [line] = elements(svg(graph_result("ab", [(0, 1)] * 12, scores=[1.0] * 12)), "line")
    assert line[0].text.splitlines()[-1] == "and 4 more"


def test_a_self_loop_leaves_its_node_on_the_side_without_neighbours(graph_result):
    text = svg(graph_result("ab", [(0, 0), (0, 1), (1, 0)], scores=[1.0, 1.0, 1.0]))
    [loop] = [e for e in elements(text, "line") if e[0].text == "a – a: +1"]
    spots = dict(zip("ab", map(centre, elements(text, "node")), strict=True))
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", loop.get("d"))]
    outward = spots["a"][0] - spots["b"][0]
    assert "C" in loop.get("d")
    assert all((x - spots["a"][0]) * outward > 0 for x in numbers[2:6:2])


def centre(element):
    """The middle of what a path encloses."""
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d"))]
    return tuple((min(side) + max(side)) / 2 for side in (numbers[::2], numbers[1::2]))


def test_edges_that_were_not_explained_are_thin_and_grey(graph_result):
    drawn = lines(svg(graph_result("ab", [(0, 1)], x=[[1.0], [2.0]])))
    assert drawn == {"a → b": (GREY, 1.2, False, 1.0)}


# -- nodes ----------------------------------------------------------------------------------------


def test_nodes_are_as_full_as_their_magnitude(graph_result):
    text = svg(graph_result("abc", [], x=[[3.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]))
    assert tips(elements(text, "node")) == ["a: +4", "b: −2", "c: 0"]
    root = ElementTree.fromstring(text)
    filled = [
        (e.get("fill"), e.get("opacity")) for e in root.iter() if e.get("fill") in (RED, BLUE)
    ]
    assert filled == [(RED, None), (BLUE, "0.50")]
    rims = [(e.get("stroke"), e.get("stroke-dasharray")) for e in elements(text, "node")]
    assert [rim[0] for rim in rims[:2]] == [RED, BLUE]
    assert [rim[1] is not None for rim in rims] == [False, True, False]


def test_the_explained_nodes_are_ringed(graph_result):
    assert len(elements(svg(graph_result("abc", BOTH_WAYS, scores=[1.0] * 4)), "explained")) == 0
    text = svg(graph_result("abc", BOTH_WAYS, scores=[1.0] * 4, index=[0, 2]))
    rings = [centre(ring) for ring in elements(text, "explained")]
    nodes = [centre(node) for node in elements(text, "node")]
    np.testing.assert_allclose(rings, [nodes[0], nodes[2]], atol=0.2)
    assert "explained" in words(text)


def test_node_types_differ_in_shape_and_relations_in_letters(graph_result):
    text = svg(authors(graph_result))
    shapes = [re.sub(r"[^A-Z]", "", element.get("d")) for element in elements(text, "node")]
    assert shapes == ["MCCCCZ", "MCCCCZ", "MLLLZ", "MLLLZ"]
    shown = words(text)
    assert {"author", "paper", "cites (paper → paper)", "writes (author ↔ paper)"} <= {*shown}
    assert shown.count("a") == 2 + 1 and shown.count("b") == 1 + 1


def test_a_relation_and_its_way_back_are_one_line(graph_result):
    assert tips(elements(svg(authors(graph_result)), "line")) == [
        "P →cites→ Q: −1",
        "Bo →writes→ Q: −1\nQ →rev_writes→ Bo: +0.5",
        "Al →writes→ P: +2\nP →rev_writes→ Al: +1",
    ]


def test_edges_of_several_types_between_nodes_of_one_have_letters(graph_result):
    result = graph_result(
        "abc", [(0, 1), (1, 2), (2, 1)], scores=[1.0, 2.0, -1.0], index=[1],
        edge_types=["cites", "writes", "rev_writes"], edge_type=[0, 1, 2], x=torch.ones(3, 1),
    )  # fmt: skip
    text = svg(result)
    assert {"cites", "writes"} <= {*words(text)} and words(text).count("a") == 1 + 2
    assert tips(elements(text, "line")) == [
        "a →cites→ b: +1",
        "b →writes→ c: +2\nc →rev_writes→ b: −1",
    ]
    assert "<td>rev_writes</td>" in drawing(result)


def authors(graph_result, **display):
    return graph_result(
        {"author": ["Al", "Bo"], "paper": ["P", "Q"]},
        {WRITES: [(0, 2), (1, 3)], BACK: [(2, 0), (3, 1)], CITES: [(2, 3)]},
        x={"author": [[1.0, 2.0], [-1.0, 0.0]], "paper": [[3.0], [0.5]]},
        scores={WRITES: [2.0, -1.0], BACK: [1.0, 0.5], CITES: [-1.0]},
        index=[2],
        features={"author": ["age", "fame"]},
        **display,
    )


# -- what is drawn --------------------------------------------------------------------------------


def test_a_large_graph_is_drawn_around_what_is_explained(graph_result):
    chain = [(i, i + 1) for i in range(499)]
    scores = [0.5 if i == 20 else 0.0 for i in range(499)]
    result = graph_result([str(i) for i in range(500)], chain, scores=scores, index=[400])
    found = scene(scored(result))
    assert [*found.nodes] == [20, 21, *range(393, 407)]
    assert "16 of 500 nodes" in drawing(result)
    assert "20 → 21: +0.5" in svg(result)


def test_as_many_nodes_are_drawn_as_hold_nearly_all_scores_and_sixty_at_most(graph_result):
    def drawn(scores, count=100):
        x = torch.zeros(count, 1)
        x[: len(scores), 0] = torch.tensor(scores)
        return len(scene(scored(graph_result([str(i) for i in range(count)], [], x=x))).nodes)

    assert [drawn([1.0], count) for count in (1, 40, 41)] == [1, 40, 16]
    assert drawn([-1.0] * 40) == 38
    assert drawn([1.0] * 100) == 60


def test_a_page_of_a_real_result_tells_what_cannot_matter():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.nn import SimpleConv

    edges = torch.stack([torch.arange(499), torch.arange(1, 500)])
    labels = [f"<b>{i}" for i in range(500)]
    data = Data(x=torch.ones(500, 1), edge_index=edges, labels=labels)
    options = {"domain": "graphs", "level": "node", "index": 400, "explain": ("x", "edges")}
    result = ig.attribute(SimpleConv(aggr="sum"), data, **options)
    page = result.to_html()
    assert "more nodes of the graph cannot matter" in page and page == result.to_html()
    assert "<b>399" not in page and "&lt;b&gt;399 → &lt;b&gt;400: +0.5" in page
    assert "F(edgeless)" in page and "message: what travels" in page


def test_hops_are_counted_from_the_explained_node_whichever_way_edges_lead(graph_result):
    edges = [(0, 1), (2, 1), (2, 3), (4, 3), (5, 6)]
    graph = scored(graph_result("abcdefg", edges, scores=[9.0, 0.0, 0.0, 9.0, 9.0], index=[2]))
    nodes = [[*scene(graph, hops=hops).nodes] for hops in (0, 1, 2, 9)]
    assert nodes == [[2], [1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    whole = scored(graph_result("ab", [(0, 1)], scores=[1.0]))
    with pytest.raises(ig.InputError, match="this result is of a graph"):
        scene(whole, hops=1)


def test_the_k_largest_lines_stand_out_and_the_others_are_pale(graph_result):
    edges = [(i, i + 1) for i in range(5)]
    result = graph_result("abcdef", edges, scores=[1.0, -8.0, 0.5, 6.0, 0.25])
    for top, strong in ((1, {-8.0}), (2, {-8.0, 6.0}), (3, {-8.0, 6.0, 1.0}), (None, {-8.0, 6.0})):
        drawn = lines(svg(result, top=top))
        bright = {
            float(tip.split(": ")[1].replace("−", "-")) for tip in drawn if drawn[tip][3] == 1
        }
        assert bright == strong


@pytest.mark.parametrize("options", [{"hops": -1}, {"hops": 1.5}, {"top": 0}, {"top": True}])
def test_hops_and_top_are_whole_numbers(graph_result, options):
    with pytest.raises(ig.InputError, match="must be a whole number of at least"):
        svg(graph_result("ab", [(0, 1)], scores=[1.0], index=[0]), **options)


def test_a_dense_graph_leaves_out_its_faintest_lines_and_says_so(graph_result):
    pairs = [*itertools.combinations(range(40), 2)]
    result = graph_result([str(i) for i in range(40)], pairs, scores=torch.arange(len(pairs)))
    assert len(lines(svg(result))) == MOST_LINES == 400
    assert f"{len(pairs) - 400} lines of smaller magnitude are left out" in drawing(result)
    assert "38 → 39: +779" in svg(result) and "0 → 1: 0" not in svg(result)


def test_a_result_without_any_magnitude_says_so(graph_result):
    result = graph_result("ab", [(0, 1)], x=torch.zeros(2, 3), scores=[0.0])
    assert "every number is 0" in words(svg(result))
    assert [line[3] for line in lines(svg(result)).values()] == [1.0]
    assert "Every node gets exactly 0" in drawing(result)


def test_features_that_equal_the_baseline_point_to_the_edges(graph_result):
    nodes = graph_result("ab", [(0, 1)], x=torch.zeros(2, 3))
    assert "Explain the edges as well." in drawing(nodes)
    both = graph_result("ab", [(0, 1)], x=torch.zeros(2, 3), scores=[1.0])
    assert "Read the edges." in drawing(both)
    for x in ([[1.0], [0.0]], [[1.0, -1.0], [0.0, 0.0]]):
        assert "exactly 0" not in drawing(graph_result("ab", [(0, 1)], x=x))


def test_what_is_not_a_number_is_told(graph_result):
    result = graph_result("ab", [(0, 1)], x=[[math.nan], [1.0]], scores=[math.nan])
    assert "a: not a number" in svg(result) and "a → b: not a number" in svg(result)
    assert "nan" not in svg(result).lower().replace("not a number", "")
    assert drawing(replace(result, status="failed", reason="no"))


def test_a_graph_that_was_too_large_to_keep_has_no_drawing(graph_result):
    result = graph_result("ab", [(0, 1)], scores=[1.0])
    large = replace(result, display={**result.display, "edges": []})
    assert drawing(large) == "" and MOST_EDGES == 100_000
    with pytest.raises(ig.InputError, match="does not keep them"):
        svg(large)


def test_a_graph_without_edges_or_nodes_is_drawn(graph_result):
    assert len(elements(svg(graph_result("abc", [], x=[[1.0]] * 3)), "node")) == 3
    assert svg(graph_result("", [], scores=[])).startswith("<svg")


# -- places ---------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 90), st.integers(0, 99))
def test_no_two_nodes_overlap(count, edges, seed):
    draw = random.Random(seed)
    pairs = [(draw.randrange(count), draw.randrange(count)) for _ in range(edges)]
    found = places(range(count), pairs, edge=84, width=700, height=600, gap=42)
    assert {*found} == {*range(count)}
    apart = [math.dist(found[a], found[b]) for a, b in itertools.combinations(found, 2)]
    assert min(apart, default=42) > 40
    assert max(x for x, _ in found.values()) <= 1000 and max(y for _, y in found.values()) <= 900


def test_distances_are_those_of_the_graph_where_the_plane_has_room():
    chain = places(range(5), [(i, i + 1) for i in range(4)], edge=84, width=700, height=600, gap=40)
    for a, b in itertools.combinations(range(5), 2):
        assert math.dist(chain[a], chain[b]) == pytest.approx(84 * (b - a), rel=1e-2)
    ring = places(
        range(6), [(i, (i + 1) % 6) for i in range(6)], edge=84, width=700, height=600, gap=40
    )
    sides = [math.dist(ring[i], ring[(i + 1) % 6]) for i in range(6)]
    assert max(sides) / min(sides) < 1.01


def test_a_picture_is_the_same_at_every_call_and_draws_no_random_number(graph_result):
    edges = [(i, (i * 7 + 3) % 30) for i in range(30)]
    result = graph_result([str(i) for i in range(30)], edges, scores=torch.arange(30.0) - 9)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first = svg(result)
    np.random.default_rng().standard_normal(3)
    assert svg(result) == first
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after


# -- words ----------------------------------------------------------------------------------------


def test_names_are_escaped_wherever_they_stand(graph_result):
    relation = (EVIL, EVIL + "r", EVIL)
    result = graph_result(
        {EVIL: [EVIL, "b"], "other": ["c"]},
        {relation: [(0, 1)], ("other", "at", EVIL): [(2, 0)]},
        x={EVIL: [[1.0], [2.0]], "other": [[3.0]]},
        scores={relation: [1.0], ("other", "at", EVIL): [2.0]},
        index=[1],
        features={EVIL: [EVIL]},
        explained=EVIL,
        game=EVIL,
        smiles=EVIL,
        facts={EVIL: EVIL},
    )
    for text in (drawing(result), svg(result)):
        assert "<script" not in text and escape("<script>") in text
        assert "\x1b" not in text and "\u202e" not in text
        assert elements(text, "node")


def test_long_labels_are_cut_in_the_picture_and_whole_under_the_mouse(graph_result):
    label = "a label of thirty-two characters"
    text = svg(graph_result([label, "b"], [(0, 1)], scores=[1.0]))
    assert "a label of thirty…" in words(text)
    assert tips(elements(text, "node"))[0] == label


def test_more_types_than_shapes_have_a_second_line_inside(graph_result):
    types = {f"type {i}": [str(i)] for i in range(8)}
    none = {("type 0", "to", "type 1"): []}
    text = svg(graph_result(types, none, x={name: [[1.0]] for name in types}))
    shapes = [re.sub(r"[^A-Z]", "", e.get("d")) for e in elements(text, "node")]
    assert shapes[0] == shapes[6] and {*types} <= {*words(text)}
    inside = [e for e in ElementTree.fromstring(text).iter() if e.get("stroke-width") == "1.00"]
    assert len([e for e in inside if e.get("stroke") == RED]) == 2


def test_what_was_played_stands_beneath_and_f_in_the_card(graph_result):
    facts = {"F(edgeless)": "0.123", "F(silenced)": "0.25"}
    result = graph_result("ab", [(0, 1)], scores=[1.0], facts=facts)
    card = result.card().facts
    assert (card["F(input)"], card["F(baseline)"], card["difference"]) == ("1.5", "0.5", "1")
    assert (card["F(edgeless)"], card["F(silenced)"]) == ("0.123", "0.25")
    told = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", drawing(result)))
    assert told["game"].startswith("message: what travels along an edge is silenced")
    assert (told["path"], told["baseline"]) == ("straight", "zeros")
    assert "F(input)" not in told
    rewired = drawing(graph_result("ab", [(0, 1)], scores=[1.0], game="existence"))
    assert "existence: an edge is taken away" in rewired
    assert "<dt>game</dt>" not in drawing(graph_result("ab", [(0, 1)], x=[[1.0], [2.0]]))


def test_a_result_that_did_not_converge_warns(graph_result):
    result = replace(graph_result("ab", [(0, 1)], scores=[1.0]), status="budget")
    assert "Careful: budget (the tolerance was not reached" in drawing(result)


# -- features and layers --------------------------------------------------------------------------


def test_features_are_summed_at_the_explained_node_and_over_all_nodes(graph_result):
    own, every = feature_bars(scored(authors(graph_result)))
    assert [(row.label, row.score) for row in own.rows] == [("paper: feature 0", 3.0)]
    assert [(row.label, row.score, row.share) for row in every.rows] == [
        ("paper: feature 0", 3.5, 1.0),
        ("author: fame", 2.0, 2 / 3.5),
    ]  # age cancels: 1 - 1


def test_bars_reach_to_both_sides_of_the_middle(graph_result):
    text = drawing(graph_result("ab", [(0, 1)], x=[[1.0, -2.0], [0.0, 0.0]]))
    styles = re.findall(r'<i class="(\w+)" style="([^"]*)"', text)
    assert styles == [("down", "width:50.0%;margin-inline-start:0.0%"), ("up", "width:25.0%")]


def test_the_fifteen_largest_features_are_drawn_and_the_others_counted(graph_result):
    result = graph_result("ab", [(0, 1)], x=torch.arange(40.0).view(2, 20))
    [bars] = feature_bars(scored(result))
    assert (len(bars.rows), bars.more) == (15, 5)
    assert bars.rows[0].label == "feature 19"


def test_rows_tell_the_feature_the_neighbour_and_the_relation(graph_result):
    row = re.search("<tr><th[^>]*>fame</th>.*?</tr>", drawing(authors(graph_result)))[0]
    assert re.sub("<[^>]*>", "|", row).strip("|").split("||") == [
        "fame", "Al (author)", "writes", "+2",
    ]  # fmt: skip


def test_layers_sum_to_the_edges_and_are_drawn_on_one_scale(graph_result):
    scores = [[1.0, -3.0, 0.5], [4.0, 0.0, 0.5]]
    result = graph_result("abc", [(0, 1), (1, 2), (2, 0)], scores=scores)
    graph = scored(result)
    found = layers(result, graph)
    assert [(one.size, one.score) for one in found] == [(4.5, -1.5), (4.5, 4.5)]
    assert found[0].largest == "b → c −3, a → b +1, c → a +0.5"
    torch.testing.assert_close(sum(one.graph.edges for one in found), graph.edges)
    whole, first, second = re.findall("<svg.*?</svg>", drawing(result), re.S)
    assert lines(first)["b → c: −3"][1] == 1 + 8 * 3 / 4 and lines(second)["a → b: +4"][1] == 9
    spots = [[centre(e) for e in elements(text, "node")] for text in (whole, first, second)]
    moved = [[(x - spot[0][0], y - spot[0][1]) for x, y in spot] for spot in spots]
    np.testing.assert_allclose(moved, [moved[0]] * 3, atol=0.2)


def test_layers_of_relations_stand_side_by_side(graph_result):
    result = graph_result(
        {"author": ["Al"], "paper": ["P", "Q"]},
        {WRITES: [(0, 1)], CITES: [(1, 2)]},
        scores={WRITES: [[1.0], [2.0]], CITES: [[-1.0], [3.0]]},
    )
    assert [one.score for one in layers(result, scored(result))] == [0.0, 5.0]
    assert layers(authors(graph_result), scored(authors(graph_result))) == []


# -- molecules ------------------------------------------------------------------------------------


def test_a_bond_holds_both_of_its_edges(graph_result):
    pytest.importorskip("rdkit")
    result = graph_result(
        ["C0", "C1", "O2"], ETHANOL, x=[[1.0], [0.0], [-2.0]], scores=[1.0, 2.0, 4.0, -8.0],
        smiles="CCO",
    )  # fmt: skip
    found = molecule(result, scored(result))
    assert (found.atoms.tolist(), found.bonds.tolist()) == ([1.0, 0.0, -2.0], [5.0, -6.0])
    assert (found.atom_limit, found.bond_limit) == (2.0, 6.0)
    assert BLUE in svg(result).lower(), "the strongest bond has the full colour"
    assert 'class="molecule"' in drawing(result) and "The same as a graph" in drawing(result)
    assert elements(svg(result, top=1), "node"), "with an option the graph is drawn"


def test_hydrogens_may_be_nodes_as_well(graph_result):
    pytest.importorskip("rdkit")
    hydrogens = [(0, 1), (0, 2), (0, 3), (0, 4)]
    result = graph_result(["C", *"HHHH"], hydrogens, scores=[1.0, 2.0, 3.0, 4.0], smiles="C")
    assert molecule(result, scored(result)).bonds.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("smiles", "edges"),
    [
        ("CC", ETHANOL), ("OOC1", ETHANOL), ("CCO", [(0, 2)]), ("CCO", [(0, 0)]), (3, ETHANOL),
        ("", []),
    ],
    ids=["atoms", "no molecule", "no bond", "loop", "no text", "empty"],
)  # fmt: skip
def test_what_does_not_fit_its_molecule_is_drawn_as_a_graph(graph_result, smiles, edges):
    result = graph_result("abc", edges, scores=[1.0] * len(edges), smiles=smiles)
    assert molecule(result, scored(result)) is None
    assert elements(svg(result), "node")


def test_without_rdkit_a_molecule_is_drawn_as_a_graph(graph_result, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    result = graph_result("abc", ETHANOL, scores=[1.0] * 4, smiles="CCO")
    assert elements(svg(result), "node")


def test_a_molecule_cannot_bring_labels_of_its_own(graph_result):
    pytest.importorskip("rdkit")
    evil = "CCO |$<script>;;$|"
    text = drawing(graph_result("abc", ETHANOL, scores=[1.0] * 4, smiles=evil))
    assert "script" not in text


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("smiles", [None, "CCO"])
def test_a_picture_is_written_as_its_suffix_says(graph_result, tmp_path, smiles):
    pytest.importorskip("rdkit")
    pytest.importorskip("matplotlib")
    result = graph_result(["$a_1$", "b", "c"], ETHANOL, scores=[1.0, -1.0, 2.0, 0.0], smiles=smiles)
    path = picture(result, tmp_path / "one.svg")
    assert path.read_text(encoding="utf-8") == svg(result)
    image = picture(result, tmp_path / "one.PNG").read_bytes()
    assert image.startswith(b"\x89PNG")
    wide = int.from_bytes(image[16:20], "big")
    expected = float(re.search(r"width=['\"]([\d.]+)", svg(result))[1])
    assert wide == pytest.approx(2 * expected, abs=2)


def test_a_picture_that_cannot_be_written_is_an_error(graph_result, tmp_path):
    result = graph_result("ab", [(0, 1)], scores=[1.0])
    with pytest.raises(ig.InputError, match=r"a \.svg or a \.png file \(got .*one.jpg"):
        picture(result, tmp_path / "one.jpg")
    with pytest.raises(ig.StorageError, match="cannot write"):
        picture(result, tmp_path / "missing" / "one.svg")


# -- in a browser ---------------------------------------------------------------------------------


NAMES = ["sixty", "hetero", "molecule", "wide", "layers", "evil"]


@pytest.fixture(scope="module")
def pages(graph_result, tmp_path_factory):
    """The pages that the browser opens, by name."""
    pytest.importorskip("rdkit")
    draw = random.Random(0)
    pairs = [(draw.randrange(i), i) for i in range(1, 60)]
    pairs += [(draw.randrange(60), draw.randrange(60)) for _ in range(20)]
    scores = [1 + draw.random() * draw.choice((-1, 1)) for _ in pairs]
    found = {
        "sixty": graph_result([f"node {i}" for i in range(60)], pairs, scores=scores, index=[7]),
        "hetero": authors(graph_result, facts={"F(edgeless)": "0.123"}),
        "molecule": graph_result(
            "abc", ETHANOL, x=torch.ones(3, 30), scores=[1.0, 2, -3, 4], smiles="CCO"
        ),
        "wide": graph_result(
            ["這部電影很好看", "👨‍👩‍👧 family", "هذا الفيلم", "WWWWWWWWWW", "b"],
            [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
            scores=[1.0, -2, 3, 4, 5],
        ),
        "layers": graph_result("abc", BOTH_WAYS, scores=torch.randn(4, 4)),
        "evil": graph_result(
            [EVIL + "x" * 400, "b"], [(0, 1)], x=torch.ones(2, 2), explained=EVIL * 20
        ),
    }
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, result in found.items():
        made[name] = folder / f"{name}.html"
        drawn = svg(result, hops=60) if name == "sixty" else drawing(result)
        body = f"<figure>{drawn}</figure>" if name == "sixty" else drawn
        ig.page("a graph", body, path=made[name])
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(browser, pages, name):
    tab = browser.open(pages[name])
    assert tab.requested == [pages[name].as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("document.scripts.length + document.images.length") == 0


@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_wider_than_its_window(browser, pages, name, width):
    tab = browser.open(pages[name], width=width)
    tab.evaluate("[...document.querySelectorAll('details')].forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_a_drawing_covers_another_or_leaves_it(browser, pages, name):
    tab = browser.open(pages[name])
    tab.evaluate("[...document.querySelectorAll('details')].forEach(d => d.open = true)")
    boxes = tab.evaluate(
        "[...document.querySelectorAll('figure:not(.molecule) svg')].map(s => ["
        "[s.viewBox.baseVal.width, s.viewBox.baseVal.height], [...s.querySelectorAll('text')].map("
        "t => { const b = t.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height] })])"
    )
    assert boxes
    for (width, height), drawn in boxes:
        assert all(
            min(x, y) >= 0 and right <= width and low <= height for x, y, right, low in drawn
        )
        for one, other in itertools.combinations(drawn, 2):
            slack = 2.0  # boxes are as high as the tallest letters
            across = min(one[2], other[2]) - max(one[0], other[0])
            down = min(one[3], other[3]) - max(one[1], other[1])
            assert across <= slack or down <= slack, (one, other)


def test_sixty_nodes_have_room_for_nearly_all_of_their_labels(browser, pages):
    tab = browser.open(pages["sixty"])
    shown = tab.evaluate("[...document.querySelectorAll('svg text')].map(t => t.textContent)")
    assert len([text for text in shown if text.startswith("node ")]) >= 50


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_letters_stand_out_from_their_ground(browser, pages, dark):
    tab = browser.open(pages["hetero"], dark=dark)
    ink, ground, soft = tab.evaluate(
        "[['.ig-graph', 'color'], ['.ig-graph', 'backgroundColor'], ['.ig-graph dt', 'color']]"
        ".map(([place, name]) => getComputedStyle(document.querySelector(place))[name])"
    )
    assert contrast(ink, ground) > 7 and contrast(soft, ground) > 4.5


def contrast(one, other):
    """The ratio of two colours' luminances, as the WCAG define it."""

    def light(colour):
        parts = [int(p) / 255 for p in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    high, low = sorted([light(one), light(other)], reverse=True)
    return high / low
