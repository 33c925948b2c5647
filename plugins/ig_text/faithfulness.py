"""Faithfulness: what becomes of a prediction without the words that a method ranks first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, Game, InputError, Method, Table
from ig_text.predictions import Prediction, domain_of, predictions

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Parts of the words that are removed or kept, as in ERASER."""

LOG_ODDS_AT = 0.2
"""Part of the words that are removed for the log-odds."""

CONTROLS = ("loo", "random")
"""Methods that every table shows: nearly the ceiling, and the floor."""

MEASURES = ("comprehensiveness", "sufficiency", "log_odds")


@dataclass(frozen=True)
class FaithfulnessRow:
    """The means of one method over the texts, each with its standard error.

    ``evaluations`` is the mean cost of one text.
    """

    method: str
    comprehensiveness: float
    comprehensiveness_error: float
    sufficiency: float
    sufficiency_error: float
    log_odds: float
    log_odds_error: float
    evaluations: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Faithfulness:
    """How much of a prediction hangs on the words that each method ranks first.

    ``values[m, i]`` are the comprehensiveness, sufficiency and log-odds of method m on text i,
    defined by :func:`faithfulness`; NaN on texts that some method could not explain, which count
    for none. ``removed`` names what stands in place of removed words.
    """

    methods: Sequence[str]
    values: Float[np.ndarray, "methods texts 3"]
    evaluations: Float[np.ndarray, "methods texts"]
    predictions: Sequence[Prediction]
    bins: Sequence[float]
    removed: str

    @property
    def rows(self) -> list[FaithfulnessRow]:
        """One row for each method, in the order in which they were asked for."""
        used = self._used
        return [
            FaithfulnessRow(
                method,
                *(number for one in self.values[m, used].T for number in _mean(one)),
                float(self.evaluations[m, used].mean()),
            )
            for m, method in enumerate(self.methods)
        ]

    def difference(self, one: str, other: str) -> dict[str, tuple[float, float]]:
        """Of every measure, the mean difference of two methods text by text, and its error.

        The texts differ more than the methods: this tells them apart where the rows' errors do
        not.

        Raises:
            InputError: there is no such method.
        """
        for name in (one, other):
            if name not in self.methods:
                raise InputError(f"no method {name!r} among {', '.join(self.methods)}")
        first, second = self.methods.index(one), self.methods.index(other)
        gap = (self.values[first] - self.values[second])[self._used]
        return dict(zip(MEASURES, map(_mean, gap.T), strict=True))

    def table(self) -> Table:
        """The rows as a table, which also writes itself as CSV."""
        used = self._used
        mean = np.mean(
            [p.probability for p, own in zip(self.predictions, used, strict=True) if own]
        )
        parts = ", ".join(f"{100 * part:g}" for part in self.bins)
        notes = [
            f"{int(used.sum())} texts, mean probability of the predicted class {mean:.3f}; "
            f"{parts} % of the words, removed: {self.removed}",
            "comprehensiveness: higher is better; sufficiency and log-odds: lower is better",
            "loo removes each word to rank it, as the measures do; random is the floor",
        ]
        if not used.all():
            notes.append(f"{int((~used).sum())} texts that a method could not explain are left out")
        columns = [
            "method", "comprehensiveness", "+/-", "sufficiency", "+/-", "log-odds", "+/-",
            "evaluations",
        ]  # fmt: skip
        return Table(columns, [list(vars(row).values()) for row in self.rows], notes)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()

    @property
    def _used(self) -> Bool[np.ndarray, " texts"]:
        used: Bool[np.ndarray, " texts"] = np.isfinite(self.values).all((0, 2))
        return used


