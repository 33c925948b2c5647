"""AgentDomain: agents of Stable-Baselines3, whose state features are the units."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import (
    Attribution,
    Domain,
    Example,
    IGWarning,
    InputError,
    Pad,
    Rows,
    Stack,
    Units,
    plain_numbers,
)
from ig_rl import options, view
from ig_rl.agents import Agent, Point, agent_of
from ig_rl.baselines.starts import ACTION, Starts
from ig_rl.choices import RUNNER_UP, Choices, actions_at, asked
from ig_rl.counts import counted
from ig_rl.observations import features
from ig_rl.observations.grid import regrouped
from ig_rl.observations.normalisation import Normalisation
from ig_rl.observations.situations import Situation, Situations, plain, read
from ig_rl.observations.spaces import Observations, Tensors
from ig_rl.observations.units import Naming

if TYPE_CHECKING:
    from ig_core import Task

STATE = "state"
MOST_STATES = 4
"""Tensors that a recurrent policy carries: hidden and cell states of actor and critic."""


class AgentDomain(Domain):
    """An agent of Stable-Baselines3 or sb3-contrib, its policy alone, or ``ig_rl.Functions``.

    What moves along the path is z, the observation as the networks receive it: images divided by
    255, categories one-hot. One observation is what the environment gives; a list of them, or one
    more leading dimension, is a batch. Units are the elements of a vector, the pixels of an image
    and the components of a discrete observation, whose category is the value.

    ``target`` is an action, or for a gap a pair ``(action, other)``; the greedy action if not
    given. Both actions are chosen at the observation and stay fixed along the path.

    >>> result = ig.attribute(model, x, states=states)  # at the state 0, 0, 0.1, 1
    >>> result.display["quantity"], [round(score, 3) for score in result.scores.tolist()]
    ('Q(right) - Q(left)', [0.0, 0.0, 1.0, 1.0])

    Args:
        explain: a quantity of the agent, its default if not given: ``"gap"`` (why this action
            rather than another: the difference of two Q-values, or of two logits, which are
            log-odds), ``"q"``, ``"logit"``, ``"value"`` and others, of which an unknown name
            gives the list.
        versus: the other action of a gap: ``"runner-up"`` (the best of the others) or a number.
            Pictures of several steps need a number, or a pair as the target: the runner-up
            changes from step to step.
        states: visited states, whose mean is where paths start by default; without them paths
            start at zero, which need not mean anything to the agent, and the views say so.
        feature_names: one per element of an observation, or of one frame of it; a unit of
            measurement in brackets at the end, as in ``"pole angle (rad)"``, is written after the
            value. A mapping names the elements of each key.
        action_names: one per action, or per element of a continuous one.
        vecnormalize: a ``VecNormalize``, an :class:`ig_rl.Normalisation`, or True for that of the
            model's environment. Observations, states and given starts are then raw; the path
            runs between normalised ones. Without it they are what the networks receive.
        frames: how many observations are stacked in each; found from the environment.
        surroundings: the environment that tells names and frames; the model's own by default.
        action: the continuous action whose value is explained, in the environment's units, or
            one per observation; the policy's own deterministic action by default.
        state: what a recurrent policy carries, as ``predict`` gives it; it stays where it is. An
            empty memory by default.
        unrolled: for recurrent policies: an example is all observations of an episode so far,
            (time, ...), which move together.
        dtype: ``"float64"`` explains a converted copy of the policy.
    """

    name = "rl"
    requires = ("stable_baselines3",)
    extra = "ig-core[rl]"

    def __init__(
        self,
        model: Any,
        *,
        explain: str | None = None,
        versus: str | int = RUNNER_UP,
        states: Any = None,
        feature_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        action_names: Sequence[str] | None = None,
        vecnormalize: Any = None,
        frames: int | None = None,
        surroundings: Any = None,
        action: Any = None,
        state: Any = None,
        unrolled: bool = False,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        super().__init__(model)
        self.agent = options.converted(agent_of(model), dtype)
        self.explain = options.explained(explain, self.agent, model)
        normalisation = Normalisation.of(vecnormalize, model)
        around = features.surroundings_of(model, surroundings, raw=normalisation is not None)
        self.observations = Observations(
            self.agent,
            frames=around.frames if frames is None else counted("frames", frames),
            leading=around.leading and frames in (None, around.frames),
            normalisation=normalisation,
        )
        self.moves_action = ACTION in self.agent.moves(self.explain)
        self.needs_action = self.agent.needs_action(self.explain)
        self.action, self.state, self.unrolled = action, state, unrolled
        options.check(
            self.agent,
            self.explain,
            action=action,
            state=state,
            unrolled=unrolled,
            stacked=any(part.grid.frames > 1 for part in self.observations.parts.values()),
        )
        self.layouts = {name: Pad() if unrolled else Stack() for name in self.observations.parts}
        self.layouts |= {ACTION: Stack()}
        self.layouts |= {f"{STATE}{i}": Stack() for i in range(MOST_STATES)}
        grids = [part.grid for part in self.observations.parts.values()]
        self.action_names = features.action_names(
            action_names, around.environment, self.agent, self.explain
        )
        self.naming = Naming(
            self.observations,
            features.feature_names(feature_names, around.environment, grids),
            self.action_names if self.moves_action else (),
        )
        self.choices = Choices(self.agent, self.explain, versus, self.action_names)
        self.starts = Starts(
            self.observations, moves_action=self.moves_action, unrolled=unrolled, states=states
        )
        without = "zeros" if normalisation is None else "normalised-zero"
        self.baseline_name = without if states is None else "visited-mean"

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from stable_baselines3.common.base_class import BaseAlgorithm
        from stable_baselines3.common.policies import BasePolicy

        return isinstance(model, (BaseAlgorithm, BasePolicy, Agent))

    def modules(self) -> Sequence[nn.Module]:
        return self.agent.modules()

    def split(self, raw: Any) -> Sequence[Any] | None:
        found, batch = self._read(raw)
        return found if batch else None

    def encode(self, raw: Any, target: Any = None) -> Example:
        here = raw if isinstance(raw, Situation) else self._one(raw)
        among, place = here.among, here.place
        scores, action = self._asked(among)
        own = None if action is None else action[place][None]
        actions, ties = self.choices.chosen(None if scores is None else scores[place], target)
        inputs = among.inputs(place)
        context = {f"{STATE}{i}": one for i, one in enumerate(here.state)}
        if own is not None:
            (inputs if self.moves_action else context)[ACTION] = own[0]
        units, display = self.naming.units(here, own if self.moves_action else None)
        with asked():
            told = self.agent.told(self.explain, replace(here.point, action=own))
        display |= {
            "agent": type(self.model).__name__,
            "explain": self.explain,
            "quantity": self.choices.quantity(actions),
            "actions": [features.bare(self.action_names[a]) for a in actions],
            "pair": list(actions),
            "ties": ties,
            "critic": told,
            "visited": self.starts.count,
        }
        return Example(inputs, context, _target(actions), units, display)

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        z = {name: rows[name] for name in self.observations.parts}
        carried = (f"{STATE}{i}" for i in range(MOST_STATES))
        point = Point(
            self.observations.received(z),
            rows[ACTION] if ACTION in rows else None,  # noqa: SIM401 (Rows are no mapping)
            tuple(rows[name] for name in carried if name in rows) or None,
            rows.sizes(next(iter(z))) if self.unrolled else None,
        )
        numbers = self.agent.numbers(self.explain, point)
        if self.choices.takes == 2:
            numbers = self.choices.numbers(numbers, len(rows))
            return rows.select(numbers, part=0) - rows.select(numbers, part=1)
        return rows.select(numbers)

    def baseline(self, example: Example) -> Mapping[str, Tensor]:
        if self.starts.states is None:
            return super().baseline(example)
        return self.starts.finished(example, self.starts.mean())

    def start(self, example: Example, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A start that the user gave: raw where observations are, and with an action.

        Keys of a Dict may be given without "observation." before them. Whole numbers are always
        raw, as those of images and categories are. Of an episode, one step stands for all.
        """
        return self.starts.finished(example, given) if isinstance(given, Mapping) else given

    def finish(self, task: Task, results: Sequence[Attribution]) -> Sequence[Attribution]:
        """The results, with what was clipped and what the starts are."""
        done, told = [], []
        for example, starts, result in zip(task.examples, task.starts, results, strict=True):
            here, there = self.naming.clipped(example, starts)
            notes = self.observations.remarks(starts[0]) if starts else []
            display = {
                **result.display,
                "start": {
                    "values": plain_numbers(self.naming.starts(example, starts)),
                    "clipped": [*here, *there],
                    "notes": notes,
                },
                "question": view.question(result.display),
                "sides": view.sides(result.display),
            }
            told += [*here, *there]
            limit = f"clip_obs cuts off {', '.join([*here, *there])}" if here or there else ""
            reason = "; ".join(filter(None, (result.reason, limit)))
            done.append(replace(result, display=display, reason=reason))
        if told:
            warnings.warn(
                f"clip_obs of the normalisation cuts off {', '.join(sorted(set(told)))} at an "
                "observation or a start: beyond it the agent does not see them change",
                IGWarning,
                stacklevel=3,
            )
        return done

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        if fmt == "html":
            return view.decision_html(attribution)
        return view.decision(super().render(attribution, fmt), attribution)

    @classmethod
    def regroup(cls, attribution: Attribution, by: Any) -> Units:
        """The units of an observation in another grouping.

        Args:
            by: ``"feature"`` (over all frames), ``"pixel"`` (the same of images), ``"frame"``
                (now, one step ago), ``"key"`` of a Dict, or ``"element"`` (of the tensors that
                move).

        Raises:
            InputError: something else, or the observation has none.
        """
        return regrouped(attribution, by)

    # -- what others ask ------------------------------------------------------------------------

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One per unit, each with its unit of measurement."""
        return self.naming.names

    def preprocessed(self, observations: Any) -> Tensors:
        """A batch of observations as the networks receive it, by the name of the input."""
        return self.observations.encode(self.observations.read(plain(observations))[0])

    def raw_values(self, observations: Any) -> Float[Tensor, "examples units"]:
        """The value of every unit of a batch of observations, without those of an action."""
        raw, _ = self.observations.read(plain(observations))
        columns = [
            torch.stack([part.values(one) for one in raw[name]])
            for name, part in self.observations.parts.items()
        ]
        return torch.cat(columns, dim=1)

    def actions_of(self, observations: Any) -> Tensor:
        """The greedy action at each of a batch of observations, an empty memory assumed.

        Continuous ones are in the environment's units, before they are clipped.
        """
        z = self.preprocessed(observations)
        points = Situations(observations=self.observations, raw={}, z=z).points()
        with self.prepared(), asked():
            found = [actions_at(self.agent, point) for point in points]
        return torch.cat(found).cpu() if found else torch.empty(0)

    @property
    def count(self) -> int:
        """How many discrete actions there are; 0 of continuous ones."""
        return self.agent.count

    @property
    def states(self) -> Tensors | None:
        """The visited states that were given, as the networks receive them."""
        return self.starts.states

    # -- parts of the above ---------------------------------------------------------------------

    def _read(self, raw: Any) -> tuple[list[Situation], bool]:
        return read(
            raw, self.observations, action=self.action, state=self.state, unrolled=self.unrolled
        )

    def _one(self, raw: Any) -> Situation:
        found, batch = self._read(raw)
        if batch:
            raise InputError(f"one observation was expected (got a batch of {len(found)})")
        return found[0]

    def _asked(self, among: Situations) -> tuple[Tensor | None, Tensor | None]:
        """The scores of choices and the action in all of some situations, asked for once."""
        found = among.found
        if not found:
            points = among.points()
            found["scores"], found[ACTION] = self.choices.scores(points), among.action
            if self.needs_action and among.action is None:
                with asked():
                    found[ACTION] = torch.cat([self.agent.chosen(point) for point in points])
        return found["scores"], found[ACTION]


def _target(actions: tuple[int, ...]) -> int | tuple[int, ...] | None:
    if not actions:
        return None
    return actions[0] if len(actions) == 1 else actions
