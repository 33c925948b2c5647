"""The exact rule: between its kinks the gradient of a piecewise linear network is constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ig_core.errors import InputError
from ig_core.pieces import Curved, Linear, Pieces
from ig_core.quadrature import (
    Found,
    Goal,
    Kinked,
    Outcome,
    Process,
    Request,
    Rule,
    Search,
    Space,
)
from ig_core.survey import Survey

Begin = Callable[[Goal, Space], Process]


class Exact(Rule):
    """One gradient between every two kinks, each counting as much as its piece is long.

    For piecewise linear networks on straight paths. Exact up to rounding: of F, and of t in the
    dtype of the inputs. Where there are more kinks than the budget allows, and where F is found
    not to be linear between them, another rule takes over.
    """

    name: ClassVar[str] = "exact"
    looks: ClassVar[bool] = True

    def __init__(self, otherwise: Begin) -> None:
        self.otherwise = otherwise

    def begin(self, goal: Goal, space: Space) -> Process:
        if goal.structure.curve:
            raise InputError(
                "rule='exact' needs a piecewise linear network (ReLU, max pooling) and a straight "
                f"path (got {goal.structure.curve}); rule='adaptive' integrates any"
            )
        if not goal.structure.linear:  # the model could not be run with a graph
            return self.otherwise(goal, space)
        return ExactProcess(goal, space, goal.budget, self.otherwise)


class ExactProcess(Process):
    """The kinks first, operation after operation; then the pieces; then what is left of them.

    ``most`` pieces of a path are evaluated; paths with more are left to ``otherwise``, and so are
    those on which F is not what the pieces promise.
    """

    def __init__(self, goal: Goal, space: Space, most: int, otherwise: Begin) -> None:
        self.goal, self.space, self.otherwise = goal, space, otherwise
        self.open = torch.ones(len(goal.delta), dtype=torch.bool)
        self.left = torch.zeros(len(goal.delta), dtype=torch.bool)  # to the other rule
        self.survey: Survey | None = Survey(goal, space, most)
        self.pieces: Pieces | None = None
        self.rest: Part | None = None
        self._move_on()

    @property
    def _now(self) -> Process | None:
        return self.survey or self.pieces or self.rest

    def request(self) -> Request | Search | None:
        return None if self._now is None else self._now.request()

    def meet(self, kinks: Kinked) -> None:
        assert self._now is not None
        self._now.meet(kinks)

    def receive(self, found: Found) -> None:
        assert self._now is not None
        self._now.receive(found)

    def settle(self) -> Outcome:
        assert self._now is not None
        outcome = self._now.settle()
        self.open[outcome.done] = False
        self._move_on()
        return outcome

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        self.open[paths] = False
        self.left[paths] = False
        if self._now is not None:
            self._now.drop(paths)

    def _move_on(self) -> None:
        """From the survey to the pieces, and from those to the rest."""
        if self.survey is not None and self.survey.finished:
            leg, t, value = self.survey.points
            if self.goal.structure.linear:
                self.pieces = Linear(self.goal, self.space, leg, t)
            else:
                self.pieces = Curved(self.goal, self.space, leg, t, value)
            self.left = self.open & self.survey.given_up
            self.survey = None
        if self.pieces is not None and not bool(self.pieces.open.any()):
            self.left |= self.open & self.pieces.bent
            self.pieces = None
            if bool(self.left.any()):
                # What F is found not to be linear for may have kinks that no operation shows.
                goal = replace(self.goal, structure=replace(self.goal.structure, smooth=False))
                self.rest = Part(goal, self.space, self.left, self.otherwise)


class Part(Process):
    """Another rule on some of the paths."""

    def __init__(
        self, goal: Goal, space: Space, chosen: Bool[Tensor, " paths"], begin: Begin
    ) -> None:
        self.paths = chosen.nonzero().view(-1)
        self.legs = chosen[goal.owner].nonzero().view(-1)
        self.position = chosen.cumsum(0) - 1
        part = replace(
            goal,
            owner=self.position[goal.owner[self.legs]],
            delta=goal.delta[self.paths],
            noise=goal.noise[self.paths],
        )
        self.inner = begin(part, space)
        self.open_ends = self.inner.open_ends

    def request(self) -> Request | Search | None:
        asked = self.inner.request()
        return None if asked is None else replace(asked, leg=self.legs[asked.leg])

    def meet(self, kinks: Kinked) -> None:
        self.inner.meet(kinks)

    def receive(self, found: Found) -> None:
        self.inner.receive(found)

    def settle(self) -> Outcome:
        outcome = self.inner.settle()
        return replace(outcome, done=self.paths[outcome.done])

    def drop(self, paths: Int[Tensor, " failed"]) -> None:
        mine = paths[torch.isin(paths, self.paths)]
        self.inner.drop(self.position[mine])
