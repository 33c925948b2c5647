"""The true attributions: sums of very many nodes, computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache as once

import numpy as np
import torch
from function import Function, cache
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from scipy.special import roots_legendre
from torch import Tensor

from ig_core.files import whole

PANEL = 16
"""Gauss-Legendre nodes of one panel of a composite sum."""

Nodes = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""Places in [0, 1] and weights."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Attributions of every example, flat, and how far a sum of half the nodes is from them."""

    values: Float[Tensor, "examples width"]
    spread: Float[Tensor, " examples"]

    def errors(self, values: Float[Tensor, "examples width"]) -> Float[Tensor, " examples"]:
        """|values - truth|_1 / |truth|_1."""
        return relative(values, self.values)


def relative(
    values: Float[Tensor, "examples width"], truth: Float[Tensor, "examples width"]
) -> Float[Tensor, " examples"]:
    return (values - truth).abs().sum(1) / truth.abs().sum(1)


def truth(function: Function) -> Truth:
    """The truth of every example; what the cache lacks is computed and kept."""
    files = [cache("truth", f"{digest}.safetensors") for digest in _digests(function)]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    if missing:
        some = function.some(torch.tensor(missing))
        some = some.to(torch.float64) if some.exact else some
        whole_sum, half = (
            integral(some, _reference(some, count)) for count in (some.nodes, some.nodes // 2)
        )
        for i, value, spread in zip(missing, whole_sum, relative(half, whole_sum), strict=True):
            files[i].parent.mkdir(parents=True, exist_ok=True)
            with whole(files[i]) as partial:
                save_file({"values": value.clone(), "spread": spread.clone()}, partial)
    found = [load_file(file) for file in files]
    return Truth(
        torch.stack([one["values"] for one in found]), torch.stack([one["spread"] for one in found])
    )


def integral(function: Function, nodes: Nodes) -> Float[Tensor, "examples width"]:
    """(x - x') times the weighted sum of the gradients; sums are float64."""
    places, weights = (torch.from_numpy(np.ascontiguousarray(one)) for one in nodes)
    examples = len(function)
    total = [torch.zeros(x.shape, dtype=torch.float64) for x in function.inputs]
    at_once = max(1, function.chunk // examples)
    for t, w in zip(places.split(at_once), weights.split(at_once), strict=True):
        points = [
            _blend(start, x, t.to(x.dtype)).requires_grad_(True)
            for x, start in zip(function.inputs, function.starts, strict=True)
        ]
        extras = {n: v.repeat(len(t), *[1] * (v.dim() - 1)) for n, v in function.extras.items()}
        gradients = torch.autograd.grad(function.model(*points, **extras).sum(), points)
        for own, gradient in zip(total, gradients, strict=True):
            own += torch.tensordot(w, gradient.double().view(len(t), *own.shape), 1)
    moved = zip(total, function.inputs, function.starts, strict=True)
    return torch.cat([(g * (x.double() - start)).flatten(1) for g, x, start in moved], 1)


@once
def gauss_legendre(count: int) -> Nodes:
    nodes, weights = roots_legendre(count)
    return (nodes + 1) / 2, weights / 2


def _blend(start: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Rows (node, example), the examples fastest."""
    t = t.view(-1, *[1] * x.dim())
    return (start + t * (x - start)).flatten(0, 1)


def _reference(function: Function, count: int) -> Nodes:
    if not function.smooth:
        return (np.arange(count) + 0.5) / count, np.full(count, 1 / count)
    nodes, weights = gauss_legendre(PANEL)
    panels = count // PANEL
    u = ((np.arange(panels)[:, None] + nodes) / panels).ravel()
    power = function.grade
    return u**power, np.tile(weights / panels, panels) * power * u ** (power - 1)


def _digests(function: Function) -> Iterable[str]:
    """One for each example: of the model, of the example and of how the sum is made."""
    shared = hashlib.sha256()
    kind = (function.smooth, function.nodes, function.grade, function.exact, PANEL)
    shared.update(repr((kind, torch.__version__)).encode())
    modules = list(function.model.modules())
    for source in dict.fromkeys(getattr(m, "formula", type(m)) for m in modules):
        shared.update(inspect.getsource(source).encode())
    options = [
        {n: v for n, v in vars(m).items() if isinstance(v, bool | int | float | str)}
        for m in modules
    ]
    shared.update(repr((function.model, options)).encode())
    for name, value in function.model.state_dict().items():
        shared.update(name.encode() + _bytes(value))
    for i in range(len(function)):
        own = shared.copy()
        tensors = (*function.inputs, *function.starts, *function.extras.values())
        for value in tensors:
            own.update(repr((value[i].shape, value.dtype)).encode() + _bytes(value[i]))
        yield own.hexdigest()


def _bytes(value: Tensor) -> bytes:
    return value.detach().contiguous().numpy().tobytes()
