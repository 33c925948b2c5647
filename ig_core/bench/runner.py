"""The runner: a case loads once, a cell becomes a row, and no fault of one ends the others."""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ig_core.api import prepare
from ig_core.attribution import Attribution
from ig_core.bench.folder import RunFolder, case_folder
from ig_core.bench.plan import Cell, Plan, Settings, missing
from ig_core.case import BenchmarkCase, Loaded
from ig_core.engine import Progress
from ig_core.errors import InputError, MissingFrameworkError, OutputError, StorageError
from ig_core.manager import plugins
from ig_core.methods import Task
from ig_core.metrics import Game, Metric
from ig_core.model_state import prepared

RowStatus = Literal["ok", "failed", "unavailable"]

DRAWN = "ig"
"""The method whose first attributions are kept and drawn."""

MOST_DRAWN = 3

Watch = Callable[[Cell, Progress | None], None]
"""Is told when a cell begins, and then how far its method has come."""


@dataclass(frozen=True)
class Measure:
    """One metric on one cell: per example, None where undefined, and the median of the ``n`` rest.

    >>> Measure.of([0.1, float("nan"), 0.3])
    Measure(median=0.2, n=2, values=(0.1, None, 0.3))
    """

    median: float | None
    n: int
    values: Sequence[float | None]

    @classmethod
    def of(cls, values: Sequence[float]) -> Measure:
        """The measure of these numbers."""
        defined = [value for value in values if math.isfinite(value)]
        median = statistics.median(defined) if defined else None
        return cls(median, len(defined), tuple(v if math.isfinite(v) else None for v in values))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one cell; a line of the journal.

    ``statuses`` counts the attributions by their status, ``seconds`` is the wall time of the
    method alone, ``facts`` is what the case tells of itself.
    """

    key: str
    case: str
    domain: str
    method: str
    status: RowStatus
    error: str = ""
    examples: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    seconds: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether resuming keeps it; a missing package may be there the next time."""
        return self.status != "unavailable"


def finished(folder: RunFolder) -> dict[str, Row]:
    """The rows in a run's journal by key; of two with one key the later counts.

    Raises:
        StorageError: the journal is damaged, or another version wrote it.
    """
    found = {}
    for record in folder.journal.rows():
        try:
            metrics = {name: Measure(**m) for name, m in record.pop("metrics").items()}
            row = Row(**record, metrics=metrics)
        except (TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"{str(folder.journal.path)!r} was written by another version of ig_core "
                f"({error}); --fresh starts anew"
            ) from error
        found[row.key] = row
    return found


def run(
    plan: Plan, folder: RunFolder, *, retry_failed: bool = False, watch: Watch | None = None
) -> Iterator[Row]:
    """Run the cells that the locked folder lacks; yield each row when it is on the disk.

    Raises:
        StorageError: the folder is damaged or cannot be written.
    """
    folder.journal.mend()
    before = finished(folder)
    for cells in plan.cases.values():
        rows = [(cell, before.get(cell.key)) for cell in cells]
        left = [
            cell
            for cell, row in rows
            if row is None or not row.final or (retry_failed and row.status == "failed")
        ]
        for row in _case(left, plan.settings, folder, watch or _unwatched) if left else ():
            if before.get(row.key) != row:
                folder.journal.append(asdict(row))
            yield row


@contextmanager
def opened(case: BenchmarkCase, settings: Settings) -> Iterator[tuple[Loaded, Task]]:
    """A loaded case and the task of explaining its examples, with the model prepared inside.

    Raises:
        MissingFrameworkError: a package that the case requires is missing.
    """
    if absent := missing(case):
        raise MissingFrameworkError(
            f"case {case.name!r} needs {', '.join(absent)}: pip install '{case.extra}'"
        )
    kind = plugins().domain(case.domain)
    with prepared([]), _staying():
        _seed(0)
        with case_folder(case.name) as cache:
            loaded = case.load(cache)
    domain = kind(loaded.model, **loaded.options)
    if settings.device is not None:
        for module in domain.modules():
            module.to(settings.device)
    parts = domain.split(loaded.inputs)
    with domain.prepared():
        task = prepare(
            domain,
            list(loaded.inputs) if parts is None else parts,
            target=loaded.targets,
            baseline=loaded.baseline,
            tol=settings.tol,
            budget=settings.budget,
            seed=settings.seed,
        )
        if not task.examples:
            raise InputError(f"case {case.name!r} has no example")
        yield (
            loaded,
            replace(
                task, examples=task.examples[: settings.limit], starts=task.starts[: settings.limit]
            ),
        )


@contextmanager
def _staying() -> Iterator[None]:
    """Come back to the working folder, which a stranger's code may leave."""
    here = Path.cwd()
    try:
        yield
    finally:
        os.chdir(here)


