"""Every domain keeps every promise of the kit, on tiny random models."""

import gc
import weakref

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
import torch_geometric
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

import ig_core as ig
import ig_graphs
import ig_rl
import ig_sequences
import ig_text
from ig_core.tensors import TensorDomain
from ig_core.testing import Subject, checks
from ig_graphs.domain import GraphDomain
from ig_rl.domain import AgentDomain
from ig_sequences.domain import SequenceDomain
from ig_text.domain import TextDomain


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


# -- tensors ------------------------------------------------------------------------------------


def tensors():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)]
    return TensorDomain(nn.Sequential(*layers))


def two_tensors():
    torch.manual_seed(0)
    return TensorDomain(nn.Bilinear(3, 2, 1))


class Masked(nn.Module):
    """Zero rows of the padding stay zero: without a bias they add nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 4, bias=False)
        self.outer = nn.Linear(4, 1)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)).sum(1))


TENSORS = {
    "tensor": Subject(make=tensors, examples=[numbers(3), numbers(3, seed=1)], targets=[1, 0]),
    "tensor-pair": Subject(
        make=two_tensors,
        examples=[(numbers(3), numbers(2)), (numbers(3, seed=1), numbers(2, seed=1))],
    ),
    "tensor-ragged": Subject(
        make=lambda: TensorDomain(Masked(), layouts={"x": ig.Pad()}),
        examples=[numbers(5, 3), numbers(2, 3)],
        smallest=numbers(1, 3),
    ),
}


# -- text ---------------------------------------------------------------------------------------

WORDS = ("a", "dull", "fine", "film", "but", "the", "end", "was", "##ly", ".")


def tokenizer():
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, special, strict=True))
    )


def bert(kind, labels=3):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=labels,
        pad_token_id=0,
        initializer_range=0.2,
    )
    return kind(config)


def encoder():
    model = bert(transformers.BertModel)
    return TextDomain(model, tokenizer=tokenizer(), head=nn.Linear(16, 1))


def bart():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = transformers.BartConfig(
        vocab_size=len(WORDS) + 5,
        d_model=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=3,
        init_std=0.2,
        **sizes,
    )
    return TextDomain(transformers.BartForConditionalGeneration(config), tokenizer=tokenizer())


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS) + 5, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2
    )
    return TextDomain(transformers.GPT2LMHeadModel(config), tokenizer=tokenizer())


TEXTS = ["a dull film.", "the end was fine, but the film was dull.", "finely"]
WRITTEN = [
    {"text": "the film was", "generated": " dull but fine"},
    {"text": "a dull film but the end", "generated": " was"},
]
CONTRASTS = [
    {**one, "contrast": other}
    for one, other in zip(WRITTEN, (" dull and", " finely fine ."), strict=True)
]

TEXT = {
    "text-classifier": Subject(
        make=lambda: TextDomain(
            bert(transformers.BertForSequenceClassification), tokenizer=tokenizer()
        ),
        examples=TEXTS,
        smallest="film",
        plugin=ig_text,
    ),
    "text-encoder": Subject(make=encoder, examples=TEXTS, targets=0, smallest="film"),
    "text-tagger": Subject(
        make=lambda: TextDomain(
            bert(transformers.BertForTokenClassification), tokenizer=tokenizer()
        ),
        examples=TEXTS,
        targets=("word", 0),
        smallest="film",
    ),
    "text-answers": Subject(
        make=lambda: TextDomain(
            bert(transformers.BertForQuestionAnswering, labels=2), tokenizer=tokenizer()
        ),
        examples=[("was the film dull", "the film was fine ."), ("a film", "the end was dull")],
    ),
    "text-generation": Subject(
        make=gpt2, examples=WRITTEN, smallest={"text": "film", "generated": " fine"}
    ),
    "text-contrast": Subject(make=gpt2, examples=CONTRASTS),
    "text-translation": Subject(
        make=bart, examples=WRITTEN, targets=0, smallest={"text": "film", "generated": "fine"}
    ),
}


# -- graphs -------------------------------------------------------------------------------------


class GraphNet(nn.Module):
    def __init__(self, level):
        super().__init__()
        torch.manual_seed(0)
        self.level = level
        self.first = torch_geometric.nn.GCNConv(3, 8)
        self.second = torch_geometric.nn.GATConv(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x, edge_index, batch):
        hidden = torch.tanh(self.first(x, edge_index))
        hidden = torch.sigmoid(self.second(hidden, edge_index))
        if self.level == "graph":
            hidden = torch_geometric.nn.global_mean_pool(hidden, batch)
        return self.head(hidden)


def graph(nodes, *edges):
    index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t().contiguous()
    return torch_geometric.data.Data(x=numbers(nodes, 3), edge_index=index)


GRAPH = [graph(4, (0, 1), (1, 2), (2, 3), (3, 0)), graph(3, (0, 1), (2, 1)), graph(2, (1, 0))]


def graphs(explain, level="graph", **options):
    index = 1 if level == "node" else None
    return GraphDomain(GraphNet(level), explain=explain, level=level, index=index, **options)


WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")


class TypedNet(nn.Module):
    """Papers by what their authors send and by what they cite."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        conv = torch_geometric.nn.SAGEConv
        self.conv = torch_geometric.nn.HeteroConv({WRITES: conv((2, 3), 4), CITES: conv((3, 3), 4)})
        self.head = nn.Linear(4, 2)

    def forward(self, x_dict, edge_index_dict):
        return self.head(torch.tanh(self.conv(x_dict, edge_index_dict)["paper"]))


