"""How long is the memory of a GRU? It learns a moving average whose half-life is known.

python examples/sequences.py [FOLDER]
"""

import math
import sys
from pathlib import Path

import torch
from torch import nn

import ig_core as ig
from ig_sequences import attribution_decay

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
torch.manual_seed(0)
keep = 0.8  # y_t = keep * y_{t-1} + (1 - keep) * x_t forgets half of x in 3.1 steps


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 16, batch_first=True)
        self.head = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])


def moving_average(x: torch.Tensor) -> torch.Tensor:
    averages = [torch.zeros_like(x[:, 0])]
    for step in x.unbind(1):
        averages.append(keep * averages[-1] + (1 - keep) * step)
    return torch.stack(averages[1:], 1)


student = Student()
optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
for _ in range(400):
    x = torch.randn(64, 40, 1)
    loss = (student(x) - moving_average(x)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
print(f"mean squared error of the student {loss.item():.1e}")

decay = attribution_decay(student, torch.randn(64, 40, 1), target=0, step="last")
low, high = decay.interval
print(f"half-life of its memory {decay.half_life:.2f} steps (95 %: {low:.2f} to {high:.2f})")
print(f"of the moving average   {math.log(0.5) / math.log(keep):.2f} steps")
print(f"{decay.status}: {decay.reason}")
decay.plot().savefig(folder / "decay.png", dpi=120)

result = ig.attribute(student, torch.randn(40, 1), target=0, step="last")
result.to_html(folder / "sequence.html")
print(result)
