"""Models whose attribution decay is known in closed form, or nearly so."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded

Sequences = Float[Tensor, "rows time features"]
Lengths = Int[Tensor, " rows"]
Answers = Float[Tensor, " rows"]


class Filter(nn.Module, ABC):
    """A linear filter: the sum over lags of weight(lag) x, summed over features.

    Linear, so that IG at lag k is exactly weight(k) (x - x'), whatever the path.
    """

    @abstractmethod
    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        """What a step counts, by its lag of at least 0."""

    def forward(self, x: Sequences, lengths: Lengths) -> Answers:
        time = torch.arange(x.shape[1], device=x.device)
        lag = lengths.to(x.device)[:, None] - 1 - time
        weight = torch.where(lag >= 0, self.weight(lag.clamp(min=0).to(x.dtype)), 0.0)
        return (weight * x.sum(2)).sum(1)


class ImpulseResponse(Filter):
    """What steps count at the lags 0, 1, ... one by one; older ones count nothing."""

    response: Tensor

    def __init__(self, response: Float[Tensor, " lags"]) -> None:
        super().__init__()
        self.register_buffer("response", response.double())

    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        last = len(self.response) - 1
        known = self.response[lag.long().clamp(max=last)].to(lag.dtype)
        return torch.where(lag <= last, known, 0.0)


class LeakyIntegrator(Filter):
    """h_t = decay * h_{t-1} + x_t, after the last step: the half-life is ln(1/2) / ln(decay)."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        return self.decay**lag


class DelayLine(Filter):
    """What was read ``delay`` steps ago: all attribution lies at that lag."""

    def __init__(self, delay: int) -> None:
        super().__init__()
        self.delay = delay

    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        return (lag == self.delay).to(lag.dtype)


class MovingAverage(Filter):
    """The mean of the last ``window`` steps: half of the attribution lies in window / 2 steps."""

    def __init__(self, window: float) -> None:
        super().__init__()
        self.window = int(window)

    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        return (lag < self.window).to(lag.dtype) / self.window


class PowerLaw(Filter):
    """Weights (1 + k)^-exponent: no rate, each halving takes longer than the one before."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def weight(self, lag: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        return (1 + lag) ** -self.exponent


class DiagonalSSM(nn.Module):
    """h' = rate h + x at steps of ``delta``, held in between.

    Its half-life is ln 2 / (-rate delta). The zero-order hold of S4D (Gu et al. 2022,
    arXiv:2206.11893) with one mode per feature.
    """

    def __init__(self, rate: float, delta: float = 1.0) -> None:
        super().__init__()
        self.keep = math.exp(rate * delta)
        self.read = math.expm1(rate * delta) / rate

    def forward(self, x: Sequences, lengths: Lengths) -> Answers:
        state, states = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            state = self.keep * state + self.read * step
            states.append(state)
        last = lengths.to(x.device)[:, None, None] - 1
        return torch.stack(states, 1).take_along_dim(last, 1).sum((1, 2))


class AlibiHead(nn.Module):
    """A head of attention whose queries and keys are zero: the half-life is ln 2 / slope.

    All that tells steps apart is the bias -slope * lag of ALiBi (Press, Smith and Lewis 2022,
    arXiv:2108.12409); the values are x.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Sequences, lengths: Lengths) -> Answers:
        lag = lengths.to(x.device)[:, None] - 1 - torch.arange(x.shape[1], device=x.device)
        bias = torch.where(lag >= 0, -self.slope * lag.to(x.dtype), -math.inf)
        return (bias.softmax(1)[..., None] * x).sum((1, 2))


