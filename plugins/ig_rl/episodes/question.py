"""A Question is what all steps of an episode explain, so that they can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ig_core import TargetError
from ig_rl.choices import RUNNER_UP
from ig_rl.domain import AgentDomain
from ig_rl.episodes.episode import Episode


@dataclass(frozen=True)
class Question:
    """The target of all steps, None where each has its own, and what is to be said of it."""

    target: Any
    notes: Sequence[str] = ()
    ties: Sequence[str] = ()


def ask(
    domain: AgentDomain, episode: Episode, steps: Sequence[Any], action: Any, versus: Any
) -> Question:
    """The question that was asked, or that of the actions taken most often.

    Args:
        domain: without an action of its own to compare with.
        steps: what the domain encodes of each step.
        action: the action that is explained, or a pair, None for the one taken most often.
        versus: the other action of a gap, ``"runner-up"`` for that of each step, or None.
    """
    takes, names = domain.agent.takes(domain.explain), domain.action_names
    if action is not None and (takes < 2 or isinstance(action, tuple)):
        return Question(action, ties=_ties(domain, steps))
    action, versus = (
        domain.choices.number(one) if isinstance(one, str) and one != RUNNER_UP else one
        for one in (action, versus)
    )
    taken = _taken(domain, episode)
    if not takes or not taken:
        return Question(None)
    if isinstance(versus, str) and versus == RUNNER_UP:
        return Question(None, ties=_ties(domain, steps))
    often = [a for a, _ in Counter(taken).most_common()]
    ties = _ties(domain, steps)
    if takes == 1:
        return Question(often[0], [f"explained: {names[often[0]]}, taken most often"], ties)
    if action is not None and versus is not None:
        return Question((action, versus), ties=ties)
    count = domain.agent.choices(domain.explain)
    if count < 2:
        raise TargetError("a gap needs two actions; this agent has one")
    if count == 2 and action is None and versus is None:
        return Question((1, 0), ties=ties)
    if len(often) < 2:
        often += _runners_up(domain, steps)
    first = next(a for a in often if a != versus) if action is None else action
    other = next(a for a in often if a != first) if versus is None else versus
    return Question((first, other), ["explained: the actions taken most often"], ties)


def remembered(domain: AgentDomain, episode: Episode) -> Any:
    """What a recurrent policy carried into each step, as ``predict`` gives it for a batch.

    ``predict`` leaves out the state of a critic with an LSTM of its own, which is gone through
    again.
    """
    played = tuple(part.swapaxes(0, 1) for part in episode.carried)
    if len(domain.agent.carried(None)) == len(played):
        return played
    z = domain.observations.received(domain.preprocessed(episode.states))
    with domain.prepared(), torch.no_grad():
        along = domain.agent.along(z)
    return tuple(part.transpose(0, 1).cpu() for part in along)


def so_far(episode: Episode) -> list[Any]:
    """All observations up to each step."""
    states = episode.states
    if isinstance(states, dict):
        return [{k: v[: t + 1] for k, v in states.items()} for t in range(len(episode))]
    return [states[: t + 1] for t in range(len(episode))]


def _taken(domain: AgentDomain, episode: Episode) -> list[int]:
    """The choices that were made, of those that the quantity is about."""
    part = domain.explain.partition(":")[2]
    if domain.agent.parts and part:
        return episode.actions[:, int(part)].tolist()
    return episode.actions.tolist() if domain.agent.count else []


def _ties(domain: AgentDomain, steps: Sequence[Any]) -> list[str]:
    """Steps at which the greedy action is tied with another."""
    if not domain.agent.takes(domain.explain) or domain.agent.size:
        return []
    told = [display["ties"] for display in _displays(domain, steps)]
    return [f"step {t}: {tie}" for t, ties in enumerate(told) for tie in ties if "greedy" in tie]


def _runners_up(domain: AgentDomain, steps: Sequence[Any]) -> list[int]:
    """The actions that come second, the most frequent first."""
    second = Counter(display["pair"][-1] for display in _displays(domain, steps))
    return [a for a, _ in second.most_common()]


def _displays(domain: AgentDomain, steps: Sequence[Any]) -> list[Any]:
    with domain.prepared():
        return [domain.encode(step).display for step in domain.split(list(steps)) or []]
