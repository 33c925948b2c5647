"""Faithfulness: what becomes of an output without the steps that a method ranks first."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, InputError, Method, Table, page, plain_number, plain_numbers
from ig_sequences import removal, view
from ig_sequences.margins import batch_of, domain_of, margins_of
from ig_sequences.needed import scipy

PARTS = (0.05, 0.1, 0.2, 0.5)
"""Parts of the steps that are removed."""

CONTROLS = ("occlusion", "recency", "energy", "random")
"""Methods that every table shows: nearly the ceiling, what knows no model, and the floor."""

Drops = Float[np.ndarray, "removals rankings sequences parts"]


@dataclass(frozen=True)
class FaithfulnessRow:
    """The mean drops of one ranking under one way of removing, each with its standard error.

    ``drops`` and ``errors`` have an entry for each part; ``evaluations`` is the mean cost of one
    sequence.
    """

    ranking: str
    removed: str
    drops: tuple[float, ...]
    errors: tuple[float, ...]
    evaluations: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Faithfulness:
    """How much of the explained number hangs on the steps that each method ranks first.

    ``drops[r, m, i, p]`` is what F of sequence i falls by when part ``parts[p]`` of its steps, the
    first in ranking m, are removed the way of ``removals[r]``; see :func:`faithfulness`. NaN on
    sequences that some method could not explain, which count for none. ``outputs`` are F(x).
    """

    rankings: Sequence[str]
    removals: Sequence[str]
    parts: Sequence[float]
    drops: Drops
    evaluations: Float[np.ndarray, "rankings sequences"]
    outputs: Float[np.ndarray, " sequences"]
    explained: str

    @property
    def rows(self) -> list[FaithfulnessRow]:
        """One row for each ranking, and of each one for every way of removing."""
        used = self._used
        return [
            FaithfulnessRow(
                ranking,
                removed,
                *_mean(self.drops[r, m, used]),
                float(self.evaluations[m, used].mean()) if used.any() else math.nan,
            )
            for r, removed in enumerate(self.removals)
            for m, ranking in enumerate(self.rankings)
        ]

    @property
    def agreement(self) -> Float[np.ndarray, " parts"]:
        """Spearman's rank correlation of the rankings' mean drops under the two removals.

        Both leave the data that the model knows, each in its own way: what they agree on is
        owed to neither. NaN where all rankings drop alike.
        """
        spearmanr = scipy("stats").spearmanr

        if not self._used.any():
            return np.full(len(self.parts), math.nan)
        means = self.drops[:, :, self._used].mean(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rankings that drop alike, which have no rank
            found = [spearmanr(*means[:, :, p]).statistic for p in range(len(self.parts))]
        return np.array(found)

    def difference(self, one: str, other: str) -> dict[str, list[tuple[float, float]]]:
        """For each removal and part the mean difference of two rankings, and its standard error.

        Differences are taken sequence by sequence: sequences differ more than rankings, and this
        tells rankings apart where the errors of the rows do not.

        Raises:
            InputError: there is no such ranking.
        """
        for name in (one, other):
            if name not in self.rankings:
                raise InputError(f"no ranking {name!r} among {', '.join(self.rankings)}")
        first, second = self.rankings.index(one), self.rankings.index(other)
        gap = (self.drops[:, first] - self.drops[:, second])[:, self._used]
        return {
            removed: list(zip(*_mean(gap[r]), strict=True))
            for r, removed in enumerate(self.removals)
        }

    def differences(self, other: str = "random") -> Table:
        """Every ranking less another one, sequence by sequence, each with its standard error."""
        others = [one for one in self.rankings if one != other]
        gaps = {one: self.difference(one, other) for one in others}
        rows: list[list[str | float]] = [
            [one, removed, *itertools.chain.from_iterable(gaps[one][removed])]
            for removed in self.removals
            for one in others
        ]
        notes = [f"drop less that of {other!r}, paired over {int(self._used.sum())} sequences"]
        return Table(["ranking", "removed", *self._columns("more at")], rows, notes)

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        rows: list[list[str | float]] = [
            [
                row.ranking,
                row.removed,
                *itertools.chain.from_iterable(zip(row.drops, row.errors, strict=True)),
                row.evaluations,
            ]
            for row in self.rows
        ]
        used = self._used
        parts = zip(self.agreement.tolist(), self.parts, strict=True)
        agreed = ", ".join(f"{rank:.2f} at {100 * part:g} %" for rank, part in parts)
        mean = self.outputs[used].mean() if used.any() else math.nan
        notes = [
            f"{int(used.sum())} sequences; explained: {self.explained}, {mean:.3g} on average",
            "drop of that number without so many of the steps ranked first; higher is better",
            f"rank agreement of the two removals (Spearman): {agreed}",
            "occlusion removes each step to rank it, as the measure does; recency and energy know "
            "no model; random is the floor",
        ]
        if not used.all():
            missing = f"{int((~used).sum())} of {len(used)} sequences"
            notes.append(f"left out, because a method could not explain them: {missing}")
        columns = ["ranking", "removed", *self._columns("drop at"), "evaluations"]
        return Table(columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """The rows and what they were measured with, as JSON values; NaN becomes None."""
        return {
            "explained": self.explained,
            "sequences": int(self._used.sum()),
            "parts": list(self.parts),
            "agreement": plain_numbers(self.agreement),
            "rows": [
                {
                    "ranking": row.ranking,
                    "removed": row.removed,
                    "drops": plain_numbers(row.drops),
                    "errors": plain_numbers(row.errors),
                    "evaluations": plain_number(row.evaluations),
                }
                for row in self.rows
            ],
        }

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and table as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page("Faithfulness", view.faithfulness_html(self), path=path)

    def plot(self) -> Any:
        """A matplotlib figure: the drop by the part that is removed, one panel a removal.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.faithfulness(self, CONTROLS)

    def to_csv(self) -> str:
        """The table as comma-separated values, the numbers in full."""
        return self.table().to_csv()

    def _columns(self, what: str) -> list[str]:
        return [
            name for p in self.parts for name in (f"{what} {100 * p:g} %", f"+/- {100 * p:g} %")
        ]

    @property
    def _used(self) -> Bool[np.ndarray, " sequences"]:
        used: Bool[np.ndarray, " sequences"] = np.isfinite(self.drops).all((0, 1, 3))
        return used


