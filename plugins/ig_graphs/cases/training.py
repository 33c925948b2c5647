"""Fitting a case's model once, and only if what it learned is worth explaining."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ig_core import ModelError, made_once

Tested = tuple[Int[Tensor, " tested"], Int[Tensor, " tested"]]
"""The classes that a model says and the true ones, of what it was not fitted to."""

LEAST_LIFT = 0.15
"""A model must beat the most frequent class by this much, or it is not worth explaining."""


def trained(
    build: Callable[[], nn.Module], fit: Callable[[nn.Module], Tested], path: Path
) -> tuple[nn.Module, float]:
    """The model, fitted once, and its accuracy on what it was not fitted to."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        model = build()
        made_once(path, lambda partial: _save(model, *fit(model), partial))
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        accuracy = float(file.metadata()["accuracy"])
    return model.eval(), accuracy


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
    model: nn.Module, said: Int[Tensor, " tested"], truth: Int[Tensor, " tested"], path: Path
) -> None:
    """Write the weights of a model that learned something.

    Raises:
        ModelError: it hardly beats the most frequent class.
    """
    accuracy = float((said == truth).double().mean())
    frequent = float(truth.bincount().max()) / len(truth)
    if accuracy < frequent + LEAST_LIFT:
        raise ModelError(
            f"the model learned nothing worth explaining: accuracy {accuracy:.3f}, the most "
            f"frequent class alone gives {frequent:.3f} (expected at least {LEAST_LIFT} more)"
        )
    save_file(model.state_dict(), path, metadata={"accuracy": f"{accuracy:.4f}"})


def auroc(scores: Float[Tensor, " units"], truth: Bool[Tensor, " units"]) -> float:
    """The chance that a true unit scores higher than a false one; a tie counts half."""
    gap = scores[truth][:, None] - scores[~truth][None, :]
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())
