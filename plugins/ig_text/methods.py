"""Methods that take one word at a time: SIG, and leaving it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import (
    Attribution,
    Example,
    ForwardError,
    Integral,
    Method,
    NoGradientError,
    NonFiniteError,
    Task,
    clean,
)

Inputs = Mapping[str, Tensor]
Job = tuple[int, int]
"""An example and one of its units."""

POINTS = 2**23
"""Numbers of the points that are held at a time while words are left out."""


class SIG(Method):
    """Sequential Integrated Gradients: for every unit a path on which it alone moves.

    Enguehard (2023), arXiv:2305.15853. The values of unit u are integrated from the input with u
    at the baseline to the input, on the path of the call; the paper's division by the norm is
    left out. Hence the score of u is F(x) - F(x without u), within the tolerance that the call
    has for each of these paths: leave-one-out, but shared among dimensions by the gradient. The
    scores do not sum to F(x) - F(x'); the residual says by how much. Every unit has the budget of
    a path to itself. The paths of all units, examples and targets are packed together.

    The status is ``"one_shot"`` where every unit met the tolerance: no sum is promised. The error
    is that of all units together.

    >>> options = {"tokenizer": tokenizer, "target": 1, "tol": 1e-4}
    >>> result = ig.attribute(classifier, "a dull film", method="sig", **options)
    >>> exact = ig.attribute(classifier, "a dull film", method="loo", **options)
    >>> bool((result.scores - exact.scores).abs().max() < 1e-4)
    True
    """

    name = "sig"
    fits = ("text",)
    tags = ("default",)  # some hundred evaluations for every word

    def attribute(self, task: Task) -> Sequence[Attribution]:
        jobs = _jobs(task)
        paths = replace(
            task, examples=[task.examples[number] for number, _ in jobs], starts=_Starts(task, jobs)
        )
        sums = [_Sum(example) for example in task.examples]
        for (number, unit), (_, integral) in zip(jobs, paths.integrals(), strict=True):
            sums[number].add(unit, integral)
        return [_summed(task, number, found) for number, found in enumerate(sums)]


class LOO(Method):
    """Leave one out: F(x) - F(x with one unit at the baseline), exact, for every unit.

    A unit's score is spread evenly over its elements, since nothing says which of them it is
    owed to; scores of smaller units than those that were left out mean nothing, therefore. The
    scores do not sum to F(x) - F(x'). Several baselines are averaged. The evaluations are forward
    passes here, units + 2 for each example with one baseline.

    >>> options = {"tokenizer": tokenizer, "target": 1, "method": "loo"}
    >>> result = ig.attribute(classifier, "a dull film", **options)
    >>> result.status, result.evaluations
    ('one_shot', 5)
    """

    name = "loo"
    fits = ("text",)

    def attribute(self, task: Task) -> Sequence[Attribution]:
        found: list[Attribution] = []
        own = task.own or [task.targets] * len(task.examples)
        for number in range(len(task.examples)):
            repeats = number % task.targets >= own[number // task.targets]
            found.append(found[-1] if repeats else _left_out(task, number))
        return found


# -- one unit at a time ---------------------------------------------------------------------------


def _jobs(task: Task) -> list[Job]:
    """Every unit that moves of every example; the targets of one input are in a row."""
    jobs = []
    for first in range(0, len(task.examples), task.targets):
        several = range(first, first + task.targets)
        moving = torch.cat([_moving(task, number) for number in several]).unique()
        jobs += [(number, unit) for unit in moving.tolist() for number in several]
    return jobs


def _moving(task: Task, number: int) -> Int[Tensor, " moving"]:
    """The units of an example that any of its starts moves."""
    example = task.examples[number]
    found = [torch.zeros(0, dtype=torch.long)]
    for name, index in example.parts.index.items():
        x = example.inputs[name]
        for start in task.starts[number]:
            moved = (start[name].to(x.device) != x).cpu()
            if x.dim() > index.dim():
                moved = moved.flatten(index.dim()).any(-1)
            found.append(index[moved & (index >= 0)])
    return torch.cat(found).unique()


def _without(
    example: Example, units: Int[Tensor, " sets"], start: Inputs
) -> dict[str, Float[Tensor, "sets ..."]]:
    """The input with one unit at the baseline, for each of these units."""
    chosen = units[:, None] == torch.arange(len(example.parts))
    masks = example.parts.mask(chosen, example.inputs)
    return {
        name: torch.where(masks[name].to(x.device), start[name].to(x.device), x)
        for name, x in example.inputs.items()
    }


class _Starts(Sequence[Sequence[Inputs]]):
    """The starts of all jobs, made when they are asked for: together they may be too large."""

    def __init__(self, task: Task, jobs: Sequence[Job]) -> None:
        self.task = task
        self.jobs = jobs

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, place: int) -> Sequence[Inputs]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sequence[Inputs]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number, unit = self.jobs[place]
        example, starts = self.task.examples[number], self.task.starts[number]
        points = (_without(example, torch.tensor([unit]), start) for start in starts)
        return [{name: value[0] for name, value in point.items()} for point in points]


@dataclass(eq=False)
class _Sum:
    """What is known of an example, added up over the paths of its units."""

    example: Example
    values: dict[str, Tensor] = field(init=False)
    doubt: Tensor | None = None
    per_start: list[Tensor] = field(default_factory=list)
    error: float = 0.0
    evaluations: int = 0
    missed: list[int] = field(default_factory=list)
    failure: tuple[str, Exception | None] | None = None
    unreached: tuple[str, Exception | None] | None = None
    cut: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = {
            name: torch.zeros(x.shape, dtype=torch.float64)
            for name, x in self.example.inputs.items()
        }

    def add(self, unit: int, integral: Integral) -> None:
        """Take in the path of one more unit."""
        parts = self.example.parts
        self.evaluations += integral.evaluations
        if isinstance(integral.cause, NoGradientError):
            self._cut(unit, integral)
            return
        if integral.status == "failed":
            self.failure = self.failure or (self._told(unit, integral), integral.cause)
            return
        for name, value in integral.values.items():
            self.values[name] += value
        size = sum(float(value.double().abs().sum()) for value in integral.values.values())
        self.error += integral.error * (size or 1.0)
        self.missed += [unit] if integral.status == "budget" else []
        if integral.uncertainty:
            self._doubt(parts.reduce(integral.uncertainty))
        if integral.per_start:
            scores = [parts.reduce(values) for values in integral.per_start]
            before = self.per_start or [torch.zeros_like(one) for one in scores]
            self.per_start = [one + more for one, more in zip(before, scores, strict=True)]
        if size and integral.reason and integral.reason not in self.remarks:
            self.remarks.append(integral.reason)

    def _cut(self, unit: int, integral: Integral) -> None:
        """A word that no gradient reaches gets zero, which misses by what F changes without it.

        That is mostly rounding, of a word that plays no part: one behind an explained token.
        """
        missed = abs(integral.at_input - integral.at_baseline)
        self.error, self.cut = self.error + missed, self.cut + missed
        self.unreached = self.unreached or (self._told(unit, integral), integral.cause)
        doubt = torch.zeros(len(self.example.parts), dtype=torch.float64)
        doubt[unit] = missed
        self._doubt(doubt)

    def _doubt(self, doubt: Float[Tensor, " units"]) -> None:
        self.doubt = doubt if self.doubt is None else self.doubt + doubt

    def _told(self, unit: int, integral: Integral) -> str:
        label = clean(self.example.parts.labels[unit])
        return f"on the path of {label!r} alone: {integral.reason}"


def _summed(task: Task, number: int, found: _Sum) -> Attribution:
    example = found.example
    start, x = task.starts[number], example.inputs
    size = sum(float(value.abs().sum()) for value in found.values.values())
    failure = found.failure or (found.unreached if found.cut > task.tol * size else None)
    if failure is not None:
        return _failed(task, example, *failure, found.evaluations, "sig")
    try:
        ends = {n: torch.stack([v, *(one[n].to(v) for one in start)]) for n, v in x.items()}
        at_input, at_baseline = _known(task, example, ends).split([1, len(start)])
    except (ForwardError, NonFiniteError) as error:
        return _failed(task, example, str(error), error, found.evaluations, "sig")
    dtypes = {n: v.dtype if v.dtype == torch.float64 else torch.float32 for n, v in x.items()}
    missed = [repr(clean(example.parts.labels[unit])) for unit in found.missed]
    told = f"{len(missed)} words missed the tolerance on their own paths, such as {missed[:3]}"
    return Attribution(
        tensors={name: value.to(dtypes[name]) for name, value in found.values.items()},
        units=example.parts,
        at_input=float(at_input),
        at_baseline=float(at_baseline.mean()),
        residual=float(sum(v.sum() for v in found.values.values()) - at_input + at_baseline.mean()),
        error=found.error / (size or 1.0),
        uncertainty=found.doubt,
        spread=torch.stack(found.per_start).std(0) if found.per_start else None,
        evaluations=found.evaluations,
        status="budget" if missed else "one_shot",
        reason="; ".join([*([told] if missed else []), *found.remarks]),
        **_facts(task, example, "sig"),
    )


def _left_out(task: Task, number: int) -> Attribution:
    example, starts = task.examples[number], task.starts[number]
    units, moving = example.parts, _moving(task, number)
    held = max(1, POINTS // sum(value.numel() for value in example.inputs.values()))
    scores = torch.zeros(len(starts), len(units), dtype=torch.float64)
    at_baseline = 0.0
    try:
        x = {name: value[None] for name, value in example.inputs.items()}
        at_input = float(_known(task, example, x))
        for row, start in enumerate(starts):
            point = {n: start[n].to(v)[None] for n, v in example.inputs.items()}
            at_baseline += float(_known(task, example, point)) / len(starts)
            for some in moving.split(held) if len(moving) else ():
                scores[row, some] = at_input - _known(task, example, _without(example, some, start))
    except (ForwardError, NonFiniteError) as error:
        return _failed(task, example, str(error), error, 0, "loo")
    mean = scores.mean(0)
    return Attribution(
        tensors=_spread_evenly(example, mean),
        units=units,
        at_input=at_input,
        at_baseline=at_baseline,
        residual=float(mean.sum()) - (at_input - at_baseline),
        spread=scores.std(0) if len(starts) > 1 else None,
        evaluations=1 + len(starts) * (1 + len(moving)),
        status="one_shot",
        **_facts(task, example, "loo"),
    )


def _known(
    task: Task, example: Example, points: Mapping[str, Float[Tensor, "points ..."]]
) -> Float[Tensor, " points"]:
    """F at these points.

    Raises:
        NonFiniteError: it is not a number at one of them.
    """
    values = task.values_at(example, points)
    if not bool(values.isfinite().all()):
        raise NonFiniteError("the model's output is NaN or infinite with words at the baseline")
    return values


def _spread_evenly(
    example: Example, scores: Float[Tensor, " units"]
) -> dict[str, Float[Tensor, ...]]:
    """Every unit's score in equal parts on its elements, in float64."""
    ones = {name: torch.ones(x.shape) for name, x in example.inputs.items()}
    part = scores / example.parts.reduce(ones).clamp(min=1)
    values = {}
    for name, x in example.inputs.items():
        index = example.parts.index.get(name, torch.full((), -1))
        each = torch.cat([part, part.new_zeros(1)])[index]  # the last one for those of no unit
        values[name] = each[(..., *(None,) * (x.dim() - index.dim()))].expand(x.shape).clone()
    return values


def _failed(
    task: Task,
    example: Example,
    reason: str,
    cause: Exception | None,
    evaluations: int,
    method: str,
) -> Attribution:
    return Attribution(
        tensors={name: torch.full_like(x, torch.nan).cpu() for name, x in example.inputs.items()},
        units=example.parts,
        at_input=math.nan,
        at_baseline=math.nan,
        residual=math.nan,
        evaluations=evaluations,
        status="failed",
        reason=reason,
        cause=cause,
        **_facts(task, example, method),
    )


def _facts(task: Task, example: Example, method: str) -> dict[str, Any]:
    target = example.target
    told = getattr(target, "__name__", repr(target)) if callable(target) else target
    return {
        "provenance": {**task.provenance, "method": method, "target": told},
        "display": example.display,
        "view": task.domain.render,
        "grouping": task.domain.regroup,
    }
