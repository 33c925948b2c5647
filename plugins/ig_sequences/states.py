"""States that modules keep beside their parameters, with which every pass of a call begins."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MODULES_OWN = frozenset(vars(nn.Module()))
"""Attributes of every module, which hold parts and hooks of it but no state."""

MOST_HELD, DEEPEST = 1024, 4
"""Entries of a list or dict that holds a state, and how far in others it is, at most."""


@contextmanager
def forgetful(
    modules: Iterable[nn.Module], *others: dict[str, Any]
) -> Iterator[Callable[[], None]]:
    """Gives a function that puts back the tensors that modules keep beside their parameters.

    A stateful model keeps its hidden state in an attribute or a buffer, or in a list or dict there,
    and begins its next pass with it: its answer depends on what was asked before, and for all rows.
    With this called before each pass, every one begins with the state that was there at first; and
    so the block leaves it, and the tensors of ``others``, such as arguments that a model changes.
    """
    own = {id(m): m for root in modules for m in root.modules()}.values()
    kept = [
        _Kept(table)
        for module in own
        if not isinstance(module, torch.jit.ScriptModule)
        for table in (vars(module), module._buffers)
    ]
    kept += map(_Kept, others)

    def forget() -> None:
        for one in kept:
            one.restore()

    try:
        yield forget
    finally:
        for one in kept:
            one.give_back()


class _Kept:
    """One table of a module's attributes, and copies of those that are tensors, or hold some.

    What a pass has changed is replaced by a fresh copy and not written to: a graph that still
    needs the changed one may be passed backward later.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self.table, self.before = table, dict(table)
        self.ids = list(map(id, table.values()))
        own = {n: v for n, v in table.items() if n not in MODULES_OWN}
        self.copies = {n: _copy(v) for n, v in own.items() if _kept(n, v)}
        self.tensors = {n: _tensors(table[n]) for n in self.copies}
        self.versions = {n: _versions(table[n]) for n in self.copies}
        self.first = dict(self.versions)
        self.contents = {n: [(c, c.copy()) for c in _containers(v)] for n, v in own.items()}
        self.empty = [n for n, found in self.contents.items() if found and not _tensors(own[n])]

    def restore(self) -> None:
        for name, copy in self.copies.items():
            if name in self.table and _versions(self.table[name]) == self.versions[name]:
                continue
            self.table[name] = _copy(copy)
            self.versions[name] = _versions(self.table[name])
        for name in self.empty:  # a list or dict to which a pass adds its state
            if _tensors(self.before[name]):
                self._refill(name)
        if len(self.ids) != len(self.table) or list(map(id, self.table.values())) != self.ids:
            for name in [n for n, v in self.table.items() if _kept(n, v) and n not in self.copies]:
                if name in self.before:
                    self.table[name] = self.before[name]  # None, say, before the first pass
                else:
                    del self.table[name]
            self.ids = list(map(id, self.table.values()))

    def give_back(self) -> None:
        self.restore()
        for name, copy in self.copies.items():
            own = self.table[name] = self.before[name]
            if _versions(own) != self.first[name]:
                self._refill(name)
                for tensor, value in zip(self.tensors[name], _tensors(copy), strict=True):
                    with torch.no_grad():
                        tensor.detach_().copy_(value)

    def _refill(self, name: str) -> None:
        """Lists and dicts hold again what they held at first."""
        for container, before in self.contents[name]:
            container.clear()
            container.update(before) if isinstance(before, dict) else container.extend(before)


def _kept(name: str, value: Any) -> bool:
    """Whether an attribute is a state: tensors, but no parameters; RNNs list theirs themselves."""
    found = _tensors(value)
    own = name == "_flat_weights" or any(isinstance(t, nn.Parameter) for t in found)
    return bool(found) and not own and not any(t.is_inference() for t in found)


def _inside(value: Any) -> Iterable[Any]:
    """What a container holds; nothing in large ones, which are data, and in other things."""
    if type(value) not in (tuple, list, deque, dict, OrderedDict) or len(value) > MOST_HELD:
        return ()
    return list(value.values() if isinstance(value, dict) else value)


def _containers(value: Any, depth: int = DEEPEST) -> list[Any]:
    """A list, dict or deque that can be changed, and those in it."""
    own = [value] if isinstance(value, (list, deque, dict)) else []
    inside = _inside(value) if depth else ()
    return own + [c for one in inside for c in _containers(one, depth - 1)]


def _tensors(value: Any, depth: int = DEEPEST) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inside = _inside(value) if depth else ()
    return [tensor for one in inside for tensor in _tensors(one, depth - 1)]


def _copy(value: Any, depth: int = DEEPEST) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    inside = [_copy(one, depth - 1) for one in _inside(value)] if depth else []
    if not inside:
        return value
    if isinstance(value, dict):
        return type(value)(zip(value, inside, strict=True))
    return deque(inside, value.maxlen) if isinstance(value, deque) else type(value)(inside)


def _versions(value: Any) -> list[tuple[int, int]]:
    """What changes if a value is replaced, or written to."""
    return [(id(tensor), tensor._version) for tensor in _tensors(value)]
