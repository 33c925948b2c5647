"""Notes: what numbers and status of a decay do not say by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ig_core import Attribution
from ig_sequences.decay.status import Evidence, comes_back, grows

CLEARLY = 1.05
"""A half-life beyond the interval by this factor is another one."""


def of_inputs(
    half_life: float, limits: tuple[float, float], per_moved: float, fall: float, future: bool
) -> list[str]:
    """Whether the inputs, and not the model, fade: the attribution holds their own size."""
    low, high = (half_life if math.isnan(end) else end for end in limits)
    if math.isnan(low) or low / CLEARLY <= per_moved <= high * CLEARLY or math.isnan(per_moved):
        return []
    model = f"half-life of a / |x - x'| is {per_moved:.3g}"
    # What grows along time falls with the lag into the past, and rises with that into the future.
    factor = max(fall, 1 / fall) if fall > 0 else 1.0
    if factor > CLEARLY and (fall > 1) == (per_moved > high):
        word = "shrink" if (fall < 1) != future else "grow"
        change = f"{word} along time, by a factor of {factor:.3g} over the fitted lags"
    else:
        return [f"{model}, unlike that of a: the model answers otherwise to larger inputs"]
    return [
        f"the inputs themselves {change}, and a(k) holds that; {model}: use normalise='input' for "
        "the model's part"
    ]


def shown(evidence: Evidence) -> list[str]:
    """What a status alone does not say of one side."""
    told = []
    if grows(evidence):
        by = math.exp(-evidence.fits["exponential"].parameters["rate"] * evidence.span)
        told.append(
            f"attribution grows with the lag, {by:.3g}-fold over these by its slope: the newest "
            "steps count least, as where a gate holds its state and that is full"
        )
    if share := comes_back(evidence):
        told.append(f"after a silence, older lags hold {100 * share:.3g} % of the attribution")
    if math.isinf(evidence.interval[1]) and math.isfinite(evidence.half_life):
        told.append("the interval has no end: what fades may be noise; pass more sequences")
    alone = int((evidence.profiles.count[evidence.window[0] : evidence.window[1] + 1] == 1).sum())
    if alone and len(evidence.profiles.values) > 1:
        told.append(
            f"{alone} of the fitted lags are reached by one sequence only, and count like the "
            "others; cut the longest sequences to leave them out"
        )
    if len(evidence.fits) > 1:
        best = min(evidence.fits.values(), key=lambda fit: fit.aicc)
        line = evidence.fits.get("exponential")
        if line is not None and best.aicc < line.aicc - 2:
            told.append(
                f"AICc is lower by {line.aicc - best.aicc:.3g} for the {best.name} curve (a flag: "
                "neighbouring lags depend on each other)"
            )
    return told


def remarks(
    attributions: Sequence[Attribution], used: Sequence[Attribution], both: bool
) -> list[str]:
    """What these attributions say of every lag in them."""
    told = sorted({str(a.display["doubt"]) for a in attributions if a.display.get("doubt")})
    missed = [a for a in attributions if a.status == "budget"]
    if missed:
        worst = max(missed, key=_relative)
        told.append(
            f"{len(missed)} of {len(attributions)} attributions missed their tolerance; the "
            f"largest residual of these is {worst.residual:.2e}, where F(x) - F(x') is "
            f"{worst.delta:.2e}"
        )
    if len(used) < len(attributions):
        failed = next(a for a in attributions if a.status == "failed")
        told.append(
            f"{len(attributions) - len(used)} of {len(attributions)} attributions failed and are "
            f"left out: {failed.reason}"
        )
    if any(a.status == "one_shot" for a in used):
        told.append("the method promises no sum, so that its completeness cannot be checked")
    if any(str(a.display.get("output", "")).startswith("mean") for a in used):
        told.append(
            "the explained number is a mean over steps: a lag counts from the sequence's end, "
            "which is not how long a step was remembered; step='middle' explains one step"
        )
    elif any(a.display.get("bidirectional") and "step" not in a.display for a in used):
        told.append(
            "the model also reads backwards, and so reads the oldest step last: a lag from the "
            "end is then not how long a step was remembered; step='middle' gives a past and a "
            "future side"
        )
    if any(a.display.get("output") == "whole sequence" and _several(a) for a in used):
        told.append(
            "the target has several numbers: where the first is a step, lags still count from the "
            "sequence's end; step= and a target without it count from that step"
        )
    if both:
        told.append("steps on both sides count: lag 0 belongs to both, and neither is fitted to it")
    return told


def _several(attribution: Attribution) -> bool:
    """Whether the target has several numbers, such as (step, class)."""
    target = attribution.provenance.get("target")
    return isinstance(target, (tuple, list)) and len(target) > 1


def _relative(attribution: Attribution) -> float:
    """How large the residual is beside the difference, or by itself where there is none."""
    off = abs(attribution.residual)
    return off / abs(attribution.delta) if attribution.delta else off
