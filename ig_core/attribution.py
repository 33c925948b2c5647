"""An Attribution is the result: values, what they should sum to, and how far to trust them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ig_core.errors import InputError, StorageError
from ig_core.example import Example, Units
from ig_core.files import whole
from ig_core.quadrature import Status
from ig_core.report import figure, html, text
from ig_core.report.card import Card
from ig_core.report.plain import number, numbers

ADVICE: Mapping[Status, str] = {
    "converged": "the estimated error and the residual are within the tolerance",
    "noise_floor": "more steps cannot help: the remaining error is rounding in the model's dtype",
    "budget": "the tolerance was not reached; raise budget (or the steps of a fixed rule), raise "
    "tol, or choose another baseline",
    "one_shot": "the method promises no sum; its residual is what it leaves unexplained",
    "failed": "the model could not be evaluated along the path; see reason",
}
"""What each status means and what to do next."""

_FORMAT = "ig_core.attribution/1"

_FIELDS = {
    "names": list, "labels": list, "kind": str, "evaluations": int, "status": str, "reason": str,
    "provenance": dict, "display": dict,
}  # fmt: skip


@dataclass(frozen=True)
class WorstPanel:
    """A part of a path that did not converge, among those where the error is.

    ``start`` and ``end`` are t, from 0 at the baseline to 1 at the input; ``leg`` counts from 1 and
    is None where the path has only one. ``share`` is the panel's part of the summed estimated
    errors; ``units`` are the labels in which most of that part sits, each with what it holds of it.
    """

    start: float
    end: float
    share: float
    leg: int | None = None
    units: Sequence[tuple[str, float]] = ()

    def __str__(self) -> str:
        width = self.end - self.start
        digits = max(3, 2 - math.floor(math.log10(width))) if 0 < width < math.inf else 3
        leg = "" if self.leg is None else f" of leg {self.leg}"
        holds = "mostly" if sum(share for _, share in self.units) >= 0.5 else "largest"
        sits = f", {holds} in {', '.join(repr(label) for label, _ in self.units)}"
        return (
            f"t = {self.start:.{digits}g} to {self.end:.{digits}g}{leg}: {100 * self.share:.3g} % "
            "of the error" + sits * bool(self.units)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """What the model's output owes to every part of one input.

    ``error`` is the estimated L1 error of the values divided by their L1 norm (NaN where the
    method has no estimate), ``uncertainty`` the same per unit and absolute, ``spread`` the
    standard deviation of the unit scores over several baselines. ``worst`` names where the error
    sits, the worst first, if the tolerance was not reached and the rule has an estimate; of several
    baselines, those of the one that is furthest off.
    """

    tensors: Mapping[str, Float[Tensor, ...]]
    units: Units
    at_input: float
    at_baseline: float
    residual: float
    error: float = math.nan
    uncertainty: Float[Tensor, " units"] | None = None
    spread: Float[Tensor, " units"] | None = None
    evaluations: int = 0
    status: Status = "converged"
    reason: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    display: Mapping[str, Any] = field(default_factory=dict)
    view: Callable[[Attribution, str], str] | None = None
    grouping: Callable[[Attribution, Any], Units] | None = None
    cause: Exception | None = None
    worst: Sequence[WorstPanel] = ()

    @property
    def values(self) -> Tensor | Mapping[str, Tensor]:
        """Per input name a tensor shaped like that input; the tensor itself when there is one."""
        return next(iter(self.tensors.values())) if len(self.tensors) == 1 else self.tensors

    @property
    def scores(self) -> Float[Tensor, " units"]:
        """The signed sum of the values over each unit, in float64."""
        return self.units.reduce(self.tensors)

    @property
    def delta(self) -> float:
        """F(x) - F(x'), what the values sum to."""
        return self.at_input - self.at_baseline

    @property
    def converged(self) -> bool:
        """Whether the tolerance, or the best that the dtype allows, was reached."""
        return self.status in ("converged", "noise_floor")

    def top(self, k: int = 10) -> list[tuple[str, float]]:
        """The k units of largest magnitude, with their signed scores."""
        scores = self.scores
        order = scores.abs().argsort(descending=True, stable=True)[: max(k, 0)]
        return [(self.units.labels[i], float(scores[i])) for i in order.tolist()]

    def by(self, units: Any) -> Attribution:
        """The same values, summed over other units, such as ``by("token")`` or ``by("sentence")``.

        What units there are is told by the domain (``help(ig_text.TextDomain.regroup)``). The
        uncertainty of a unit that is a union of former ones is at most the sum of theirs, which
        is given; of others none is known.

        Raises:
            InputError: the domain knows no such units.
        """
        if self.grouping is None:
            raise InputError("this result knows no other units; one from a file does by ig.load()")
        found = self.grouping(self, units)
        return replace(self, units=found, uncertainty=self._coarser(found), spread=None)

    def _coarser(self, units: Units) -> Tensor | None:
        parted = any(units.index[n].shape != own.shape for n, own in self.units.index.items())
        if self.uncertainty is None or parted:
            return None
        pairs = [
            torch.stack([own.reshape(-1), units.index[name].reshape(-1)])
            for name, own in self.units.index.items()
        ]
        old, new = torch.unique(torch.cat(pairs, dim=1), dim=1)
        known = old >= 0
        if len(torch.unique(old[known])) < int(known.sum()):
            return None  # a former unit is parted
        inside = known & (new >= 0)
        total = torch.zeros(len(units), dtype=self.uncertainty.dtype)
        return total.index_add(0, new[inside], self.uncertainty[old[inside]])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the element values, as JSON values (NaN and infinity become None)."""
        told = ("at_input", "at_baseline", "delta", "residual", "error")
        return {
            "format": _FORMAT,
            **{name: number(getattr(self, name)) for name in told},
            "status": self.status,
            "reason": self.reason,
            "evaluations": self.evaluations,
            "kind": self.units.kind,
            "labels": list(self.units.labels),
            "scores": numbers(self.scores),
            "uncertainty": numbers(self.uncertainty),
            "spread": numbers(self.spread),
            "worst": [
                {**vars(panel), "units": [list(unit) for unit in panel.units]}
                for panel in self.worst
            ],
            "shapes": {name: list(value.shape) for name, value in self.tensors.items()},
            "provenance": dict(self.provenance),
            "display": dict(self.display),
        }

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file (no pickle), whole or not at all; a link is followed.

        Raises:
            StorageError: the file cannot be written, or what lies there is no file.
        """
        tensors = {f"value/{n}": v for n, v in self.tensors.items()}
        tensors |= {f"unit/{n}": v for n, v in self.units.index.items()}
        for name in ("uncertainty", "spread"):
            if (value := getattr(self, name)) is not None:
                tensors[name] = value
        # safetensors refuses tensors that share memory, as the index of two inputs may.
        tensors = {n: v.clone(memory_format=torch.contiguous_format) for n, v in tensors.items()}
        record = {**self.to_dict(), "names": list(self.tensors)}
        with whole(path) as partial:
            try:
                save_file(tensors, partial, metadata={"ig_core": json.dumps(record)})
            except SafetensorError as error:
                raise StorageError(f"cannot write {str(path)!r}: {error}") from error
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read what :meth:`save` wrote; :func:`ig_core.load` adds the views of its domain.

        Raises:
            StorageError: there is no such file, or it is no attribution, or damaged.
        """
        try:
            if Path(path).exists() and not Path(path).is_file():
                raise StorageError("it is no file")
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {}).get("ig_core", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not isinstance(record, dict) or record.get("format") != _FORMAT:
                raise StorageError(f"it holds no attribution of format {_FORMAT}")
            values, units = _restored(record, tensors)
            return cls(
                tensors=values,
                units=units,
                at_input=_number(record["at_input"]),
                at_baseline=_number(record["at_baseline"]),
                residual=_number(record["residual"]),
                error=_number(record["error"]),
                uncertainty=tensors.get("uncertainty"),
                spread=tensors.get("spread"),
                evaluations=record["evaluations"],
                status=record["status"],
                reason=record["reason"],
                provenance=record["provenance"],
                display=record["display"],
                worst=[_panel(**panel) for panel in _listed(record.get("worst", []))],
            )
        except (OSError, SafetensorError) as error:
            raise StorageError(f"cannot read {str(path)!r}: {error}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            lacks = "without " if isinstance(error, KeyError) else ""
            raise StorageError(
                f"cannot read {str(path)!r}: it is damaged ({lacks}{error})"
            ) from error

    def to_text(self) -> str:
        """The domain's view as plain text."""
        return self.view(self, "text") if self.view else text.table(self.card())

    def to_html(self, path: str | Path | None = None) -> str:
        """The domain's view as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        body = self.view(self, "html") if self.view else html.bars(self.card())
        return html.page(f"Attribution of {self.delta:.4g}", body, path=path)

    def plot(self, top: int = 20) -> Any:
        """A matplotlib figure of the units of largest magnitude (extra ``viz``)."""
        return figure.bars(self.card(), top, self.display)

    def _repr_html_(self) -> str:
        return self.view(self, "html") if self.view else html.bars(self.card())

    def __repr__(self) -> str:
        leading = ", ".join(f"{label} {score:+.3g}" for label, score in self.top(3))
        return text.clean(
            f"Attribution({len(self.units)} {self.units.kind}s, delta={self.delta:.4g}, "
            f"residual={self.residual:.1e}, {self.status}: {leading})"
        )

    def _more(self) -> Iterable[tuple[Any, Any]]:
        """What the domain adds to the facts."""
        facts = self.display.get("facts")
        return facts.items() if isinstance(facts, Mapping) else ()

    def card(self) -> Card:
        """What a view needs, free of tensors."""
        explained = self.display.get("explained")
        share = (
            f" ({100 * abs(self.residual / self.delta):.2g} % of the difference)"
            if self.delta and math.isfinite(self.residual / self.delta)
            else ""
        )
        return Card(
            labels=list(self.units.labels),
            scores=self.scores.tolist(),
            kind=self.units.kind,
            facts={
                **({"explained": str(explained)} if explained else {}),
                "F(input)": f"{self.at_input:.5g}",
                "F(baseline)": f"{self.at_baseline:.5g}",
                **{str(name): str(fact) for name, fact in self._more()},
                "difference": f"{self.delta:.5g}",
                "residual": f"{self.residual:.1e}{share}",
                "estimated error": "none"
                if math.isnan(self.error)
                else f"{100 * self.error:.2g} % of the values' L1 norm",
                "evaluations": str(self.evaluations),
                "status": f"{self.status} ({ADVICE.get(self.status, '')})",
                **({"reason": self.reason} if self.reason else {}),
                **({"worst panels": "; ".join(map(str, self.worst))} if self.worst else {}),
            },
        )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is no list")
    return value


def _panel(start: Any, end: Any, share: Any, leg: Any, units: Any) -> WorstPanel:
    """A panel of a file, once its fields are what :meth:`Attribution.save` writes."""
    if not (leg is None or type(leg) is int):
        raise TypeError(f"a leg is no int: {leg!r:.80}")
    told = [(label, float(held)) for label, held in _listed(units)]
    if not all(isinstance(label, str) for label, _ in told):
        raise TypeError("a label of a panel is no str")
    return WorstPanel(float(start), float(end), float(share), leg, told)


def _restored(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Units]:
    """The values and units of a file, once its fields are what :meth:`Attribution.save` writes."""
    for name, kind in _FIELDS.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    labels = record["labels"]
    if not all(isinstance(one, str) for one in (*labels, *record["names"])):
        raise TypeError("a label or a name is no str")
    if record["status"] not in ADVICE:
        raise ValueError(f"no status is called {record['status']!r}")
    index = {n[5:]: v for n, v in tensors.items() if n.startswith("unit/")}
    if any(v.dtype not in (torch.int32, torch.int64) for v in index.values()):
        raise TypeError("the units are no whole numbers")
    for name in tensors.keys() & {"uncertainty", "spread"}:
        if tensors[name].shape != (len(labels),):
            raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)}")
    values = {n: tensors[f"value/{n}"] for n in record["names"]}
    # An example refuses units that do not fit its inputs.
    return values, Example(values, units=Units(tuple(labels), index, record["kind"])).parts
