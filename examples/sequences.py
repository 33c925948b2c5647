"""How long is the memory of a GRU? It learns moving averages whose half-lives are known.

python examples/sequences.py [FOLDER]
"""

import math
import sys
from pathlib import Path

import torch
from torch import nn

import ig_core as ig
from ig_sequences import sweep

LENGTH = 60


class Student(nn.Module):
    """A GRU that answers one number after every step."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.gru = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])


def moving_average(x: torch.Tensor, keep: float) -> torch.Tensor:
    """y_t = keep * y_{t-1} + x_t, scaled to variance one."""
    weight = math.sqrt(1 - keep**2) * keep ** torch.arange(LENGTH - 1, -1, -1.0)
    padded = nn.functional.pad(x.mT, (LENGTH - 1, 0))
    return nn.functional.conv1d(padded, weight[None, None]).mT


def student_of(keep: float, steps: int = 300) -> Student:
    """A GRU that has learned the moving average from white noise."""
    torch.manual_seed(0)
    student = Student()
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = torch.randn(32, LENGTH, 1)
        loss = (student(x) - moving_average(x, keep)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print(f"keep {keep}: mean squared error {loss.item():.1e} of variance 1")
    return student


def half_life(keep: float) -> float:
    """The lag at which a moving average has forgotten half of what it read."""
    return math.log(0.5) / math.log(keep)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    torch.manual_seed(1)
    x = torch.randn(64, LENGTH, 1)
    students = {keep: student_of(keep) for keep in (0.8, 0.9, 0.95)}
    found = sweep(
        students.__getitem__, list(students), x, target=0, step="last", parameter="keep",
        theory=half_life,
    )  # fmt: skip
    print(found.to_text())
    found.plot().savefig(folder / "sweep.png", dpi=120)

    decay = found.decays[0]
    print(f"\nkeep 0.8\n{decay.to_text()}")
    decay.to_html(folder / "decay.html")
    decay.plot().savefig(folder / "decay.png", dpi=120)

    result = ig.attribute(students[0.8], x[0], target=0, step="last", baseline=0.0)
    result.to_html(folder / "sequence.html")
    print(result)


if __name__ == "__main__":
    main()
