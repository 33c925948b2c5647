"""Several targets in every domain: the results of single calls, for the rows of one."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, global_add_pool
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import ig_core as ig
from ig_graphs.domain import GraphDomain
from ig_rl.domain import AgentDomain
from ig_sequences.domain import SequenceDomain
from ig_text.domain import TextDomain

WORDS = ["a", "dull", "film", "with", "great", "actor", "and", "no", "plot"]
Subject = tuple[ig.Domain, list[Any], list[Any]]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


class Packed(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = cell(3, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        state = self.rnn(packed)[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


def recurrent(cell: type[nn.RNNBase]) -> Subject:
    torch.manual_seed(0)
    sequences = [numbers(length, 3, seed=length) for length in (4, 1, 7, 2)]
    return SequenceDomain(Packed(cell).double()), sequences, [0, 3, lambda o: o[:, 1] - o[:, 2]]


class Convolutions(nn.Module):
    def __init__(self, level: str) -> None:
        super().__init__()
        self.level = level
        self.first, self.second = GCNConv(3, 8), GCNConv(8, 4)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.second(torch.tanh(self.first(x, edge_index)), edge_index)
        return global_add_pool(torch.tanh(x), batch) if self.level == "graph" else x


def graph(nodes: int) -> Data:
    ring = torch.arange(nodes)
    edges = torch.stack([ring, ring.roll(1)])
    return Data(x=numbers(nodes, 3, seed=nodes), edge_index=torch.cat([edges, edges.flip(0)], 1))


def graphs(level: str) -> Subject:
    torch.manual_seed(0)
    where = {} if level == "graph" else {"index": 2}
    options = {"level": level, "explain": ("x", "edges"), **where}
    domain = GraphDomain(Convolutions(level).double(), **options)
    return domain, [graph(6), graph(3), graph(8)], [2, 0, 1, None]


def agent(explain: str) -> Subject:
    options = {"policy_kwargs": {"net_arch": [16, 16]}, "seed": 3, "device": "cpu"}
    environment = gymnasium.make("MountainCar-v0")
    if explain in ("q", "gap"):
        model: Any = DQN("MlpPolicy", environment, buffer_size=100, **options)
    else:
        options["policy_kwargs"]["ortho_init"] = False  # type: ignore[index]
        model = PPO("MlpPolicy", environment, **options)
    model.policy.double()
    states = list(np.random.default_rng(0).normal(size=(6, 2)))
    asked = {"gap": [(0, 1), 2, (1, 0), None], "value": [None, None]}
    return AgentDomain(model, explain=explain), states, asked.get(explain, [2, 0, 1, None])


def text() -> Subject:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, special, strict=True))
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32, num_labels=4, initializer_range=0.25,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).double().eval()
    texts = [" ".join(WORDS), "a dull film", "great plot"]
    return TextDomain(model, tokenizer=tokenizer), texts, [0, 2, None, 3]


@pytest.mark.parametrize(
    "make",
    [
        text,
        lambda: recurrent(nn.GRU),
        lambda: recurrent(nn.LSTM),
        lambda: graphs("graph"),
        lambda: graphs("node"),
        *(lambda explain=explain: agent(explain) for explain in ("q", "gap", "logit", "value")),
    ],
    ids=["text", "gru", "lstm", "graphs", "nodes", "q", "gap", "logit", "value"],
)
def test_results_are_those_of_single_calls(
    make: Callable[[], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    domain, raws, targets = make()
    rows: list[int] = []
    forward = type(domain).forward

    def counted(self: ig.Domain, packed: ig.Rows) -> Tensor:
        rows.append(len(packed))
        return forward(self, packed)

    monkeypatch.setattr(type(domain), "forward", counted)
    together = ig.attribute(domain.model, raws, domain=domain, targets=targets, tol=1e-3)
    shared = sum(rows)
    rows.clear()
    for number, target in enumerate(targets):
        alone = ig.attribute(domain.model, raws, domain=domain, target=target, tol=1e-3)
        for own, expected in zip(together, alone, strict=True):
            found = own[number]
            assert (found.status, found.evaluations) == (expected.status, expected.evaluations)
            assert found.delta == pytest.approx(expected.delta, rel=1e-12, abs=1e-14)
            for name, value in expected.tensors.items():
                size = float(expected.tensors[name].abs().sum())
                torch.testing.assert_close(
                    found.tensors[name], value, rtol=0, atol=1e-12 * (size + 1e-3)
                )
            assert found.display == expected.display
            assert found.units.labels == expected.units.labels
    assert shared < 0.8 * sum(rows)
