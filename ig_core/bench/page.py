"""The page of a run, made from what lies in its folder and nothing else."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ig_core.attribution import ADVICE
from ig_core.bench.chart import chart
from ig_core.bench.folder import RunFolder
from ig_core.bench.runner import DRAWN, Row, finished
from ig_core.files import write_text
from ig_core.report import html

CHARTS = ("removal-area", "completeness")
"""The metrics that are drawn, where the run has them."""

SECONDS = "seconds"

NO_INTEGRAL = "one_shot"
"""The status of what has nothing to converge: told as a dash."""

_WORDS = {"LeRF": "least relevant first", "MoRF": "most relevant first"}

_FIRST = ("text", "graphs", "sequences", "rl")


@dataclass(frozen=True)
class Board:
    """One metric: the median over the cases of a domain, by method and domain."""

    metric: str
    about: str
    better: str
    rows: Mapping[str, Sequence[Entry]]


@dataclass(frozen=True)
class Entry:
    """One number of a board, over how many cases, and whether no method has a better one."""

    value: float | None
    count: int
    best: bool = False


def write(folder: RunFolder) -> None:
    """Write ``report.html``.

    Raises:
        StorageError: the folder holds no run, is damaged or cannot be written.
    """
    write_text(folder.page, page(folder))


def page(folder: RunFolder) -> str:
    """The report of the run in a folder, as one self-contained page."""
    record = folder.read()
    known = finished(folder)
    rows = [known[key] for key in record["plan"]["cells"] if key in known]
    plan = record["plan"]
    methods = [m for m in plan["methods"] if any(r.method == m for r in rows)]
    domains = sorted(dict.fromkeys(case["domain"] for case in plan["cases"]), key=_place)
    seen = {status for row in rows for status in row.statuses}
    body = html.environment().get_template("benchmark.html").render(
        record=record,
        settings=_settings(plan),
        rows=rows,
        counts={s: sum(r.status == s for r in rows) for s in ("ok", "failed", "unavailable")},
        planned=len(plan["cells"]),
        boards=[
            _board(name, metric["about"], metric["higher_is_better"], rows, methods, domains)
            for name, metric in _metrics(plan).items()
        ],
        charts={
            name: Markup(chart(f"{name} by domain and method", values))
            for name in CHARTS
            if (values := _by_domain(name, rows, methods, domains))
        },
        domains={
            domain: [_section(case, rows, folder) for case in plan["cases"]
                     if case["domain"] == domain]
            for domain in domains
        },
        metrics=_metrics(plan),
        faults=_faults(rows),
        drawn=DRAWN,
        number=number,
        integrals=_integrals,
        spelled=_spelled,
        advice={s: told for s, told in ADVICE.items() if s in seen and s != NO_INTEGRAL},
        ran=_ran(record),
    )  # fmt: skip
    style = html.environment().get_template("benchmark.css").render()
    return html.page("Benchmark of attributions", body, style)


def number(value: float | None) -> str:
    """A number for a table: two or three digits that matter, a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        digits = 3 if abs(value) >= 0.1 else 2
        return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.1e}"


def _place(domain: str) -> tuple[bool, int]:
    """What people know best comes first, plain tensors last."""
    return domain == "tensor", _FIRST.index(domain) if domain in _FIRST else len(_FIRST)


def _spelled(about: str) -> str:
    """A line with its abbreviations spelled out, each the first time."""
    for short, long in _WORDS.items():
        about = about.replace(short, f"{short} ({long})", 1)
    return about


def _integrals(statuses: Mapping[str, int]) -> str:
    """How the integrals of a cell ended.

    >>> _integrals({"budget": 2, "converged": 14}), _integrals({"one_shot": 16})
    ('14 converged, 2 budget', '–')
    """
    told = [f"{statuses[s]} {s}" for s in ADVICE if s in statuses and s != NO_INTEGRAL]
    return ", ".join(told) or "\N{EN DASH}"


def _ran(record: Mapping[str, Any]) -> str:
    """When and on what a run ran, and how precisely, in one line."""
    machine, settings = record["environment"], record["plan"]["settings"]
    shown = [
        record["written"][:10],
        f"torch {machine['torch']}",
        *filter(None, [machine.get("accelerator"), machine.get("processor")]),
        f"{machine['cpus']} cores",
        f"tolerance {settings['tol']:g}",
        f"budget {settings['budget']} evaluations an example",
    ]
    return ", ".join(shown)


def _settings(plan: Mapping[str, Any]) -> str:
    settings = plan["settings"]
    limit = settings["limit"]
    shown = [
        f"suite {plan['suite']}",
        f"at most {limit} examples a case" if limit else "all examples of every case",
        f"tolerance {settings['tol']:g}",
        f"budget {settings['budget']} evaluations an example",
        f"seed {settings['seed']}",
        *([f"device {settings['device']}"] if settings["device"] else []),
    ]
    return ", ".join(shown)


def _metrics(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    seconds = {"about": "Wall time of the method on all examples of a case.",
               "higher_is_better": None}  # fmt: skip
    return {**plan["metrics"], SECONDS: seconds}


def _value(row: Row, metric: str) -> float | None:
    if metric == SECONDS:
        return row.seconds
    measure = row.metrics.get(metric)
    return measure.median if measure else None


def _values(metric: str, rows: Iterable[Row], method: str, domain: str) -> list[float]:
    found = (_value(r, metric) for r in rows if r.method == method and r.domain == domain)
    return [value for value in found if value is not None]


def _board(
    metric: str,
    about: str,
    higher: bool | None,
    rows: Sequence[Row],
    methods: Sequence[str],
    domains: Sequence[str],
) -> Board:
    entries: dict[str, list[Entry]] = {method: [] for method in methods}
    for domain in domains:
        found = {m: _values(metric, rows, m, domain) for m in methods}
        medians = {m: statistics.median(v) for m, v in found.items() if v}
        best = None
        if higher is not None and medians:
            best = (max if higher else min)(medians.values())
        for method in methods:
            value = medians.get(method)
            is_best = best is not None and value == best
            entries[method].append(Entry(value, len(found[method]), is_best))
    better = {True: "higher is better", False: "lower is better", None: "for information"}[higher]
    return Board(metric, about, better, entries)


def _by_domain(
    metric: str, rows: Sequence[Row], methods: Sequence[str], domains: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    drawn = {}
    for domain in domains:
        found = {m: _values(metric, rows, m, domain) for m in methods}
        if own := {m: v for m, v in found.items() if v}:
            drawn[domain] = own
    return drawn


def _section(case: Mapping[str, Any], rows: Sequence[Row], folder: RunFolder) -> dict[str, Any]:
    own = [row for row in rows if row.case == case["name"]]
    drawn = next((row.key for row in own if row.method == DRAWN), None)
    pictures = folder.fragments(drawn) if drawn else {}
    return {
        **case,
        "rows": own,
        "value": _value,
        "facts": next((row.facts for row in own if row.facts), {}),
        "pictures": {number: Markup(fragment) for number, fragment in pictures.items()},
    }


def _faults(rows: Sequence[Row]) -> list[dict[str, str]]:
    """What did not run, each cause once: a case that does not load fails all of its cells."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            told.setdefault((row.case, row.status, row.error), []).append(row.method)
    return [
        {"case": case, "status": status, "error": error, "methods": ", ".join(methods)}
        for (case, status, error), methods in told.items()
    ]
