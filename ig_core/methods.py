"""A Method turns a task into attributions; IG, its simplest relative, and two controls."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ig_core import invariance
from ig_core.adaptive import Adaptive
from ig_core.attribution import Attribution, WorstPanel
from ig_core.domain import Domain
from ig_core.engine import Progress, integrate
from ig_core.errors import IGError
from ig_core.evaluation import evaluate, evaluate_each
from ig_core.example import Example, Units
from ig_core.paths import Inputs, Path, Straight
from ig_core.quadrature import Fixed, Rule, Status, midpoint
from ig_core.results import Integral, Trouble
from ig_core.twins import by_kind

COSTLY = 40
"""A path that took more evaluations than this is looked at once more."""

MOST_UNITS = 3
"""So many units are named of each of the worst panels."""

SOUND = 4
"""After so many costly paths that were sound the others are taken to be sound as well."""


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that a method needs to explain some examples of one model."""

    domain: Domain
    examples: Sequence[Example]
    starts: Sequence[Sequence[Inputs]]
    device: torch.device
    path: Path = field(default_factory=Straight)
    rule: Rule = field(default_factory=Adaptive)
    tol: float = 1e-2
    budget: int = 512
    seed: int = 0
    progress: Callable[[Progress], None] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    targets: int = 1
    """How many examples in a row are one raw input, each with another target."""
    own: Sequence[int] = ()
    """How many of these targets each raw input has; the others repeat its last one."""

    def integrals(self, rule: Rule | None = None) -> Iterator[tuple[Example, Integral]]:
        """The integral of every example, under the task's rule or another."""
        found = integrate(
            self.domain.forward,
            zip(self.examples, self.starts, strict=True),
            self.domain.layouts,
            self.path,
            rule or self.rule,
            tol=self.tol,
            budget=self.budget,
            device=self.device,
            progress=self.progress,
            total=len(self.examples),
            targets=self.targets,
        )
        return zip(self.examples, found, strict=True)

    def values_at(self, example: Example, points: Mapping[str, Tensor]) -> Tensor:
        """F at several points of one example's input space."""
        return evaluate(self.domain.forward, example, points, self.domain.layouts, self.device)

    def values_of(self, examples: Sequence[Example], points: Sequence[Inputs]) -> Tensor:
        """F of several examples, each at one point of its own input space."""
        found = torch.full((len(examples),), math.nan, dtype=torch.float64)
        for part in by_kind([example.target for example in examples], 2):
            own, at = [examples[i] for i in part], [points[i] for i in part]
            found[list(part)] = evaluate_each(
                self.domain.forward, own, at, range(len(own)), self.domain.layouts, self.device
            )
        return found


