"""The benchmark suite: evaluations and time at equal true error, against Captum.

``make perf`` prints it, as Markdown. For every function and tolerance there is what the adaptive
rule spent, and what Captum spends with (a) the best fixed n, known from the truth, (b) n doubled
until two sums agree and the residual passes, and (c) n doubled until the residual passes; and how
often each was wrong: done by its own word, with a true error above the tolerance.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from function import Entry, Function
from functions import FUNCTIONS, UNTOUCHED
from peers import (
    DOUBLED,
    LADDER,
    Stopped,
    against_captum,
    best_fixed,
    captum_doubled,
    captum_sum,
    stopped,
)
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from truth import Truth, truth

import ig_core as ig

TOLERANCES = (1e-2, 1e-3, 1e-4)
TIMED_SECONDS = 5.0
"""A pair of timed runs takes as many examples as fit into this."""
TURNS = 3
SAME = 2e-5
"""How closely our fixed sums must be Captum's in float32."""


@dataclass(frozen=True, eq=False)
class Row:
    """One function at one tolerance; times are processor time divided by ours."""

    entry: Entry
    tol: float
    ours: Stopped
    fixed: int | None
    most: int
    doubled: Stopped
    residual: Stopped
    time_fixed: float | None = None
    time_doubled: float | None = None

    def over_ours(self, cost: float) -> float:
        return cost / float(self.ours.cost.double().mean())


def ours(function: Function, tol: float, budget: int) -> list[ig.Attribution]:
    inputs, starts = (
        one[0] if len(one) == 1 else one for one in (function.inputs, function.starts)
    )
    return ig.attribute(
        function.model, inputs, domain="tensor", baseline=starts, per_example=function.extras,
        tol=tol, budget=budget,
    )  # fmt: skip


def judged(function: Function, found: Sequence[ig.Attribution], exact: Truth) -> Stopped:
    values = torch.stack(
        [torch.cat([one.double().flatten() for one in a.tensors.values()]) for a in found]
    )
    return Stopped(
        torch.tensor([a.evaluations for a in found]),
        torch.tensor([a.status == "converged" for a in found]),
        exact.errors(values),
        sum(a.status == "noise_floor" for a in found),
    )


def measure(
    entry: Entry, function: Function, timed: bool, tell: Callable[[str], None]
) -> list[Row]:
    """All tolerances of one function."""
    tell("truth")
    exact = truth(function)
    most_fixed, most = (LADDER[-1], DOUBLED[-1]) if function.exact else (500, 800)
    tell("Captum's sums")
    fixed = best_fixed(function, exact, TOLERANCES, most_fixed)
    doubled, residual = stopped(function, exact, TOLERANCES, most)
    rows = []
    for tol in TOLERANCES:
        tell(f"ours, {tol:g}")
        begin = time.process_time()
        found = judged(function, ours(function, tol, most), exact)
        each = (time.process_time() - begin) / float(found.cost.sum())
        row = Row(entry, tol, found, fixed[tol], most_fixed, doubled[tol], residual[tol])
        if timed:
            tell(f"time, {tol:g}")
            row = with_times(row, function, each, most)
        rows.append(row)
    return rows


def with_times(row: Row, function: Function, each: float, most: int) -> Row:
    """Paired runs, in turns, on as many examples as time allows; ``each`` is seconds a gradient."""

    def ratio(cost: float, other: Callable[[Function], object]) -> float:
        spent = each * (float(row.ours.cost.double().mean()) + cost)
        some = function.some(torch.arange(max(1, min(len(function), int(TIMED_SECONDS / spent)))))
        short = spent * len(some) * TURNS < TIMED_SECONDS
        runs = (lambda: ours(some, row.tol, most), lambda: other(some))
        found = []
        for turn in range(TURNS if short else 1):
            first, second = (seconds(run) for run in (runs if turn % 2 else runs[::-1]))
            found.append(second / first if turn % 2 else first / second)
        return statistics.median(found)

    n = row.fixed
    return Row(
        row.entry, row.tol, row.ours, n, row.most, row.doubled, row.residual,
        None if n is None else ratio(n, lambda some: captum_sum(some, n)),
        ratio(
            float(row.doubled.cost.double().mean()),
            lambda some: captum_doubled(some, row.tol, most),
        ),
    )  # fmt: skip


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


