"""Functions that nobody looked at while the rule was tuned: run them, but tune nothing on them."""

from __future__ import annotations

from typing import Any

import torch
from function import Chosen, Entry, Function, frozen, scaled, seeded
from language import RANDOM_EXAMPLES, Logit
from networks import (
    DEAR_EXAMPLES,
    EXAMPLES,
    Recurrent,
    convolution,
    dense,
    from_zero,
    of_digits,
    of_karate_club,
    of_symbols,
)
from torch import Tensor, nn


def leaky_convolution() -> Function:
    with seeded(11):
        network = convolution(nn.LeakyReLU, nn.AvgPool2d)
        return of_digits("leaky-convolution", network, examples=DEAR_EXAMPLES, smooth=False)


def elu_logit() -> Function:
    with seeded(12):
        return of_digits("elu", dense(nn.ELU))


class Attentive(Recurrent):
    """A recurrent network that reads both ways, with attention over its steps."""

    def __init__(self) -> None:
        super().__init__(nn.GRU)
        self.recurrent = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(48, 1)

    def embedded(self, x: Tensor) -> Tensor:
        states = self.recurrent(x)[0]
        return self.out((states * self.attention(states).softmax(1)).sum(1))


def attentive_gru() -> Function:
    with seeded(13):
        return of_symbols("attentive-gru", Attentive())


def tiny_llama() -> Function:
    from transformers import LlamaConfig, LlamaModel

    with seeded(14):
        config = LlamaConfig(
            vocab_size=500, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=128, initializer_range=0.1, use_cache=False,
        )  # fmt: skip
        model = LlamaModel(config)
        words = model.get_input_embeddings().weight.detach()
        x = words[torch.randint(len(words), (RANDOM_EXAMPLES, 12))]
        network = frozen(Logit(model, 64, causal=True))
    begin = words.mean(0).expand_as(x).contiguous()
    return Function(network, (x,), (begin,), nodes=4_000, chunk=256)


class Isomorphism(nn.Module):
    """Sum over neighbours, each edge's message times its factor, then a small network."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, outputs), nn.ELU(), nn.Linear(outputs, outputs)
        )

    def forward(self, h: Tensor, edge_index: Tensor, factors: Tensor) -> Tensor:
        source, target = edge_index
        total = torch.index_add(h, 0, target, h[source] * factors[:, None])
        return self.network(total)


def gin() -> Function:
    with seeded(15):
        return of_karate_club("gin", [Isomorphism(34, 24), Isomorphism(24, 16)])


class Siamese(nn.Module):
    """The cosine of two things seen through one tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = scaled(
            nn.Sequential(nn.Linear(20, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(),
                          nn.Linear(48, 16)), 1.5,
        )  # fmt: skip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return nn.functional.cosine_similarity(self.tower(first), self.tower(second))


def siamese() -> Function:
    """Both things move from zero at once."""
    with seeded(16):
        pair = (torch.randn(EXAMPLES, 20), torch.randn(EXAMPLES, 20))
        starts = tuple(torch.zeros_like(one) for one in pair)
        return Function(frozen(Siamese()), pair, starts)


class Energy(nn.Module):
    """-log of a sum of softplus experts, each of them sharp."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = scaled(nn.Linear(12, 40), 6.0)

    def forward(self, x: Tensor) -> Tensor:
        return -nn.functional.softplus(self.experts(x)).sum(1).log() + x.square().sum(1) / 8


def softplus_energy() -> Function:
    with seeded(17):
        return from_zero(Energy(), torch.randn(EXAMPLES, 12))


def gated_mixture() -> Function:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate: Any = scaled(nn.Linear(16, 4), 3.0)
            self.experts = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 12))

        def forward(self, x: Tensor) -> Tensor:
            outputs = self.experts(x).view(-1, 4, 3)
            return (outputs * self.gate(x).softmax(1)[:, :, None]).sum(1)

    with seeded(18):
        x, target = torch.randn(EXAMPLES, 16), torch.randint(3, (EXAMPLES,))
        return from_zero(Chosen(Mixture()), x, target=target, smooth=False)


ENTRIES = (
    Entry("leaky-ReLU CNN", "piecewise linear", leaky_convolution, ("sklearn",)),
    Entry("ELU MLP logit", "smooth", elu_logit, ("sklearn",)),
    Entry("two-way GRU with attention", "recurrent", attentive_gru),
    Entry("tiny Llama", "transformer", tiny_llama, ("transformers",)),
    Entry("GIN, x and edges", "kinked", gin, ("torch_geometric",)),
    Entry("Siamese cosine", "smooth", siamese),
    Entry("softplus energy", "smooth", softplus_energy),
    Entry("gated mixture of ReLU experts", "kinked", gated_mixture),
)