def library(authors, papers, seed):
    generator = torch.Generator().manual_seed(seed)
    data = torch_geometric.data.HeteroData()
    data["author"].x = torch.randn(authors, 2, generator=generator)
    data["paper"].x = torch.randn(papers, 3, generator=generator)
    for relation, size in ((WRITES, authors), (CITES, papers)):
        ends = [torch.randint(n, (5,), generator=generator) for n in (size, papers)]
        data[relation].edge_index = torch.stack(ends)
    return data


def libraries():
    return GraphDomain(TypedNet(), explain=("x", "edges"), level="node", index=("paper", 0))


LIBRARIES = [library(3, 4, 0), library(5, 2, 1), library(1, 1, 2)]


GRAPHS = {
    "graph-features": Subject(
        make=lambda: graphs("x"), examples=GRAPH, targets=1, smallest=graph(1), plugin=ig_graphs
    ),
    "graph-edges": Subject(make=lambda: graphs("edges"), examples=GRAPH, targets=1),
    "graph-both": Subject(make=lambda: graphs(("x", "edges")), examples=GRAPH, targets=1),
    "graph-node": Subject(make=lambda: graphs("x", "node"), examples=GRAPH, targets=0),
    "graph-layers": Subject(
        make=lambda: graphs("edges", per_layer=True), examples=GRAPH, targets=1
    ),
    "graph-existence": Subject(
        make=lambda: graphs(("x", "edges"), "node", game="existence"), examples=GRAPH, targets=0
    ),
    "graph-types": Subject(make=libraries, examples=LIBRARIES, targets=1),
}


# -- sequences ----------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 6, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, 2)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        last = self.rnn(packed)[1]
        return self.head(self.drop(torch.cat([last[0], last[1]], dim=1)))


class Every(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Averaged(nn.Module):
    """Reads series of numbers, and has no parameter for lengths."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(1, 4)

    def forward(self, x):
        return torch.tanh(self.inner(x[..., None])).mean((1, 2))


def bare():
    torch.manual_seed(0)
    return SequenceDomain(nn.GRU(3, 6, num_layers=2, bidirectional=True))


STEPS = [numbers(6, 3), numbers(2, 3), numbers(4, 3)]

SEQUENCES = {
    "sequence-lengths": Subject(
        make=lambda: SequenceDomain(Recurrent()),
        examples=STEPS,
        targets=1,
        smallest=numbers(1, 3),
        plugin=ig_sequences,
    ),
    "sequence-last-step": Subject(
        make=lambda: SequenceDomain(Every(), step="last"),
        examples=STEPS,
        targets=0,
        smallest=numbers(1, 3),
    ),
    "sequence-bare": Subject(make=bare, examples=STEPS, targets=7, smallest=numbers(1, 3)),
    "sequence-series": Subject(
        make=lambda: SequenceDomain(nn.Sequential(Averaged()), axes="nt"),
        examples=[numbers(6), numbers(2), numbers(4)],
        smallest=numbers(1),
    ),
}


# -- reinforcement learning ---------------------------------------------------------------------


class Corridor(gymnasium.Env):
    """An environment that is never stepped: the spaces are all that an agent needs here."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 0.0, True, False, {}


STATES = [np.asarray(numbers(4, seed=seed)) for seed in (1, 2, 3)]


class Track(Corridor):
    """The same with a continuous action, seen under two keys."""

    observation_space = gymnasium.spaces.Dict(
        {"speed": gymnasium.spaces.Box(-2.0, 2.0, (3,)), "gear": gymnasium.spaces.Discrete(4)}
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))


