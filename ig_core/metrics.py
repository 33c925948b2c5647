"""A Metric judges an attribution on its units, hence in every domain alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ig_core.attribution import Attribution
from ig_core.methods import Task

MOST_STEPS = 32
"""Steps of a removal curve at most; more units than that are removed in groups."""


@dataclass(frozen=True, eq=False)
class Game:
    """One example whose units can be removed: set to the baseline's values.

    With all units removed the value is F(x'), with none F(x). Of several baselines the first one
    is x'.
    """

    task: Task
    position: int
    seed: int = 0
    _curves: dict[bytes, Float[np.ndarray, " sets"]] = field(
        default_factory=dict, init=False, repr=False
    )

    def value(self, removed: Bool[Tensor, "sets units"]) -> Float[np.ndarray, " sets"]:
        """F with these units removed, set by set."""
        key = removed.numpy().tobytes()
        if key not in self._curves:
            example = self.task.examples[self.position]
            start = self.task.starts[self.position][0]
            masks = example.parts.mask(removed, example.inputs)
            points = {
                name: torch.where(masks[name].to(x.device), start[name].to(x.device), x)
                for name, x in example.inputs.items()
            }
            with self.task.domain.prepared():
                self._curves[key] = self.task.values_at(example, points).numpy()
        return self._curves[key]


class Metric(ABC):
    """A measure of one attribution.

    ``higher_is_better`` is None where a number only informs, such as a cost.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool | None]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the metric is limited to; empty for all."""

    @abstractmethod
    def measure(self, attribution: Attribution, game: Game) -> float:
        """The number; NaN where it is not defined for this example."""


class Completeness(Metric):
    """abs(sum of values - (F(x) - F(x'))) / abs(F(x) - F(x')).

    NaN where the difference is below ``tiny`` times the larger of the two outputs: a relative
    number would mean nothing there.
    """

    name = "completeness"
    higher_is_better = False
    tiny: ClassVar[float] = 1e-4

    def measure(self, attribution: Attribution, game: Game) -> float:
        size = max(abs(attribution.at_input), abs(attribution.at_baseline))
        if abs(attribution.delta) <= self.tiny * size:
            return float("nan")
        return abs(attribution.residual / attribution.delta)


class RemovalArea(Metric):
    """Area between the LeRF and MoRF curves, divided by the range of F on both (in [-1, 1]).

    MoRF removes the units of highest score first, LeRF those of lowest (Samek et al. 2017,
    arXiv:1509.06321). Scores are signed; ties are broken by a seeded shuffle. The range, not
    F(x) - F(x'), is the divisor: the latter can be tiny while the curves are not.
    """

    name = "removal-area"
    higher_is_better = True

    def measure(self, attribution: Attribution, game: Game) -> float:
        scores = attribution.scores
        count = len(scores)
        if count == 0 or not bool(torch.isfinite(scores).all()):
            return float("nan")
        shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(game.seed))
        order = shuffled[scores[shuffled].argsort(descending=True, stable=True)]
        most = game.value(_prefixes(order))
        least = game.value(_prefixes(order.flip(0)))
        reach = max(most.max(), least.max()) - min(most.min(), least.min())
        if not np.isfinite(reach) or reach == 0:
            return float("nan")
        area = torch.trapezoid(torch.from_numpy(least - most), dx=1 / (len(most) - 1))
        return float(area / reach)


class Evaluations(Metric):
    """Gradient evaluations that the method spent on the example."""

    name = "evaluations"
    higher_is_better = None

    def measure(self, attribution: Attribution, game: Game) -> float:
        return float(attribution.evaluations)


def _prefixes(order: Tensor) -> Bool[Tensor, "sets units"]:
    """No unit, then the first few of ``order``, up to all of them."""
    steps = min(len(order), MOST_STEPS)
    counts = torch.linspace(0, len(order), steps + 1).round().long()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return rank[None, :] < counts[:, None]
