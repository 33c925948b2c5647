"""The command ``ig``: attribute one example of a case, run the benchmark, list the plugins.

Exit codes: 0 done; 1 an error of the model or a plugin; 2 a wrong call; 3 cells of the benchmark
failed; 4 nothing matched; 5 a folder is damaged, locked or cannot be written; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import click
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

import ig_core
from ig_core.api import SMALLEST_BUDGET
from ig_core.bench import page
from ig_core.bench.folder import RunFolder, cached
from ig_core.bench.page import number
from ig_core.bench.plan import ALL, SUITES, Cell, Plan, Selection, Settings, environment, missing
from ig_core.bench.plan import plan as planned
from ig_core.bench.runner import Row, finished, opened, run
from ig_core.engine import Progress
from ig_core.errors import IGError, InputError, PluginWarning, StorageError
from ig_core.manager import plugins
from ig_core.report.bar import bar
from ig_core.report.text import clean

SOME_FAILED, NOTHING, STORAGE, INTERRUPTED = 3, 4, 5, 130

LIMITS = {"smoke": 16, "default": 64, "full": None}
"""Examples per case of each suite, where ``--limit`` does not say."""

ProgressKind = Literal["auto", "plain", "none"]


class _Ig(click.Group):
    """Tells our own errors and warnings in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except IGError as error:
            _fail(str(error), _exit_code(error))
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)


class _Bench(click.Group):
    """``ig bench OPTIONS`` is ``ig bench run OPTIONS``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Ig, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ig_core.__version__, prog_name="ig")
def main() -> None:
    """Integrated Gradients with an error estimate on every number."""


@main.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins_command(as_json: bool) -> None:
    """List the plugins, and why one was left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # The table tells the same.
        records = plugins().records
    if as_json:
        click.echo(json.dumps([asdict(record) for record in records], indent=1))
        return
    _table(
        ["name", "distribution", "version", "status", "components", "error"],
        [
            [r.name, r.distribution, r.version, r.status, " ".join(r.components), r.error]
            for r in records
        ],
    )


@main.command()
@click.argument("case")
@click.option("--example", default=0, show_default=True, help="Which example, counted from 0.")
@click.option("--method", default="ig", show_default=True, help="Name of the method.")
@click.option("--html", "file", type=click.Path(path_type=Path), help="Also write a page.")
@click.option("--seed", default=0, show_default=True)
@click.option("--tol", default=1e-2, show_default=True, help="Relative tolerance.")
@click.option("--budget", default=512, show_default=True, help="Gradient evaluations.")
@click.option("--device", help="Where to run the model; where the case puts it by default.")
def attribute(
    case: str,
    example: int,
    method: str,
    file: Path | None,
    seed: int,
    tol: float,
    budget: int,
    device: str | None,
) -> None:
    """Explain one example of the benchmark case CASE (`ig bench list` names them)."""
    manager = plugins()
    chosen = manager.find("case", case)
    kind = manager.find("method", method, chosen.domain)
    settings = _settings(seed=seed, tol=tol, budget=budget, device=device)
    click.echo(_preparing(chosen.name), err=True)
    with _quiet(), opened(chosen, settings) as (_, task):
        if not 0 <= example < len(task.examples):
            raise InputError(
                f"case {case!r} has the examples 0 to {len(task.examples) - 1} (got {example})"
            )
        one = slice(example, example + 1)
        [result] = kind().attribute(
            replace(task, examples=task.examples[one], starts=task.starts[one])
        )
        if result.cause is not None:
            raise result.cause
        _print(result.to_text())
        if file is not None:
            result.to_html(file)


