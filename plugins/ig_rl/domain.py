"""AgentDomain: agents of Stable-Baselines3, whose state features are the units."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import (
    Attribution,
    BaselineError,
    Domain,
    Example,
    ForwardError,
    IGError,
    InputError,
    OutputError,
    Rows,
    Stack,
    TargetError,
    Units,
    UnknownNameError,
)
from ig_rl import features, view
from ig_rl.agents import Agent, Point, agent_of

TIE_ULPS = 8.0
"""Scores that differ by fewer roundings than this are tied."""


class AgentDomain(Domain):
    """A DQN, PPO or A2C agent of Stable-Baselines3 with observations in a ``Box``.

    What moves along the path is z, the observation after Stable-Baselines3's ``preprocess_obs``
    (images divided by 255). One observation is an array or tensor of the observation space's
    shape; a list of them, or one more leading dimension, is a batch. Observations are what the
    networks receive: under ``VecNormalize``, the normalised ones.

    ``target`` is an action, or for a gap a pair ``(action, other)``; the greedy action if not
    given. Both actions are chosen at the observation and stay fixed along the path.

    Args:
        explain: a quantity of the agent's family, its first by default: ``"gap"`` (why this
            action rather than another: the difference of two Q-values, or of two logits, which
            are log-odds), ``"q"`` or ``"advantage"`` (DQN, QR-DQN), ``"logit"`` or ``"log-prob"``
            of one action (PPO, A2C), or ``"value"`` of the state; ``"quantile:0.1"`` (QR-DQN).
        versus: the other action of a gap: ``"runner-up"`` (the best of the others) or a number.
            Pictures of several steps need a number, or a pair as the target: the runner-up
            changes from step to step.
        states: visited states, whose mean is where paths start by default; without them paths
            start at zero, which need not mean anything to the agent, and the views say so.
        feature_names: one per element of an observation; a unit in brackets at the end, as in
            ``"pole angle (rad)"``, is written after the value.
        action_names: one per action.
    """

    name = "rl"
    requires = ("stable_baselines3",)
    extra = "ig-core[rl]"

    def __init__(
        self,
        model: Any,
        *,
        explain: str | None = None,
        versus: str | int = "runner-up",
        states: Any = None,
        feature_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(model)
        self.layouts = {"observation": Stack()}
        self.agent = agent_of(model)
        self.space = _box(model.observation_space)
        self.explain = _explained(explain, self.agent, model)
        self.count = self.agent.count
        self.choices = self.agent.choices(self.explain)
        self.versus = self._versus(versus)
        known = features.environment_of(model)
        self.feature_names = features.feature_names(feature_names, known, self.space.shape)
        self.action_names = features.action_names(action_names, known, self.choices or self.count)
        self.states = None if states is None else self._visited(states)
        self.baseline_name = "zeros" if states is None else "visited-mean"

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from stable_baselines3.common.base_class import BaseAlgorithm

        return isinstance(model, BaseAlgorithm)

    def modules(self) -> Sequence[nn.Module]:
        return [self.model.policy]

    def split(self, raw: Any) -> Sequence[Any] | None:
        if isinstance(raw, list):
            return raw
        array = _array(raw)
        if array.dim() == len(self.space.shape) + 1:
            return list(array)
        self._check_shape(array)
        return None

    def encode(self, raw: Any, target: Any = None) -> Example:
        array = _array(raw)
        self._check_shape(array)
        z = self.preprocessed(array[None])[0]
        actions, ties = self._chosen(z, target)
        labels = map(features.written, self.feature_names, array.flatten().tolist())
        index = torch.arange(array.numel()).view(array.shape)
        return Example(
            {"observation": z},
            target=_target(actions),
            units=Units(tuple(labels), {"observation": index}, kind="state feature"),
            display=self._display(actions, ties) | {"values": array.double().flatten().tolist()},
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        point = Point(rows["observation"])
        if self.agent.takes(self.explain) == 2:
            scores = self._scores(point)
            return rows.select(scores, part=0) - rows.select(scores, part=1)
        return rows.select(self.agent.numbers(self.explain, point))

    def baseline(self, example: Example) -> Mapping[str, Tensor]:
        if self.states is None:
            return super().baseline(example)
        return {"observation": self.visited_mean()}

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        if fmt == "html":
            return view.decision_html(attribution)
        return view.decision(super().render(attribution, fmt), attribution)

    def preprocessed(self, observations: Any) -> Float[Tensor, "examples ..."]:
        """A batch of observations as the networks receive it."""
        from stable_baselines3.common.preprocessing import preprocess_obs

        z = preprocess_obs(
            _array(observations), self.space, normalize_images=self.model.policy.normalize_images
        )
        return torch.as_tensor(z).to(self.model.policy.device, self.agent.dtype)

    def actions_of(self, observations: Any) -> Int[Tensor, " examples"]:
        """The greedy action at each of a batch of observations."""
        with self.prepared(), torch.no_grad():
            return self._scores(Point(self.preprocessed(observations))).argmax(1).cpu()

    def visited_mean(self, states: Any = None) -> Float[Tensor, ...]:
        """The mean of visited states, preprocessed; of those that the domain was given by default.

        Raises:
            BaselineError: there are none, or they do not fit the agent.
        """
        visited = self.states if states is None else self._visited(states)
        if visited is None:
            raise BaselineError(
                "the baseline 'visited-mean' needs states that the agent visited: pass states= "
                "(an array whose first dimension counts states)"
            )
        return visited.double().mean(0).to(visited.dtype)

    def _visited(self, states: Any) -> Float[Tensor, "states ..."]:
        if isinstance(states, list):
            each = [_array(state) for state in states]
            for state in each:
                self._check_shape(state)
            states = torch.stack(each) if each else torch.empty(0, *self.space.shape)
        array = _array(states)
        if array.dim() == 0 or tuple(array.shape[1:]) != self.space.shape or len(array) == 0:
            raise BaselineError(
                f"states must have the shape (any number above 0, "
                f"{', '.join(map(str, self.space.shape))}) (got {tuple(array.shape)})"
            )
        if not bool(torch.isfinite(array).all()):
            raise BaselineError("states hold NaN or infinity")
        return self.preprocessed(array)

    def _check_shape(self, array: Tensor) -> None:
        if tuple(array.shape) != self.space.shape:
            raise InputError(
                f"an observation of this agent has the shape {self.space.shape} "
                f"(got {tuple(array.shape)}); one more leading dimension, or a list of "
                "observations, is a batch"
            )

    def _versus(self, versus: str | int) -> int | None:
        """The other action of a gap, None for the runner-up."""
        if versus == "runner-up":
            return None
        if self.agent.takes(self.explain) != 2:
            raise InputError(f"versus= belongs to explain='gap' (got explain={self.explain!r})")
        if isinstance(versus, str):
            raise UnknownNameError("other action", versus, ["runner-up"])
        return self._action(versus)

    def _chosen(self, z: Float[Tensor, ...], target: Any) -> tuple[tuple[int, ...], list[str]]:
        """The actions to explain at this observation, and what was tied in choosing them."""
        ties: list[str] = []
        if not self.agent.takes(self.explain):
            if target is not None:
                raise TargetError(f"explain={self.explain!r} has no target (got {target!r})")
            return (), ties
        try:
            with torch.no_grad():
                scores = self._scores(Point(z[None]))[0]
        except IGError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise ForwardError(f"the agent raised on an observation: {told}") from error
        given = target if isinstance(target, tuple) else () if target is None else (target,)
        actions = tuple(self._action(one) for one in given)
        most = self.agent.takes(self.explain)
        if target is not None and not 1 <= len(actions) <= most:
            wanted = "an action or a pair of actions" if most == 2 else "one action"
            raise TargetError(f"explain={self.explain!r} takes {wanted} as target (got {target!r})")
        if not actions and self.agent.size:
            actions = (self._only_element(),)
        elif not actions:
            actions = (self._best(scores, (), "the greedy action", ties),)
        if most == 2 and len(actions) == 1:
            if self.versus is None:
                actions += (self._best(scores, actions, "the runner-up", ties),)
            else:
                actions += (self.versus,)
        if len(actions) == 2 and actions[0] == actions[1]:
            raise TargetError(
                f"the gap of action {actions[0]} to itself is zero everywhere; name two actions, "
                "as in target=(1, 0)"
            )
        return actions, ties

    def _only_element(self) -> int:
        if self.choices > 1:
            raise TargetError(
                f"a continuous action of this agent has {self.choices} elements; name the one to "
                "explain, as in target=0"
            )
        return 0

    def _scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        """One number per row and action, and nothing else."""
        scores = self.agent.ranked(self.explain, point)
        wanted = (len(point.observation), self.choices or self.count)
        if tuple(scores.shape) != wanted:
            raise OutputError(
                f"the agent's network must give one number per observation and action: expected "
                f"shape {wanted} (got {tuple(scores.shape)})"
            )
        return scores

    def _best(self, scores: Tensor, besides: tuple[int, ...], role: str, ties: list[str]) -> int:
        """The action of largest score but some, the first where several are tied."""
        left = [a for a in range(self.choices) if a not in besides]
        if not left:
            raise TargetError("a gap needs two actions; this agent has one")
        best = left[int(scores[left].argmax())]
        close = TIE_ULPS * torch.finfo(scores.dtype).eps * float(scores.abs().max())
        tied = [a for a in left if a != best and float(scores[best] - scores[a]) <= close]
        if tied:
            others = ", ".join(self.action_names[a] for a in tied)
            ties.append(f"{role} is {self.action_names[best]}, tied with {others}")
        return best

    def _action(self, value: Any) -> int:
        try:
            action = operator.index(value)
        except TypeError:
            action = -1
        if isinstance(value, bool) or not 0 <= action < self.choices:
            raise TargetError(
                f"an action of this agent is a whole number from 0 to {self.choices - 1} "
                f"(got {value!r})"
            )
        return action

    def _quantity(self, actions: Sequence[str]) -> str:
        called = self.agent.called(self.explain)
        if actions:
            return view.quantity(called, actions)
        return f"{called}(s, a)" if self.agent.needs_action(self.explain) else f"{called}(s)"

    def _display(self, actions: tuple[int, ...], ties: list[str]) -> dict[str, Any]:
        return {
            "agent": type(self.model).__name__,
            "explain": self.explain,
            "quantity": self._quantity([self.action_names[a] for a in actions]),
            "actions": [self.action_names[a] for a in actions],
            "pair": list(actions),
            "names": [features.bare(name) for name in self.feature_names],
            "ties": ties,
            "visited": 0 if self.states is None else len(self.states),
        }


def _box(space: Any) -> Any:
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        raise InputError(f"the agent's observations must lie in a Box (got {space})")
    return space


def _explained(explain: str | None, agent: Agent, model: Any) -> str:
    if explain is None:
        return agent.default
    if not agent.knows(explain):
        raise UnknownNameError(f"quantity of {type(model).__name__}", str(explain), agent.explains)
    return explain


def _array(raw: Any) -> Tensor:
    """Numbers as a tensor on the CPU, as they are."""
    if isinstance(raw, Tensor):
        return raw.detach().cpu()
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf":
        return torch.tensor(raw)
    hint = "env.reset() gives (observation, info), pass the first"
    raise InputError(
        f"an observation must be a tensor or an array of numbers (got {type(raw).__name__}); "
        f"{hint if isinstance(raw, tuple) else 'a list is a batch of observations'}"
    )


def _target(actions: tuple[int, ...]) -> int | tuple[int, ...] | None:
    if not actions:
        return None
    return actions[0] if len(actions) == 1 else actions