def told(error: BaseException) -> str:
    """An error in one line, without the user's folders."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    for folder, short in ((Path.cwd(), "."), (Path.home(), "~")):
        if folder != Path(folder.anchor):
            line = line.replace(str(folder), short)
    return line[:2000]


def _case(
    cells: Sequence[Cell], settings: Settings, folder: RunFolder, watch: Watch
) -> Iterator[Row]:
    """The rows of some cells of one case."""
    watch(cells[0], None)
    with ExitStack() as stack:
        try:
            loaded, task = stack.enter_context(opened(cells[0].case, settings))
            facts = {str(name): _fact(fact) for name, fact in loaded.facts.items()}
            games = [Game(task, i, settings.seed) for i in range(len(task.examples))]
            _warm(games[0])
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Even sys.exit() ends no run.
            for cell in cells:
                yield _unopened(cell, error)
            return
        for cell in cells:
            watch(cell, None)
            row, results = _cell(cell, task, games, watch)
            if cell.method.name == DRAWN:
                row = _draw(row, task, results, folder)
            yield replace(row, facts=facts)


def _unopened(cell: Cell, error: BaseException) -> Row:
    if isinstance(error, MissingFrameworkError):
        return _row(cell, status="unavailable", error=str(error))
    return _row(cell, status="failed", error=f"the case does not load: {told(error)}")


@_staying()
def _cell(
    cell: Cell, task: Task, games: Sequence[Game], watch: Watch
) -> tuple[Row, Sequence[Attribution]]:
    """One method on the examples of one case."""
    watched = replace(task, progress=lambda progress: watch(cell, progress))
    try:
        with prepared([]):
            _seed(task.seed)
            begun = time.perf_counter()
            results = list(cell.method().attribute(watched))
            if task.device.type == "cuda":
                torch.cuda.synchronize(task.device)
            seconds = time.perf_counter() - begun
        _check(cell, results, len(task.examples))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _row(cell, status="failed", error=told(error), examples=len(games)), []
    faults = [a.reason or "no reason given" for a in results if a.status == "failed"]
    errors = [f"every example failed: {faults[0]}"] if len(faults) == len(results) else []
    measures = {}
    for metric in cell.metrics:
        try:
            measures[metric.name] = _measure(metric(), results, games)
        except KeyboardInterrupt:  # noqa: PERF203 - one metric must not cost the others
            raise
        except BaseException as error:
            errors.append(f"metric {metric.name!r} raised {told(error)}")
    row = _row(
        cell,
        status="failed" if errors else "ok",
        error="; ".join(errors),
        examples=len(results),
        statuses=dict(Counter(a.status for a in results)),
        metrics=measures,
        seconds=seconds,
    )
    return row, results


def _measure(metric: Metric, results: Sequence[Attribution], games: Sequence[Game]) -> Measure:
    return Measure.of(
        [
            math.nan if a.status == "failed" else float(metric.measure(a, game))
            for a, game in zip(results, games, strict=True)
        ]
    )


@_staying()
def _draw(row: Row, task: Task, results: Sequence[Attribution], folder: RunFolder) -> Row:
    """Keep some attributions with their drawings; what cannot be drawn fails the cell."""
    try:
        with task.domain.prepared():
            results = list(task.domain.finish(task, results)) if results else []
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = f"the domain could not complete the results: {told(error)}"
        row = replace(row, status="failed", error="; ".join(filter(None, [row.error, fault])))
    for number, attribution in enumerate(results[:MOST_DRAWN]):
        if attribution.status == "failed":
            continue
        try:
            fragment = attribution._repr_html_()
            folder.keep(row.key, number, attribution, fragment)
        except (StorageError, KeyboardInterrupt):
            raise
        except BaseException as error:
            fault = f"example {number} could not be drawn and kept: {told(error)}"
            row = replace(row, status="failed", error="; ".join(filter(None, [row.error, fault])))
    return row


def _check(cell: Cell, results: Sequence[Any], expected: int) -> None:
    got = [type(a).__name__ for a in results if not isinstance(a, Attribution)]
    if got or len(results) != expected:
        raise OutputError(
            f"method {cell.method.name!r} must give one Attribution for each of {expected} "
            f"examples (got {len(results)}{', among them ' + got[0] if got else ''})"
        )


def _row(cell: Cell, **known: Any) -> Row:
    return Row(
        key=cell.key,
        case=cell.case.name,
        domain=cell.case.domain,
        method=cell.method.name,
        **known,
    )


def _fact(fact: Any) -> str:
    """A fact of a case in words.

    >>> _fact({"n": 3, "accuracy": 0.98765})
    'n: 3, accuracy: 0.9877'
    """
    if isinstance(fact, Mapping):
        return ", ".join(f"{name}: {_fact(value)}" for name, value in fact.items())
    return f"{fact:.4g}" if isinstance(fact, float) else str(fact)


def _warm(game: Game) -> None:
    """Run the model once, so that the first method does not pay for what torch does only once."""
    with suppress(Exception, SystemExit):  # The cells meet the same fault, and tell it.
        game.value(torch.zeros(1, len(game.task.examples[game.position].parts), dtype=torch.bool))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _unwatched(cell: Cell, progress: Progress | None) -> None:
    pass
