"""Copies of agents that checks may change, and the layers that compute what is explained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ig_core import Example, InputError, Task


def copied(model: Any) -> Any:
    """The model with a policy of its own; buffers, environments and optimizers stay shared."""
    from stable_baselines3.common.base_class import BaseAlgorithm

    if not isinstance(model, BaseAlgorithm):
        return copy.deepcopy(model)
    own = copy.copy(model)
    own.policy = copy.deepcopy(model.policy)
    return own


@dataclass(frozen=True, eq=False)
class Layer:
    """A module with weights of its own, and what it received when it ran first."""

    name: str
    module: nn.Module
    received: Tensor


def layers(task: Task, number: int = 0) -> list[Layer]:
    """The modules with weights that compute F of one example, in the order in which they ran."""
    found: dict[nn.Module, Layer] = {}
    with _watched(task.domain.modules(), found):
        _run(task, task.examples[number])
    if not found:
        raise InputError(
            "no network takes part in what is explained; this check changes weights of "
            "networks, which Functions knows if they are its callables themselves"
        )
    return list(found.values())


@contextmanager
def _watched(modules: Sequence[nn.Module], found: dict[nn.Module, Layer]) -> Iterator[None]:
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def noted(own: nn.Module, received: tuple[Any, ...]) -> None:
            if own not in found:
                found[own] = Layer(name, own, received[0].detach())

        handles.append(module.register_forward_pre_hook(noted))

    try:
        for root in modules:
            for name, module in root.named_modules():
                if any(True for _ in module.parameters(recurse=False)):
                    watch(name, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _run(task: Task, example: Example) -> None:
    task.values_at(example, {name: value[None] for name, value in example.inputs.items()})
