"""Paths of sequences: one step after another, and what each path is complete for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import Attribution, Example, InputError, Straight, Task

Inputs = Mapping[str, Float[Tensor, "time features"]]


class TimeOrdered(Straight):
    """One step after another, from the oldest to the newest, each on a straight leg of its own.

    While step t moves, all older steps are at the input already and all newer ones still at the
    baseline. Hence its values sum to what its arrival changes, with nothing after it known::

        F(x_1 .. x_t, x'_t+1 .. x'_T) - F(x_1 .. x_t-1, x'_t .. x'_T)

    On the straight path steps share what they do together; here it is owed to the one of them that
    moves last. ``newest_first=True`` goes the other way: a step then gets what it adds to its own
    future. A step that does not move gets exactly 0. F between the legs is in
    ``result.display["prefixes"]``, F(x') first, averaged over several starts.

    Sequences of more than ``most_legs`` steps move in that many groups of consecutive steps, equal
    in size up to one: a group sums to its own difference, inside it the path is straight. A leg
    costs gradients of the whole sequence, which are held together: five at least, eleven where
    the model has kinks. ``budget`` is for all legs together: with kinks raise it for more than 40.

    >>> x = torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    >>> product = lambda x: x[:, 0, 0] * x[:, 1, 0]
    >>> for path in ("straight", "time-ordered", TimeOrdered(newest_first=True)):
    ...     result = ig.attribute(product, x, domain="sequences", path=path)
    ...     print([round(v, 6) for v in result.scores.tolist()])
    [3.0, 3.0]
    [0.0, 6.0]
    [6.0, 0.0]

    Raises:
        InputError: ``most_legs`` is no whole number from 1.
    """

    name = "time-ordered"
    fits = ("sequences",)

    def __init__(self, newest_first: bool = False, most_legs: int = 64) -> None:
        if isinstance(most_legs, bool) or not isinstance(most_legs, int) or most_legs < 1:
            raise InputError(f"most_legs must be a whole number of at least 1 (got {most_legs!r})")
        self.newest_first = newest_first
        self.most_legs = most_legs

    def legs(self, example: Example, start: Inputs) -> Sequence[tuple[Inputs, Inputs]]:
        [(name, stops)] = self.stops(example, start).items()
        legs: list[tuple[Inputs, Inputs]] = [
            ({name: before}, {name: after})
            for before, after in itertools.pairwise(stops)
            if not torch.equal(before, after)
        ]
        return legs or [(start, example.inputs)]

    def stops(self, example: Example, start: Inputs) -> dict[str, Float[Tensor, "stops time f"]]:
        """Where legs begin and end, the baseline first: one more than there are groups."""
        [(name, x)] = example.inputs.items()
        turn = self.turns(len(x)).to(x.device)
        stop = torch.arange(int(turn.max()) + 2, device=x.device)
        arrived = turn[None, :, None] < stop[:, None, None]
        return {name: torch.where(arrived, x, start[name].to(x.device))}

    def turns(self, time: int) -> Int[Tensor, " time"]:
        """When each step moves: the number of its group, from 0."""
        groups = min(time, self.most_legs)
        turn = torch.arange(time) * groups // time
        return turn.flip(0) if self.newest_first else turn


def told(task: Task, results: Sequence[Attribution]) -> list[Attribution]:
    """Results that say what their path is complete for; of a path in time, F at every stop.

    Methods that promise no sum say nothing.
    """
    promised = [result.status not in ("failed", "one_shot") for result in results]
    return [
        _told(task, number, result) if promised[number] else result
        for number, result in enumerate(results)
    ]


def _told(task: Task, number: int, result: Attribution) -> Attribution:
    if not isinstance(task.path, TimeOrdered):
        return _with_fact(result, "all steps sum to F(x) - F(x')")
    example, starts = task.examples[number], task.starts[number]
    [values] = result.tensors.values()
    each = [task.values_at(example, task.path.stops(example, start)) for start in starts]
    prefixes = torch.stack(each).mean(0)
    turn = task.path.turns(len(values))
    sums = torch.zeros(len(prefixes) - 1, dtype=torch.float64)
    sums.index_add_(0, turn, values.double().sum(1))
    missed = float((sums - prefixes.diff()).abs().max())
    size = int(torch.bincount(turn).max())
    what = "step" if size == 1 else f"group of up to {size} steps"
    order = "newest" if task.path.newest_first else "oldest"
    fact = (
        f"every {what} sums to its own difference of F, {order} first; "
        f"largest residual of a {what.partition(' ')[0]} {missed:.2g}"
    )
    return _with_fact(result, fact, prefixes=prefixes.tolist())


def _with_fact(result: Attribution, fact: str, **more: list[float]) -> Attribution:
    facts = {
        "baseline": str(result.provenance["baseline"]),
        **result.display.get("facts", {}),
        "completeness": fact,
    }
    return replace(result, display={**result.display, **more, "facts": facts})
