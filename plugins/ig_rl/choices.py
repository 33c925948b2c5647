"""Choices: the actions, or elements of an action, that a result explains."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import (
    ForwardError,
    IGError,
    InputError,
    OutputError,
    TargetError,
    UnknownNameError,
)
from ig_rl import view
from ig_rl.agents import Agent, Point
from ig_rl.observations import features

TIE_ULPS = 8.0
"""Scores that differ by fewer roundings than this are tied."""

RUNNER_UP = "runner-up"


class Choices:
    """What targets of one quantity mean: given ones are checked, others are the agent's own.

    Args:
        agent: whose choices these are.
        explain: the quantity.
        versus: the other action of a gap: ``"runner-up"`` or a number.
        names: one per choice.
    """

    def __init__(self, agent: Agent, explain: str, versus: Any, names: Sequence[str]) -> None:
        self.agent = agent
        self.explain = explain
        self.takes = agent.takes(explain)
        self.count = agent.choices(explain)
        self.elements = not agent.count and not agent.parts
        self.names = names
        self.versus = self._versus(versus)

    def scores(self, points: Sequence[Point]) -> Float[Tensor, "rows choices"] | None:
        """What the agent ranks the choices by at all of some points; None if there are none.

        Raises:
            ForwardError: the agent raised.
        """
        if not self.takes:
            return None
        with asked():
            each = [self.agent.ranked(self.explain, point) for point in points]
            return torch.cat(
                [self.numbers(one, point.rows) for one, point in zip(each, points, strict=True)]
            )

    def numbers(self, found: Tensor, rows: int) -> Float[Tensor, "rows choices"]:
        """Numbers of the agent, if they are one per row and choice, and nothing else."""
        if tuple(found.shape) != (rows, self.count):
            raise OutputError(
                f"the agent's network must give one number per observation and action: expected "
                f"shape {(rows, self.count)} (got {tuple(found.shape)})"
            )
        return found

    def quantity(self, actions: Sequence[int]) -> str:
        """How the explained number is written: Q(right) - Q(left), V(s), Q(s, a)."""
        called = self.agent.called(self.explain)
        if self.elements and self.takes:
            return features.bare(self.names[actions[0]])
        if self.takes:
            return view.quantity(called, [features.bare(self.names[a]) for a in actions])
        return f"{called}(s, a)" if self.agent.needs_action(self.explain) else f"{called}(s)"

    def chosen(
        self, scores: Float[Tensor, " choices"] | None, target: Any
    ) -> tuple[tuple[int, ...], list[str]]:
        """What to explain at an observation with these scores, and what was tied in choosing."""
        ties: list[str] = []
        if not self.takes or scores is None:
            if isinstance(target, str) and target in self.agent.explains:
                raise TargetError(f"{target!r} is a quantity: say explain={target!r}")
            if target is not None:
                raise TargetError(f"explain={self.explain!r} has no target (got {target!r})")
            return (), ties
        given = target if isinstance(target, tuple) else () if target is None else (target,)
        actions = tuple(self._checked(one) for one in given)
        if target is not None and not 1 <= len(actions) <= self.takes:
            wanted = "an action or a pair of actions" if self.takes == 2 else "one action"
            raise TargetError(f"explain={self.explain!r} takes {wanted} as target (got {target!r})")
        if not actions and self.elements and self.count > 1:
            raise TargetError(
                f"a continuous action of this agent has {self.count} elements; name the one to "
                "explain, as in target=0"
            )
        if not actions:
            actions = (self._best(scores, (), "the greedy action", ties),)
        if self.takes == 2 and len(actions) == 1:
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

    def _best(self, scores: Tensor, besides: tuple[int, ...], role: str, ties: list[str]) -> int:
        """The action of largest score but some, the first where several are tied."""
        left = [a for a in range(self.count) if a not in besides]
        if not left:
            raise TargetError("a gap needs two actions; this agent has one")
        each = scores.tolist()
        best = max(left, key=each.__getitem__)
        close = TIE_ULPS * torch.finfo(scores.dtype).eps * max(map(abs, each))
        tied = [a for a in left if a != best and each[best] - each[a] <= close]
        if tied:
            others = ", ".join(self.names[a] for a in tied)
            ties.append(f"{role} is {self.names[best]}, tied with {others}")
        return best

    def _versus(self, versus: Any) -> int | None:
        """The other action of a gap, None for the runner-up."""
        if isinstance(versus, str) and versus == RUNNER_UP:
            return None
        if self.takes != 2:
            raise InputError(f"versus= belongs to explain='gap' (got explain={self.explain!r})")
        if isinstance(versus, str) and versus not in {*self.names, *self._bare()}:
            raise UnknownNameError("other action", versus, [RUNNER_UP, *self._bare()])
        return self._checked(versus)

    def _bare(self) -> list[str]:
        """The names of the choices without units of measurement."""
        return [features.bare(name) for name in self.names]

    def number(self, name: str) -> int:
        """The choice of that name.

        Raises:
            TargetError: there is none.
        """
        for names in (self._bare(), list(self.names)):
            if names.count(name) == 1:
                return names.index(name)
        if name in self.agent.explains:
            raise TargetError(
                f"{name!r} is a quantity, and a target is an action: say explain={name!r}"
            )
        raise TargetError(str(UnknownNameError(self._what, name, self._bare())))

    @property
    def _what(self) -> str:
        return "element of an action" if self.elements else "action"

    def _checked(self, value: Any) -> int:
        if isinstance(value, str):
            return self.number(value)
        try:
            action = operator.index(value)
        except TypeError:
            action = -1
        if isinstance(value, bool) or not 0 <= action < self.count:
            raise TargetError(
                f"an {self._what} of this agent is a whole number from 0 to {self.count - 1}, or "
                f"its name (got {value!r})"
            )
        return action


@contextmanager
def asked() -> Iterator[None]:
    """The agent is asked about observations, without gradients.

    Raises:
        ForwardError: it raised.
    """
    try:
        with torch.no_grad():
            yield
    except IGError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ForwardError(f"the agent raised on an observation: {told}") from error


def actions_at(agent: Agent, point: Point) -> Tensor:
    """The greedy actions at some points: numbers, or continuous ones in the environment's units."""
    if agent.size:
        return agent.unscaled(agent.chosen(point))
    if agent.parts:
        kinds = range(len(agent.parts))
        return torch.stack([agent.ranked(f"gap:{i}", point).argmax(1) for i in kinds], dim=1)
    return agent.scores(point).argmax(1)
