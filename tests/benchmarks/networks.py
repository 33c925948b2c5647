"""Functions of networks that train in seconds: digits, sequences, graphs and an agent."""

from __future__ import annotations

from typing import Any

import torch
from function import Chosen, Entry, Function, frozen, seeded, trained
from torch import Tensor, nn

EXAMPLES = 50
DEAR_EXAMPLES = 16


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits of scikit-learn, 64 numbers from 0 to 1 each, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


def dense(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128), activation(), nn.Linear(128, 64), activation(), nn.Linear(64, 10)
    )


def convolution(activation: type[nn.Module], pool: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1), activation(),
        nn.Conv2d(16, 32, 3, padding=1), activation(), pool(2), nn.Flatten(),
        nn.Linear(512, 64), activation(), nn.Linear(64, 10),
    )  # fmt: skip


def of_digits(
    name: str,
    network: nn.Module,
    *,
    probability: bool = False,
    examples: int = EXAMPLES,
    **options: Any,
) -> Function:
    """The true class of some digits, from a black image."""
    x, classes = digits()
    model = trained(network, name, x, classes, steps=400, rate=2e-3)
    chosen = Chosen(model, probability)
    return from_zero(chosen, x[:examples], target=classes[:examples], **options)


def from_zero(
    model: nn.Module, x: Tensor, *, target: Tensor | None = None, **options: Any
) -> Function:
    extras = {} if target is None else {"target": target}
    return Function(frozen(model), (x,), (torch.zeros_like(x),), extras, **options)


def relu_logit() -> Function:
    with seeded(1):
        return of_digits("relu", dense(nn.ReLU), smooth=False, nodes=100_000)


def relu_probability() -> Function:
    with seeded(1):
        return of_digits("relu", dense(nn.ReLU), probability=True, smooth=False, nodes=100_000)


def gelu_logit() -> Function:
    with seeded(1):
        return of_digits("gelu", dense(nn.GELU))


def max_pooling() -> Function:
    with seeded(1):
        network = convolution(nn.ReLU, nn.MaxPool2d)
        return of_digits("max-pooling", network, examples=DEAR_EXAMPLES, smooth=False)


class Recurrent(nn.Module):
    """A recurrent network over embedded symbols, read at the last step."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.symbols = nn.Embedding(20, 16)
        self.recurrent, self.out = kind(16, 48, batch_first=True), nn.Linear(48, 3)

    def embedded(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x)[0][:, -1])

    def forward(self, symbols: Tensor) -> Tensor:
        return self.embedded(self.symbols(symbols))


class Embedded(nn.Module):
    """A network over symbols as a network over their embeddings."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.embedded(x)


def last_keyword() -> tuple[Tensor, Tensor]:
    """4,000 sequences of 24 symbols; the class is which of three keywords came last."""
    draw = torch.Generator().manual_seed(0)
    symbols = torch.randint(4, 20, (4000, 24), generator=draw)
    for keyword in (1, 2, 3):
        symbols[torch.rand(symbols.shape, generator=draw) < 0.08] = keyword
    classes = torch.zeros(len(symbols), dtype=torch.long)
    for column in symbols.T:
        classes = torch.where((column > 0) & (column < 4), column - 1, classes)
    return symbols, classes


def of_symbols(name: str, network: Any) -> Function:
    """The true class of 50 sequences, from embeddings of zero."""
    symbols, classes = last_keyword()
    trained(network, name, symbols, classes, steps=700, rate=5e-3)
    x = network.symbols(symbols[:EXAMPLES]).detach()
    return from_zero(Chosen(Embedded(network)), x, target=classes[:EXAMPLES])


def gru() -> Function:
    with seeded(2):
        return of_symbols("gru", Recurrent(nn.GRU))


def lstm() -> Function:
    with seeded(2):
        return of_symbols("lstm", Recurrent(nn.LSTM))


class Graphs(nn.Module):
    """Copies of one graph side by side: node features and edge factors are the inputs.

    The explained number is an output of one node; the extra ``place`` holds node and class.
    """

    def __init__(self, layers: list[nn.Module], classes: int, edge_index: Tensor) -> None:
        super().__init__()
        self.layers, self.out = nn.ModuleList(layers), nn.LazyLinear(classes)
        self.register_buffer("edge_index", edge_index)

    def forward(self, x: Tensor, edges: Tensor, place: Tensor) -> Tensor:
        outputs, own = self.logits(x, edges), torch.arange(len(x))
        return outputs[own, place[:, 0], place[:, 1]]

    def logits(self, x: Tensor, edges: Tensor) -> Tensor:
        copies, nodes = x.shape[:2]
        shift = torch.arange(copies).repeat_interleave(edges.shape[1]) * nodes
        edge_index = self.edge_index.repeat(1, copies) + shift
        h = x.reshape(copies * nodes, -1)
        for layer in self.layers:
            h = layer(h, edge_index, edges.reshape(-1)).relu()
        return self.out(h).view(copies, nodes, -1)


