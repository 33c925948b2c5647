"""Findings from the attributions of an agent in many states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ig_core import Analysis, Attribution, InputError
from ig_rl.findings.batch import Batch
from ig_rl.findings.importance import RESAMPLES, Importance, by_action, strength
from ig_rl.findings.timeline import Timeline
from ig_rl.observations.grid import has_steps, latest


class FeatureImportance(Analysis):
    """How strong every state feature is over many states, and for each action.

    Options: ``actions``, a name for each state by which states are parted (the action that it
    explains by default); ``resamples`` and ``seed`` of the bootstrap; ``notes``.
    """

    name = "feature-importance"
    fits = ("rl",)

    def find(
        self,
        attributions: Sequence[Attribution],
        *,
        actions: Sequence[str] | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
        notes: Sequence[str] = (),
        **options: Any,
    ) -> Importance:
        _check_options(self, options, "actions, resamples, seed, notes")
        batch = Batch.of(attributions)
        if actions is None:
            explained = [one.display["actions"] for one in attributions]
            actions = [own[0] for own in explained] if all(explained) else []
        elif len(actions) != len(attributions):
            raise InputError(
                f"actions must name one for each of {len(attributions)} states (got {len(actions)})"
            )
        known = np.isfinite(batch.scores).all(1)
        scores = batch.scores[known]
        drawn = {"resamples": resamples, "seed": seed}
        return Importance(
            names=batch.names,
            scores=scores,
            values=batch.values[known],
            overall=strength(scores, **drawn),
            per_action=by_action(scores, np.array(actions)[known].tolist(), **drawn)
            if actions
            else {},
            quantity=batch.quantity,
            baseline=batch.baseline,
            residual=float(np.abs(batch.residuals[known]).max()),
            agent=batch.agent,
            left_out=int((~known).sum()),
            image=batch.image,
            notes=list(notes),
        )


class EpisodeTimeline(Analysis):
    """One attribution per step of an episode as a timeline.

    Options: ``actions`` that were done and ``rewards`` that were paid, one for each step, which
    are needed; ``action_names``, ``seed``, ``frames``, ``ties`` and ``notes`` of the
    :class:`ig_rl.Timeline`. The steps should explain the same pair of actions. Where each
    attribution is of an unrolled episode so far, a feature's score is the sum over its steps.
    """

    name = "episode-timeline"
    fits = ("rl",)

    def find(
        self,
        attributions: Sequence[Attribution],
        *,
        actions: Any = None,
        rewards: Any = None,
        action_names: Sequence[str] = (),
        seed: int | None = None,
        frames: Any = None,
        ties: Sequence[str] = (),
        notes: Sequence[str] = (),
        **options: Any,
    ) -> Timeline:
        _check_options(
            self, options, "actions, rewards, action_names, seed, frames, ties and notes"
        )
        unrolled = any(has_steps(one) for one in attributions)
        batch = Batch.of([latest(one) if has_steps(one) else one for one in attributions])
        own = {"actions": actions, "rewards": rewards}
        for what, given in own.items():
            if given is None or len(given) != len(attributions):
                got = "none" if given is None else len(given)
                raise InputError(
                    f"a timeline of {len(attributions)} steps needs {what}=, one for each "
                    f"(got {got})"
                )
        done = np.asarray(actions)
        if done.ndim == 1 and not action_names:
            action_names = [f"action {a}" for a in range(int(done.max()) + 1)]
        several = len(set(batch.pairs)) > 1
        said = [
            "each step explains its own actions: signs change with the question" if several else "",
            "unrolled: scores are sums over all observations so far" if unrolled else "",
        ]
        return Timeline(
            scores=batch.scores,
            values=batch.values,
            names=batch.names,
            actions=done,
            action_names=list(action_names),
            rewards=np.asarray(rewards, dtype=float),
            outputs=batch.outputs,
            base=batch.base,
            residuals=batch.residuals,
            statuses=batch.statuses,
            pair=batch.pair,
            explain=batch.explain,
            quantity=batch.quantity,
            baseline=batch.baseline,
            agent=batch.agent,
            seed=seed,
            ties=list(ties),
            image=batch.image,
            frames=frames,
            notes=[*filter(None, said), *notes],
        )


def _check_options(analysis: Analysis, options: dict[str, Any], known: str) -> None:
    if options:
        raise InputError(f"{analysis.name} has the options {known} (got {sorted(options)})")
