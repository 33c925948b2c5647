"""attribution_decay(): the half-life of a model's memory, in one call."""

from __future__ import annotations

from typing import Any, Literal, cast

import ig_core as ig
from ig_core import Attribution, IGError, InputError
from ig_sequences.decay.finding import check_options, find_decay
from ig_sequences.decay.jacobian import jacobian_at
from ig_sequences.decay.profile import Reduce
from ig_sequences.decay.result import Decay

NOT_OF_THE_JACOBIAN = ("path", "method", "rule", "steps", "strict", "budget", "progress")
"""Options that a gradient at one point does not take."""


def attribution_decay(
    model: Any,
    x: Any,
    target: Any = None,
    *,
    lengths: Any = None,
    times: Any = None,
    baseline: Any = "mean",
    reduce: Reduce = "abs-sum",
    normalise: Literal["input", "sequence"] | None = None,
    burn_in: int = 0,
    tol: float = 1e-2,
    bootstrap: int = 1000,
    seed: int = 0,
    jacobian: bool = True,
    **options: Any,
) -> Decay:
    """The half-life of a model's memory, from its attributions on some sequences.

    With a(k) the mean over sequences of the sum over features of abs(IG) at lag k, counted from
    each sequence's own end, it is ln 2 / -(slope of ln a(k)), in steps or in the unit of ``times``;
    see :class:`Decay`, whose fields are ``half_life``, ``interval``, ``status``, ``reason`` and
    ``notes``, the profile by lag, and measures beside the slope. ``status`` is ``exponential``
    where the half-life describes the memory, and otherwise ``non_exponential``, ``power_like``,
    ``delayed_peak``, ``echo``, ``finite_window``, ``censored``, ``no_decay``, ``too_short`` or
    ``not_converged``; ``reason`` says what that means.

    >>> import math, torch
    >>> from ig_sequences.cases.closed_forms import LeakyIntegrator
    >>> x = torch.randn(32, 40, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> found = attribution_decay(LeakyIntegrator(0.8), x)
    >>> low, high = found.interval
    >>> print(f"{found.half_life:.2f} steps, 95 % from {low:.2f} to {high:.2f}: {found.status}")
    3.12 steps, 95 % from 3.08 to 3.16: exponential

    Noise in the inputs is what makes the interval wide; per unit of input there is none here.

    >>> found = attribution_decay(LeakyIntegrator(0.8), x, normalise="input")
    >>> round(found.half_life, 6) == round(math.log(0.5) / math.log(0.8), 6)
    True

    Args:
        x: a tensor ``(batch, time, features)``, one of its rows, or a list of sequences.
        target: as for :func:`ig_core.attribute`.
        lengths: true lengths of a padded tensor.
        times: when each step was, rising; the lag is then the time until the explained step.
        baseline: as for :func:`ig_core.attribute`; the mean of each feature over all steps of all
            sequences, unless told otherwise.
        reduce: ``"abs-sum"`` adds abs(IG) over features; ``"abs-of-sum"`` lets them cancel.
        normalise: ``"input"`` divides by abs(x - x') at every step, so that what moved far does
            not count for more; ``"sequence"`` divides a sequence's profile by its sum, so that all
            sequences count alike.
        burn_in: steps at the far end of every sequence to leave out, where the initial state still
            shows.
        tol: as for :func:`ig_core.attribute`.
        bootstrap: resamples of the sequences behind ``interval``; of fewer than 20 it is NaN.
        seed: of these, and of everything else that is random.
        jacobian: also take the gradient at x, for ``Decay.jacobian``.
        **options: of :func:`ig_core.attribute` and of the domain, such as ``path``, ``budget`` or
            ``step``.

    Raises:
        InputError: as :func:`ig_core.attribute`; or nothing is left to measure.
    """
    if options.pop("domain", "sequences") != "sequences":
        raise InputError(
            "attribution_decay explains with the domain 'sequences': leave out domain="
        )
    if "targets" in options:
        raise InputError(
            "a decay is of one number of the output: give target=, and call once for each target"
        )
    check_options(burn_in, bootstrap, reduce, normalise)
    options |= {n: v for n, v in (("lengths", lengths), ("times", times)) if v is not None}
    found = ig.attribute(
        model, x, domain="sequences", target=target, baseline=baseline, tol=tol, seed=seed,
        **options,
    )  # fmt: skip
    results = cast("list[Attribution]", found if isinstance(found, list) else [found])
    notes: tuple[str, ...] = ()
    gradients = None
    if jacobian and results:
        own = {n: v for n, v in options.items() if n not in NOT_OF_THE_JACOBIAN}
        try:
            gradients = jacobian_at(model, x, target, **own)
        except IGError as error:
            notes = (f"there is no Jacobian at x: {error}",)
    return find_decay(
        results, burn_in=burn_in, bootstrap=bootstrap, seed=seed, reduce=reduce,
        normalise=normalise, gradients=gradients, notes=notes,
    )  # fmt: skip
