"""Where the nodes of a picture stand: neighbours near each other, the same at every call."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

STEPS = 300
"""Steps of the majorization at most."""

APART = 0.75
"""Between unconnected parts, in lengths of an edge."""

Places = Float[np.ndarray, "nodes 2"]


def places(
    nodes: Sequence[int],
    pairs: Iterable[tuple[int, int]],
    *,
    edge: float,
    width: float,
    height: float,
    gap: float,
) -> Mapping[int, tuple[float, float]]:
    """A place for every node, from (0, 0) on, no two nearer to each other than ``gap``.

    An edge is about ``edge`` long, or as long as fits into ``width`` and ``height``. Distances in
    the picture follow those in the graph by stress majorization (Gansner, Koren and North 2004,
    doi:10.1007/978-3-540-31843-9_25); parts that no edge connects stand beside each other.
    """
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(pair for pair in pairs if pair[0] != pair[1])
    parts = sorted(networkx.connected_components(graph), key=lambda part: (-len(part), min(part)))
    whole = [sorted(part) for part in parts if len(part) > 1]
    single = [node for part in parts if len(part) == 1 for node in part]
    blocks = [(part, _component(graph.subgraph(part), part)) for part in whole]
    aspect = width / height
    if single:
        blocks.append((single, _grid(len(single), aspect if not whole else 4 * aspect)))
    order = [node for part, _ in blocks for node in part]
    if not order:
        return {}
    found = np.concatenate(_packed([block for _, block in blocks], aspect))
    reach = np.maximum(found.max(0) - found.min(0), 1e-9)
    found = (found - found.min(0)) * min(edge, width / reach[0], height / reach[1])
    found = _pushed_apart(found, gap)
    found -= found.min(0)
    return {node: (float(x), float(y)) for node, (x, y) in zip(order, found, strict=True)}


def _component(graph: Any, nodes: Sequence[int]) -> Places:
    """One connected part, its longer side lying, edges about 1 long."""
    import networkx

    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    far = np.array([[lengths[u][v] for v in nodes] for u in nodes], dtype=float)
    starts = [_scaled(far), _circle(len(nodes))]
    found = min((_majorized(start, far) for start in starts), key=lambda x: _stress(x, far))
    found = found - found.mean(0)
    _, _, axes = np.linalg.svd(found, full_matrices=False)
    turned = found @ axes.T
    # The axes are known up to a sign only: the first node that is off centre decides.
    for axis in (0, 1):
        off = np.flatnonzero(np.abs(turned[:, axis]) > 1e-6)
        turned[:, axis] *= -1.0 if len(off) and turned[off[0], axis] > 0 else 1.0
    return turned


def _scaled(far: Float[np.ndarray, "nodes nodes"]) -> Places:
    """Classical scaling, a little shaken, since nodes with the same neighbours would coincide."""
    centre = np.eye(len(far)) - 1 / len(far)
    values, vectors = np.linalg.eigh(-centre @ far**2 @ centre / 2)
    found = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0.0))
    shaken: Places = found + 0.05 * np.random.default_rng(0).standard_normal(found.shape)
    return shaken


def _circle(count: int) -> Places:
    turn = 2 * math.pi * np.arange(count) / count
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * count / (2 * math.pi)


def _majorized(start: Places, far: Float[np.ndarray, "nodes nodes"]) -> Places:
    """The places of least stress near a start."""
    weights = np.where(far > 0, 1 / np.maximum(far, 1.0) ** 2, 0.0)
    inverse = np.linalg.pinv(np.diag(weights.sum(1)) - weights)
    found, before = start, math.inf
    for _ in range(STEPS):
        apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
        pull = -weights * far / np.maximum(apart, 1e-9)
        np.fill_diagonal(pull, 0.0)
        pull -= np.diag(pull.sum(1))
        found = inverse @ pull @ found
        stress = _stress(found, far)
        if before - stress < 1e-6 * stress:
            break
        before = stress
    return found


def _stress(found: Places, far: Float[np.ndarray, "nodes nodes"]) -> float:
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
    return float((((apart - far) / np.maximum(far, 1.0)) ** 2).sum())


def _grid(count: int, aspect: float) -> Places:
    """Nodes without edges, in rows."""
    columns = min(count, max(1, math.ceil(math.sqrt(count * aspect))))
    numbers = np.arange(count)
    return APART * np.stack([numbers % columns, numbers // columns], axis=1)


def _packed(blocks: Sequence[Places], aspect: float) -> Sequence[Places]:
    """The blocks in rows, from the largest on, together about as wide as the picture."""
    sides = [block.max(0) - block.min(0) + APART for block in blocks]
    area = sum(float(side.prod()) for side in sides)
    room = max(math.sqrt(area * aspect), *(float(side[0]) for side in sides), 0.0)
    found = []
    x = y = tall = 0.0
    for block, side in zip(blocks, sides, strict=True):
        if x and x + side[0] > room * 1.05:
            x, y, tall = 0.0, y + tall, 0.0
        found.append(block - block.min(0) + np.array([x, y]))
        x, tall = x + float(side[0]), max(tall, float(side[1]))
    return found


def _pushed_apart(found: Places, gap: float) -> Places:
    """The places with every pair that is nearer than ``gap`` moved apart along its line."""
    found = found.copy()
    for _ in range(200):
        apart = found[:, None] - found[None]
        distance = np.linalg.norm(apart, axis=-1)
        np.fill_diagonal(distance, np.inf)
        near = distance < gap
        if not near.any():
            break
        # Nodes that coincide part sideways, the earlier one to the left.
        sideways = np.sign(np.arange(len(found))[:, None] - np.arange(len(found))[None])
        apart[..., 0] += np.where(distance < 1e-6, sideways, 0.0)
        length = np.maximum(np.linalg.norm(apart, axis=-1), 1e-6)
        push = np.where(near, (gap + 0.5 - np.minimum(distance, gap)) / 2, 0.0)
        found += (apart / length[..., None] * push[..., None]).sum(1)
    return found