@main.group(cls=_Bench)
def bench() -> None:
    """Run every case under every method, and report.

    `ig bench OPTIONS` is `ig bench run OPTIONS`; `ig bench run --help` lists the options.
    """


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose cells."""
    for option in (
        click.option("--suite", type=click.Choice(list(SUITES)), help="smoke unless --cases."),
        click.option("--metrics", default="*", help="Patterns, as a,b*."),
        click.option("--methods", default="*", help="Patterns, as a,b*."),
        click.option("--domains", default="*", help="Patterns, as a,b*."),
        click.option("--cases", help="Patterns, as a,b*; of every suite, unless --suite."),
    ):
        command = option(command)
    return command


@bench.command("list")
@_selecting
def list_command(**chosen: Any) -> None:
    """List the cases, and whether they can run here."""
    plan = _plan(chosen, Settings())
    _table(
        ["case", "domain", "suite", "real", "available"],
        [
            [
                case.name,
                case.domain,
                " ".join(case.tags),
                "yes" if case.real else "no",
                f"no: pip install '{case.extra}'" if missing(case) else "yes",
            ]
            for case in (cells[0].case for cells in plan.cases.values())
        ],
    )


@bench.command("report")
@click.argument("folder", type=click.Path(path_type=Path), default="runs/smoke")
def report_command(folder: Path) -> None:
    """Write the report of the run in FOLDER anew."""
    page.write(RunFolder(folder))
    click.echo(str(RunFolder(folder).page))


@bench.command("run")
@_selecting
@click.option(
    "--limit", type=click.IntRange(1), help="Examples per case; 16 in smoke, 64 in default."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--tol", default=1e-2, show_default=True, help="Relative tolerance.")
@click.option("--budget", default=512, show_default=True, help="Evaluations per example.")
@click.option("--device", help="Where to run the models; where the cases put them by default.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default="runs/SUITE",
    help="Folder of the run; finished cells in it are kept.",
)
@click.option("--fresh", is_flag=True, help="Forget what is in the folder.")
@click.option("--retry-failed", is_flag=True, help="Run cells again that failed before.")
@click.option("--progress", type=click.Choice(["auto", "plain", "none"]), default="auto")
@click.option("--dry-run", is_flag=True, help="Say what would run; write nothing.")
def run_command(
    limit: int | None,
    seed: int,
    tol: float,
    budget: int,
    device: str | None,
    out: Path | None,
    fresh: bool,
    retry_failed: bool,
    progress: ProgressKind,
    dry_run: bool,
    **chosen: Any,
) -> None:
    """Run the cells that the folder lacks, and write its report.

    A cell is one method on one case. It is kept when it finished under the same settings, code
    and versions; a kill loses at most the cell that was running.
    """
    limit = limit or LIMITS[_suite(chosen)]
    plan = _plan(chosen, _settings(limit=limit, seed=seed, tol=tol, budget=budget, device=device))
    out = out or Path("runs", plan.suite)
    folder = RunFolder(out.absolute())  # A case may change the working folder.
    if dry_run:
        click.echo(f"would write into {clean(str(out))}")
        _show_plan(plan, {} if fresh else finished(folder))
        return
    with folder.locked():
        if fresh:
            folder.clear()
        written = datetime.now(timezone.utc).isoformat(timespec="seconds")
        folder.write(
            {"written": written, "plan": plan.record, "environment": environment(plugins())}
        )
        try:
            with _quiet():
                _run(plan, folder, retry_failed, progress)
        except KeyboardInterrupt:
            page.write(folder)
            _fail("interrupted; finished cells are kept, the same command goes on", INTERRUPTED)
        page.write(folder)
        rows = finished(folder)
    _show(plan, rows)
    click.echo(f"\n{clean(str(out / folder.page.name))}")
    if any(rows[cell.key].status == "failed" for cell in plan.cells):
        sys.exit(SOME_FAILED)


def _settings(
    *, seed: int, tol: float, budget: int, device: str | None, limit: int | None = None
) -> Settings:
    """The settings, once they are such as can be used.

    Raises:
        InputError: they are not.
    """
    if not 0 < tol < 1:
        raise InputError(f"tol must lie between 0 and 1 (got {tol!r})")
    if budget < SMALLEST_BUDGET:
        raise InputError(f"budget must be at least {SMALLEST_BUDGET} (got {budget!r})")
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            first = str(error).partition("\n")[0]
            raise InputError(f"device {device!r} cannot be used: {first}") from error
    return Settings(limit, seed, tol, budget, device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars that frameworks draw while they load, unless the user wants them."""
    name = "HF_HUB_DISABLE_PROGRESS_BARS"
    given = name in os.environ
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if not given:
            os.environ.pop(name, None)


def _preparing(case: str) -> str:
    """What is said when a case begins to load."""
    hint = "" if cached(case) else " (the first time it may train: about a minute)"
    return clean(f"preparing {case}{hint}")


def _suite(chosen: dict[str, Any]) -> Any:
    return chosen["suite"] or ("full" if chosen["cases"] else "smoke")


def _plan(chosen: dict[str, Any], settings: Settings) -> Plan:
    """The plan that the options choose; ends the command where nothing matches."""
    patterns = {
        name: tuple(filter(None, (p.strip() for p in (chosen[name] or "*").split(",")))) or ALL
        for name in ("cases", "methods", "metrics", "domains")
    }
    plan = planned(plugins(), Selection(suite=_suite(chosen), **patterns), settings)
    if plan.unmatched or not plan.cells:
        _fail("; ".join(plan.unmatched) or "no case of this suite matches", NOTHING)
    return plan