# -- what is printed ------------------------------------------------------------------------------

COSTS = (
    "function", "tol", "ours", "(a) n", "(b)", "(c)", "(a) / ours", "(b) / ours", "(c) / ours",
    "time (a) / ours", "time (b) / ours",
)  # fmt: skip
WRONG = ("function", "tol", "truth to", "ours", "(b)", "(c)")


def header(columns: Sequence[str]) -> str:
    return line(columns) + "\n" + line(["---"] * len(columns))


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def costs(row: Row) -> str:
    def times(value: float | None, open_: bool = False) -> str:
        return "-" if value is None else f"{'>' if open_ else ''}{value:.{2 if value < 10 else 0}f}"

    known = row.fixed is not None
    means = [float(one.cost.double().mean()) for one in (row.doubled, row.residual)]
    opened = [not bool(one.claimed.all()) for one in (row.doubled, row.residual)]
    return line([
        row.entry.name, f"{row.tol:g}", spent(row.ours),
        str(row.fixed) if known else f">{row.most}", spent(row.doubled), spent(row.residual),
        times(row.over_ours(row.fixed if row.fixed is not None else row.most), not known),
        *(times(row.over_ours(mean), open_) for mean, open_ in zip(means, opened, strict=True)),
        times(row.time_fixed), times(row.time_doubled, opened[0]),
    ])  # fmt: skip


def spent(one: Stopped) -> str:
    """Median / worst / mean, and how many were not done, or stopped at the noise of the dtype."""
    cost = one.cost.double()
    left = int((~one.claimed).sum()) - one.floor
    told = f"{float(cost.median()):.0f} / {float(cost.max()):.0f} / {float(cost.mean()):.0f}"
    return told + "".join(
        f", {count} {word}" for count, word in ((left, "open"), (one.floor, "floor")) if count
    )


def wrongs(row: Row, spread: float) -> str:
    return line([
        row.entry.name, f"{row.tol:g}", f"{spread:.0e}",
        *(wrong(one, row.tol) for one in (row.ours, row.doubled, row.residual)),
    ])  # fmt: skip


def wrong(one: Stopped, tol: float) -> str:
    """How many of those that claim to be done are not, and the worst error in tolerances."""
    claimed = one.error[one.claimed] / tol
    missed = int((claimed > 1).sum())
    return f"{missed} of {len(claimed)}" + (f" ({float(claimed.max()):.2g})" if missed else "")


@dataclass(frozen=True)
class Bar:
    """What the project wants of the rows of some functions at some tolerance."""

    told: str
    wanted: float
    chosen: Callable[[Row], bool]
    value: Callable[[Row], float]
    at_most: bool = False

    def verdict(self, rows: Sequence[Row]) -> str | None:
        found = [(self.value(row), row) for row in rows if self.chosen(row)]
        if not found:
            return None
        pick = max if self.at_most else min
        value, row = pick(found, key=lambda one: one[0])
        met = value <= self.wanted if self.at_most else value >= self.wanted
        sign = "<=" if self.at_most else ">="
        return line([
            self.told, f"{sign} {self.wanted:g}", f"{value:.2f} ({row.entry.name}, {row.tol:g})",
            "met" if met else "**missed**",
        ])  # fmt: skip


def doubling(row: Row) -> float:
    return row.over_ours(float(row.doubled.cost.double().mean()))


def fixing(row: Row) -> float:
    return row.over_ours(row.most if row.fixed is None else row.fixed)


def of(*families: str) -> Callable[[Row], bool]:
    return lambda row: row.tol == 1e-3 and row.entry.family in families


