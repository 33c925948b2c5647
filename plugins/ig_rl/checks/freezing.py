"""Freezing: what an agent's return costs when it always sees the same value of a feature."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ig_core import InputError, Table
from ig_rl import plain
from ig_rl.checks.copies import copied
from ig_rl.checks.interval import Estimate, estimate
from ig_rl.checks.judged import asked, batch_of, unit_names

MOST_FEATURES = 64
"""More features than these are only frozen by their numbers: each costs whole episodes."""

MOST_STEPS = 10_000
"""An episode that goes on for longer is broken off."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Freezing:
    """Returns of an agent that sees one feature frozen at its visited mean.

    ``intact[e]`` is the return of episode e as the agent is, ``returns[j, e]`` that of the same
    seed with feature ``names[j]`` frozen. ``importance[quantity][j]`` is the mean abs(score) of
    that feature, where attributions were given.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    intact: Float[np.ndarray, " episodes"]
    returns: Float[np.ndarray, "features episodes"]
    importance: Mapping[str, Float[np.ndarray, " features"]]
    notes: Sequence[str] = ()

    def change(self, feature: int) -> Estimate:
        """What freezing changes the return by, seed by seed; negative where the feature matters."""
        return estimate(self.returns[feature] - self.intact)

    def first(self, quantity: str) -> int:
        """The feature that an attribution names first.

        Raises:
            InputError: there is no such attribution.
        """
        if quantity not in self.importance:
            known = ", ".join(self.importance) or "none"
            raise InputError(f"no attribution {quantity!r}; those that were given: {known}")
        return int(np.argmax(self.importance[quantity]))

    def table(self) -> Table:
        """One feature a row, with the mean magnitudes of the attributions beside it."""
        rows: list[list[str | float]] = []
        for j, name in enumerate(self.names):
            change = self.change(j)
            sizes = [float(own[j]) for own in self.importance.values()]
            mean = float(self.returns[j].mean())
            rows.append([name, mean, change.mean, change.low, change.high, *sizes])
        whole = estimate(self.intact)
        named = [
            f"{what} names {self.names[j]} first; freezing it changes the return by "
            f"{self.change(j)}"
            for what in self.importance
            for j in [self.first(what)]
        ]
        notes = [
            f"return as it is: {whole}, {len(self.seeds)} episodes; the agent sees the feature "
            "frozen at its visited mean, the environment goes on",
            "change: paired by seed, 95 % intervals by the bootstrap over seeds",
            *named,
            *self.notes,
        ]
        beside = [f"mean |{name}|" for name in self.importance]
        return Table(["frozen", "return", "change", "low", "high", *beside], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """All returns, as JSON values."""
        return {
            "names": list(self.names),
            "seeds": list(self.seeds),
            "intact": plain.numbers(self.intact),
            "returns": plain.numbers(self.returns),
            "importance": {name: plain.numbers(own) for name, own in self.importance.items()},
            "notes": list(self.notes),
        }


def frozen(
    model: Any,
    env: Any,
    seeds: Iterable[int],
    *,
    states: Any,
    features: Sequence[int] | None = None,
    importance: Mapping[str, Float[np.ndarray, "states units"]] | None = None,
    **options: Any,
) -> Freezing:
    """The return of an agent that sees a feature frozen at its mean over visited states.

    The agent plays with its deterministic actions, and the same seeds are used for every feature.
    Both the policy and the environment are copies; the user's are left as they are.

    Args:
        env: a Gymnasium environment.
        seeds: of the episodes.
        states: states that the agent visited.
        features: numbers of the features to freeze; all by default.
        importance: scores of all features at some states, by what they are called.
        **options: of :class:`ig_rl.AgentDomain`.

    Raises:
        InputError: there is no seed, the environment cannot be copied, or there are too many
            features to freeze them all.
    """
    chosen_seeds = [int(seed) for seed in seeds]
    if not chosen_seeds:
        raise InputError("freezing needs at least one seed (got none)")
    ask, _ = asked(states, None, options)
    domain = ask(model)
    example = domain.encode(batch_of(domain, states)[0])
    names = unit_names(example)
    chosen = _features(features, len(names))
    lanes = [environment_copied(env) for _ in chosen_seeds]
    values = {name: value.cpu() for name, value in domain.baseline(example).items()}
    runs = []
    for feature in (None, *chosen):
        units = torch.zeros(1, len(names), dtype=torch.bool)
        if feature is not None:
            units[0, feature] = True
        masks = {n: m[0] for n, m in example.parts.mask(units, example.inputs).items()}
        runs.append(played(acting(model, masks, values), lanes, chosen_seeds))
    for lane in lanes:
        lane.close()
    broken = sum(run.broken for run in runs)
    return Freezing(
        names=[names[j] for j in chosen],
        seeds=chosen_seeds,
        intact=runs[0].returns,
        returns=np.stack([run.returns for run in runs[1:]]),
        importance={
            name: np.nanmean(np.abs(own), 0)[list(chosen)]
            for name, own in (importance or {}).items()
        },
        notes=[f"{broken} episodes were broken off after {MOST_STEPS} steps"] if broken else [],
    )


Acts = Callable[[Sequence[Any], Any, Any], tuple[Any, Any]]
"""Actions, and what the policy carries on, from observations, what it carried and which begin."""


@dataclass(frozen=True, eq=False)
class Run:
    """One episode for each seed; ``visited`` holds their observations if they were wanted."""

    returns: Float[np.ndarray, " episodes"]
    visited: Sequence[Sequence[Any]]
    broken: int
    """Episodes that were broken off."""


def acting(
    model: Any,
    masks: Mapping[str, Bool[Tensor, ...]],
    values: Mapping[str, Float[Tensor, ...]],
) -> Acts:
    """A copy of the policy that sees these values where the masks say so."""
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    def seen(extractor: nn.Module, received: tuple[Any, ...]) -> tuple[Any, ...]:
        z = received[0]
        if isinstance(z, dict):
            return ({key: stuck(f"observation.{key}", value) for key, value in z.items()},)
        return (stuck("observation", z),)

    def stuck(name: str, z: Tensor) -> Tensor:
        return torch.where(masks[name].to(z.device), values[name].to(z), z) if name in masks else z

    own = copied(model)
    policy = getattr(own, "policy", own)
    for module in policy.modules():
        if isinstance(module, BaseFeaturesExtractor):
            module.register_forward_pre_hook(seen)

    def acts(observations: Sequence[Any], state: Any, begins: Any) -> tuple[Any, Any]:
        return policy.predict(_stacked(observations), state, begins, deterministic=True)

    return acts


def played(acts: Acts, lanes: Sequence[Any], seeds: Sequence[int], *, keep: bool = False) -> Run:
    """One episode for each seed, all of them step by step side by side."""
    observations = [lane.reset(seed=seed)[0] for lane, seed in zip(lanes, seeds, strict=True)]
    total, going = np.zeros(len(lanes)), np.ones(len(lanes), dtype=bool)
    state, begins = None, np.ones(len(lanes), dtype=bool)
    visited: list[list[Any]] = [[] for _ in lanes]
    for _ in range(MOST_STEPS):
        actions, state = acts(observations, state, begins)
        begins = np.zeros(len(lanes), dtype=bool)
        for i in np.flatnonzero(going).tolist():
            if keep:
                visited[i].append(copy.deepcopy(observations[i]))
            observations[i], reward, terminated, truncated, _ = lanes[i].step(actions[i])
            total[i] += float(reward)
            going[i] = not (terminated or truncated)
        if not going.any():
            break
    return Run(total, visited, int(going.sum()))


def _stacked(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack([np.asarray(o) for o in observations])


def environment_copied(env: Any) -> Any:
    """A copy of a Gymnasium environment, to play in."""
    import gymnasium

    if not isinstance(env, gymnasium.Env):
        raise InputError(
            f"freezing plays in a Gymnasium environment (got {type(env).__name__}); of a VecEnv "
            "pass one of its environments"
        )
    try:
        return copy.deepcopy(env)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"the environment cannot be copied ({told})") from error


def _features(given: Sequence[int] | None, count: int) -> Sequence[int]:
    if given is None:
        if count > MOST_FEATURES:
            raise InputError(
                f"{count} features are too many to freeze each: name some with features= "
                f"(at most {MOST_FEATURES} are frozen by themselves)"
            )
        return range(count)
    if wrong := [j for j in given if isinstance(j, bool) or j not in range(count)]:
        raise InputError(f"features are numbers from 0 to {count - 1} (got {wrong[0]!r})")
    return list(given)