def _run(plan: Plan, folder: RunFolder, retry_failed: bool, progress: ProgressKind) -> None:
    """Run the plan and tell how far it has come."""
    kept = finished(folder)
    left = sum(
        (row := kept.get(cell.key)) is None
        or not row.final
        or (retry_failed and row.status == "failed")
        for cell in plan.cells
    )
    if left < len(plan.cells) and progress != "none":
        click.echo(f"{len(plan.cells) - left} of {len(plan.cells)} cells are kept")
    prepared: set[str] = set()
    if progress == "auto" and sys.stdout.isatty():
        with bar(console=_console()) as shown:
            task = shown.add_task("", total=left)

            def watch(cell: Cell, told: Progress | None) -> None:
                if cell.case.name not in prepared:
                    prepared.add(cell.case.name)
                    shown.update(task, description=_preparing(cell.case.name))
                    return
                inner = f" {told.total - told.open}/{told.total}" if told else ""
                name = clean(f"{cell.case.name}  {cell.method.name}")
                shown.update(task, description=name + inner)

            for row in run(plan, folder, retry_failed=retry_failed, watch=watch):
                if row.status != "ok":
                    shown.console.print(Text(_line(row)))
                shown.advance(task)
        return

    def announce(cell: Cell, told: Progress | None) -> None:
        if progress != "none" and cell.case.name not in prepared:
            prepared.add(cell.case.name)
            click.echo(_preparing(cell.case.name))

    for done, row in enumerate(run(plan, folder, retry_failed=retry_failed, watch=announce), 1):
        if progress != "none":
            click.echo(f"[{done}/{left}] {_line(row)}")


def _line(row: Row) -> str:
    seconds = f"  {row.seconds:.2f} s" if row.seconds is not None else ""
    error = f"  {row.error}" if row.error else ""
    return clean(f"{row.case}  {row.method}  {row.status}{seconds}{error}")


def _show_plan(plan: Plan, kept: dict[str, Row]) -> None:
    def fate(cell: Cell) -> str:
        row = kept.get(cell.key)
        if row is not None and row.final:
            return f"kept ({row.status})"
        return "unavailable" if missing(cell.case) else "to run"

    cells = [[c.case.name, c.case.domain, c.method.name, fate(c)] for c in plan.cells]
    _table(["case", "domain", "method", "would be"], cells)


def _show(plan: Plan, rows: dict[str, Row]) -> None:
    """The table of a finished run, and each cause of failure once."""
    metrics = list(dict.fromkeys(m.name for cell in plan.cells for m in cell.metrics))
    mine = [rows[cell.key] for cell in plan.cells]
    click.echo()
    _table(
        ["case", "method", "status", *metrics, "seconds"],
        [
            [
                row.case,
                row.method,
                row.status,
                *(number(row.metrics[m].median) if m in row.metrics else "" for m in metrics),
                number(row.seconds),
            ]
            for row in mine
        ],
        right=len(metrics) + 1,
    )
    for case, error in dict.fromkeys((row.case, row.error) for row in mine if row.error):
        click.echo(clean(f"{case}: {error}"))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> None:
    """A table on a terminal, aligned plain lines elsewhere; no cell can steer the terminal."""
    cells = [[clean(cell) for cell in row] for row in rows]
    first = len(heads) - right
    if sys.stdout.isatty():
        table = Table()
        for position, head in enumerate(heads):
            table.add_column(head, justify="right" if position >= first else "left")
        for row in cells:
            table.add_row(*map(Text, row))
        _console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in (list(heads), *cells):
        padded = (
            cell.rjust(width) if position >= first else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(padded).rstrip())


def _console() -> Console:
    return Console(markup=False, highlight=False, emoji=False)


def _print(text: str) -> None:
    for line in text.splitlines():
        click.echo(clean(line))


def _exit_code(error: IGError) -> int:
    return STORAGE if isinstance(error, StorageError) else 2 if isinstance(error, InputError) else 1


def _fail(message: str, code: int) -> NoReturn:
    """End the command with one clean line on stderr."""
    click.echo(f"ig: {clean(' '.join(message.split()))}", err=True)
    sys.exit(code)


def _show_warning(message: Warning | str, *rest: Any, **more: Any) -> None:
    told = cast(Any, message)
    click.echo(f"ig: warning: {clean(' '.join(str(told).split()))}", err=True)
