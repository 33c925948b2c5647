"""Which step does a GRU copy? It learns to say what it read five steps ago.

python examples/delayed_copy.py [FOLDER]
"""

import sys
from pathlib import Path

import torch
from torch import nn

from ig_sequences import Decay, attribution_decay

DELAY, LENGTH = 5, 20


class Copyist(nn.Module):
    """A GRU that answers one number after every step."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])


def copyist(steps: int = 400) -> Copyist:
    """A GRU that has learned the delay from white noise."""
    torch.manual_seed(0)
    model = Copyist()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = torch.randn(32, LENGTH, 1)
        loss = (model(x)[:, DELAY:] - x[:, :-DELAY]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print(f"mean squared error {loss.item():.1e} of variance 1")
    return model


def memory(model: Copyist) -> Decay:
    """Where in the past the attribution of its last answer lies."""
    torch.manual_seed(1)
    return attribution_decay(model, torch.randn(64, LENGTH, 1), target=0, step="last")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    decay = memory(copyist())
    print(f"{decay.status}: {decay.reason}")
    share = decay.profile.max() / decay.profile.sum()
    print(f"lag {decay.peak_lag:g} holds {100 * share:.0f} % of the attribution; it copies {DELAY}")
    decay.to_html(folder / "delayed-copy.html")
    decay.plot().savefig(folder / "delayed-copy.png", dpi=120)


if __name__ == "__main__":
    main()