class Method(ABC):
    """An attribution method. Relatives of IG, controls and other libraries share this door."""

    name: ClassVar[str]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the method is limited to; empty for all."""
    tags: ClassVar[tuple[str, ...]] = ("smoke",)
    """Suites of the benchmark that it runs in without being named, as those of a case."""

    @abstractmethod
    def attribute(self, task: Task) -> Sequence[Attribution]:
        """One attribution per example of the task, in order."""


class IntegratedGradients(Method):
    """(x_i - x'_i) times the mean gradient along the path.

    Sundararajan, Taly and Yan (2017), arXiv:1703.01365.
    """

    name = "ig"

    def attribute(self, task: Task) -> Sequence[Attribution]:
        found = _warned(task, list(task.integrals()))
        return [describe(task, e, i, self.name) for e, i in found]


def _warned(
    task: Task, found: Sequence[tuple[Example, Integral]]
) -> Sequence[tuple[Example, Integral]]:
    """The integrals, with a remark on those whose baseline the model sees no scale at.

    Only what was costly or missed its tolerance is probed, the costliest first, and no more of a
    target once a few were sound.
    """
    results, sound = list(found), [0] * task.targets
    costly = math.inf if isinstance(task.rule, Fixed) else COSTLY
    judged = [(i, one) for i, (_, one) in enumerate(found) if one.status != "failed"]
    hard = [i for i, one in judged if one.evaluations > costly or one.status == "budget"]
    for number in sorted(hard, key=lambda i: -found[i][1].evaluations):
        if sound[number % task.targets] == SOUND or task.path.name != Straight.name:
            continue
        example, integral = found[number]
        try:
            told = _invariance(task, number, integral)
        except IGError:
            continue  # the model raised; the result says so already
        sound[number % task.targets] += not told
        if told:
            reason = "; ".join(filter(None, (integral.reason, told)))
            results[number] = example, replace(integral, reason=reason)
    return results


def _invariance(task: Task, number: int, integral: Integral) -> str:
    """What F close to the baseline says of it; a glance at two points is mostly enough."""
    example, start = task.examples[number], task.starts[number][0]

    def values_at(times: Sequence[float]) -> list[float]:
        points = {
            n: torch.stack([start[n].lerp(v.to(start[n]), t) for t in times])
            for n, v in example.inputs.items()
        }
        found: list[float] = task.values_at(example, points).tolist()
        return found

    at_ends = integral.at_baseline, integral.at_input
    one_start = len(task.starts[number]) == 1  # or F(x') is a mean over several
    if one_start and invariance.sound(values_at(invariance.GLANCE), *at_ends):
        return ""
    return invariance.remark(values_at(invariance.TIMES), integral.at_input)


class GradientTimesInput(Method):
    """(x_i - x'_i) times the gradient at x: IG with the single node t = 1.

    With a zero baseline this is gradient x input (Shrikumar et al. 2016, arXiv:1605.01713). It
    is not complete, and its residual says by how much.
    """

    name = "gradient-x-input"

    def attribute(self, task: Task) -> Sequence[Attribution]:
        once = Fixed(np.ones(1), np.ones(1))
        return [
            describe(task, e, replace(i, status=_one_shot(i.status)), self.name)
            for e, i in task.integrals(once)
        ]


def _one_shot(status: Status) -> Status:
    return "failed" if status == "failed" else "one_shot"


class Negated(Method):
    """IG with its sign turned: a control that every signed metric must rank last.

    It sums to minus the difference, so what it converged to is not claimed for it.
    """

    name = "negated"

    def attribute(self, task: Task) -> Sequence[Attribution]:
        return [
            replace(
                a,
                tensors={n: -v for n, v in a.tensors.items()},
                residual=float(-a.scores.sum()) - a.delta,
                error=math.nan,
                uncertainty=None,
                worst=(),
                status=_one_shot(a.status),
                provenance={**a.provenance, "method": self.name},
            )
            for a in IntegratedGradients().attribute(task)
        ]


class Random(Method):
    """Normal noise: a control that every metric must rank in the middle.

    The one gradient that it spends finds F at both ends, and the examples that fail.
    """

    name = "random"

    def attribute(self, task: Task) -> Sequence[Attribution]:
        results = []
        found = zip(task.starts, task.integrals(midpoint(1)), strict=True)
        for number, (starts, (example, integral)) in enumerate(found):
            generator = torch.Generator().manual_seed(
                task.seed * 1_000_003 + number // task.targets
            )
            values = {
                n: torch.randn(v.shape, generator=generator, dtype=torch.float64)
                * (v != starts[0][n].to(v.device)).cpu()
                for n, v in example.inputs.items()
            }
            if integral.status != "failed":
                total = sum(float(v.sum()) for v in values.values())
                delta = integral.at_input - integral.at_baseline
                integral = replace(
                    integral, values=values, residual=total - delta, status="one_shot", reason="",
                    per_start=(),
                )  # fmt: skip
            results.append(describe(task, example, integral, self.name))
        return results


def describe(task: Task, example: Example, integral: Integral, method: str) -> Attribution:
    """An integral as the attribution that users read."""
    units = example.parts
    return Attribution(
        tensors=integral.values,
        units=units,
        at_input=integral.at_input,
        at_baseline=integral.at_baseline,
        residual=integral.residual,
        error=integral.error,
        uncertainty=units.reduce(integral.uncertainty) if integral.uncertainty else None,
        spread=_spread(units, integral.per_start),
        evaluations=integral.evaluations,
        status=integral.status,
        reason=integral.reason,
        provenance={**task.provenance, "method": method, "target": _name(example.target)},
        display=example.display,
        view=task.domain.render,
        grouping=task.domain.regroup,
        cause=integral.cause,
        worst=[_panel(units, trouble) for trouble in integral.worst],
    )


def _panel(units: Units, trouble: Trouble) -> WorstPanel:
    """A trouble with the fewest units that hold half of its error, or the first of them."""
    doubt = units.reduce(trouble.doubt)
    share = (doubt / doubt.sum()).nan_to_num(posinf=0.0)
    largest = share.argsort(descending=True, stable=True)[:MOST_UNITS]
    held = share[largest].cumsum(0)
    named = largest[(share[largest] > 0) & (held - share[largest] < 0.5)].tolist()
    told = [(units.labels[i], float(share[i])) for i in named]
    leg = trouble.leg or None
    return WorstPanel(trouble.start, trouble.end, trouble.share, leg, told)


def _spread(units: Units, per_start: Sequence[Mapping[str, Tensor]]) -> Tensor | None:
    return torch.stack([units.reduce(v) for v in per_start]).std(0) if per_start else None


def _name(target: Any) -> Any:
    return getattr(target, "__name__", repr(target)) if callable(target) else target
