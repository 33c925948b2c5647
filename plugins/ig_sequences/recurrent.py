"""What recurrent modules need around a pass: widths, modes of cuDNN, and no memory of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ig_core import InputError


def recurrent_in(modules: Iterable[nn.Module]) -> list[nn.RNNBase]:
    """Every RNN, LSTM and GRU among modules and what they hold."""
    return [m for root in modules for m in root.modules() if isinstance(m, nn.RNNBase)]


@contextmanager
def widths_checked(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, an input of another width than a module's is refused before torch reads it.

    Torch does not look at the width of packed sequences: it reads beyond them, and crashes.

    Raises:
        InputError: the last dimension of what a module gets is not its ``input_size``.
    """

    def check(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = inputs[0] if inputs else named.get("input")
        values = given.data if isinstance(given, nn.utils.rnn.PackedSequence) else given
        if not isinstance(values, Tensor) or values.dim() == 0:
            return  # torch says so itself
        if values.shape[-1] != module.input_size:
            raise InputError(
                f"{type(module).__name__} reads {module.input_size} features at every step "
                f"(got {values.shape[-1]}); the features are the last dimension of a sequence"
            )

    handles = [m.register_forward_pre_hook(check, with_kwargs=True) for m in recurrent]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def cudnn_differentiable(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, cuDNN agrees to differentiate these modules, and they compute what they did.

    cuDNN refuses the backward pass of an RNN in evaluation mode. Training mode with dropout 0
    gives the same numbers; ``model.train()`` would also change dropout and batch norms elsewhere.
    """
    found = [(rnn, rnn.training, rnn.dropout) for rnn in recurrent]
    try:
        for rnn, _, _ in found:
            rnn.training, rnn.dropout = True, 0.0
        yield
    finally:
        for rnn, training, dropout in found:
            rnn.training, rnn.dropout = training, dropout


@contextmanager
def without_cudnn(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, torch leaves cuDNN out where a module on CUDA is scripted: it has no flags to set.

    The switch is torch's own, and holds for the whole process as long as the block lasts.
    """
    if not any(scripted(module) and on_cuda(module) for module in modules):
        yield
        return
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def scripted(module: nn.Module) -> bool:
    """Whether a module is one of TorchScript, or holds one."""
    return any(isinstance(m, torch.jit.ScriptModule) for m in module.modules())


def on_cuda(module: nn.Module) -> bool:
    """Whether a module has parameters on a CUDA device."""
    return any(p.is_cuda for p in module.parameters())


@contextmanager
def forgetful(modules: Iterable[nn.Module]) -> Iterator[Callable[[], None]]:
    """Gives a function that puts back the tensors that modules keep beside their parameters.

    A stateful model keeps its hidden state in an attribute or a buffer and begins its next pass
    with it: its answer depends on what was asked before, and for all rows. With this called before
    each pass, every one begins with the state that was there at first; and so the block leaves it.
    """
    own = {id(m): m for root in modules for m in root.modules()}.values()
    kept = [_Kept(m) for m in own if not isinstance(m, torch.jit.ScriptModule)]

    def forget() -> None:
        for one in kept:
            one.restore()

    try:
        yield forget
    finally:
        forget()


class _Kept:
    """The attributes and buffers of one module, and copies of those that are tensors."""

    def __init__(self, module: nn.Module) -> None:
        self.tables: list[tuple[dict[str, Any], dict[str, Any], list[int]]] = []
        for table in (vars(module), module._buffers):
            before = dict(table)
            self.tables.append((table, before, list(map(id, before.values()))))
        found = [t for _, before, _ in self.tables for v in before.values() for t in _tensors(v)]
        own = {id(p) for p in module.parameters(recurse=False)}
        self.copies = [
            (t, t.detach().clone()) for t in found if id(t) not in own and not t.is_inference()
        ]
        self.versions = [t._version for t, _ in self.copies]

    def restore(self) -> None:
        for table, before, ids in self.tables:
            if list(map(id, table.values())) == ids:
                continue
            for name, value in list(table.items()):
                known = before.get(name)
                if value is known or not (_tensors(value) or _tensors(known)):
                    continue  # counters and notes are the model's own
                if name in before:
                    table[name] = known
                else:
                    del table[name]
        for i, (tensor, copy) in enumerate(self.copies):
            if tensor._version != self.versions[i]:
                with torch.no_grad():
                    tensor.detach_().copy_(copy)
                self.versions[i] = tensor._version


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    several = type(value) in (tuple, list) and value and all(isinstance(v, Tensor) for v in value)
    return list(value) if several else []
