"""Memory says what a device has and what a pass took; Share turns that into the size of a chunk."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import torch

PART = 4
"""One chunk takes at most this part of a device's memory."""

LARGEST = 256
"""A chunk holds at most this many times what the layouts allow."""

HELD_ELEMENTS = 2**26
"""Elements of gradients that wait on an accelerator until the CPU looks at their numbers."""


MOST_NODES = 2**14
"""Nodes of one graph that are looked at. Torch frees a node that Python has seen by recursion into
the next one, which overflows the stack where there are tens of thousands in a row, as in an RNN."""


def arguments_of(node: Any) -> list[Any] | None:
    """The nodes that one node of a graph depends on; None where a stack or cat has too many.

    Only to ask a node for them makes Python see them all. How many can be told from the shape.
    """
    dim = getattr(node, "_saved_dim", None)
    if isinstance(dim, int) and node.name() in ("StackBackward0", "CatBackward0"):
        dim -= 2**64 if dim >= 2**63 else 0  # torch tells negative ones without their sign
        if node._input_metadata[0].shape[dim] > MOST_NODES // 2:
            return None
    return [argument for argument, _ in node.next_functions]


class Memory(Protocol):
    """The memory of one device."""

    def total(self) -> int:
        """Bytes of the device, free or not."""

    def begin(self) -> None:
        """Start to watch the peak."""

    def taken(self) -> int:
        """Bytes by which the peak since :meth:`begin` exceeds what was there then."""


class Cuda:
    """The memory of a CUDA device, as torch's allocator counts it; the peak is reset."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0

    def total(self) -> int:
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def begin(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)
        self.before = torch.cuda.memory_allocated(self.device)

    def taken(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) - self.before


def memory_of(device: torch.device) -> Memory | None:
    """The memory of a device that wants large chunks; None for the CPU."""
    return Cuda(device) if device.type == "cuda" else None


class Share:
    """How many times the layouts' capacity one chunk holds; the same in all windows of a call.

    It does not depend on time: a power of two from the first pass and from the size of the
    device, and less only after the memory ran out.
    """

    def __init__(self, memory: Memory | None) -> None:
        self.memory = memory
        self.value = Fraction(1)

    def begin(self) -> None:
        """A pass begins."""
        if self.memory is not None:
            self.memory.begin()

    def measured(self, rows: int, room: int) -> bool:
        """After a first pass over ``rows``, of which ``room`` fit; says whether more do now."""
        memory, self.memory = self.memory, None
        if memory is None:
            return False
        full = max(1, memory.taken()) * room / rows
        most = min(LARGEST, int(memory.total() / PART / full))
        self.value *= 2 ** max(0, most.bit_length() - 1)
        return self.value > 1

    def halve(self, rows: int, room: int) -> None:
        """After ``rows`` that did not fit, of which ``room`` were thought to."""
        self.memory = None
        self.value = Fraction(rows // 2, room)


def held_on(device: torch.device) -> int:
    """How many elements of gradients may wait: none on the CPU, where nothing is gained."""
    return 0 if device.type == "cpu" else HELD_ELEMENTS


def out_of_memory(error: Exception) -> bool:
    """Whether that is what an error says."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        any(told in str(error).lower() for told in ("out of memory", "can't allocate memory"))
    )