def faithfulness(
    model: Any,
    x: Any,
    target: Any = None,
    *,
    methods: Sequence[str | Method] = ("ig",),
    baseline: Any = None,
    removed: Any = None,
    parts: Sequence[float] = PARTS,
    seed: int = 0,
    **options: Any,
) -> Faithfulness:
    """Whether the steps that a method ranks first are those that the output rests on.

    With R_p the part p of a sequence's steps with the highest scores, rounded up to at least one::

        drop_p = F(x) - F(x without R_p)            higher is better

    averaged over sequences, with a standard error. This is deletion (Samek et al. 2017,
    arXiv:1509.06321) at a few parts, in units of F. Every method ranks twice: by its signed sums,
    ``"ig"``, and by the sum of magnitudes over the features of a step, ``"|ig|"``. Only signed
    sums know which steps speak for the output and which against it.

    Steps are removed in two ways. At first they get the values of ``removed``; then, as forward
    fill, the last value that was kept is held (before the first kept step, the first one; without
    any, the sequence's first value). Sequences with holes are not like the data, whichever way they
    are filled; :attr:`Faithfulness.agreement` tells whether the two rank methods alike.

    Always measured beside the methods: ``"occlusion"``, favoured by construction since it removes
    each step to rank it, at a pass over the sequence for every step of it; ``"recency"`` and
    ``"energy"``, which know no model; and ``"random"``, the floor. A method that is no better than
    these says nothing about the model.

    >>> x = torch.tensor([[[4.0], [-3.0]], [[0.0], [2.0]]], dtype=torch.float64)
    >>> found = faithfulness(leaky, x, parts=[0.5])  # the better of two steps
    >>> found.drops[0, found.rankings.index("ig"), :, 0].tolist()  # removed: zeros
    [2.0, 2.0]

    Args:
        x: several sequences, as :func:`ig_core.attribute` takes them.
        target: what to explain, as for :func:`ig_core.attribute`. By default the margin of the
            highest output over the runner-up (:func:`ig_sequences.margins`), or the output of a
            model that gives one number.
        methods: names or instances.
        baseline: where the methods start; the domain's own by default.
        removed: the baseline that removed steps get; that of the methods by default, of several
            the first.
        parts: parts of the steps, above 0 and at most 1.
        seed: of what is random, ties between scores among it.
        **options: of the domain, such as ``lengths``; and ``tol``, ``budget``, ``path``, ``rule``,
            ``steps`` and ``device`` of :func:`ig_core.attribute`.

    Raises:
        InputError: ``x`` is a single sequence, or ``methods`` or ``parts`` are not that.
    """
    _check_parts(parts)
    asked = _with_controls(methods)
    domain, engine = domain_of(model, options)
    raws = batch_of(domain, x)
    with domain.prepared():
        chosen = margins_of(domain, raws, engine) if target is None else target
        engine |= {"baseline": baseline, "seed": seed, "target": chosen}
        found = {
            name: ig.attribute(model, x, domain=domain, method=one, **engine)
            for name, one in asked.items()
        }
        engine["baseline"] = baseline if removed is None else removed
        task = ig.prepare(domain, batch_of(domain, x), **engine)
        rankings = _rankings(found, [*asked][: len(methods)])
        measured = [
            removal.drops(task, i, [scores[i] for scores, _ in rankings.values()], parts, seed)
            for i in range(len(raws))
        ]
    drops = np.stack([drop for drop, _ in measured], axis=2)
    drops[:, :, ~np.isfinite(drops).all((0, 1, 3))] = math.nan
    return Faithfulness(
        rankings=list(rankings),
        removals=(str(task.provenance["baseline"]), removal.HELD),
        parts=tuple(parts),
        drops=drops,
        evaluations=np.array([[float(a.evaluations) for a in own] for _, own in rankings.values()]),
        outputs=np.array([output for _, output in measured]),
        explained=_told(target, chosen),
    )


