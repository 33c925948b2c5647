"""What the adaptive rule spends, and how often a result that says "converged" is not.

``make perf`` prints evaluations (median and worst), misses (true relative L1 error above the
tolerance) and the worst error in tolerances. The truth is a midpoint sum of 20,000 steps.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import ig_core as ig

EXAMPLES = 50
BUDGET = 2048


def dense(activation: type[nn.Module], inputs: int, outputs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(inputs, 64), activation(), nn.Linear(64, 64), activation(),
        nn.Linear(64, outputs),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.recurrent, self.out = kind(4, 32, batch_first=True), nn.Linear(32, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(x).mean(1))


class Gate(nn.Module):
    """relu(a) * g: kinks on a curved path, the hardest kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(503)
        self.kinked, self.curved, self.out = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.kinked(x)) * self.curved(x))


def convolution() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 3),
    )  # fmt: skip


def probability(outputs: Tensor) -> Tensor:
    return outputs.softmax(1)[:, 0]


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...], int | Callable[[Tensor], Tensor]]] = {
    "ReLU, 16-64-64-3": (dense(nn.ReLU, 16, 3, 0), (16,), 0),
    "ReLU and softmax": (dense(nn.ReLU, 16, 3, 1), (16,), probability),
    "ReLU Q-network, 4-64-64-2": (dense(nn.ReLU, 4, 2, 5), (4,), 0),
    "LeakyReLU, 4-64-64-3": (dense(nn.LeakyReLU, 4, 3, 6), (4,), 0),
    "CNN with max pooling": (convolution(), (1, 8, 8), 0),
    "gate": (Gate(), (16,), 0),
    "GELU, 16-64-64-3": (dense(nn.GELU, 16, 3, 7), (16,), 0),
    "tanh, 16-64-64-3": (dense(nn.Tanh, 16, 3, 8), (16,), 0),
    "GRU": (Recurrent(nn.GRU, 1), (20, 4), 0),
    "LSTM": (Recurrent(nn.LSTM, 2), (20, 4), 0),
    "transformer encoder, 3 layers": (Encoder(), (10, 16), 0),
}


def values(results: list[ig.Attribution]) -> Tensor:
    return torch.stack([result.values.double().flatten() for result in results])


def main() -> None:
    warnings.simplefilter("ignore", ig.IGWarning)  # the table says what was missed
    torch.set_num_threads(1)
    print(f"{'network':<30} dtype   tol  evaluations  converged  missed  worst")
    for name, (network, shape, target) in NETWORKS.items():
        generator = torch.Generator().manual_seed(10)
        x = torch.randn(EXAMPLES, *shape, generator=generator, dtype=torch.float64)
        network.double()
        truth = values(
            ig.attribute(network, x, target=target, rule="midpoint", steps=20_000, tol=0.9)
        )
        for dtype in (torch.float64, torch.float32):
            network.to(dtype)
            for tol in (1e-2, 1e-3):
                found = ig.attribute(network, x.to(dtype), target=target, tol=tol, budget=BUDGET)
                error = (values(found) - truth).abs().sum(1) / truth.abs().sum(1) / tol
                sure = torch.tensor([result.status == "converged" for result in found])
                spent = [result.evaluations for result in found]
                missed = int((error[sure] > 1).sum())
                worst = max(error[sure].tolist(), default=0.0)
                print(
                    f"{name:<30} {str(dtype)[6:]} {tol:<5g} {statistics.median(spent):>6.0f} /"
                    f"{max(spent):>5}  {len(error[sure]):>9}  {missed:>6}  {worst:5.2f}"
                )


if __name__ == "__main__":
    main()
