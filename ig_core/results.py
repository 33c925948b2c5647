"""Results are what is known of the paths that are done."""

from __future__ import annotations

import torch
from torch import Tensor

from ig_core.quadrature import Outcome, Space, Status


class Results:
    """The integrals of the paths that are done, one row each."""

    def __init__(self, space: Space, paths: int) -> None:
        self.done = torch.zeros(paths, dtype=torch.bool)
        self.integral = space.zeros(paths)
        self.doubt: Tensor | None = None
        self.error = torch.zeros(paths, dtype=torch.float64)
        self.status: list[Status] = ["budget"] * paths
        self.note: dict[int, str] = {}

    def receive(self, outcome: Outcome) -> None:
        """Take in the paths that a round has finished."""
        rows = outcome.done.to(self.integral.device)
        self.done[outcome.done] = True
        self.integral[rows] = outcome.integral
        self.error[outcome.done] = outcome.error
        if outcome.doubt is not None:
            if self.doubt is None:
                self.doubt = torch.zeros_like(self.integral)
            self.doubt[rows] = outcome.doubt
        for path, status in zip(outcome.done.tolist(), outcome.status, strict=True):
            self.status[path] = status