Rankings = dict[str, tuple[list[Float[Tensor, " steps"]], Sequence[Attribution]]]
"""Scores by which steps are ranked, sequence by sequence, and what they were taken from."""


def _rankings(found: Mapping[str, Any], twice: Sequence[str]) -> Rankings:
    """The methods' signed sums; of those that were asked for also the sums of magnitudes."""
    rankings: Rankings = {}
    for name, own in found.items():
        rankings[name] = [a.scores for a in own], own
        if name in twice and name not in CONTROLS:
            sizes = [a.units.reduce({n: v.abs() for n, v in a.tensors.items()}) for a in own]
            rankings[f"|{name}|"] = sizes, own
    return rankings


def _with_controls(methods: Sequence[str | Method]) -> dict[str, str | Method]:
    """The methods by name, and the controls behind them."""
    if isinstance(methods, str) or not all(isinstance(m, (str, Method)) for m in methods):
        raise InputError(f"methods must be a list of names or Methods (got {methods!r:.80})")
    names = [m if isinstance(m, str) else m.name for m in methods]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"the method {double!r} is given twice")
    controls = {name: name for name in CONTROLS if name not in names}
    return {**dict(zip(names, methods, strict=True)), **controls}


def _check_parts(parts: Sequence[float]) -> None:
    if not isinstance(parts, Iterable):
        raise InputError(f"parts are a list of parts of the steps (got {parts!r:.80})")
    good = [isinstance(p, (int, float)) and not isinstance(p, bool) and 0 < p <= 1 for p in parts]
    if not good or not all(good):
        raise InputError(f"parts are of the steps, above 0 and at most 1 (got {parts!r:.80})")


def _told(target: Any, chosen: Any) -> str:
    """What is explained, in words."""
    if target is None:
        one, margin = "the output", "the highest output minus the runner-up"
        return one if chosen is None else margin
    if isinstance(target, int):
        return f"output {target}"
    return getattr(target, "__name__", "the target of each sequence")


def _mean(
    values: Float[np.ndarray, "sequences parts"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and their standard errors; NaN of no value, and the errors of a single one."""
    count, nothing = len(values), (math.nan,) * values.shape[1]
    error = values.std(0, ddof=1) / math.sqrt(count) if count > 1 else nothing
    return tuple(map(float, values.mean(0) if count else nothing)), tuple(map(float, error))
