"""Fitting a reader once, in seconds, and what it learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ig_core import ModelError, made_once
from ig_sequences.cases.readers import Standard, Steps, answers
from ig_sequences.cases.series import Series
from ig_sequences.margins import Margin, margin

SEED = 0
LIFT = 0.3
"""By how much the accuracy must exceed that of always saying the most frequent class."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Adam in batches."""

    epochs: int
    batch: int
    rate: float = 1e-2
    decay: float = 1e-4


def trained(
    build: Callable[[], nn.Module], fit: Callable[[nn.Module], None], path: Path
) -> nn.Module:
    """The model, fitted if ``path`` does not hold its weights; the same weights every time."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(SEED)
        model = build()

        def make(partial: Path) -> None:
            fit(model.train())
            save_file(model.state_dict(), partial)

        made_once(path, make)
    model.load_state_dict(load_file(path))
    return model.eval()


def learn(
    model: nn.Module,
    standard: Standard,
    sequences: Sequence[Steps],
    loss: Callable[[Tensor, Any], Tensor],
    truth: Shaped[Tensor, "sequences ..."],
    schedule: Schedule,
) -> None:
    """Fit a reader to what is true of the sequences."""
    standard.fit(torch.cat([*sequences]))
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    for _ in range(schedule.epochs):
        for chosen in torch.randperm(len(sequences)).split(schedule.batch):
            said = answers(model, [sequences[i] for i in chosen.tolist()])
            optimizer.zero_grad()
            loss(said, truth[chosen]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def classifier(
    build: Callable[[], Any], train: Series, path: Path, schedule: Schedule
) -> nn.Module:
    """A reader, with the scale of its features in ``standard``, that tells classes apart."""
    return trained(
        build,
        lambda model: learn(
            model,
            cast(Standard, model.standard),
            train.sequences,
            cross_entropy,
            train.classes,
            schedule,
        ),
        path,
    )


@torch.no_grad()
def predicted(model: nn.Module, sequences: Sequence[Steps], names: Sequence[str]) -> list[Margin]:
    """Of each sequence the margin of its predicted class over the runner-up."""
    return [
        margin(first, second, f"{names[first]} (predicted) minus {names[second]}")
        for first, second in answers(model, sequences).topk(2).indices.tolist()
    ]


@torch.no_grad()
def accuracy(model: nn.Module, test: Series) -> float:
    """The share of the series that get their class.

    Raises:
        ModelError: it hardly beats always saying the most frequent class.
    """
    right = float((answers(model, test.sequences).argmax(1) == test.classes).double().mean())
    trivial = float(test.classes.bincount().max()) / len(test)
    if right < trivial + LIFT:
        raise ModelError(
            f"the model learned nothing worth explaining: accuracy {right:.3f}, the most frequent "
            f"class alone gives {trivial:.3f} (expected at least {LIFT} more)"
        )
    return right


def spread(classes: Int[Tensor, " sequences"], count: int) -> list[int]:
    """Places of sequences of every class in turn: the first of each, then the second."""
    seen: dict[int, int] = {}
    ranks = []
    for place, label in enumerate(classes.tolist()):
        seen[label] = seen.get(label, -1) + 1
        ranks.append((seen[label], label, place))
    return [place for _, _, place in sorted(ranks)[:count]]


def digest(path: Path) -> str:
    """The beginning of the SHA-256 of weights, which tells trainings apart."""
    return sha256(path.read_bytes()).hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from more, and weights do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
