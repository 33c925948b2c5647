"""Results are what is known of paths that are done, Integrals what that says of an example."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core.leaves import join, pick, worst_first
from ig_core.quadrature import Outcome, Status, Troubles
from ig_core.rows import Space

SUM_ONLY = (
    "the estimated error of the values passes, and only their sum misses F(x) - F(x'), which is "
    "small beside them"
)
"""What is said of a path that did not converge for its sum alone."""


@dataclass(frozen=True, eq=False)
class Trouble:
    """One row of :class:`Troubles`, with ``doubt`` shaped like the inputs."""

    leg: int
    start: float
    end: float
    share: float
    doubt: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Integral:
    """What the engine knows about one example: the mean over its starts.

    ``per_start`` holds the values of each start where there are several, ``worst`` the worst leaves
    of the start with the largest error that did not converge, the worst first.
    """

    values: Mapping[str, Tensor]
    at_input: float
    at_baseline: float
    residual: float
    error: float
    uncertainty: Mapping[str, Tensor]
    evaluations: int
    status: Status
    reason: str = ""
    cause: Exception | None = None
    per_start: Sequence[Mapping[str, Tensor]] = ()
    worst: Sequence[Trouble] = ()


class Results:
    """The integrals of the paths that are done, one row each."""

    def __init__(self, space: Space, paths: int) -> None:
        self.space = space
        self.done = torch.zeros(paths, dtype=torch.bool)
        self.integral = space.zeros(paths)
        self.doubt: Tensor | None = None
        self.error = torch.zeros(paths, dtype=torch.float64)
        self.status: list[Status] = ["budget"] * paths
        self.note: dict[int, str] = {}
        self.sum_only = torch.zeros(paths, dtype=torch.bool)
        self.worst: list[Troubles] = []

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
        if outcome.sum_only:
            self.sum_only[outcome.done] = torch.tensor(outcome.sum_only)
        if outcome.worst is not None:
            self.worst.append(replace(outcome.worst, row=outcome.done[outcome.worst.row]))
        for path, status in zip(outcome.done.tolist(), outcome.status, strict=True):
            self.status[path] = status

    def integrals(
        self,
        at_start: Float[Tensor, " paths"],
        at_end: Float[Tensor, " paths"],
        example: Int[Tensor, " paths"],
        spent: Int[Tensor, " paths"],
        failures: Mapping[int, Exception],
        dtypes: Mapping[str, torch.dtype],
        remark: str,
        tol: float,
    ) -> Iterator[Integral]:
        """The mean over the starts of every example, in order.

        ``example`` and ``failures`` are by path; every result is given ``remark``.
        """
        count = torch.bincount(example)
        first = torch.searchsorted(example, torch.arange(len(count)))
        several = bool((count > 1).any())

        def total(per_path: Tensor) -> Tensor:
            zero = per_path.new_zeros(len(count), *per_path.shape[1:])
            return zero.index_add_(0, example.to(per_path.device), per_path)

        def mean(per_path: Tensor) -> Tensor:
            if not several:
                return per_path
            shape = (-1, *(1,) * (per_path.dim() - 1))
            return total(per_path) / count.to(per_path.device).view(shape)

        failed = {int(example[p]): failures[p] for p in sorted(failures, reverse=True)}
        vectors = mean(self.integral)
        vectors[list(failed)] = torch.nan
        dtypes = {n: _result_dtype(dtype) for n, dtype in dtypes.items()}
        firsts = first.tolist()
        values = self.space.tensors(vectors, firsts, dtypes)
        size = vectors.abs().sum(1).cpu()
        begin, end, error = mean(at_start), at_end[first], mean(self.error)
        residual = mean(self.integral.sum(1).cpu()) - (end - begin)
        relative = torch.where(size > 0, error / size, error)
        cancels = (count > 1) & (error > tol * size)
        doubt: Sequence[Mapping[str, Tensor]] = [{}] * len(count)
        if self.doubt is not None:
            doubt = self.space.tensors(mean(self.doubt), firsts)
        per_start = self.space.tensors(self.integral, range(len(example))) if several else []
        worst = self._worst(example)
        spent = total(spent)
        columns = (begin, end, residual, relative, size == 0, cancels, spent, first, count)
        for number, row in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            at_baseline, at_input, left, wrong, nothing, cancelled, evaluations, path, starts = row
            if (failure := failed.get(number)) is not None:
                yield Integral(
                    values[number], at_input, at_baseline, math.nan, math.nan, {}, evaluations,
                    "failed", str(failure), failure,
                )  # fmt: skip
                continue
            own = self.status[path : path + starts]
            status = own[0] if starts == 1 else _least(own)
            note = self.note.get(path, "") if nothing else ""
            if (
                not nothing
                and status == "budget"
                and bool(self.sum_only[path : path + starts].any())
            ):
                note = SUM_ONLY
            if cancelled and status == "converged":
                status, note = "budget", "each start met the tolerance, but their mean cancels"
            yield Integral(
                values[number], at_input, at_baseline, left, wrong, doubt[number], evaluations,
                status, "; ".join(filter(None, (note, remark))),
                per_start=per_start[path : path + starts] if starts > 1 else (),
                worst=worst.get(number, ()),
            )  # fmt: skip

    def _worst(self, example: Int[Tensor, " paths"]) -> Mapping[int, Sequence[Trouble]]:
        """The worst leaves of every example that has any, of that start which is furthest off."""
        found: dict[int, list[Trouble]] = {}
        if self.worst:
            table = reduce(join, self.worst)
            own = example[table.row]
            order = worst_first(own, self.error[table.row])
            path = table.row[order]
            order = order[path == path[torch.searchsorted(own[order], own[order])]]
            table = pick(table, order)
            columns = (own[order], table.leg, table.start, table.end, table.share)
            told = zip(*(c.tolist() for c in columns), strict=True)
            doubts = self.space.tensors(table.doubt, table.row.tolist())
            for (number, leg, start, end, share), doubt in zip(told, doubts, strict=True):
                found.setdefault(number, []).append(Trouble(leg, start, end, share, doubt))
        return found


def _least(statuses: Sequence[Status]) -> Status:
    order: tuple[Status, ...] = ("budget", "noise_floor", "converged")
    return next(status for status in order if status in statuses)


def _result_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
