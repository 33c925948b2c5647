"""Why does a graph network put a member of a karate club into a group? Nodes and messages.

Usage: python examples/graphs.py [folder for karate.html]
"""

import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GCN

import ig_core as ig

torch.manual_seed(0)
club = KarateClub()[0]
model = GCN(club.num_features, 16, num_layers=2, out_channels=4)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
for _ in range(200):
    logits = model(club.x, club.edge_index)[club.train_mask]
    optimizer.zero_grad()
    cross_entropy(logits, club.y[club.train_mask]).backward()
    optimizer.step()

member, group = 8, int(club.y[8])
result = ig.attribute(model, club, level="node", index=member, target=group, explain=("x", "edges"))
print(result)
for label, score in result.top(5):
    print(f"{label:>12} {score:+.3f}")
page = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "karate.html"
result.to_html(page)
print(f"wrote {page}")
