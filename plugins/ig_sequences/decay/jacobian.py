"""The Jacobian at the input, as a path of one point."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, NotConvergedWarning, Path


class AtInput(Path):
    """Stays at x with velocity one, so that the integral of the gradient is dF/dx itself."""

    name = "at-input"
    fits = ("sequences",)

    def at(self, start: Tensor, end: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return end.expand(torch.broadcast_shapes(end.shape, t.shape)), torch.ones_like(end)


def jacobian_at(model: Any, x: Any, target: Any, **options: Any) -> list[Attribution]:
    """dF/dx at every sequence, in one pass of one point each.

    It sums to nothing in particular: what the results say of convergence has no meaning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        found = ig.attribute(
            model, x, domain="sequences", target=target, path=AtInput(), baseline=0.0,
            rule="midpoint", steps=1, **options,
        )  # fmt: skip
    return cast("list[Attribution]", found if isinstance(found, list) else [found])
