"""Sweeps: the half-life against a parameter of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from ig_core import IGError, InputError, Table, page, plain_numbers
from ig_sequences import view
from ig_sequences.decay import Decay, attribution_decay
from ig_sequences.decay.result import NUMBERS


@dataclass(frozen=True, eq=False, kw_only=True)
class Sweep:
    """A measure of memory at each value of a parameter.

    ``decays`` holds None where a model could not be made or explained, and ``errors`` then says
    why; it is empty elsewhere. ``theory`` is what the measure should be, NaN where none is known.
    """

    parameter: str
    values: Sequence[float]
    decays: Sequence[Decay | None]
    errors: Sequence[str]
    measure: str = "half_life"
    theory: Float[np.ndarray, " values"] | None = None

    @property
    def measured(self) -> Float[np.ndarray, " values"]:
        """The measure at every value; NaN where there is no decay."""
        return self._numbers(self.measure)

    @property
    def half_lives(self) -> Float[np.ndarray, " values"]:
        """The half-life by slope at every value; NaN where there is no decay."""
        return self._numbers("half_life")

    def table(self) -> Table:
        """One value a row; it also writes itself as CSV."""
        unit = next((decay.unit for decay in self.decays if decay is not None), "steps")
        bare = self.measure in ("r2", "bow")
        columns = [self.parameter, self.measure if bare else f"{self.measure} ({unit})"]
        low_high = self.measure == "half_life"
        columns += ["95 % low", "95 % high"] if low_high else []
        columns += ["theory"] if self.theory is not None else []
        rows: list[Sequence[str | float]] = []
        for number, (value, decay) in enumerate(zip(self.values, self.decays, strict=True)):
            row: list[str | float] = [value, float(self.measured[number])]
            if low_high:
                row += (math.nan, math.nan) if decay is None else decay.interval
            if self.theory is not None:
                row.append(float(self.theory[number]))
            rows.append([*row, self.errors[number] if decay is None else decay.status])
        return Table([*columns, "status"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN and infinity become None."""
        return {
            "parameter": self.parameter,
            "measure": self.measure,
            "values": plain_numbers(self.values),
            "measured": plain_numbers(self.measured),
            "theory": None if self.theory is None else plain_numbers(self.theory),
            "errors": list(self.errors),
            "decays": [None if decay is None else decay.to_dict() for decay in self.decays],
        }

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and table as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page(f"{self.measure} against {self.parameter}", view.sweep_html(self), path=path)

    def plot(self) -> Any:
        """A matplotlib figure: the measure with its interval, and the theory as a line.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.sweep(self)

    def __repr__(self) -> str:
        told = ", ".join(
            f"{value:g}: {found:.4g}"
            for value, found in zip(self.values, self.measured.tolist(), strict=True)
        )
        return f"Sweep({self.measure} by {self.parameter}: {told})"

    def _numbers(self, name: str) -> Float[np.ndarray, " values"]:
        return np.array([math.nan if d is None else float(getattr(d, name)) for d in self.decays])


def sweep(
    make_model: Callable[[float], Any],
    values: Sequence[float],
    x: Any,
    target: Any = None,
    *,
    parameter: str = "value",
    theory: Callable[[float], float] | None = None,
    measure: str = "half_life",
    progress: bool | Callable[[Any], None] | None = None,
    **options: Any,
) -> Sweep:
    """How memory responds to a parameter of the network: one decay for each of its values.

    The leak of an integrator, where theory is exact:

    >>> import math, torch
    >>> from ig_sequences.cases import closed_forms
    >>> x = torch.randn(32, 100, 8, generator=torch.Generator().manual_seed(0)).double()
    >>> options = {"normalise": "input", "parameter": "leak"}
    >>> def half_life(keep):
    ...     return math.log(0.5) / math.log(keep)
    >>> found = sweep(closed_forms.LeakyIntegrator, [0.5, 0.8], x, theory=half_life, **options)
    >>> found.half_lives.round(4).tolist(), found.theory.round(4).tolist()
    ([1.0, 3.1063], [1.0, 3.1063])

    The spectral radius of an RNN, where it is near for small inputs:

    >>> options = {"step": "last", "parameter": "radius", "theory": half_life}
    >>> sweep(closed_forms.scaled_rotation, [0.5, 0.8, 0.9], 0.01 * x, **options)
    Sweep(half_life by radius: 0.5: 0.99..., 0.8: 3.0..., 0.9: 6...)

    The bias of a forget gate, whose own half-life is a lower bound here:

    >>> def of_gate(bias):
    ...     return half_life(1 / (1 + math.exp(-bias)))
    >>> options = {"step": "last", "parameter": "forget bias", "theory": of_gate}
    >>> found = sweep(closed_forms.chrono_lstm, [0, 1, 2, 3], 0.01 * x[..., :4], **options)
    >>> (found.half_lives > found.theory).all().item()
    True

    The window of a mean, which has no rate, but half of its attribution in half of it:

    >>> options = {"measure": "half_mass", "parameter": "window", "normalise": "input"}
    >>> sweep(closed_forms.MovingAverage, [4, 10, 25], x, theory=lambda w: w / 2, **options)
    Sweep(half_mass by window: 4: 2, 10: 5, 25: 12.5)

    Args:
        make_model: the model of a value; it is called once for each, in order.
        values: of the parameter, finite numbers.
        x: the sequences that all models explain.
        target: as for :func:`attribution_decay`.
        parameter: what the values are called.
        theory: what the measure should be at a value; where it divides by zero, say, none is known.
        measure: the number of a :class:`Decay` that is swept: ``"half_life"``, ``"crossing"``,
            ``"half_mass"``, ``"mean_lag"``, ``"peak_lag"``, ``"after_peak"``, ``"per_moved"``,
            ``"r2"`` or ``"bow"``.
        progress: True for a bar over the values, or a function that each call of
            :func:`ig_core.attribute` tells its progress.
        **options: of :func:`attribution_decay`.

    A value whose model cannot be made or explained is a point with its error; the others go on.

    Raises:
        InputError: no values, a value that is no finite number, an unknown measure, a theory that
            gives no number, or not one value could be measured.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"the values of a sweep are a list of numbers (got {values!r:.80})")
    chosen = [_number(value) for value in values]
    if not chosen:
        raise InputError("a sweep needs at least one value (got none)")
    if measure not in NUMBERS:
        raise InputError(f"measure must be one of {', '.join(NUMBERS)} (got {measure!r})")
    if not callable(make_model) or isinstance(make_model, nn.Module):
        raise InputError(
            "make_model must be a function that makes the model of a value "
            f"(got {type(make_model).__name__})"
        )
    expected = None if theory is None else np.array([_known(theory, value) for value in chosen])
    if callable(progress):
        options["progress"] = progress
    decays: list[Decay | None] = []
    errors: list[str] = []
    for value in _shown(chosen, parameter) if progress is True else chosen:
        decay, error = _point(make_model, value, x, target, options)
        decays.append(decay)
        errors.append(error)
    if not any(decays):
        raise InputError(f"no value of {parameter} could be measured; the first: {errors[0]}")
    return Sweep(
        parameter=parameter,
        values=tuple(chosen),
        decays=tuple(decays),
        errors=tuple(errors),
        measure=measure,
        theory=expected,
    )


def _point(
    make_model: Callable[[float], Any], value: float, x: Any, target: Any, options: dict[str, Any]
) -> tuple[Decay | None, str]:
    """The decay at one value, or what went wrong."""
    try:
        model = make_model(value)
    except Exception as error:  # the user's own code may raise anything
        return None, f"no model: {type(error).__name__}: {error}"
    try:
        return attribution_decay(model, x, target, **options), ""
    except IGError as error:
        return None, f"{type(error).__name__}: {error}"


def _shown(values: Sequence[float], parameter: str) -> Iterator[float]:
    from rich.progress import track

    yield from track(values, description=parameter)


def _number(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"the values of a sweep are finite numbers (got {value!r:.80})")
    return found


def _known(theory: Callable[[float], float], value: float) -> float:
    """What theory says at a value; NaN where it has no number, as at a radius of 1."""
    try:
        return float(theory(value))
    except (ArithmeticError, ValueError):
        return math.nan
    except Exception as error:  # the user's own code may raise anything
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"theory must be a function that gives a number ({told})") from error
