"""What all tests share: one thread, reproducible properties, and a model that must not change."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

import ig_core
from ig_core.model_state import HOOKS, modules_in

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Toy models are many times slower on two threads than on one; real ones are not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if "real" in request.keywords else 1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def left_as_found() -> Callable[..., AbstractContextManager[None]]:
    """``with left_as_found(model): ...`` fails if the block changes the model or the RNGs."""
    return _left_as_found


@pytest.fixture(autouse=True)
def every_model_is_left_as_found(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[int]]:
    """Compares each model that a test explains before and after the call, whatever its outcome.

    Watched are ``ig.attribute`` and every use of a domain's ``prepared``, in the main thread; of
    calls within calls the outermost that has the module. Gives how many modules each call had.
    """
    watched: list[int] = []
    inside: set[int] = set()

    @contextmanager
    def watch(*found: Any) -> Iterator[None]:
        models = {id(m): m for one in found for m in modules_in(one) if id(m) not in inside}
        if not models or threading.current_thread() is not threading.main_thread():
            yield
            return
        watched.append(len(models))
        inside.update(models)
        try:
            with _left_as_found(*models.values()):
                yield
        finally:
            inside.difference_update(models)

    attribute, prepared = ig_core.attribute, ig_core.domain.prepared

    @functools.wraps(attribute)
    def watched_attribute(model: Any, inputs: Any, **options: Any) -> Any:
        wrapped = model.modules() if isinstance(model, ig_core.Domain) else model
        domain = options.get("domain")
        more = domain.modules() if isinstance(domain, ig_core.Domain) else ()
        with watch(wrapped, *more, *options.values()):
            return attribute(model, inputs, **options)

    @contextmanager
    def watched_prepared(modules: Any) -> Iterator[None]:
        modules = list(modules)
        with watch(*modules), prepared(modules):
            yield

    if "unwatched" not in request.keywords:
        monkeypatch.setattr(ig_core, "attribute", watched_attribute)
        monkeypatch.setattr(ig_core.domain, "prepared", watched_prepared)
    yield watched


@contextmanager
def _left_as_found(*models: nn.Module) -> Iterator[None]:
    before = {**_state(models), **_randomness()}
    try:
        yield
    finally:
        after = {**_state(models), **_randomness()}
        changed = [
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        ]
        assert not changed, f"the call changed {sorted(changed)}"


def _state(models: tuple[nn.Module, ...]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for number, model in enumerate(models):
        for name, module in model.named_modules(prefix=f"model {number}"):
            state[f"{name}.training"] = module.training
            for hooks in HOOKS:
                state[f"{name}.{hooks}"] = list(getattr(module, hooks))
            for kind in ("_modules", "_parameters", "_buffers"):
                held = getattr(module, kind).items()
                state[f"{name}.{kind}"] = [(key, id(one)) for key, one in held]
        for name, parameter in model.named_parameters(prefix=f"model {number}"):
            state[f"{name}.requires_grad"] = parameter.requires_grad
            state[f"{name}.grad"] = None if parameter.grad is None else _digest(parameter.grad)
        for name, tensor in model.state_dict(prefix=f"model {number}.").items():
            state[f"{name}.value"] = _digest(tensor)
    return state


def _randomness() -> dict[str, str]:
    return {
        "torch's random state": _digest(torch.get_rng_state()),
        "numpy's random state": repr(np.random.get_state()),
        "Python's random state": repr(random.getstate()),
        "the default dtype": str(torch.get_default_dtype()),
    }


def _digest(tensor: torch.Tensor) -> str:
    data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)  # numpy has no bfloat16
    return hashlib.sha256(data.numpy().data).hexdigest()