BARS = (
    Bar("(b) / ours, transformers, 1e-3", 2, of("transformer"), doubling),
    Bar("(b) / ours, recurrent, 1e-3", 5, of("recurrent"), doubling),
    Bar("(b) / ours, piecewise linear, 1e-3", 10, of("piecewise linear"), doubling),
    Bar("(a) / ours, transformers, 1e-3", 1.5, of("transformer"), fixing),
    Bar("(a) / ours, recurrent, 1e-3", 7, of("recurrent"), fixing),
    Bar(
        "(a) / ours, DQN, 1e-3", 20, lambda row: row.tol == 1e-3 and "DQN" in row.entry.name, fixing
    ),
    Bar(
        "ours / (a), easy and smooth, any tolerance", 1.3,
        lambda row: row.entry.easy and row.fixed is not None,
        lambda row: 1 / fixing(row), at_most=True,
    ),
)  # fmt: skip


def verdicts(rows: Sequence[Row], untouched: bool) -> Iterable[str]:
    yield header(("bar", "wanted", "worst", ""))
    yield from filter(None, (bar.verdict(rows) for bar in BARS))
    if untouched:
        missed = sum(
            int((r.ours.error[r.ours.claimed] > 1e-2).sum()) for r in rows if r.tol == 1e-2
        )
        yield line(["wrong at 1e-2", "0", f"{missed}", "**missed**" if missed else "met"])
    every = torch.cat([row.ours.error[row.ours.claimed] / row.tol for row in rows])
    share, worst = float((every > 1).double().mean()), float(every.max())
    met = ("met" if share <= 0.02 else "**missed**", "met" if worst <= 3 else "**missed**")
    yield line(
        ["wrong, of all that say converged", "<= 2 %", f"{share:.2%} of {len(every)}", met[0]]
    )
    yield line(["worst of them, in tolerances", "<= 3", f"{worst:.2g}", met[1]])


def main() -> None:
    asked = arguments()
    warnings.simplefilter("ignore")  # The tables say what was missed.
    torch.set_num_threads(1)
    entries = UNTOUCHED if asked.untouched else FUNCTIONS
    if unknown := [name for name in asked.only if not any(name in one for one in entries)]:
        raise SystemExit(f"no function is called {unknown[0]!r}; there are {', '.join(entries)}")
    told = Console(stderr=True)
    rows: list[Row] = []
    second: list[str] = []
    closest, skipped = 0.0, []
    print(header(COSTS), flush=True)
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=told, transient=True) as progress:
        for entry in entries.values():
            if asked.only and not any(name in entry.name for name in asked.only):
                continue
            if lacking := [one for one in entry.requires if importlib.util.find_spec(one) is None]:
                skipped.append(f"{entry.name} (needs {', '.join(lacking)})")
                continue
            task = progress.add_task(entry.name)

            def tell(stage: str, task=task, entry=entry) -> None:
                progress.update(task, description=f"{entry.name}: {stage}")

            tell("building")
            function = entry.build()
            function = function.some(torch.arange(min(asked.examples, len(function))))
            function = function.to(torch.float64) if asked.double and function.exact else function
            closest = max(closest, against_captum(function))
            found = measure(entry, function, not asked.quick, tell)
            spread = float(truth(function).spread.max())
            second += [wrongs(row, spread) for row in found]
            rows += found
            progress.remove_task(task)
            progress.console.print(f"{entry.name}: done", style="dim")
            for row in found:
                print(costs(row), flush=True)
    print(f"\n{header(WRONG)}")
    print(*second, sep="\n")
    if rows:
        print()
        print(*verdicts(rows, asked.untouched), sep="\n")
    print(
        f"\nFixed sums equal Captum's to {closest:.1e} (largest relative L1 difference at n = 24)."
    )
    for one in skipped:
        print(f"Skipped: {one}.")
    if not asked.double and closest > SAME:
        raise SystemExit("the fixed sums are not Captum's")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts of names")
    parser.add_argument("--examples", type=int, default=1000, help="at most so many of each")
    parser.add_argument("--quick", action="store_true", help="no times, at most 4 examples")
    parser.add_argument("--double", action="store_true", help="float64 where it can be had")
    parser.add_argument("--untouched", action="store_true", help="the functions kept apart")
    asked = parser.parse_args()
    asked.examples = min(asked.examples, 4) if asked.quick else asked.examples
    return asked


if __name__ == "__main__":
    main()
