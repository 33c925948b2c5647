"""The user's model is put into evaluation mode, frozen, and left exactly as it was found."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

_CALLABLES_DEEP = 3
"""How many functions that call each other are followed to the module that does the work."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def prepared(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; everything restored outside.

    Restored, also after an exception: training flags, ``requires_grad``, buffers, hooks, and the
    random states of torch, numpy and Python.
    """
    roots = list(modules)
    every = list({id(m): m for root in roots for m in root.modules()}.values())
    # A tensor made in inference mode keeps its flag; torch itself says why it cannot be used.
    parameters = [
        (p, p.requires_grad) for root in roots for p in root.parameters() if not p.is_inference()
    ]
    flags = [(m, m.training) for m in every]
    hooks = [(m, name, dict(getattr(m, name))) for m in every for name in _HOOKS]
    buffers = [(m, n, b, _version(b), b.clone()) for m in every for n, b in _own_buffers(m)]
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
            if version is None or buffer._version != version:
                with torch.inference_mode(version is None), torch.no_grad():
                    buffer.copy_(copy)
            module._buffers[name] = buffer
        torch.set_rng_state(states[0])
        if states[1]:
            torch.cuda.set_rng_state_all(states[1])
        np.random.set_state(states[2])
        random.setstate(states[3])


def modules_in(model: Any, deep: int = _CALLABLES_DEEP) -> list[nn.Module]:
    """The modules that a callable runs: itself, or what it is bound to, holds or closes over.

    ``lambda x: net(x).logits`` runs ``net``, which wants evaluation mode as much as a bare
    ``net``.
    """
    if isinstance(model, nn.Module):
        return [model]
    found = [m for part in _parts(model) for m in modules_in(part, deep - 1)] if deep else []
    return list({id(module): module for module in found}.values())


def _parts(model: Any) -> Iterable[Any]:
    """What a callable or a collection consists of."""
    if isinstance(model, functools.partial):
        return (model.func, *model.args, *model.keywords.values())
    if inspect.ismethod(model):
        return (model.__self__, model.__func__)
    if inspect.isfunction(model):
        with suppress(ValueError):  # a name that is not bound yet
            names = inspect.getclosurevars(model)
            return (*names.nonlocals.values(), *names.globals.values())
    if isinstance(model, (list, tuple)):
        return model
    if callable(model) and not isinstance(model, type):
        model = getattr(model, "__dict__", {})
    return model.values() if isinstance(model, Mapping) else ()


def _version(buffer: torch.Tensor) -> int | None:
    """How often the buffer was written to; None where torch does not count."""
    return None if buffer.is_inference() else buffer._version


def _own_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, b) for name, b in module._buffers.items() if b is not None)


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore_hooks(hooks: dict[int, Any], kept: dict[int, Any]) -> None:
    if hooks.keys() != kept.keys():
        hooks.clear()
        hooks.update(kept)