class TimedLeak(nn.Module):
    """A leak in continuous time, the sum of exp(-rate (t_T - t_i)) x_i.

    Its half-life is ln 2 / rate, in the unit of the times, which it wants to know.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Sequences, times: Float[Tensor, "rows time"], lengths: Lengths) -> Answers:
        lengths = lengths.to(x.device)
        end = times.take_along_dim(lengths[:, None] - 1, 1)
        known = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        weight = torch.where(known, torch.exp(-self.rate * (end - times).clamp(min=0)), 0.0)
        return (weight * x.sum(2)).sum(1)


class Readout(nn.Module):
    """A recurrent network and a fixed random projection of its state after every step."""

    def __init__(self, network: nn.RNNBase, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed + 1)
        self.network = network
        self.head = nn.Linear(network.hidden_size, 1, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator))
        self.double()

    def forward(self, x: Sequences) -> Float[Tensor, "rows time"]:
        return self.head(self.network(x)[0])[..., 0]


def _network(
    kind: type[nn.RNN | nn.LSTM | nn.GRU], features: int, width: int, seed: int
) -> nn.RNNBase:
    """A network with torch's own random weights, whatever the global generator holds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(features, width, batch_first=True)


def scaled_rotation(radius: float, *, features: int = 8, width: int = 64, seed: int = 0) -> Readout:
    """A tanh RNN whose recurrent weights are ``radius`` times an orthogonal matrix.

    For inputs so small that tanh is linear its state shrinks by ``radius`` at every step, so that
    the half-life is ln(1/2) / ln(radius). It answers at every step: explain it with
    ``step="last"``.
    """
    network = _network(nn.RNN, features, width, seed)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    with torch.no_grad():
        weights = dict(network.named_parameters())
        weights["weight_hh_l0"].copy_(radius * rotation)
        weights["bias_hh_l0"].zero_()
        weights["bias_ih_l0"].zero_()
    return Readout(network, seed)


def chrono_lstm(
    forget_bias: float,
    *,
    input_bias: float | None = None,
    features: int = 4,
    width: int = 16,
    seed: int = 0,
) -> Readout:
    """An LSTM with torch's own weights and given biases of its gates.

    By default the input gate closes as far as the forget gate opens, b_i = -b_f (Tallec and
    Ollivier 2018, arXiv:1804.11188), so that the state neither grows nor forgets at once; without
    recurrent weights its half-life would be ln(1/2) / ln(sigmoid(forget_bias)). An open input gate
    (``input_bias=0.0``) with a large forget bias lets the state saturate, and attribution *grows*
    with the lag. It answers at every step: explain it with ``step="last"``.
    """
    network = _network(nn.LSTM, features, width, seed)
    with torch.no_grad():
        weights = dict(network.named_parameters())
        weights["bias_hh_l0"].zero_()
        weights["bias_ih_l0"][:width] = -forget_bias if input_bias is None else input_bias
        weights["bias_ih_l0"][width : 2 * width] = forget_bias
    return Readout(network, seed)


def constant_gates(kind: Literal["lstm", "gru"], bias: float, *, width: int = 4) -> nn.RNNBase:
    """An LSTM or GRU without recurrent weights, whose inputs are read by the candidate alone.

    The gate that keeps the state is s = sigmoid(bias) at all times, and the half-life
    ln(1/2) / ln(s) wherever abs(x) is the same at all steps.
    """
    network = _network(nn.LSTM if kind == "lstm" else nn.GRU, 1, width, 0).double()
    gate, candidate = slice(width, 2 * width), slice(2 * width, 3 * width)  # i, f, g, o; r, z, n
    with torch.no_grad():
        weights = dict(network.named_parameters())
        read = weights["weight_ih_l0"][candidate].clone()
        for parameter in weights.values():
            parameter.zero_()
        weights["weight_ih_l0"][candidate] = read
        weights["bias_ih_l0"][gate] = bias
    return network


def leaky_integrator(folder: Path) -> Loaded:
    """Ragged noise through a leak of 0.8, whose half-life is known."""
    generator = torch.Generator().manual_seed(0)
    lengths = range(12, 36, 3)
    sequences = [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in lengths]
    return Loaded(
        LeakyIntegrator(0.8),
        sequences,
        facts={"half-life": round(math.log(0.5) / math.log(0.8), 4)},
    )


CASE = BenchmarkCase(
    name="leaky-integrator",
    domain="sequences",
    load=leaky_integrator,
    source="closed form",
)
