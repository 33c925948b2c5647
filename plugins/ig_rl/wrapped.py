"""An agent wrapped with its environment: what it wants, where it has been, and why it acts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import ig_core as ig
from ig_core import Attribution, InputError, UnknownNameError
from ig_rl import given as checked
from ig_rl.analyses import EpisodeTimeline, FeatureImportance
from ig_rl.baselines import GivenState, ResetState
from ig_rl.checks import Faithfulness, faithfulness
from ig_rl.counts import counted
from ig_rl.domain import AgentDomain
from ig_rl.episodes import MOST_STEPS, play, visited
from ig_rl.episodes.matching import normaliser
from ig_rl.episodes.question import ask, remembered, so_far
from ig_rl.episodes.visited import Visited
from ig_rl.findings.agreement import StateAgreement, agreement, named
from ig_rl.findings.importance import RESAMPLES, Importance
from ig_rl.findings.timeline import Timeline
from ig_rl.observations.normalisation import Normalisation

BASELINES = ("visited-mean", "visited-median", "visited-states", "normalised-zero")
"""Whose agreement is printed by default."""

MOST_EXPLAINED = 1000
"""States that findings over many states explain, at equal distances in those visited."""

MOST_COMPARED = 200
"""The same where several baselines are compared."""

ASKED = ("explain", "versus", "states", "surroundings")
"""Options of the domain that belong to a question, or have an argument of their own here."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Wrapped:
    """An agent with what belongs to it; see :func:`wrap`."""

    model: Any
    env: Any = None
    vecnormalize: Any = None
    given: Any = None
    """States that the user passed."""
    options: Mapping[str, Any]
    """Of every :class:`ig_rl.AgentDomain` that is made."""

    def __repr__(self) -> str:
        spec = getattr(self.env, "spec", None)
        env = "" if self.env is None else f", {spec.id if spec else type(self.env).__name__}"
        return f"ig_rl.wrap({type(self.model).__name__}{env})"

    @cached_property
    def visited(self) -> Visited:
        """States that the agent visited; the environment is played when they are first needed."""
        with self._domain(self.options).prepared():
            return Visited.of(self.model, self.env, self.vecnormalize, self.given)

    def explain(
        self,
        obs: Any,
        target: str | None = None,
        *,
        action: Any = None,
        versus: str | int | None = None,
        baseline: Any = None,
        **options: Any,
    ) -> Attribution | list[Attribution]:
        """Why the agent prefers an action, or values a state, at one observation or a batch.

        Args:
            obs: one observation, or a batch of them, in the environment's own numbers.
            target: the quantity: ``"gap"`` (why this action rather than that one), ``"q"``,
                ``"logit"``, ``"value"`` or another of :class:`ig_rl.AgentDomain`; the agent's
                default if not given.
            action: the action (number or name) that is explained, or a pair for a gap; its own
                choice if not given. A list names one for each observation.
            versus: the other action of a gap, by default the runner-up.
            baseline: where paths start: by default the mean of visited states, where there are
                any. A name, as ``"visited-median"``, ``"visited-states"`` (expected gradients),
                ``"reset-state"`` or ``"decision-boundary"``; an array, which is an observation; a
                :class:`ig_core.Baseline`; or a list of these, whose results are averaged.
            **options: ``tol``, ``rule``, ``budget``, ``seed``, ``strict`` and others of
                :func:`ig_core.attribute`, or of the domain.

        Raises:
            InputError: the observation or an option does not fit the agent.
        """
        checked.known(options, self.explain)
        with checked.in_these_words():
            asked = self._asked(target, versus, options)
            action = self._given(asked, action)
            return ig.attribute(  # type: ignore[return-value]
                self.model, obs, domain="rl", target=action, baseline=self._start(baseline), **asked
            )

    def explain_episode(
        self,
        env: Any = None,
        seed: int = 0,
        *,
        target: str | None = None,
        action: Any = None,
        versus: str | int | None = None,
        baseline: Any = None,
        render: bool = False,
        most_steps: int = MOST_STEPS,
        **options: Any,
    ) -> Timeline:
        """Play one episode and explain the same number at each of its steps.

        A gap has a fixed pair of actions, because against the runner-up, which changes, the signs
        change with the question. By default these are the two actions taken most often, the more
        frequent one first; of two actions ``(1, 0)``, so that positive scores speak for action 1.
        ``action=(a, b)`` names a pair, ``action=a`` or ``versus=b`` one of them, and
        ``versus="runner-up"`` asks every step for its own. A quantity of one action is explained
        for the one taken most often.

        Args:
            env: that of :func:`wrap` by default; a copy is played.
            seed: of the episode, and of what is random in explaining.
            render: keep the environment's pictures, which :meth:`Timeline.video` shows.
            most_steps: where to cut the episode.

        The other arguments are those of :meth:`explain`.

        Raises:
            InputError: there is no environment, it is not the agent's, or it raised.
        """
        checked.known(options, self.explain_episode)
        checked.quantity(target)
        env = self._environment(env, "explain_episode")
        with self._domain(self.options).prepared():
            played = play(
                self.model,
                env,
                [seed],
                vecnormalize=self.vecnormalize,
                render=render,
                most_steps=most_steps,
            )
        [episode] = played.episodes
        with checked.in_these_words():
            asked = self._asked(target, versus, options)
            action = self._given(asked, action)
            own = {**asked, "versus": None}
            if self._domain(own).agent.recurrent and not asked.get("unrolled"):
                own["state"] = asked["state"] = remembered(self._domain(own), episode)
            domain = self._domain(own)
            steps = so_far(episode) if asked.get("unrolled") else visited.each(episode.states)
            question = ask(domain, episode, steps, action, versus)
            if isinstance(question.target, tuple):
                asked.pop("versus", None)
            results = ig.attribute(
                self.model,
                steps,
                domain="rl",
                target=question.target,
                baseline=self._start(baseline),
                **{"seed": seed, **asked},
            )
        return EpisodeTimeline().find(
            results,  # type: ignore[arg-type]
            actions=episode.actions,
            rewards=episode.rewards,
            action_names=domain.action_names,
            seed=seed,
            frames=episode.frames,
            ties=question.ties,
            notes=[*question.notes, self.visited.source, *played.notes],
        )

    def importance(
        self,
        states: Any = None,
        target: str | None = None,
        *,
        action: Any = None,
        versus: str | int | None = None,
        baseline: Any = None,
        most_states: int = MOST_EXPLAINED,
        resamples: int = RESAMPLES,
        seed: int = 0,
        **options: Any,
    ) -> Importance:
        """How strong every state feature is over many states, and for each greedy action.

        Args:
            states: a batch of observations; the visited states by default.
            most_states: so many of them are explained, at equal distances.
            resamples: of the bootstrap over states.

        The other arguments are those of :meth:`explain`.

        Raises:
            InputError: there are no states.
        """
        checked.known(options, self.importance)
        checked.quantity(target)
        own, notes = self.visited.some(states, counted("most_states", most_states))
        with checked.in_these_words():
            asked = self._asked(target, versus, options)
            domain = self._domain(asked)
        results = self.explain(
            own, target, action=action, versus=versus, baseline=baseline, seed=seed, **options
        )
        greedy = None
        if domain.agent.recurrent and "state" not in asked:
            notes.append("an empty memory is assumed in every state")
        if domain.agent.count:
            greedy = [domain.action_names[a] for a in domain.actions_of(own).tolist()]
        return FeatureImportance().find(
            results,  # type: ignore[arg-type]
            actions=greedy,
            resamples=resamples,
            seed=seed,
            notes=notes,
        )

    def baseline_agreement(
        self,
        states: Any = None,
        baselines: Sequence[Any] | Mapping[str, Any] = BASELINES,
        target: str | None = None,
        *,
        action: Any = None,
        versus: str | int | None = None,
        most_states: int = MOST_COMPARED,
        **options: Any,
    ) -> StateAgreement:
        """How far the scores depend on the baseline, over many states.

        Args:
            states: a batch of observations; the visited states by default.
            baselines: at least two, each as for :meth:`explain`, or a mapping from names.
            most_states: so many states are explained, at equal distances.

        The other arguments are those of :meth:`explain`.

        Raises:
            InputError: there are no states, or fewer than two baselines.
        """
        checked.known(options, self.baseline_agreement)
        checked.quantity(target)
        own, notes = self.visited.some(states, counted("most_states", most_states))
        return agreement(
            {
                name: self.explain(
                    own, target, action=action, versus=versus, baseline=one, **options
                )  # type: ignore[misc]
                for name, one in named(baselines).items()
            },
            notes=notes,
        )

    def faithfulness(
        self, env: Any = None, seeds: Iterable[int] = range(20), **options: Any
    ) -> Faithfulness:
        """Check what attributions say of this agent; see :func:`ig_rl.faithfulness`.

        Raises:
            InputError: there is no environment, or a check's own reasons.
        """
        env = self._environment(env, "faithfulness")
        own = {**self.options, "states": self.given, **options}
        own["baseline"] = self._start(own.get("baseline"))
        return faithfulness(self.model, env, seeds, **own)

    def _start(self, given: Any) -> Any:
        """A baseline as ``ig_core.attribute`` takes it: arrays are observations."""
        if isinstance(given, list):
            return [self._start(one) for one in given]
        if isinstance(given, (np.ndarray, Mapping)):
            return GivenState(given)
        if isinstance(given, str) and given == ResetState.name:
            return ResetState(self._environment(None, f"the baseline {given!r}"))
        return given

    def _environment(self, env: Any, what: str) -> Any:
        found = self.env if env is None else env
        if found is None:
            raise InputError(f"{what} needs an environment: pass env= here or to wrap (got none)")
        return found

    def _asked(
        self, target: str | None, versus: str | int | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Options of ``ig_core.attribute``: the domain's, as wrapped and as asked, and its own."""
        checked.quantity(target)
        asked = {**self.options, "states": self.visited.states, **options}
        if target is not None:
            asked["explain"] = target
        if versus is not None:
            asked["versus"] = versus
        return {name: value for name, value in asked.items() if value is not None}

    def _given(self, asked: dict[str, Any], action: Any) -> Any:
        """What of a given action is a target; one whose value is asked for is an option."""
        domain = self._domain({**asked, "versus": None})
        if isinstance(action, np.ndarray) and action.size == 1 and domain.agent.count:
            action = action.item()
        if action is None or not domain.agent.needs_action(domain.explain):
            return action
        asked["action"] = action
        return None

    def _domain(self, asked: Mapping[str, Any]) -> AgentDomain:
        known = inspect.signature(AgentDomain).parameters
        return AgentDomain(
            self.model, **{n: v for n, v in asked.items() if n in known and v is not None}
        )


def wrap(
    model: Any,
    env: Any = None,
    *,
    vecnormalize: Any = None,
    feature_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    action_names: Sequence[str] | None = None,
    states: Any = None,
    **options: Any,
) -> Wrapped:
    """An agent ready to be asked why it acts as it does. ::

        agent = ig_rl.wrap(model, env)
        print(agent.explain(obs).to_text())         # why this action rather than the next best
        agent.explain_episode(seed=0).plot()        # every feature at every step
        agent.importance().plot()                   # which features count, and for which action

    Model and environment are left as they are: copies of the environment are played.

    >>> agent = wrap(model, env, states=states)
    >>> agent.explain_episode(seed=0, most_steps=5)
    Timeline(Q(right) - Q(left), 5 steps, return 5, strongest: pole angle, ...)
    >>> agent.importance()
    Importance(gap of each state's own actions, 2 states: pole angle 67 %, ...)
    >>> agent.baseline_agreement(baselines=["visited-mean", "zeros"])
    StateAgreement(2 states, Spearman: visited-mean / zeros 1.00)

    Args:
        model: an agent of Stable-Baselines3.
        env: its environment, which tells names and stacked frames, and in which a few seeded
            episodes are played when visited states are first needed: their mean is where paths
            start by default. Without it, and without ``states``, they are those of the model's
            replay buffer.
        vecnormalize: what normalised observations in training; by default ``env`` or the model's
            own, where it is a ``VecNormalize``. Observations are then given raw.
        feature_names: one per element of an observation, a unit in brackets at the end.
        action_names: one per action.
        states: visited states, a batch of observations.
        **options: others of :class:`ig_rl.AgentDomain`.

    Raises:
        InputError: an option is not one of those, or these are no agent and its environment.
    """
    known = [*inspect.signature(AgentDomain).parameters][1:]
    for name in options:
        if name not in known or name in ASKED:
            raise UnknownNameError("option of an agent", name, [n for n in known if n not in ASKED])
    checked.check(model, env, states)
    if vecnormalize is None or vecnormalize is True:
        vecnormalize = normaliser(model, env) or vecnormalize
    Normalisation.of(vecnormalize, model)
    if isinstance(states, Visited):
        states = states.states
    own = {
        "feature_names": feature_names,
        "action_names": action_names,
        "vecnormalize": vecnormalize,
        "surroundings": env,
        **options,
    }
    return Wrapped(
        model=model,
        env=env,
        vecnormalize=vecnormalize,
        given=states,
        options={name: value for name, value in own.items() if value is not None},
    )
