"""Fitting a case's model once, and only if what it learned is worth explaining."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ig_core import ModelError, made_once
from ig_graphs.findings.truth import auroc as auroc

Tested = tuple[Shaped[Tensor, " tested"], Shaped[Tensor, " tested"]]
"""What a model says and what is true, of what it was not fitted to."""


@dataclass(frozen=True)
class Measure:
    """How well a model predicts, and what must be beaten by ``lift`` to be worth explaining.

    ``trivial`` is the measure of always saying ``predictor``, which takes no model.
    """

    name: str
    of: Callable[[Tensor, Tensor], float]
    trivial: Callable[[Tensor], float]
    predictor: str
    lift: float


def _accuracy(said: Tensor, truth: Tensor) -> float:
    return float((said == truth).double().mean())


def _explained(said: Tensor, truth: Tensor) -> float:
    """1 - (mean squared error) / (variance)."""
    said, truth = said.double(), truth.double()
    return 1 - float((said - truth).square().mean() / truth.var(correction=0))


ACCURACY = Measure(
    name="accuracy",
    of=_accuracy,
    trivial=lambda truth: float(truth.bincount().max()) / len(truth),
    predictor="the most frequent class",
    lift=0.15,
)
R_SQUARED = Measure(
    name="R^2", of=_explained, trivial=lambda truth: 0.0, predictor="the mean", lift=0.8
)


def trained(
    build: Callable[[], nn.Module],
    fit: Callable[[nn.Module], Tested],
    path: Path,
    measure: Measure = ACCURACY,
) -> tuple[nn.Module, float]:
    """The model, fitted once, and the measure of it on what it was not fitted to.

    Raises:
        ModelError: it hardly beats what takes no model.
    """
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        model = build()
        made_once(path, lambda partial: _save(model, *fit(model), partial, measure))
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        value = float(file.metadata()[measure.name])
    return model.eval(), value


@contextmanager
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from more, and weights do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _save(
    model: nn.Module, said: Tensor, truth: Tensor, path: Path, measure: Measure = ACCURACY
) -> None:
    """Write the weights of a model that learned something.

    Raises:
        ModelError: it hardly beats what takes no model.
    """
    value, trivial = measure.of(said, truth), measure.trivial(truth)
    if not value >= trivial + measure.lift:
        raise ModelError(
            f"the model learned nothing worth explaining: {measure.name} {value:.3f}, "
            f"{measure.predictor} alone gives {trivial:.3f} "
            f"(expected at least {measure.lift} more)"
        )
    save_file(model.state_dict(), path, metadata={measure.name: f"{value:.4f}"})
