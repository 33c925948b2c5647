"""What a case tells of its network's memory: the half-life of its attributions."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

from ig_core import Loaded, NotConvergedWarning
from ig_sequences.cases.training import one_thread
from ig_sequences.decay import attribution_decay


def remembered(loaded: Loaded, unit: str = "steps", each: float = 1.0, **options: Any) -> Loaded:
    """The case with the decay of its attributions among its facts, in units of ``each`` a step.

    It is measured as the case is explained, on its sequences and from its baseline; ``options``
    are those of :func:`attribution_decay`.
    """
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # The status says so.
        decay = attribution_decay(
            loaded.model,
            list(loaded.inputs),
            loaded.targets,
            baseline=loaded.baseline,
            jacobian=False,
            **loaded.options,
            **options,
        )
    low, high = (_number(bound * each) for bound in decay.interval)
    fades = f"{_number(decay.half_life * each)} {unit} ({low} to {high})"
    return replace(
        loaded,
        facts={
            **loaded.facts,
            "half-life of attributions": f"{fades if math.isfinite(decay.half_life) else 'none'}, "
            f"{decay.status}",
            "half of their sum": f"in the last {_number(decay.half_mass * each)} {unit}",
        },
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "no end"
