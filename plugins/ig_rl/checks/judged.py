"""Judged: the attributions of some states that the checks look at, under several rankings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import ig_core as ig
from ig_core import Attribution, Example, InputError, Task
from ig_rl.agents import Point
from ig_rl.checks.watch import QUIET, Watch
from ig_rl.domain import AgentDomain

ENGINE = ("baseline", "path", "tol", "budget", "rule", "steps", "device", "seed")
"""Options that :func:`ig_core.attribute` takes; all others are the domain's."""

ALONE = ("q", "logit", "score")
"""What the score of a single action is called as a quantity."""

OWN = ("states", "action", "state", "unrolled")
"""Options of the domain that belong to one observation; the checks look at many."""

BUDGET = 4096
"""Gaps of ReLU networks are small beside their Q-values: they take more nodes than most."""

GRADIENT = "gradient x input"
RANDOM = "random"


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """States of one agent with discrete actions, and scores of their features.

    ``scores[ranking]`` are those of the gap of the greedy action over the runner-up, of the score
    of the greedy action alone, and of gradient x input of the gap; each signed, and as magnitudes.
    ``task`` is the one that the gap was explained in, whose start replaces what is removed.
    """

    model: Any
    task: Task
    gap: Sequence[Attribution]
    alone: Sequence[Attribution]
    symbol: str
    names: Sequence[str]
    scores: Mapping[str, Float[np.ndarray, "states units"]]
    donors: Sequence[Mapping[str, Tensor]]
    """Some visited states, as the networks receive them."""

    @cached_property
    def actions(self) -> Int[np.ndarray, " states"]:
        """The greedy actions."""
        chosen = [
            greedy(self.domain, example, {n: x[None] for n, x in example.inputs.items()})[0]
            for example in self.task.examples
        ]
        return np.array(chosen)

    @property
    def domain(self) -> AgentDomain:
        """The agent, asked for gaps."""
        assert isinstance(self.task.domain, AgentDomain)
        return self.task.domain

    @property
    def replaced(self) -> str:
        """What the start is called, whose values stand in for what is removed."""
        return str(self.task.provenance["baseline"]).replace("-", " ")


def judged(
    model: Any,
    states: Any,
    *,
    visited: Any = None,
    draws: int = 16,
    watch: Watch = QUIET,
    **options: Any,
) -> Judged:
    """The attributions that the checks of discrete agents need, computed once.

    Of policies with a memory that is empty at every state.

    Args:
        states: the states to judge, as a batch for :func:`ig_core.attribute`.
        visited: states that the agent visited, whose mean is where paths start, and which stand
            in for what is removed; ``states`` if not given.
        draws: so many of the visited states are drawn; a quarter of them of images.
        watch: who is told how far this is.
        **options: of :class:`ig_rl.AgentDomain`, and ``baseline`` (the visited mean by default),
            ``tol``, ``budget``, ``path``, ``rule``, ``steps``, ``device`` and ``seed`` of
            :func:`ig_core.attribute`.

    Raises:
        InputError: the agent's actions are not discrete, or there is no state.
    """
    ask, engine = asked(states, visited, options)
    gaps = ask(model, explain="gap")
    alone = ask(model, explain=next(one for one in ALONE if one in gaps.agent.explains))
    raws = batch_of(gaps, states)
    found = explained(model, states, gaps, progress=watch.telling("gaps"), **engine)
    symbol = gaps.agent.symbol
    single = explained(model, states, alone, progress=watch.telling(symbol), **engine)
    if pictured(found[0]):
        draws = max(draws // 4, 1)
    gradient = explained(model, states, gaps, method="gradient-x-input", **engine)
    with gaps.prepared():
        task = ig.prepare(gaps, raws, **engine)
        pool = batch_of(gaps, states if visited is None else visited)
        rng = np.random.default_rng(engine.get("seed", 0))
        drawn = rng.choice(len(pool), min(draws, len(pool)), replace=False)
        donors = [gaps.encode(pool[i]).inputs for i in sorted(drawn)]
    signed = {
        "gap IG": scores_of(found),
        f"{symbol} IG": scores_of(single),
        GRADIENT: scores_of(gradient),
    }
    return Judged(
        model=model,
        task=task,
        gap=found,
        alone=single,
        symbol=symbol,
        names=unit_names(task.examples[0]),
        scores={**signed, **{f"|{name}|": np.abs(scores) for name, scores in signed.items()}},
        donors=donors,
    )


def pictured(attribution: Attribution) -> bool:
    """Whether the observation is an image, whose pixels say nothing one by one."""
    return any(grid["kind"] == "pixel" for grid in attribution.display["grids"])


def asked(
    states: Any, visited: Any, options: Mapping[str, Any]
) -> tuple[Callable[..., AgentDomain], dict[str, Any]]:
    """What makes the domain of a model or a copy of it, and the options of the engine.

    Raises:
        InputError: there is no such option.
    """
    known = [name for name in [*inspect.signature(AgentDomain).parameters][1:] if name not in OWN]
    if unknown := sorted(options.keys() - {*known, *ENGINE}):
        told = ", ".join([*known, *ENGINE])
        raise InputError(f"no option {unknown[0]!r} of these checks; options: {told}")
    own = {name: value for name, value in options.items() if name in known}
    own["states"] = states if visited is None else visited
    engine = {name: value for name, value in options.items() if name in ENGINE}

    def ask(model: Any, **more: Any) -> AgentDomain:
        return AgentDomain(model, **{**own, **more})

    return ask, {"budget": BUDGET} | engine


def explained(model: Any, states: Any, domain: AgentDomain, **options: Any) -> list[Attribution]:
    """The attributions of a batch of states."""
    found: Any = ig.attribute(model, states, domain=domain, **options)
    return found


def batch_of(domain: AgentDomain, states: Any) -> Sequence[Any]:
    """The states of a batch.

    Raises:
        InputError: it is a single state, or there is none.
    """
    raws = domain.split(states)
    if not raws:
        raise InputError(
            "several states are needed: a list of observations, or an array with one more leading "
            "dimension; [observation] is a batch of one"
        )
    return raws


def unit_names(example: Example) -> tuple[str, ...]:
    """The names of the units, without their values."""
    return tuple(example.display.get("names", example.parts.labels))


@torch.no_grad()
def greedy(
    domain: AgentDomain, example: Example, points: Mapping[str, Tensor]
) -> Int[np.ndarray, " points"]:
    """The actions of highest score at some points of one example's input space."""
    rows = len(next(iter(points.values())))
    carried = tuple(
        value.expand(rows, *value.shape)
        for name, value in example.context.items()
        if name.startswith("state")
    )
    point = Point(domain.observations.received(points), state=carried or None)
    return domain.agent.scores(point).argmax(1).cpu().numpy()


def replaced(
    example: Example,
    removed: Bool[Tensor, "sets units"],
    values: Sequence[Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """Points where these units have other values: those of each of ``values`` in turn, by set."""
    masks = example.parts.mask(removed, example.inputs)
    points = {}
    for name, x in example.inputs.items():
        others = torch.stack([value[name].to(x) for value in values])
        mask = masks[name].to(x.device)[:, None]
        points[name] = torch.where(mask, others[None], x).flatten(0, 1)
    return points


def scores_of(found: Sequence[Attribution]) -> Float[np.ndarray, "states units"]:
    """The scores of many states, NaN where one could not be explained."""
    return np.stack([a.scores.numpy() for a in found])
