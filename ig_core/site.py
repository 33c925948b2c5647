"""A Site is the output of a module, taken as a point of the path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ig_core.errors import ModelError


@dataclass(frozen=True)
class Site:
    """The output of ``module`` at its ``call``-th call in a forward pass.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> with Site(layer).replaced(torch.ones(1, 2)):
    ...     layer(torch.zeros(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    module: nn.Module
    call: int = 0

    @contextmanager
    def replaced(self, value: Tensor) -> Iterator[None]:
        """Inside, the module's output is ``value`` and its other work is thrown away.

        Raises:
            ModelError: the module was not called, or its output is no tensor of that shape.
        """
        calls = 0

        def override(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 != self.call:
                return None
            if not isinstance(output, Tensor) or output.shape != value.shape:
                got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ModelError(
                    f"the output of {type(module).__name__} cannot be replaced by a tensor of "
                    f"shape {tuple(value.shape)} (got {got})"
                )
            return value

        handle = self.module.register_forward_hook(override)
        try:
            yield
        finally:
            handle.remove()
        if calls <= self.call:
            raise ModelError(
                f"{type(self.module).__name__} was called {calls} times in the forward pass, so "
                f"its output at call {self.call} could not be replaced (of a compiled model, "
                "compile the layers behind it only, such as model.encoder.compile())"
            )

    @contextmanager
    def recorded(self) -> Iterator[list[Tensor]]:
        """Inside, the outputs of the module at this call are collected, detached."""
        seen: list[Tensor] = []
        calls = 0

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            if calls - 1 == self.call:
                if not isinstance(output, Tensor):
                    raise ModelError(
                        f"the output of {type(module).__name__} must be a tensor "
                        f"(got {type(output).__name__})"
                    )
                seen.append(output.detach())

        handle = self.module.register_forward_hook(keep)
        try:
            yield seen
        finally:
            handle.remove()
