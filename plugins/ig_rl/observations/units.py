"""Naming: the units of a situation with their names and values, as labels and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ig_core import Example, Units
from ig_rl.observations import features
from ig_rl.observations.grid import Grid
from ig_rl.observations.situations import Situation
from ig_rl.observations.spaces import Observations

KIND = "state feature"


class Naming:
    """What the units of an agent's situations are called.

    Args:
        observations: their space.
        feature_names: of each of its tensors, in order.
        action_names: of the elements of an action, if they are units, after the others.
    """

    def __init__(
        self,
        observations: Observations,
        feature_names: Sequence[Sequence[str]],
        action_names: Sequence[str],
    ) -> None:
        self.observations = observations
        self.feature_names = feature_names
        self.action_names = action_names
        self._known: dict[int, _Named] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """One per unit of one observation, with its unit of measurement."""
        return tuple(name for names in self._named(0).names for name in names)

    def units(
        self, here: Situation, action: Float[Tensor, "1 size"] | None
    ) -> tuple[Units, dict[str, Any]]:
        """The units of a situation, and what a result keeps of them for its views."""
        among, place = here.among, here.place
        named = self._named(len(next(iter(among.raw.values()))) if among.unrolled else 0)
        labels: list[str] = []
        values: list[float] = []
        for (name, part), names in zip(self.observations.parts.items(), named.names, strict=False):
            raws = among.raw[name] if among.unrolled else among.raw[name][place][None]
            own = [value for raw in raws for value in part.values(raw).tolist()]
            labels += part.labels(names, own)
            values += own
        if action is not None:
            own = self.observations.agent.unscaled(action.double())[0].tolist()
            labels += map(features.written, named.names[-1], own)
            values += own
        display: dict[str, Any] = {
            "names": named.bare,
            "values": values,
            "grids": named.told,
        }
        raw = {} if among.unrolled else {n: value[place] for n, value in among.raw.items()}
        picture = self.observations.picture(raw) if raw else None
        if picture is not None:
            display["image"] = picture
        return Units(tuple(labels), named.index, kind=KIND), display

    def starts(self, example: Example, starts: Sequence[Mapping[str, Tensor]]) -> list[float]:
        """The raw value of every unit where paths start, in the mean of several starts.

        Empty where the observations of an episode move together.
        """
        if not starts or len(example.display["names"]) != len(self.names):
            return []
        agent = self.observations.agent
        each = []
        for start in starts:
            values = self.observations.undone(start)
            if (action := start.get("action")) is not None:
                values += agent.unscaled(action[None].double()).flatten().tolist()
            each.append(values)
        return np.mean(each, axis=0).tolist()

    def clipped(
        self, example: Example, starts: Sequence[Mapping[str, Tensor]]
    ) -> tuple[list[str], list[str]]:
        """The units that the normalisation cut off at an observation, and those only at a start."""
        if self.observations.normalisation is None:
            return [], []
        names = self._by_input(example.display["names"], example.inputs)
        here = self.observations.clipped(example.inputs, names)
        ends = [self.observations.clipped(start, names) for start in starts]
        return here, sorted({name for clipped in ends for name in clipped} - set(here))

    def _by_input(
        self, names: Sequence[str], inputs: Mapping[str, Tensor]
    ) -> dict[str, Sequence[str]]:
        """The names of a result's units by the name of the input."""
        found, first = {}, 0
        unrolled = len(names) != len(self.names)
        for grid in self._named(0).grids:
            steps = len(inputs[grid.name]) if unrolled and grid.kind != "action" else 0
            count = replace(grid, steps=steps).units
            found[grid.name] = names[first : first + count]
            first += count
        return found

    def _named(self, steps: int) -> _Named:
        if steps not in self._known:
            grids = [replace(p.grid, steps=steps) for p in self.observations.parts.values()]
            names = [g.named(own) for g, own in zip(grids, self.feature_names, strict=True)]
            if self.action_names:
                grids.append(Grid("action", "action", (len(self.action_names),)))
                names.append([*self.action_names])
            self._known[steps] = _Named(grids, names)
        return self._known[steps]


class _Named:
    """Grids of all tensors, the names of their units, and the unit of every element."""

    def __init__(self, grids: Sequence[Grid], names: Sequence[Sequence[str]]) -> None:
        self.grids = grids
        self.names = names
        self.told = [grid.told() for grid in grids]
        self.bare = [features.bare(name) for own in names for name in own]
        self.index: dict[str, Tensor] = {}
        first = 0
        for grid in grids:
            self.index[grid.name] = grid.index() + first
            first += grid.units
