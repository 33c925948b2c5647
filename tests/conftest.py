"""What all tests share: one thread, reproducible properties, and a model that must not change."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from ig_core.model_state import HOOKS

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
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
