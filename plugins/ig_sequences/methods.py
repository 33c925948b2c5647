"""Methods that need no gradient: leaving out one step, and two controls that know no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Attribution, Example, ForwardError, IGError, Method, NonFiniteError, Task

POINTS = 2**22
"""Numbers of the points that are held at a time while steps are left out."""

Steps = Float[Tensor, "time features"]


class Occlusion(Method):
    """F(x) - F(x with one step at the baseline), exact, for every step.

    A step's score is spread evenly over the features that move there, since nothing says which
    of them it is owed to. The scores do not sum to F(x) - F(x'): what several steps do together
    counts for each of them, and of two that say the same neither counts. Several baselines are
    averaged. The evaluations are forward passes here, moving steps + 2 with one baseline.

    >>> x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    >>> product = lambda x: x[:, 0, 0] * x[:, 1, 0]
    >>> result = ig.attribute(product, x, domain="sequences", method="occlusion")
    >>> result.scores.tolist(), result.delta, result.status, result.evaluations
    ([6.0, 6.0], 6.0, 'one_shot', 4)
    """

    name = "occlusion"
    fits = ("sequences",)
    tags = ()

    def attribute(self, task: Task) -> Sequence[Attribution]:
        return [_explained(task, i, self.name, _left_out) for i in range(len(task.examples))]


class Recency(Method):
    """The newer a step, the higher: (t + 1) / T at step t of T. A control that knows no model.

    A method that ranks steps no better than this has found nothing but that memory fades.

    >>> x = torch.tensor([[4.0], [-3.0], [2.0], [1.0]], dtype=torch.float64)
    >>> ig.attribute(leaky, x, domain="sequences", method="recency").scores.tolist()
    [0.25, 0.5, 0.75, 1.0]
    """

    name = "recency"
    fits = ("sequences",)
    tags = ()

    def attribute(self, task: Task) -> Sequence[Attribution]:
        return [_explained(task, i, self.name, _recency) for i in range(len(task.examples))]


class Energy(Method):
    """The sum of abs(x) over the features of a step. A control that knows no model.

    A method that ranks steps no better than this has found nothing but large values.

    >>> x = torch.tensor([[4.0], [-3.0], [2.0], [1.0]], dtype=torch.float64)
    >>> ig.attribute(leaky, x, domain="sequences", method="energy").scores.tolist()
    [4.0, 3.0, 2.0, 1.0]
    """

    name = "energy"
    fits = ("sequences",)
    tags = ()

    def attribute(self, task: Task) -> Sequence[Attribution]:
        return [_explained(task, i, self.name, _energy) for i in range(len(task.examples))]


# -- how each of them finds its values ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Asked:
    """One sequence with one of its starts, and F at both."""

    task: Task
    example: Example
    name: str
    x: Steps
    start: Steps
    at_input: float


Find = Callable[[_Asked], tuple[Steps, int]]
"""The values from one start, and how many forward passes they took."""


def _left_out(asked: _Asked) -> tuple[Steps, int]:
    x, start = asked.x, asked.start
    moves = x != start
    moving = moves.any(1).nonzero().view(-1)
    values = torch.zeros(x.shape, dtype=torch.float64)
    for some in moving.split(max(1, POINTS // x.numel())) if len(moving) else ():
        points = x.repeat(len(some), 1, 1)
        points[torch.arange(len(some), device=x.device), some] = start[some]
        drop = asked.at_input - _known(asked.task, asked.example, {asked.name: points})
        share = moves[some].cpu().double() / moves[some].sum(1, keepdim=True).cpu()
        values[some.cpu()] = drop[:, None] * share
    return values, len(moving)


def _recency(asked: _Asked) -> tuple[Steps, int]:
    time, features = asked.x.shape
    newer = torch.arange(1, time + 1, dtype=torch.float64) / time
    return newer[:, None].expand(time, features) / features, 0


def _energy(asked: _Asked) -> tuple[Steps, int]:
    return asked.x.detach().to("cpu", torch.float64).abs(), 0


def _explained(task: Task, number: int, method: str, find: Find) -> Attribution:
    example = task.examples[number]
    [(name, x)] = example.inputs.items()
    starts = [start[name].to(x) for start in task.starts[number]]
    try:
        at_input, *at_start = _known(task, example, {name: torch.stack([x, *starts])}).tolist()
        found = [find(_Asked(task, example, name, x, start, at_input)) for start in starts]
    except (ForwardError, NonFiniteError) as error:
        return _failed(task, example, method, error)
    each = [example.parts.reduce({name: values}) for values, _ in found]
    mean = torch.stack([values for values, _ in found]).mean(0)
    at_baseline = sum(at_start) / len(starts)
    return Attribution(
        tensors={name: mean},
        units=example.parts,
        at_input=at_input,
        at_baseline=at_baseline,
        residual=float(mean.sum()) - (at_input - at_baseline),
        spread=torch.stack(each).std(0) if len(each) > 1 else None,
        evaluations=1 + len(starts) + sum(passes for _, passes in found),
        status="one_shot",
        **_facts(task, example, method),
    )


def _known(
    task: Task, example: Example, points: dict[str, Float[Tensor, "points time features"]]
) -> Float[Tensor, " points"]:
    """F at these points.

    Raises:
        NonFiniteError: it is not a number at one of them.
    """
    values = task.values_at(example, points)
    if not bool(values.isfinite().all()):
        told = "at the input, at its baseline or with one step of that"
        raise NonFiniteError(f"the model's output is NaN or infinite {told}")
    return values


def _failed(task: Task, example: Example, method: str, cause: IGError) -> Attribution:
    return Attribution(
        tensors={n: torch.full(x.shape, math.nan).double() for n, x in example.inputs.items()},
        units=example.parts,
        at_input=math.nan,
        at_baseline=math.nan,
        residual=math.nan,
        status="failed",
        reason=str(cause),
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
