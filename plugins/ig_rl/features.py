"""Names of state features and actions, and how a feature is written with its value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from ig_core import InputError

FEATURES: dict[str, tuple[str, ...]] = {
    "Acrobot": (
        "cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2",
        "angular velocity 1 (rad/s)", "angular velocity 2 (rad/s)",
    ),
    "CartPole": (
        "cart position (m)", "cart velocity (m/s)", "pole angle (rad)",
        "pole angular velocity (rad/s)",
    ),
    "MountainCar": ("position", "velocity"),
    "MountainCarContinuous": ("position", "velocity"),
    "Pendulum": ("cos of angle", "sin of angle", "angular velocity (rad/s)"),
}  # fmt: skip
"""Observations of Gymnasium's classic control, by environment without its version."""

ACTIONS: dict[str, tuple[str, ...]] = {
    "Acrobot": ("torque -1", "no torque", "torque +1"),
    "CartPole": ("left", "right"),
    "MountainCar": ("left", "coast", "right"),
}
"""Discrete actions of the same environments."""

WITH_UNIT = re.compile(r"(.+) \(([^()]+)\)")
"""A feature and its unit of measurement."""


def environment_of(model: Any) -> str:
    """The known environment whose raw observations an agent receives; empty if there is none.

    Nothing is assumed behind a wrapper that changes observations: units would be wrong there.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = model.get_env()
    if vector is None or model.get_vec_normalize_env() is not None:
        return ""
    if not isinstance(vector.unwrapped, DummyVecEnv):
        return ""
    inner = vector.unwrapped.envs[0].unwrapped
    if inner.spec is None or inner.observation_space != model.observation_space:
        return ""
    return str(inner.spec.id).rpartition("-")[0]


def feature_names(
    given: Sequence[str] | None, environment: str, shape: Sequence[int]
) -> tuple[str, ...]:
    """The given names, or those of a known environment, or positions in the observation."""
    places = list(itertools.product(*(range(n) for n in shape)))
    if given is not None:
        return checked(given, len(places), "feature_names")
    return FEATURES.get(environment) or tuple(
        f"observation[{', '.join(map(str, place))}]" for place in places
    )


def action_names(given: Sequence[str] | None, environment: str, count: int) -> tuple[str, ...]:
    """The given names, or those of a known environment, or numbers."""
    if given is not None:
        return checked(given, count, "action_names")
    known = ACTIONS.get(environment, ())
    return known if len(known) == count else tuple(f"action {a}" for a in range(count))


def checked(names: Sequence[str], count: int, option: str) -> tuple[str, ...]:
    """The names, if there are that many printable ones.

    Raises:
        InputError: there are not; control characters could steer a terminal.
    """
    if isinstance(names, str) or not all(isinstance(n, str) and n.isprintable() for n in names):
        raise InputError(f"{option} must be a list of printable strings (got {names!r})")
    if len(names) != count:
        raise InputError(f"{option} must hold {count} names (got {len(names)})")
    return tuple(names)


def written(name: str, value: float) -> str:
    """A feature with its value; a unit is what stands in brackets at the end of a name.

    >>> written("pole angle (rad)", 0.0412)
    'pole angle = +0.0412 rad'
    """
    parts = WITH_UNIT.fullmatch(name)
    return f"{parts[1]} = {value:+.3g} {parts[2]}" if parts else f"{name} = {value:+.3g}"


def bare(name: str) -> str:
    """A feature without its value and its unit.

    >>> bare("pole angle (rad)")
    'pole angle'
    """
    parts = WITH_UNIT.fullmatch(name)
    return parts[1] if parts else name
