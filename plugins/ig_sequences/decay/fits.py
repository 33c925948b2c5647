"""Fits: curves that a profile may follow, compared on its logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ig_sequences.decay.profile import Lags, intervals_of
from ig_sequences.needed import scipy

SMALLEST_ERROR = 1e-9
"""Curves that come nearer to ln a(k) than this are not told apart: it is rounding."""

MOST_POINTS = 2000
"""A curve with four parameters is fitted to so many lags at most, evenly chosen."""

SLOWEST = 1e-6
"""A part that fades by less over all lags is constant; the other way round it is gone at once."""

Curve = Callable[[Lags, Mapping[str, float]], Lags]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """A curve through ln a(k) by least squares.

    ``half_life`` is the lag at which the curve is down to half of its value at lag 0, infinite if
    it never is. ``aicc`` is Akaike's criterion for small samples (Hurvich and Tsai 1989), of
    normal errors of ln a(k): lower is better, but neighbouring lags depend on each other, so that
    differences are only a flag. ``r2`` is that of ln a(k). ``bow`` is how far ln a(k) bends off
    the curve at the ends of the window, by a parabola: positive where the ends lie above.
    """

    name: str
    parameters: Mapping[str, float]
    half_life: float
    aicc: float
    r2: float
    bow: float

    def at(self, lags: Float[np.ndarray, " lags"]) -> Float[np.ndarray, " lags"]:
        """a(k) of the curve at some lags.

        >>> import numpy as np
        >>> halving = {"amplitude": 8.0, "rate": float(np.log(2))}
        >>> Fit(name="exponential", parameters=halving, half_life=1.0, aicc=0, r2=1, bow=0).at(
        ...     np.array([0.0, 1.0, 3.0])
        ... ).round(6).tolist()
        [8.0, 4.0, 1.0]
        """
        with np.errstate(over="ignore", under="ignore"):
            found: Lags = np.exp(CURVES[self.name](np.asarray(lags, dtype=float), self.parameters))
        return found


def _exponential(lags: Lags, p: Mapping[str, float]) -> Lags:
    return np.log(p["amplitude"]) - p["rate"] * lags


def _power(lags: Lags, p: Mapping[str, float]) -> Lags:
    return np.log(p["amplitude"]) - p["exponent"] * np.log1p(lags / p["scale"])


def _stretched(lags: Lags, p: Mapping[str, float]) -> Lags:
    return np.log(p["amplitude"]) - (lags / p["time"]) ** p["exponent"]


def _two_rates(lags: Lags, p: Mapping[str, float]) -> Lags:
    return np.logaddexp(
        np.log(p["fast_amplitude"]) - p["fast_rate"] * lags,
        np.log(p["slow_amplitude"]) - p["slow_rate"] * lags,
    )


CURVES: Mapping[str, Curve] = {
    "exponential": _exponential,
    "power": _power,
    "stretched": _stretched,
    "bi-exponential": _two_rates,
}
"""ln a(k) of every kind of curve, by its parameters."""


def fitted(lags: Lags, profile: Lags) -> dict[str, Fit]:
    """The curves that can be fitted to the lags of a window, all of whose values are positive.

    ::

        exponential      a(k) = amplitude exp(-rate k)
        power            a(k) = amplitude (1 + k / scale)^-exponent, scale the interval of lags
        stretched        a(k) = amplitude exp(-(k / time)^exponent)
        bi-exponential   the sum of two exponentials that fade

    A curve with as many parameters as there are lags is left out, and one that would have to grow.
    """
    log = np.log(profile)
    finders = (_find_exponential, _find_power, _find_stretched, _find_two_rates)
    found = {}
    for (name, curve), find in zip(CURVES.items(), finders, strict=True):
        told = find(lags, log) if len(lags) > 2 else None
        if told is None:
            continue
        parameters, free = told
        residuals = log - curve(lags, parameters)
        if len(lags) > free + 2 and np.isfinite(residuals).all():
            found[name] = Fit(
                name=name,
                parameters=parameters,
                half_life=_half_life(name, parameters),
                aicc=_aicc(residuals, free),
                r2=_r2(residuals, log),
                bow=bow(lags, residuals),
            )
    return found


def bow(lags: Lags, residuals: Lags) -> float:
    """The quadratic part of some numbers over the lags, at their ends."""
    if len(lags) < 3:
        return math.nan
    place = (lags - lags[0]) / (lags[-1] - lags[0]) * 2 - 1
    return float(np.polyfit(place, residuals, 2)[0])


def _aicc(residuals: Lags, free: int) -> float:
    count, parameters = len(residuals), free + 1  # and the size of the errors
    error = max(float((residuals**2).mean()), SMALLEST_ERROR**2)
    correction = 2 * parameters * (parameters + 1) / (count - parameters - 1)
    return count * math.log(error) + 2 * parameters + correction


def _r2(residuals: Lags, log: Lags) -> float:
    whole = float(((log - log.mean()) ** 2).sum())
    return 1 - float((residuals**2).sum()) / whole if whole > 0 else math.nan


def _line(x: Lags, y: Lags) -> tuple[float, float]:
    """Height at 0 and slope by least squares."""
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean())) / float(centred @ centred)
    return float(y.mean()) - slope * float(x.mean()), slope


def _find_exponential(lags: Lags, log: Lags) -> tuple[dict[str, float], int]:
    height, slope = _line(lags, log)
    return {"amplitude": math.exp(height), "rate": -slope}, 2


def _find_power(lags: Lags, log: Lags) -> tuple[dict[str, float], int]:
    scale = intervals_of(lags)
    height, slope = _line(np.log1p(lags / scale), log)
    return {"amplitude": math.exp(height), "exponent": -slope, "scale": scale}, 2


def _find_stretched(lags: Lags, log: Lags) -> tuple[dict[str, float], int] | None:
    """For each exponent the rest is a line; the exponent is searched."""
    minimize_scalar = scipy("optimize").minimize_scalar

    scaled = lags / lags[-1]

    def error(exponent: float) -> float:
        bent = scaled**exponent
        height, slope = _line(bent, log)
        return float(((log - height - slope * bent) ** 2).sum())

    exponent = float(minimize_scalar(error, bounds=(0.05, 5.0), method="bounded").x)
    height, slope = _line(scaled**exponent, log)
    if not slope < 0:
        return None
    time = float(lags[-1]) * (-slope) ** (-1 / exponent)
    return {"amplitude": math.exp(height), "exponent": exponent, "time": time}, 3


def _find_two_rates(lags: Lags, log: Lags) -> tuple[dict[str, float], int] | None:
    """Begun with the slopes of the two halves; logarithms keep all four parameters positive."""
    least_squares = scipy("optimize").least_squares

    chosen = np.unique(np.linspace(0, len(lags) - 1, min(len(lags), MOST_POINTS)).astype(int))
    x, y = lags[chosen], log[chosen]
    if len(x) < 5:
        return None
    _, slope = _line(x, y)
    if not slope < 0:
        return None
    half = len(x) // 2
    early, late = -_line(x[:half], y[:half])[1], -_line(x[half:], y[half:])[1]
    slow = max(min(early, late), -slope / 10)
    fast = max(early, late, 2 * slow)
    tail = float(y[half:].mean() + slow * x[half:].mean())
    above = np.exp(y[0]) - np.exp(tail - slow * x[0])
    head = math.log(above) + fast * float(x[0]) if above > 0 else tail - 2.0

    def parts(p: Any) -> tuple[Any, Any]:
        return p[0] - np.exp(p[1]) * x, p[2] - np.exp(p[3]) * x

    def error(p: Any) -> Any:
        return np.logaddexp(*parts(p)) - y

    def slopes(p: Any) -> Any:
        first, second = parts(p)
        share = 1 / (1 + np.exp((second - first).clip(-700, 700)))
        other = 1 - share
        return np.stack([share, -share * np.exp(p[1]) * x, other, -other * np.exp(p[3]) * x], 1)

    with np.errstate(over="ignore", invalid="ignore"):
        begin = np.array([head, math.log(fast), tail, math.log(slow)])
        slowest = math.log(SLOWEST / float(x[-1] - x[0]))
        fastest = math.log(1 / (SLOWEST * float(np.diff(x).min())))
        bounds = ([-700.0, slowest, -700.0, slowest], [700.0, fastest, 700.0, fastest])
        found = least_squares(error, begin.clip(*bounds), slopes, bounds=bounds, x_scale="jac").x
    pairs = sorted([(found[1], found[0]), (found[3], found[2])], reverse=True)
    (fast, head), (slow, tail) = pairs
    return {
        "fast_amplitude": math.exp(head),
        "fast_rate": math.exp(fast),
        "slow_amplitude": math.exp(tail),
        "slow_rate": math.exp(slow),
    }, 4


def _half_life(name: str, p: Mapping[str, float]) -> float:
    """Where a curve is down to half of its value at lag 0."""
    brentq = scipy("optimize").brentq

    if name == "exponential":
        return math.log(2) / p["rate"] if p["rate"] > 0 else math.inf
    if name == "power":
        return _scaled_power(p["scale"], p["exponent"])
    if name == "stretched":
        return float(p["time"]) * math.log(2) ** (1 / p["exponent"])
    whole = float(_two_rates(np.zeros(1), p)[0])

    def above(log_lag: float) -> float:
        return float(_two_rates(np.exp([log_lag]), p)[0]) - whole + math.log(2)

    # The sum halves after its fast part would, and before its slow part does.
    early, late = (math.log(math.log(2) / p[f"{which}_rate"]) for which in ("fast", "slow"))
    if above(early) <= 0 or above(late) >= 0:  # one part is all, up to rounding
        return math.exp(early if above(early) <= 0 else late)
    return math.exp(brentq(above, early, late))


def _scaled_power(scale: float, exponent: float) -> float:
    try:
        return scale * (2 ** (1 / exponent) - 1) if exponent > 0 else math.inf
    except OverflowError:
        return math.inf