def faithfulness(
    model: Any,
    texts: Sequence[Any],
    *,
    tokenizer: Any = None,
    methods: Sequence[str | Method] = ("ig", "gradient-x-input"),
    baseline: Any = None,
    removed: Any = None,
    bins: Sequence[float] = BINS,
    seed: int = 0,
    **options: Any,
) -> Faithfulness:
    """Whether the words that a method ranks first are those that the prediction rests on.

    With p the probability of the predicted class, R_b the part b of a text's words with the highest
    scores (rounded up, so at least one), ``x - R`` the text without the words R and ``R`` the text
    without all other words::

        comprehensiveness = mean over b of p(x) - p(x - R_b)        higher is better
        sufficiency       = mean over b of p(x) - p(R_b)            lower is better
        log-odds          = ln p(x - R_20%) - ln p(x)               lower is better

    The first two are ERASER's with its five bins (DeYoung et al. 2020, arXiv:1911.03429), averaged
    over the bins as its code does; the paper divides by one more. The third is that of Shrikumar
    et al. (2017, arXiv:1704.02685) on probabilities, as Sanyal and Ren (2021, arXiv:2108.13654) use
    it; natural logarithm. Means over the texts have their standard errors.

    Removed words get the embeddings of a baseline: nothing is tokenised again, and mask, positions
    and special tokens stay. The first two papers delete the words instead. With ``"pad"`` it is
    the same as pad ids in place of their own, positions and mask kept.

    Leave-one-out (``"loo"``) and random scores (``"random"``) are always measured as well.
    Leave-one-out is favoured by construction: it removes each word to rank it, as the measures do.
    Random scores are the floor: a method that is no better says nothing about the words.

    Every method explains the predicted class: its margin over the runner-up; its logit where
    labels may hold together, or where there is one output only.

    Args:
        texts: a list of what :func:`ig_core.attribute` takes as one text or pair.
        methods: names or instances.
        baseline: where the methods start; the domain's own by default.
        removed: the baseline that removed words get; that of the methods by default, of several
            the first.
        bins: parts of the words, above 0 and at most 1.
        seed: of what is random, ties between scores among it.
        **options: of the domain, such as ``head``; and ``tol``, ``budget``, ``path``, ``rule``,
            ``steps`` and ``device`` of :func:`ig_core.attribute`.

    Raises:
        InputError: the model does not classify texts, or ``methods`` or ``bins`` are not that.
    """
    if not isinstance(texts, list) or not texts:
        raise InputError(f"faithfulness needs a list of at least one text (got {texts!r:.80})")
    _check_bins(bins)
    domain, engine = domain_of(model, tokenizer, options)
    raws = domain.split(texts)
    asked = _with_controls(methods)
    with domain.prepared():
        said = predictions(domain, raws)
        engine |= {"baseline": baseline, "seed": seed}
        found = {
            name: ig.attribute(
                model, raws, domain=domain, method=one, target=[p.target for p in said], **engine
            )
            for name, one in asked.items()
        }
        engine["baseline"] = baseline if removed is None else removed
        task = ig.prepare(domain, raws, target=[p.of for p in said], **engine)
        values = np.stack(
            [
                _measured([own[i] for own in found.values()], Game(task, i), bins, seed)
                for i in range(len(raws))
            ],
            axis=1,
        )
    values[:, ~np.isfinite(values).all((0, 2))] = math.nan
    return Faithfulness(
        methods=list(asked),
        values=values,
        evaluations=np.array([[float(a.evaluations) for a in own] for own in found.values()]),
        predictions=said,
        bins=tuple(bins),
        removed=str(task.provenance["baseline"]),
    )


def _measured(
    attributions: Sequence[Attribution], game: Game, bins: Sequence[float], seed: int
) -> Float[np.ndarray, "methods 3"]:
    """The measures of all methods on one text, whose probabilities are computed together."""
    count = len(attributions[0].units)
    parts = [*bins, LOG_ODDS_AT]
    tops = torch.cat([_top(a.scores, parts, seed) for a in attributions])
    nothing = torch.zeros(1, count, dtype=torch.bool)
    sets, place = torch.unique(torch.cat([nothing, tops, ~tops]), dim=0, return_inverse=True)
    p = game.value(sets)[place.numpy()]
    without, alone = p[1:].reshape(2, len(attributions), len(parts))
    drop, lack = p[0] - without[:, :-1], p[0] - alone[:, :-1]
    with np.errstate(divide="ignore"):
        log_odds = np.log(without[:, -1]) - np.log(p[0])
    found = np.stack([drop.mean(1), lack.mean(1), log_odds], axis=1)
    failed = [not bool(a.scores.isfinite().all()) for a in attributions]
    found[failed] = math.nan
    return found


def _top(
    scores: Float[Tensor, " units"], parts: Sequence[float], seed: int
) -> Bool[Tensor, "parts units"]:
    """The units of highest score, part by part; ties are broken by a seeded shuffle."""
    count = len(scores)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = shuffled[scores[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count)
    sizes = [math.ceil(round(part * count, 9)) for part in parts]
    return rank[None, :] < torch.tensor(sizes)[:, None]


def _with_controls(methods: Sequence[str | Method]) -> dict[str, str | Method]:
    """The methods by name, and the controls behind them."""
    if isinstance(methods, str) or not all(isinstance(m, (str, Method)) for m in methods):
        raise InputError(f"methods must be a list of names or Methods (got {methods!r:.80})")
    names = [m if isinstance(m, str) else m.name for m in methods]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"the method {double!r} is given twice")
    controls = {name: name for name in CONTROLS if name not in names}
    return {**dict(zip(names, methods, strict=True)), **controls}


def _check_bins(bins: Sequence[float]) -> None:
    good = [isinstance(b, (int, float)) and not isinstance(b, bool) and 0 < b <= 1 for b in bins]
    if not good or not all(good):
        raise InputError(f"bins are parts of the words, above 0 and at most 1 (got {bins!r:.80})")


def _mean(values: Float[np.ndarray, " texts"]) -> tuple[float, float]:
    """The mean and its standard error, NaN for a single value."""
    count = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return (float(values.mean()) if count else math.nan), error
