"""A Function is a batch of examples of one number of a model, with nothing of any attribution."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from platformdirs import user_cache_dir
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import made_once

Family = Literal["transformer", "recurrent", "piecewise linear", "smooth", "kinked", "analytic"]


@dataclass(frozen=True, eq=False)
class Function:
    """``model(*inputs, **extras)`` gives one number per row; rows do not mix.

    Every tensor has one row per example. ``nodes`` is the size of the reference, which is a
    composite Gauss-Legendre sum where the function is ``smooth`` and a midpoint sum where it has
    kinks; with ``grade`` p its nodes crowd at the start as t = u^p. A function that is not
    ``exact`` is too dear for float64: its reference is computed in float32 as well. ``chunk`` is
    how many rows go through the model at once.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    starts: tuple[Tensor, ...]
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    smooth: bool = True
    nodes: int = 20_000
    grade: int = 1
    exact: bool = True
    chunk: int = 2048

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def dtype(self) -> torch.dtype:
        return self.inputs[0].dtype

    def some(self, index: Tensor) -> Function:
        """The same function at some of the examples."""
        return replace(
            self,
            inputs=tuple(x[index] for x in self.inputs),
            starts=tuple(x[index] for x in self.starts),
            extras={name: value[index] for name, value in self.extras.items()},
        )

    def to(self, dtype: torch.dtype) -> Function:
        """The same numbers in another dtype."""
        return replace(
            self,
            model=copy.deepcopy(self.model).to(dtype),
            inputs=tuple(x.to(dtype) for x in self.inputs),
            starts=tuple(x.to(dtype) for x in self.starts),
            extras={n: v.to(dtype) if v.is_floating_point() else v for n, v in self.extras.items()},
        )

    def value(self, inputs: tuple[Tensor, ...]) -> Float[Tensor, " examples"]:
        """F of every example at other inputs."""
        with torch.no_grad():
            return self.model(*inputs, **self.extras).double()


@dataclass(frozen=True)
class Entry:
    """A function by name: ``build()`` makes it, with all its examples, the same every time."""

    name: str
    family: Family
    build: Callable[[], Function]
    requires: tuple[str, ...] = ()
    easy: bool = False
    """Smooth enough that a dozen nodes serve it: the bar is then the best fixed rule's cost."""


def cache(*parts: str) -> Path:
    """A place in the cache of the benchmarks, below ``IG_CACHE_DIR`` or the user's cache."""
    root = os.environ.get("IG_CACHE_DIR") or user_cache_dir("ig_core")
    return Path(root, "benchmarks", *parts)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws from a seed; outside its random state is what it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def scaled(model: nn.Module, factor: float) -> nn.Module:
    """All parameters times a factor, which makes a random network harder."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def trained(
    model: nn.Module, name: str, inputs: Tensor, classes: Tensor, *, steps: int, rate: float
) -> nn.Module:
    """The classifier after some steps of Adam; it is trained once and kept in the cache."""

    def make(file: Path) -> None:
        with seeded(0):
            optimiser = torch.optim.Adam(model.parameters(), lr=rate)
            for _ in range(steps):
                some = torch.randint(len(inputs), (128,))
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(inputs[some]), classes[some]).backward()
                optimiser.step()
        save_file(model.state_dict(), file)

    model.load_state_dict(load_file(made_once(cache("models", f"{name}.safetensors"), make)))
    return frozen(model)


class Chosen(nn.Module):
    """Of a classifier, the logit or the probability of the class chosen for each example."""

    def __init__(self, classifier: nn.Module, probability: bool = False) -> None:
        super().__init__()
        self.classifier, self.probability = classifier, probability

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        outputs = self.classifier(x)
        outputs = outputs.softmax(1) if self.probability else outputs
        return outputs.gather(1, target[:, None])[:, 0]


class Formula(nn.Module):
    """A formula of one tensor, with the constants it needs."""

    def __init__(self, formula: Callable[..., Tensor], *constants: Tensor) -> None:
        super().__init__()
        self.formula = formula
        for number, constant in enumerate(constants):
            self.register_buffer(f"c{number}", constant)

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, *self.buffers())
