"""The user's model is put into evaluation mode, frozen, and left as it was found."""

from __future__ import annotations

import functools
import inspect
import random
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ig_core.errors import ModelChangedWarning

HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks",
)  # fmt: skip
"""Where a module keeps the hooks of its forward and backward passes."""

_TABLES = (*HOOKS, "_parameters", "_buffers", "_modules")

_CALLABLES_DEEP = 3
"""How many functions that call each other are followed to the module that does the work."""

_SMALL = 64
"""Longer collections hold data rather than models; they are not looked into."""

_LOCKS: WeakKeyDictionary[nn.Module, AbstractContextManager[Any]] = WeakKeyDictionary()
"""One re-entrant lock per module, because evaluation mode is the module's, not the call's.

Global, because calls that know nothing of each other share modules; weak, so that it keeps no
model alive; and beside the module, because models are copied and pickled and locks cannot be.
"""

_LOCKS_GUARD = threading.Lock()

_THREAD = threading.local()
"""What this thread holds: the ids of the modules inside its blocks, which keep them alive."""


@contextmanager
def prepared(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; the state before restored outside.

    Restored, also after an exception: of every module and submodule the training flag, which
    hooks, parameters, buffers and submodules it has, the values of its buffers, and which
    parameters require gradients; of the process the random states of torch (CUDA's where it is
    in use), numpy and Python, and torch's default dtype. Not restored: the values of parameters,
    of which there is no copy, and whatever else a module keeps in attributes.

    Threads that prepare a module in common take turns; within one thread blocks may be nested: a
    block whose modules are held by one around it, and are as they should be, leaves them to that.
    Leave a block in the thread that entered it, as torch's gradient mode demands anyway.

    Warns:
        ModelChangedWarning: a parameter was written to in a way that torch counts.
    """
    roots = list(modules)
    parts = _within(roots)
    if _sound(roots, parts):  # a block around this one will restore
        with torch.inference_mode(False), torch.enable_grad():
            yield
        return
    with ExitStack() as after:
        for lock in _locks(parts):
            after.enter_context(lock)
        # A tensor made in inference mode keeps its flag; torch itself says why it cannot be used.
        parameters = {
            id(p): (f"{type(root).__name__}.{name}", p, p._version)
            for root in roots
            for name, p in root.named_parameters()
            if not p.is_inference()
        }
        after.callback(_tell_changed, parameters.values())
        _keep_process(after)
        after.callback(_restore_modules, [(m, m.training, _tables(m)) for m in parts])
        for module in parts:
            if module.training:
                module.training = False
        for buffer in {id(b): b for root in roots for b in root.buffers()}.values():
            with torch.inference_mode(False), torch.no_grad():
                after.callback(_restore_buffer, buffer, buffer.clone())
        frozen = [(p, p.requires_grad) for _, p, _ in parameters.values()]
        after.callback(_require_gradients, frozen)
        _require_gradients([(p, False) for p, _ in frozen])
        after.enter_context(torch.inference_mode(False))
        after.enter_context(torch.enable_grad())
        before = _inside()
        _THREAD.inside = before | set(map(id, parts))
        after.callback(setattr, _THREAD, "inside", before)
        yield


def _inside() -> frozenset[int]:
    """The ids of the modules that blocks of this thread hold."""
    inside: frozenset[int] = getattr(_THREAD, "inside", frozenset())
    return inside


def _sound(roots: Sequence[nn.Module], parts: Sequence[nn.Module]) -> bool:
    """Whether this thread holds all of these modules, and they still are as they should be."""
    inside = _inside()
    return (
        all(id(m) in inside and not m.training for m in parts)
        and not any(p.requires_grad for root in roots for p in root.parameters())
        and bool(parts)
    )


def modules_in(model: Any) -> list[nn.Module]:
    """The modules that a callable runs: itself, or what it is bound to, holds or closes over.

    ``lambda x: net(x).logits`` runs ``net``, which wants evaluation mode as much as a bare
    ``net``. A module inside anything else than a callable or a small collection is not found.
    """
    reached: dict[int, Any] = {}
    level = [model]
    for _ in range(_CALLABLES_DEEP + 1):
        parts = {id(part): part for thing in level for part in _unpacked(thing)}
        new = [part for key, part in parts.items() if key not in reached]
        reached |= parts
        level = [part for thing in new for part in _parts(thing)]
    return [part for part in reached.values() if isinstance(part, nn.Module)]


def _unpacked(thing: Any) -> Sequence[Any]:
    """The items of a small collection; of a large one nothing, because that could take long."""
    if not isinstance(thing, (list, tuple, set, frozenset, dict)):
        return [thing]
    if len(thing) > _SMALL:
        return []
    return list(thing.values() if isinstance(thing, dict) else thing)


def _parts(thing: Any) -> list[Any]:
    """What a callable may run."""
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if inspect.ismethod(thing):
        return [thing.__func__, thing.__self__]
    if inspect.isfunction(thing):
        names, scope = _names(thing.__code__), thing.__globals__
        defaults = (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
        return [*_enclosed(thing), *(scope[n] for n in names if n in scope), *defaults]
    return _attributes(thing) if callable(thing) else []


def _enclosed(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a name that is not bound yet
            yield cell.cell_contents


def _names(code: CodeType) -> list[str]:
    """The globals (and attributes) that code names, also inside its comprehensions."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return [*code.co_names, *(name for each in inner for name in _names(each))]


def _attributes(thing: Any) -> list[Any]:
    """The values of an instance's attributes and slots; what a module holds is its own matter."""
    if isinstance(thing, (nn.Module, type)):
        return []
    found = list(getattr(thing, "__dict__", {}).values())
    for slot in (member for kind in type(thing).__mro__ for member in vars(kind).values()):
        if isinstance(slot, MemberDescriptorType):
            with suppress(AttributeError):  # a slot that is not filled yet
                found.append(slot.__get__(thing))
    return found


def _within(roots: Iterable[nn.Module]) -> list[nn.Module]:
    """All modules and submodules, once each."""
    return list({id(m): m for root in roots for m in root.modules()}.values())


def _locks(modules: Iterable[nn.Module]) -> list[AbstractContextManager[Any]]:
    """The locks of modules in one order for all threads, so that none waits for another's."""
    with _LOCKS_GUARD:
        found = [_LOCKS.setdefault(module, threading.RLock()) for module in modules]
    return sorted(found, key=id)


def _keep_process(after: ExitStack) -> None:
    """Random states and default dtype; CUDA is not asked, and so not started, before its use."""
    after.callback(torch.set_default_dtype, torch.get_default_dtype())
    after.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        after.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    after.callback(np.random.set_state, np.random.get_state())
    after.callback(random.setstate, random.getstate())


def _tables(module: nn.Module) -> list[dict[Any, Any]]:
    return [dict(getattr(module, name).items()) for name in _TABLES]


def _restore_modules(
    modules: Iterable[tuple[nn.Module, bool, Sequence[Mapping[Any, Any]]]],
) -> None:
    for module, training, tables in modules:
        if module.training != training:
            module.training = training
        for name, kept in zip(_TABLES, tables, strict=True):
            table: MutableMapping[Any, Any] = getattr(module, name)
            if not len(table) and not kept:
                continue
            if [(k, id(v)) for k, v in table.items()] != [(k, id(v)) for k, v in kept.items()]:
                if isinstance(table, dict):  # entries of a scripted module can only be replaced
                    table.clear()
                for key, value in kept.items():
                    table[key] = value


def _require_gradients(parameters: Iterable[tuple[nn.Parameter, bool]]) -> None:
    for parameter, required in parameters:
        if parameter.requires_grad != required:
            parameter.requires_grad_(required)


def _restore_buffer(buffer: Tensor, copy: Tensor) -> None:
    """Write back what differs.

    Values are compared because native batch norm and ``.data`` write without counting; and what
    is equal is not written, because that would invalidate graphs that the user still needs.
    """
    alike = (buffer.shape, buffer.dtype) == (copy.shape, copy.dtype)
    with suppress(RuntimeError):  # sparse and meta tensors cannot be compared
        if alike and torch.equal(buffer, copy):
            return
    with torch.inference_mode(buffer.is_inference()), torch.no_grad():
        if alike:
            buffer.copy_(copy)
        else:
            buffer.data = copy


def _tell_changed(parameters: Iterable[tuple[str, Tensor, int]]) -> None:
    changed = [name for name, parameter, version in parameters if parameter._version != version]
    if changed:
        told = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if changed[3:] else "")
        warnings.warn(
            f"the model changed its own parameters ({told}) while it ran, and there is no copy "
            "to restore them from; explain copy.deepcopy(model), or let it write to buffers",
            ModelChangedWarning,
            stacklevel=2,
        )
