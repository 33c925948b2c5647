"""What recurrent modules need around a pass: widths, plain tensors, and modes of cuDNN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ig_core import InputError

ROOM, MOST_ROOM = 2**14, 2**18
"""Steps of all rows in one pass, at most: of any model, and of a narrow recurrent one."""

STATES = 2**22
"""Numbers in the hidden states of all rows and steps of one pass, of recurrent modules."""


def room_of(modules: Iterable[nn.Module]) -> int:
    """Steps of all rows in one pass, at most.

    What autograd keeps of a step hardly depends on the rows if its states are narrow, and a step
    takes as long for one row as for many: with few rows in a pass, the cost of long sequences
    would rise with the square of their length.
    """
    parts = [m for root in modules for m in root.modules()]
    width = sum(
        m.hidden_size * m.num_layers * (1 + m.bidirectional)
        for m in parts
        if isinstance(m, nn.RNNBase)
    ) + sum(m.hidden_size for m in parts if isinstance(m, nn.RNNCellBase))
    return min(max(ROOM, STATES // width), MOST_ROOM) if width else ROOM


def faster_apart(modules: Iterable[nn.Module]) -> bool:
    """Whether rows of several lengths cost less in a pass for each length than packed in one.

    So it is where all recurrent modules are LSTMs for which torch has oneDNN's kernel: float32 on
    the CPU, three times as fast as steps that are packed.
    """
    found = recurrent_in(modules)
    return (
        bool(found)
        and torch.backends.mkldnn.is_available()
        and all(isinstance(rnn, nn.LSTM) and not rnn.proj_size for rnn in found)
        and all(p.dtype == torch.float32 and p.is_cpu for rnn in found for p in rnn.parameters())
    )


def recurrent_in(modules: Iterable[nn.Module]) -> list[nn.RNNBase]:
    """Every RNN, LSTM and GRU among modules and what they hold."""
    return [m for root in modules for m in root.modules() if isinstance(m, nn.RNNBase)]


def steps_in(model: nn.Module) -> bool:
    """Whether a module goes step by step somewhere: an RNN, or a cell of one."""
    return any(isinstance(m, (nn.RNNBase, nn.RNNCellBase)) for m in model.modules())


def time_first_in(modules: Iterable[nn.Module]) -> list[str]:
    """The kinds of modules, among these and what they hold, that read time before the batch.

    Torch makes them so unless it is told otherwise.
    """
    kinds = (nn.RNNBase, nn.MultiheadAttention)
    found = [m for root in modules for m in root.modules() if isinstance(m, kinds)]
    return [type(m).__name__ for m in found if not m.batch_first]


@contextmanager
def widths_checked(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, an input of another width than a module's is refused before torch reads it.

    Torch does not look at the width of packed sequences: it reads beyond them, and crashes.

    Raises:
        InputError: the last dimension of what a module gets is not its ``input_size``.
    """

    def check(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = inputs[0] if inputs else named.get("input")
        values = given.data if isinstance(given, PackedSequence) else given
        if not isinstance(values, Tensor) or values.dim() == 0:
            return  # torch says so itself
        if values.shape[-1] != module.input_size:
            raise InputError(
                f"{type(module).__name__} reads {module.input_size} features at every step "
                f"(got {values.shape[-1]}); the features are the last dimension of a sequence"
                f"{_advice(values, module.input_size)}"
            )

    handles = [m.register_forward_pre_hook(check, with_kwargs=True) for m in recurrent]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _advice(values: Tensor, width: Any) -> str:
    if width == 1:
        return (
            "; x[..., None] makes one feature of series of numbers (time,) or (batch, time), and "
            "axes='nt' is for models that read those"
        )
    if width in values.shape[:-1]:
        return (
            "; x.transpose(-1, -2) puts features last, and axes='nft' is for models that read "
            "(batch, features, time)"
        )
    return ""


@contextmanager
def unpacked_where_alike(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, these modules compute packed sequences of one length as a plain tensor.

    On the CPU torch cuts the steps of packed sequences out of one long tensor, and the backward
    pass of each cut fills all of it: the cost rises with the square of the length. The module's
    caller sees no difference. Modules with hooks of their own are left alone, as those would.
    """
    packed: dict[int, PackedSequence | None] = {}

    def before(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = inputs[0] if inputs else named.get("input")
        packed[id(module)] = None
        if not isinstance(given, PackedSequence) or given.batch_sizes[0] != given.batch_sizes[-1]:
            return None
        packed[id(module)] = given
        plain = given.data.view(len(given.batch_sizes), int(given.batch_sizes[0]), -1)
        state = inputs[1] if len(inputs) > 1 else named.get("hx")
        first = plain.transpose(0, 1) if module.batch_first else plain
        return (first, _permuted(state, given.sorted_indices)), {}

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        given = packed.pop(id(module), None)
        if given is None:
            return None
        steps, state = output
        flat = (steps.transpose(0, 1) if module.batch_first else steps).flatten(0, 1)
        return PackedSequence(flat, *given[1:]), _permuted(state, given.unsorted_indices)

    handles = []
    for rnn in recurrent:
        if not rnn._forward_hooks and not rnn._forward_pre_hooks:
            handles.append(rnn.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(rnn.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _permuted(state: Any, order: Tensor | None) -> Any:
    """The states of all layers in another order of the rows."""
    if state is None or order is None:
        return state
    if isinstance(state, tuple):
        return tuple(one.index_select(1, order) for one in state)
    return state.index_select(1, order)


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
