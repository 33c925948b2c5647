"""Readers are small networks that read a sequence: a recurrent one, and one of convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

Steps = Float[Tensor, "time features"]


class Standard(nn.Module):
    """Takes features to mean 0 and deviation 1, as they have in what a network is fitted to."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def fit(self, steps: Float[Tensor, "steps features"]) -> None:
        self.mean.copy_(steps.mean(0))
        self.deviation.copy_(steps.std(0))

    def forward(self, x: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        return (x - self.mean) / self.deviation

    def back(self, x: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        """In the units of what was fitted to."""
        return x * self.deviation + self.mean


class Recurrent(nn.Module):
    """A GRU or LSTM, packed so that padding is not read, and a head on its last state."""

    def __init__(
        self, kind: type[nn.RNN | nn.LSTM | nn.GRU], features: int, width: int, outputs: int
    ) -> None:
        super().__init__()
        self.standard = Standard(features)
        self.memory = kind(features, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(
        self, x: Float[Tensor, "rows time features"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows outputs"]:
        packed = pack_padded_sequence(self.standard(x), lengths, True, enforce_sorted=False)
        _, state = self.memory(packed)
        hidden = state[0] if isinstance(self.memory, nn.LSTM) else state
        return self.head(hidden[-1])


class Forecast(nn.Module):
    """A GRU that says the next number of a series, in the units of the series."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reader = Recurrent(nn.GRU, 1, width, 1)

    def forward(
        self, x: Float[Tensor, "rows time 1"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows 1"]:
        return self.reader.standard.back(self.reader(x, lengths))


class Convolutions(nn.Module):
    """Convolutions in time that halve the steps, and a head on the mean and the peak of each."""

    KERNELS = (7, 5, 3)

    def __init__(self, features: int, width: int, outputs: int) -> None:
        super().__init__()
        self.standard = Standard(features)
        self.layers = nn.Sequential(
            *(
                layer
                for before, kernel in zip((features, width, width), self.KERNELS, strict=True)
                for layer in (
                    nn.Conv1d(before, width, kernel, stride=2, padding=kernel // 2),
                    nn.BatchNorm1d(width),
                    nn.GELU(),
                )
            )
        )
        self.head = nn.Linear(2 * width, outputs)

    def forward(self, x: Float[Tensor, "rows time features"]) -> Float[Tensor, "rows outputs"]:
        found = self.layers(self.standard(x).transpose(1, 2))
        return self.head(torch.cat([found.mean(2), found.amax(2)], dim=1))


def answers(model: nn.Module, sequences: Sequence[Steps]) -> Float[Tensor, "sequences outputs"]:
    """What a reader says of sequences: padded, if it is told the lengths."""
    if isinstance(model, Convolutions):
        return model(torch.stack([*sequences]))
    lengths = torch.tensor([len(x) for x in sequences])
    return model(pad_sequence([*sequences], batch_first=True), lengths)
