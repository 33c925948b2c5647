"""The user's model is put into evaluation mode, frozen, and left exactly as it was found."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def prepared(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; everything restored outside.

    Restored, also after an exception: training flags, ``requires_grad``, buffers, hooks, and the
    random states of torch, numpy and Python.
    """
    roots = list(modules)
    every = list({id(m): m for root in roots for m in root.modules()}.values())
    parameters = [(p, p.requires_grad) for root in roots for p in root.parameters()]
    flags = [(m, m.training) for m in every]
    hooks = [(m, name, dict(getattr(m, name))) for m in every for name in _HOOKS]
    buffers = [(m, n, b, b._version, b.clone()) for m in every for n, b in _own_buffers(m)]
    states = (torch.get_rng_state(), _cuda_states(), np.random.get_state(), random.getstate())
    try:
        for module, _ in flags:
            module.training = False
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training
        for parameter, wanted in parameters:
            parameter.requires_grad_(wanted)
        for module, name, kept in hooks:
            _restore_hooks(getattr(module, name), kept)
        for module, name, buffer, version, copy in buffers:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(copy)
            module._buffers[name] = buffer
        torch.set_rng_state(states[0])
        if states[1]:
            torch.cuda.set_rng_state_all(states[1])
        np.random.set_state(states[2])
        random.setstate(states[3])


def _own_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, b) for name, b in module._buffers.items() if b is not None)


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore_hooks(hooks: dict[int, Any], kept: dict[int, Any]) -> None:
    if hooks.keys() != kept.keys():
        hooks.clear()
        hooks.update(kept)
