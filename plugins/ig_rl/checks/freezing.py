"""Freezing: what an agent's return costs when it always sees the same value of a feature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ig_core import Example, InputError, Table, plain_numbers
from ig_rl.checks.copies import copied
from ig_rl.checks.interval import ALONE, Estimate, estimate
from ig_rl.checks.judged import asked, batch_of, unit_names
from ig_rl.checks.watch import QUIET, Watch
from ig_rl.domain import AgentDomain
from ig_rl.episodes import MOST_STEPS, Episodes, play, seeds_of

MOST_FEATURES = 64
"""More features than these are only frozen by their numbers: each costs whole episodes."""

STILL = "constant in these episodes"


@dataclass(frozen=True, eq=False, kw_only=True)
class Freezing:
    """Returns of an agent that sees one feature frozen at its visited mean.

    ``intact[e]`` is the return of episode e as the agent is, ``returns[j, e]`` that of the same
    seed with feature ``names[j]`` frozen. ``importance[quantity][j]`` is the mean abs(score) of
    that feature, where attributions were given. ``constant[j]`` says that the feature had one value
    in all these episodes, so that freezing it there says nothing of whether it matters.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    intact: Float[np.ndarray, " episodes"]
    returns: Float[np.ndarray, "features episodes"]
    importance: Mapping[str, Float[np.ndarray, " features"]]
    constant: Sequence[bool] = ()
    notes: Sequence[str] = ()

    def still(self, feature: int) -> bool:
        """Whether the feature never changed in these episodes."""
        return bool(self.constant) and self.constant[feature]

    @property
    def worst(self) -> int | None:
        """The feature that costs the most; None where none of them ever changed."""
        moving = [j for j in range(len(self.names)) if not self.still(j)]
        return min(moving, key=lambda j: float(self.returns[j].mean()), default=None)

    @property
    def verdict(self) -> str:
        """What costs the most, and whether it is what the attributions name first."""
        if self.worst is None:
            return f"Freezing says nothing: every feature is {STILL}."
        cost, name = self.change(self.worst), self.names[self.worst]
        told = f"{cost.mean:+.3g} of {float(self.intact.mean()):.3g}"
        if not cost.known:
            return f"Freezing {name} changes the return the most: {told}; {ALONE}."
        if cost.high >= 0:
            return (
                f"No feature costs the return when it is frozen, as far as can be told (the most: "
                f"{name}, {told}, 95 % interval {cost.low:+.3g} to {cost.high:+.3g})."
            )
        named = [what for what in self.importance if self.first(what) == self.worst]
        others = [
            f"{what} names {self._costs(self.first(what))}"
            for what in self.importance
            if what not in named
        ]
        if named:
            others.insert(0, f"{' and '.join(named)} name{'s' if len(named) == 1 else ''} it first")
        return "; ".join([f"Freezing {name} costs the most: {told}", *others]) + "."

    def _costs(self, feature: int) -> str:
        if self.still(feature):
            return f"{self.names[feature]} ({STILL})"
        return f"{self.names[feature]} ({self.change(feature).mean:+.3g})"

    def change(self, feature: int) -> Estimate:
        """What freezing changes the return by, seed by seed; negative where the feature matters.

        NaN of one that is constant in these episodes.
        """
        if self.still(feature):
            return Estimate(math.nan, math.nan, math.nan)
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
            told = [STILL, "", ""] if self.still(j) else [change.mean, change.low, change.high]
            rows.append([name, mean, *told, *sizes])
        whole = estimate(self.intact)
        named = [
            f"{what} names {self.names[j]} first; "
            + (
                f"it is {STILL}"
                if self.still(j)
                else f"freezing it changes the return by {self.change(j)}"
            )
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
        return Table(["frozen", "return", "change", "95 % low", "95 % high", *beside], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """All returns, as JSON values."""
        return {
            "names": list(self.names),
            "seeds": list(self.seeds),
            "intact": plain_numbers(self.intact),
            "returns": plain_numbers(self.returns),
            "importance": {name: plain_numbers(own) for name, own in self.importance.items()},
            "constant": [self.still(j) for j in range(len(self.names))],
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
    intact: Episodes | None = None,
    most_steps: int = MOST_STEPS,
    watch: Watch = QUIET,
    **options: Any,
) -> Freezing:
    """The return of an agent that sees a feature frozen at its mean over visited states.

    The agent plays with its deterministic actions, and the same seeds are used for every feature.
    Copies of the policy and of the environment play, as for :func:`ig_rl.episodes.play`.

    >>> found = frozen(model, env, [0, 1], states=states, features=[0, 2])
    >>> found.names, found.intact.tolist(), bool((found.returns[1] < 250).all())
    (['cart position', 'pole angle'], [500.0, 500.0], True)

    Args:
        env: as for :func:`ig_rl.episodes.play`: a Gymnasium environment or a ``VecEnv``.
        seeds: of the episodes.
        states: states that the agent visited.
        features: numbers of the features to freeze; all by default.
        importance: scores of all features at some states, by what they are called.
        intact: episodes of the same seeds by the agent as it is, if they were played already.
        most_steps: where to cut an episode.
        watch: who is told how far this is.
        **options: of :class:`ig_rl.AgentDomain`, such as ``vecnormalize``.

    Raises:
        InputError: there is no seed, the environment is none of the agent's, or there are too many
            features to freeze them all.
    """
    seeds = seeds_of(seeds)
    ask, _ = asked(states, None, options)
    domain = ask(model)
    with domain.prepared():
        example = domain.encode(batch_of(domain, states)[0])
        names = unit_names(example)
        chosen = _features(features, len(names), _seen(example))
        values = {name: value.cpu() for name, value in domain.baseline(example).items()}
        normal = options.get("vecnormalize") or None
        if intact is None:
            intact = play(model, env, seeds, vecnormalize=normal, most_steps=most_steps)
        runs = [intact]
        for feature in watch.each(chosen, "frozen"):
            units = torch.zeros(1, len(names), dtype=torch.bool)
            units[0, feature] = True
            masks = {n: m[0] for n, m in example.parts.mask(units, example.inputs).items()}
            other = seeing(model, masks, values)
            runs.append(play(other, env, seeds, vecnormalize=normal, most_steps=most_steps))
    told = {note: None for run in runs for note in run.notes}
    return Freezing(
        names=[names[j] for j in chosen],
        seeds=seeds,
        intact=intact.returns,
        returns=np.stack([run.returns for run in runs[1:]]),
        importance={
            name: np.nanmean(np.abs(own), 0)[list(chosen)]
            for name, own in (importance or {}).items()
        },
        constant=_constant(domain, [states, intact.states], chosen),
        notes=[*told],
    )


def seeing(
    model: Any,
    masks: Mapping[str, Bool[Tensor, ...]],
    values: Mapping[str, Float[Tensor, ...]],
) -> Any:
    """A copy of the model whose policy sees these values where the masks say so.

    Raises:
        InputError: it has no features extractor of Stable-Baselines3 that could be shown them.
    """
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
    modules = policy.modules() if isinstance(policy, nn.Module) else ()
    extractors = [module for module in modules if isinstance(module, BaseFeaturesExtractor)]
    if not extractors:
        raise InputError(
            f"freezing needs a policy of Stable-Baselines3, whose features extractor is shown the "
            f"frozen value (got {type(model).__name__})"
        )
    for module in extractors:
        module.register_forward_pre_hook(seen)
    return own


def _constant(domain: AgentDomain, pools: Sequence[Any], chosen: Sequence[int]) -> list[bool]:
    """Whether features have one value in all states of all pools."""
    ends = []
    for pool in {id(pool): pool for pool in pools}.values():
        values = domain.raw_values(pool)[:, list(chosen)]
        ends += [values.amin(0), values.amax(0)]
    both = torch.stack(ends)
    return (both.amin(0) == both.amax(0)).tolist()


def _seen(example: Example) -> list[int]:
    """The units of the observation; those of an action cannot be frozen."""
    parts = [
        index.flatten()
        for name, index in example.parts.index.items()
        if name.partition(".")[0] == "observation"
    ]
    return [unit for unit in torch.cat(parts).unique().tolist() if unit >= 0]


def _features(given: Sequence[int] | None, count: int, seen: Sequence[int]) -> Sequence[int]:
    if given is None:
        if len(seen) > MOST_FEATURES:
            raise InputError(
                f"{len(seen)} features are too many to freeze each: name some with features= "
                f"(at most {MOST_FEATURES} are frozen by themselves)"
            )
        return seen
    if wrong := [j for j in given if isinstance(j, bool) or j not in seen]:
        told = f"from 0 to {count - 1}" if len(seen) == count else f"among {[*seen]}"
        raise InputError(f"features are numbers {told} (got {wrong[0]!r})")
    return list(given)