def of_karate_club(name: str, layers: list[nn.Module]) -> Function:
    """The club of 16 nodes of the karate club graph: features and edges from zero."""
    from torch_geometric.datasets import KarateClub

    data = KarateClub()[0]
    nodes, edges = len(data.x), data.edge_index.shape[1]
    x, factors = data.x[None], torch.ones(1, edges)
    network = Graphs(layers, int(data.y.max()) + 1, data.edge_index)
    network.logits(x, factors)

    class Nodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, chosen: Tensor) -> Tensor:
            return self.network.logits(x, factors)[0, chosen]

    trained(Nodes(), name, torch.arange(nodes), data.y, steps=150, rate=1e-2)
    chosen = torch.arange(DEAR_EXAMPLES) * 2
    inputs = (x.repeat(len(chosen), 1, 1), factors.repeat(len(chosen), 1))
    starts = tuple(torch.zeros_like(one) for one in inputs)
    place = torch.stack([chosen, data.y[chosen]], 1)
    return Function(
        frozen(network), inputs, starts, {"place": place}, smooth=False, nodes=10_000, chunk=256
    )


def gcn() -> Function:
    """Edge factors are the edge weights of GCNConv, which normalises with them."""
    from torch_geometric.nn import GCNConv

    with seeded(3):
        return of_karate_club("gcn", [GCNConv(34, 32), GCNConv(32, 16)])


def gat() -> Function:
    """Edge factors multiply the messages of GATConv; attention is that of the whole graph."""
    from torch_geometric.nn import GATConv

    class Masked(nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, h: Tensor, edge_index: Tensor, factors: Tensor) -> Tensor:
            loops = torch.arange(len(h)).expand(2, -1)
            every = torch.cat([factors, factors.new_ones(len(h))])

            def masked(layer: Any, inputs: Any, messages: Tensor) -> Tensor:
                return messages * every.view(-1, *[1] * (messages.dim() - 1))

            handle = self.layer.register_message_forward_hook(masked)
            try:
                return self.layer(h, torch.cat([edge_index, loops], 1))
            finally:
                handle.remove()

    def layer(inputs: int, outputs: int) -> nn.Module:
        return Masked(GATConv(inputs, outputs, heads=4, add_self_loops=False))

    with seeded(4):
        return of_karate_club("gat", [layer(34, 8), layer(32, 4)])


class Gate(nn.Module):
    """relu(a) * g: kinks on a curved path."""

    def __init__(self) -> None:
        super().__init__()
        self.kinked, self.curved, self.out = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.kinked(x)) * self.curved(x))


def gate() -> Function:
    with seeded(503):
        x, first = torch.randn(EXAMPLES, 16), torch.zeros(EXAMPLES, dtype=torch.long)
        return from_zero(Chosen(Gate()), x, target=first, smooth=False, nodes=100_000)


class Encoder(nn.Module):
    """Three layers that normalise what comes out of them: from zero, a sharp start."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(x).mean(1))


def small_encoder() -> Function:
    with seeded(4):
        x, first = torch.randn(EXAMPLES, 10, 16), torch.zeros(EXAMPLES, dtype=torch.long)
        return from_zero(Chosen(Encoder()), x, target=first, nodes=4_000, grade=2)


def q_network() -> Function:
    """The agent of the benchmark case: Q of its own action in 50 states that it visited."""
    from ig_core.bench.folder import case_folder
    from ig_rl.cases import cartpole_dqn

    with case_folder("cartpole-dqn") as folder:
        loaded = cartpole_dqn(folder)
    network = loaded.model.policy.q_net.q_net
    visited = loaded.options["states"]
    states = visited[torch.linspace(0, len(visited) - 1, EXAMPLES).long()].float()
    with torch.no_grad():
        action = network(states).argmax(1)
    return from_zero(Chosen(network), states, target=action, smooth=False, nodes=400_000)


ENTRIES = (
    Entry("GRU logit", "recurrent", gru),
    Entry("LSTM logit", "recurrent", lstm),
    Entry("DQN Q", "piecewise linear", q_network, ("stable_baselines3", "gymnasium")),
    Entry("ReLU MLP logit", "piecewise linear", relu_logit, ("sklearn",)),
    Entry("ReLU MLP probability", "kinked", relu_probability, ("sklearn",)),
    Entry("CNN with max pooling", "piecewise linear", max_pooling, ("sklearn",)),
    Entry("GELU MLP logit", "smooth", gelu_logit, ("sklearn",), easy=True),
    Entry("gate, relu(a) * g", "kinked", gate),
    Entry("small encoder, zero", "transformer", small_encoder),
    Entry("GCN, x and edges", "kinked", gcn, ("torch_geometric",)),
    Entry("GAT, x and edges", "kinked", gat, ("torch_geometric",)),
)