SITUATIONS = [
    {"speed": np.asarray(numbers(3, seed=seed)), "gear": np.int64(seed)} for seed in (1, 2, 3)
]


def rl(kind, explain, **options):
    own = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
    policy, world = "MlpPolicy", Corridor()
    if kind in (stable_baselines3.SAC, stable_baselines3.TD3):
        policy, world = "MultiInputPolicy", Track()
    if kind is sb3_contrib.RecurrentPPO:
        policy = "MlpLstmPolicy"
        own["policy_kwargs"] |= {"lstm_hidden_size": 4}
        own["batch_size"] = 2
    on_policy = kind in (stable_baselines3.A2C, sb3_contrib.RecurrentPPO)
    own |= {"n_steps": 2} if on_policy else {"buffer_size": 1}
    return AgentDomain(kind(policy, world, **own), explain=explain, **options)


def functions():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    return AgentDomain(ig_rl.Functions(network, observation_space=(4,), actions=3))


# A DQN has ReLU by default: F has kinks, which an integrator feels.
DQN, A2C = stable_baselines3.DQN, stable_baselines3.A2C
SAC, TD3 = stable_baselines3.SAC, stable_baselines3.TD3
QRDQN, RECURRENT = sb3_contrib.QRDQN, sb3_contrib.RecurrentPPO
RL = {
    "rl-gap": Subject(make=lambda: rl(DQN, "gap"), examples=STATES, plugin=ig_rl, tol=1e-2),
    "rl-q": Subject(make=lambda: rl(DQN, "q"), examples=STATES, targets=2, tol=1e-2),
    "rl-logit": Subject(make=lambda: rl(A2C, "logit"), examples=STATES),
    "rl-value": Subject(make=lambda: rl(A2C, "value"), examples=STATES),
    "rl-quantile": Subject(
        make=lambda: rl(QRDQN, "quantile:0.1"), examples=STATES, targets=2, tol=1e-2
    ),
    "rl-critic": Subject(make=lambda: rl(SAC, "q"), examples=SITUATIONS, tol=1e-2),
    "rl-actor": Subject(make=lambda: rl(TD3, "action"), examples=SITUATIONS, targets=1, tol=1e-2),
    "rl-recurrent": Subject(make=lambda: rl(RECURRENT, "gap"), examples=STATES),
    "rl-unrolled": Subject(
        make=lambda: rl(RECURRENT, "value", unrolled=True),
        examples=[np.asarray(numbers(steps, 4)) for steps in (3, 1, 5)],
    ),
    "rl-functions": Subject(make=functions, examples=STATES, targets=1),
}


SUBJECTS = TENSORS | TEXT | GRAPHS | SEQUENCES | RL


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}")
        for name, subject in SUBJECTS.items()
        for check in checks(subject)
        if not check.skip_reason
    ],
)
def test_the_domain_keeps_its_promise(check):
    check()


def test_every_domain_has_a_subject():
    covered = {type(subject.make()).name for subject in SUBJECTS.values()}
    builtin = {"text", "graphs", "sequences", "rl"}
    assert covered == {"tensor", *builtin}
    assert builtin <= {record.name for record in ig.plugins().records if record.status == "ok"}


@pytest.mark.parametrize("name", ["text-encoder", "graph-both", "sequence-lengths", "rl-gap"])
def test_a_result_does_not_keep_the_model_alive(name):
    subject = SUBJECTS[name]
    domain = subject.make()
    model = weakref.ref(domain.model)
    [result] = subject.attributed(domain, subject.examples[:1])
    del domain
    gc.collect()
    assert model() is None
    assert result.display.get("explained", "") in result.to_text() and result.to_html()


def test_a_plugin_exports_its_domain():
    classes = {subject.plugin: type(subject.make()) for subject in SUBJECTS.values()}
    for plugin in (ig_text, ig_graphs, ig_sequences, ig_rl):
        assert getattr(plugin, classes[plugin].__name__) is classes[plugin]
        assert classes[plugin].__name__ in plugin.__all__
