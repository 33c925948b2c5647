"""What a call leaves behind: nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ig_core.errors import IGError
from ig_core.testing.kit import NotApplicable, Subject, expect
from ig_core.testing.probe import changes, every, modules_of, snapshot, train


def model_is_left_as_found(subject: Subject) -> None:
    """A call changes nothing about the model, its gradients, its hooks or the random states."""
    domain = subject.make()
    modules = modules_of(domain)
    train(modules)
    before = snapshot(modules)
    subject.attributed(domain, subject.examples)
    left = changes(before, snapshot(modules))
    expect(not left, f"it changed {', '.join(left[:5])}")


def model_is_left_as_found_after_an_error(subject: Subject) -> None:
    """A call in which the model raises changes nothing about it either."""
    domain = subject.make()
    modules = modules_of(domain)
    if not modules:
        raise NotApplicable("the domain holds no module that could raise")
    train(modules)
    leaves = [module for _, module in every(modules) if not list(module.children())]
    handles = [leaf.register_forward_hook(_raise_on_the_path) for leaf in leaves]
    try:
        before = snapshot(modules)
        try:
            subject.attributed(domain, subject.examples)
        except IGError:
            pass
        else:
            raise NotApplicable("no module of the model sees the path, so none could raise")
        left = changes(before, snapshot(modules))
        expect(not left, f"it changed {', '.join(left[:5])}")
    finally:
        for handle in handles:
            handle.remove()


def _raise_on_the_path(module: nn.Module, received: Any, output: Any) -> None:
    """A forward hook: raise where a gradient flows, that is, at a point of a path."""
    flat = [part for value in received for part in (value if isinstance(value, tuple) else [value])]
    if any(isinstance(part, Tensor) and part.requires_grad for part in flat):
        raise RuntimeError("planted by the conformance kit")


PROMISES = (
    model_is_left_as_found,
    model_is_left_as_found_after_an_error,
)
