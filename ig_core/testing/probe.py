"""What the checks measure: F and its gradient on packed rows, and all that a call could change."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core.domain import Domain
from ig_core.example import Example
from ig_core.model_state import HOOKS
from ig_core.rows import Batch, Space
from ig_core.testing.kit import ConformanceError


@dataclass(frozen=True, eq=False)
class Reading:
    """F of every row of one forward pass, and the gradient of every row's own inputs."""

    values: Float[Tensor, " rows"]
    gradients: Sequence[Mapping[str, Tensor]]


def read(domain: Domain, examples: Sequence[Example], only: int | None = None) -> Reading:
    """All examples in one forward pass; gradients of the sum of F, or of ``only`` one row's F.

    An input that no gradient reaches has NaN for its gradient.
    """
    device = domain.device(None, examples[0])
    batch = Batch(examples, domain.layouts, device)
    order = torch.arange(len(examples))
    points = {
        name: pack.select(order).gather(pack.values, {}).to(batch.dtypes[name], copy=True)
        for name, pack in batch.inputs.items()
    }
    for point in points.values():
        point.requires_grad_()
    with torch.enable_grad():
        output = domain.forward(batch.rows(order, dict(points)))
        chosen = output.sum() if only is None else output[only]
        found: Sequence[Tensor | None] = [None] * len(points)
        if chosen.requires_grad:
            found = torch.autograd.grad(chosen, list(points.values()), allow_unused=True)
    selections = {name: pack.select(order) for name, pack in batch.inputs.items()}
    reached = {
        name: torch.full_like(point, torch.nan) if gradient is None else gradient
        for (name, point), gradient in zip(points.items(), found, strict=True)
    }
    space = Space(batch.inputs, device)
    vectors = space.flat(selections, reached)
    return Reading(output.detach().cpu(), space.tensors(vectors, range(len(vectors))))


def agreement(examples: Sequence[Example]) -> float:
    """How well two ways to the same number agree, relatively, in the dtype of these examples."""
    dtypes = {value.dtype for example in examples for value in example.inputs.values()}
    if dtypes == {torch.float64}:
        return 1e-10
    return 2e-5 if dtypes <= {torch.float32, torch.float64} else 2e-2


def compare(got: Reading, expected: Reading, tol: float, where: Sequence[str]) -> None:
    """Rows that should be equal, by F and by gradient, relative to the largest of either.

    Raises:
        ConformanceError: they differ by more than ``tol``.
    """
    size = float(torch.cat([got.values, expected.values]).double().abs().max())
    for row, place in enumerate(where):
        one, other = float(got.values[row]), float(expected.values[row])
        if not abs(one - other) <= tol * size:
            raise ConformanceError(f"F of {place} is {one:.7g} instead of {other:.7g}")
    flat = [g for own in expected.gradients for g in own.values() if g.numel()]
    size = max((float(g.nan_to_num().abs().max()) for g in flat), default=0.0)
    for row, place in enumerate(where):
        for name, wanted in expected.gradients[row].items():
            off = (got.gradients[row][name].double() - wanted.double()).abs()
            if bool((off > tol * size).any()):
                raise ConformanceError(
                    f"the gradient of {name!r} of {place} is off by {float(off.max()):.3g} "
                    f"(gradients reach {size:.3g})"
                )


def modules_of(domain: Domain) -> list[nn.Module]:
    """Every module that the domain names, or holds in an attribute of itself or of its model."""
    held = [domain.model, *vars(domain).values()]
    if not isinstance(domain.model, nn.Module):
        held += getattr(domain.model, "__dict__", {}).values()
    found = [*domain.modules(), *(value for value in held if isinstance(value, nn.Module))]
    return list({id(module): module for module in found}.values())


def every(modules: Sequence[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """All modules within modules, once each, by a name that a reader can find."""
    seen: set[int] = set()
    for root in modules:
        for name, module in root.named_modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield f"{type(root).__name__}.{name}".rstrip("."), module


def snapshot(modules: Sequence[nn.Module]) -> dict[str, Any]:
    """Everything about models and process that a user would notice if a call changed it."""
    seen: dict[str, Any] = {
        "torch's random state": torch.get_rng_state(),
        "numpy's random state": pickle.dumps(np.random.get_state()),
        "Python's random state": random.getstate(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.are_deterministic_algorithms_enabled()": (
            torch.are_deterministic_algorithms_enabled()
        ),
    }
    for name, module in every(modules):
        seen[f"{name}.training"] = module.training
        seen[f"the hooks of {name}"] = [list(getattr(module, hooks)) for hooks in HOOKS]
        for kind in ("_modules", "_parameters", "_buffers"):
            held = getattr(module, kind)
            seen[f"the {kind[1:]} of {name}"] = [(key, id(one)) for key, one in held.items()]
        for key, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)):
                seen[f"{name}.{key}"] = value
        for key, buffer in module.named_buffers(recurse=False):
            seen[f"the buffer {name}.{key}"] = buffer.detach().clone()
        for key, parameter in module.named_parameters(recurse=False):
            seen[f"the parameter {name}.{key}"] = parameter.detach().clone()
            seen[f"{name}.{key}.requires_grad"] = parameter.requires_grad
            gradient = parameter.grad
            seen[f"{name}.{key}.grad"] = None if gradient is None else gradient.clone()
    return seen


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of what two snapshots do not share."""
    names = [*before, *(name for name in after if name not in before)]
    return [n for n in names if n not in before or n not in after or not same(before[n], after[n])]


def same(one: Any, other: Any) -> bool:
    """Equality that looks into tensors, where NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    return type(one) is type(other) and bool(one == other)


def train(modules: Sequence[nn.Module]) -> None:
    """Training mode, as a user might leave it, so that dropout shows when it is not turned off."""
    for module in modules:
        module.train()
