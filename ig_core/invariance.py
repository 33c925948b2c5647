"""Scale-invariance at the baseline: F jumps at t = 0 and does not see how far along the path it is.

RMSNorm and LayerNorm divide by the size of what they get. From a baseline of zeros straight into
one, F(x' + t (x - x')) is one number for all small t > 0 but t = 0: all of its change, and with it
the attribution, comes from a boundary layer that the norm's epsilon makes.
"""

from __future__ import annotations

from collections.abc import Sequence

TIMES = (0.0, *(1e-4 * 2**k for k in range(9)))
"""Where F is probed, as t: at the baseline, and from there on at twice the t before."""

GLANCE = (TIMES[5], TIMES[-1])
"""Where F is probed first; a jump would show there, and mostly there is none."""

CONSTANT = 0.1
"""While t grows fourfold F may change by this part of its jump; a line changes by more than all."""

LARGE = 0.25
"""The jump counts if it is this part of the whole difference, at least."""

ROUNDING = 1e-4
"""A jump below this part of F may be rounding."""

LOOKS = "the model looks scale-invariant at this baseline"


def sound(values: Sequence[float], at_baseline: float, at_input: float) -> bool:
    """Whether F at :data:`GLANCE` is still near F(x')."""
    enough = LARGE * abs(at_input - at_baseline)
    return max(abs(value - at_baseline) for value in values) < enough


def remark(values: Sequence[float], at_input: float) -> str:
    """What F at :data:`TIMES` says of the baseline; empty if it is nothing."""
    start, *early = values
    change = at_input - start
    enough = max(LARGE * abs(change), ROUNDING * max(map(abs, values)))
    for k in range(1, len(early) - 1):
        jump = early[k] - start
        near = early[k - 1 : k + 2]
        if abs(jump) > enough and max(near) - min(near) <= CONSTANT * abs(jump):
            return (
                f"F jumps by {jump:.3g} before t = {TIMES[k + 1]:.2g} (its whole difference is "
                f"{change:.3g}) and stays there a while: {LOOKS}, as RMSNorm or LayerNorm of zeros "
                "is; choose one with the scale of real inputs (text: 'pad', 'mask' or 'mean')"
            )
    return ""
