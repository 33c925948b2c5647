"""Names of state features and actions, and how a feature is written with its value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ig_core import InputError
from ig_rl.observations import known

if TYPE_CHECKING:
    from ig_rl.agents import Agent
    from ig_rl.observations.grid import Grid

WITH_UNIT = re.compile(r"(.+) \((?!\d+, \d+\))([^()]+)\)")
"""A feature and its unit of measurement; pixels have places in brackets."""


@dataclass(frozen=True)
class Surroundings:
    """What the environment of a model tells of its observations.

    ``environment`` is the known one whose raw observations the agent receives (empty if there is
    none), ``frames`` how many observations are stacked, ``leading`` whether along a dimension of
    their own.
    """

    environment: str = ""
    frames: int = 1
    leading: bool = False


def surroundings_of(model: Any, env: Any = None, *, raw: bool) -> Surroundings:
    """What wraps an environment; ``raw`` says that ``VecNormalize`` is accounted for.

    A given environment goes before the model's own, which one that was loaded does not have.
    Nothing is assumed behind a wrapper that changes observations: units would be wrong there.
    """
    from stable_baselines3.common.base_class import BaseAlgorithm

    own = model.get_env() if isinstance(model, BaseAlgorithm) else None
    space = getattr(model, "observation_space", None)
    found = [_surroundings(one, space, raw=raw) for one in (env, own) if one is not None]
    return next((one for one in found if one != Surroundings()), Surroundings())


def _surroundings(layer: Any, space: Any, *, raw: bool) -> Surroundings:
    import gymnasium
    from gymnasium.wrappers import FrameStackObservation
    from stable_baselines3.common.vec_env import (
        DummyVecEnv,
        VecCheckNan,
        VecFrameStack,
        VecMonitor,
        VecNormalize,
        VecTransposeImage,
    )
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

    known_ones, frames, leading = True, 1, False
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecFrameStack):
            frames *= layer.stacked_obs.n_stack
        elif isinstance(layer, VecNormalize):
            known_ones &= raw or not layer.norm_obs
        else:
            known_ones &= isinstance(layer, (VecTransposeImage, VecMonitor, VecCheckNan))
        layer = layer.venv
    env = layer.envs[0] if isinstance(layer, DummyVecEnv) else layer
    if not isinstance(env, gymnasium.Env):
        return Surroundings("", frames)
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, FrameStackObservation):
            known_ones &= frames == 1
            frames, leading = frames * env.stack_size, True
        else:
            changed = env.observation_space != env.env.observation_space
            known_ones &= not changed and not isinstance(env, gymnasium.ObservationWrapper)
        env = env.env
    name = str(env.spec.id).rpartition("-")[0] if env.spec is not None else ""
    same = frames > 1 or env.observation_space == space
    return Surroundings(name if known_ones and same else "", frames, leading)


def feature_names(
    given: Any, environment: str, grids: Sequence[Grid]
) -> tuple[tuple[str, ...], ...]:
    """For each tensor the given names, or those of a known environment, or positions in it.

    They are the names of one frame, or of all frames where so many were given.
    """
    if isinstance(given, Mapping):
        keys = [grid.key for grid in grids]
        if set(given) != set(keys):
            raise InputError(f"feature_names by key need the keys {sorted(keys)} (got {given!r})")
        return tuple(
            checked(given[g.key], g.count, f"feature_names[{g.key!r}]", g.units) for g in grids
        )
    one, every = sum(grid.count for grid in grids), sum(grid.units for grid in grids)
    names: Sequence[str] = known.FEATURES.get(environment, ())
    if given is not None:
        names = checked(given, one, "feature_names", every)
    elif len(names) != one or len(grids) > 1:
        return tuple(tuple(grid.own_names()) for grid in grids)
    left = iter(names)
    sizes = [grid.count if len(names) == one else grid.units for grid in grids]
    return tuple(tuple(next(left) for _ in range(size)) for size in sizes)


def action_names(given: Any, environment: str, agent: Agent, explain: str) -> tuple[str, ...]:
    """The given names, or those of a known environment, or numbers.

    They are of the actions of a discrete space, of the choices of one part of an action, or of
    the elements of a continuous one.
    """
    count = agent.choices(explain) if agent.parts else agent.count or agent.size
    if given is not None:
        return checked(given, count, "action_names")
    if agent.parts:
        part = explain.partition(":")[2]
        return tuple(f"action[{part}] = {choice}" for choice in range(count))
    documented = (known.ACTIONS if agent.count else known.ELEMENTS).get(environment, ())
    if len(documented) == count:
        return documented
    return tuple(f"action {a}" if agent.count else f"action[{a}]" for a in range(count))


def checked(names: Any, count: int, option: str, other: int | None = None) -> tuple[str, ...]:
    """The names, if there are that many printable ones (or so many of the ``other``).

    Raises:
        InputError: there are not; control characters could steer a terminal.
    """
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(n, str) and n.isprintable() for n in names):
        raise InputError(f"{option} must be a list of printable strings (got {names!r})")
    if len(names) not in (count, other):
        more = f", or {other} with those of all frames" if other not in (None, count) else ""
        raise InputError(f"{option} must hold {count} names{more} (got {len(names)})")
    return tuple(names)


def written(name: str, value: float) -> str:
    """A feature with its value; a unit is what stands in brackets at the end of a name.

    >>> written("pole angle (rad)", 0.0412)
    'pole angle = +0.0412 rad'
    """
    parts = WITH_UNIT.fullmatch(name)
    return f"{parts[1]} = {value:+.3g} {parts[2]}" if parts else f"{name} = {value:+.3g}"


def category(name: str, value: float) -> str:
    """A feature that is one of several categories.

    >>> category("state", 14.0), category("observation[1]", 2.0)
    ('state 14', 'observation[1] = 2')
    """
    return f"{name} {value:.0f}" if name == "state" else f"{name} = {value:.0f}"


def bare(name: str) -> str:
    """A feature without its value and its unit.

    >>> bare("pole angle (rad)"), bare("pixel (3, 4)")
    ('pole angle', 'pixel (3, 4)')
    """
    parts = WITH_UNIT.fullmatch(name)
    return parts[1] if parts else name


def aged(name: str, ago: int) -> str:
    """A feature of some steps ago, with its unit still at the end.

    >>> aged("pole angle (rad)", 2), aged("position", 1), aged("position", 0)
    ('pole angle, 2 steps ago (rad)', 'position, 1 step ago', 'position')
    """
    parts = WITH_UNIT.fullmatch(name)
    if parts:
        return f"{aged(parts[1], ago)} ({parts[2]})"
    return f"{name}, {past(ago)}" if ago else name


def past(ago: int) -> str:
    """How long ago a step was.

    >>> past(0), past(1), past(2)
    ('now', '1 step ago', '2 steps ago')
    """
    return f"{ago} step{'s' if ago > 1 else ''} ago" if ago else "now"
