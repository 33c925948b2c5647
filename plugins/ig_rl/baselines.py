"""Baselines of reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Baseline, Domain, Example, InputError
from ig_rl.domain import AgentDomain


class VisitedMean(Baseline):
    """The mean of states that the agent visited: of those given here, or to the domain."""

    name = "visited-mean"
    fits: ClassVar[tuple[str, ...]] = ("rl",)

    def __init__(self, states: Any = None) -> None:
        self.states = states

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[dict[str, Float[Tensor, ...]]]:
        if not isinstance(domain, AgentDomain):
            raise InputError(f"the baseline 'visited-mean' is for 'rl', not for {domain.name!r}")
        return [domain.starts.mean(self.states)]
