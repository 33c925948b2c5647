"""Explain a small network on tensors: which of four columns made the prediction?

python examples/tensors.py [FOLDER]
"""

import sys
from pathlib import Path

import torch

import ig_core as ig

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
torch.manual_seed(0)

# The label depends on the first two columns only.
x = torch.randn(512, 4)
y = (x[:, 0] * x[:, 1] > 0).long()
model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(300):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
print(f"training accuracy {(model(x).argmax(1) == y).float().mean():.3f}")

results = ig.attribute(model, x[:4], target=y[:4].tolist(), baseline=ig.Mean(x))
print(results[0].to_text())
results[0].to_html(folder / "tensors.html")
