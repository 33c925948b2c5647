"""The precision in which a model computes, and what it leaves of an error estimate."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ig_core.memory import MOST_NODES, arguments_of
from ig_core.quadrature import Outcome

HALF_SHARE = 0.25
"""Of the roundings that rules allow a gradient, half precision needs this part only.

Half precision rounds once per layer and sums in float32: gradients of small networks were within
0.8 roundings (L1) of those in float32.
"""


def coarsest(output: Tensor) -> torch.dtype:
    """The coarsest dtype between the output and what it depends on, where autograd recorded it.

    A float32 output may come from a bfloat16 network: logits are often made float32 at the end,
    and autocast does so by itself. Of a compiled model only its ends are seen, and of a very deep
    one the operations nearest to the output.
    """
    found = {output.dtype}
    seen: set[Node] = set()
    todo = deque([output.grad_fn])
    while todo and len(seen) + len(todo) < MOST_NODES:
        node = todo.popleft()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.update(part.dtype for part in node._input_metadata)
        todo += arguments_of(node) or []
    return max((d for d in found if d.is_floating_point), key=lambda d: torch.finfo(d).eps)


def gradient_rounding(dtype: torch.dtype) -> float:
    """The rounding of a gradient that was computed in ``dtype``, of which rules allow several."""
    return torch.finfo(dtype).eps * (HALF_SHARE if half(dtype) else 1.0)


def half(dtype: torch.dtype) -> bool:
    """Whether ``dtype`` is coarser than float32."""
    return torch.finfo(dtype).eps > torch.finfo(torch.float32).eps


def floored(outcome: Outcome, dtype: torch.dtype, tol: float) -> Outcome:
    """The outcome with no error, of a path or an element, below one rounding of its value."""
    epsilon = torch.finfo(dtype).eps
    size = outcome.integral.abs()
    doubt = None if outcome.doubt is None else torch.maximum(outcome.doubt, epsilon * size)
    return replace(
        outcome,
        error=torch.maximum(outcome.error, epsilon * size.sum(1).cpu()),
        doubt=doubt,
        status=[
            "noise_floor" if status == "converged" and epsilon > tol else status
            for status in outcome.status
        ],
    )


def remark(dtype: torch.dtype) -> str:
    """What a result of half precision says about itself."""
    if not half(dtype):
        return ""
    return (
        f"the model computes in {str(dtype).removeprefix('torch.')}, which rounds by "
        f"{100 * torch.finfo(dtype).eps:.2g} %; in float32 the error would be smaller"
    )
