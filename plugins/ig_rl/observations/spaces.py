"""Observations: what users have of an agent's observation space, as tensors that can move."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ig_core import InputError
from ig_rl.agents import Agent
from ig_rl.observations import features
from ig_rl.observations.grid import Grid
from ig_rl.observations.normalisation import Normalisation

OBSERVATION = "observation"

MOST_PIXELS = 2**16
"""Pixels that a result keeps for its picture."""

Tensors = dict[str, Tensor]
"""One tensor per part of an observation, by the name of the input."""


@dataclass(frozen=True, eq=False)
class Part:
    """One tensor of an observation: all of it, or what a key holds."""

    key: str
    space: Any
    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one raw observation."""
        return self.grid.shape

    def read(self, raw: Any) -> Shaped[Tensor, ...]:
        """Numbers as a tensor on the CPU, as they are, with an image's channels where they belong.

        Raises:
            InputError: these are no numbers.
        """
        if isinstance(raw, Tensor) and _plain(raw):
            array = raw.detach().cpu()
        elif isinstance(raw, np.ma.MaskedArray):
            raise InputError(self._no_numbers(raw))  # what is masked is no number
        elif isinstance(raw, (np.ndarray, np.generic)) and raw.dtype.kind in "biuf":
            long = raw.dtype.itemsize > 8
            own = np.dtype(np.float64) if long else raw.dtype.newbyteorder("=")
            array = torch.tensor(np.array(raw, dtype=own, order="C"))
        elif isinstance(raw, (int, float)) and not self.shape:
            array = torch.tensor(raw)
        else:
            raise InputError(self._no_numbers(raw))
        turned = self.grid.kind == "pixel" and tuple(array.shape[-3:]) != self.shape
        if turned and array.dim() in (3, 4):
            first = array.movedim(-1, -3)  # as Stable-Baselines3 transposes images
            array = first if tuple(first.shape[-3:]) == self.shape else array
        return array

    def check(self, batch: Shaped[Tensor, "examples ..."]) -> None:
        """That a batch of raw observations lies in the space, as far as it has to.

        Elements of a vector may lie outside the bounds, as those of many environments do.

        Raises:
            InputError: it does not.
        """
        whose = f"observation[{self.key!r}]" if self.key else "an observation of this agent"
        if self.grid.kind == "category":
            if batch.is_floating_point() or batch.dtype == torch.bool:
                raise InputError(
                    f"{whose} in {self.space} holds whole numbers, one per component, before any "
                    f"one-hot encoding (got {batch.dtype})"
                )
            sizes = torch.tensor(self.grid.sizes).view(self.shape)
            bad = ((batch < 0) | (batch >= sizes)).nonzero()
            if len(bad):
                place = tuple(bad[0].tolist())
                most = int(sizes[place[1:]]) - 1
                raise InputError(
                    f"{whose} in {self.space} holds {int(batch[place])}"
                    f"{f' at {list(place[1:])}' if place[1:] else ''}; the categories there are "
                    f"0 to {most}"
                )
        elif self.binary and not bool(((batch == 0) | (batch == 1)).all()):
            raise InputError(f"{whose} in {self.space} holds zeros and ones (got others)")
        elif self.whole:
            values = batch.double()
            if not bool(((values >= 0) & (values <= 255) & (values == values.round())).all()):
                raise InputError(
                    f"{whose} is an image of whole numbers from 0 to 255, as the environment gives "
                    f"it: dividing by 255 is done here (got {batch.dtype} from {values.min():g} to "
                    f"{values.max():g})"
                )

    @property
    def whole(self) -> bool:
        """Whether it is an image of whole numbers, from 0 to 255."""
        return self.grid.kind == "pixel" and self.space.dtype == np.uint8

    @property
    def binary(self) -> bool:
        """Whether the elements are zeros and ones."""
        return type(self.space).__name__ == "MultiBinary"

    def values(self, raw: Shaped[Tensor, ...]) -> Float[Tensor, " units"]:
        """The raw value of each unit; the mean of its channels for a pixel."""
        if self.grid.kind != "pixel" and self.grid.frames == 1:
            return raw.double().flatten()
        places = self.grid.places().flatten()
        total = torch.zeros(self.grid.count * self.grid.frames, dtype=torch.float64)
        total.index_add_(0, places, raw.double().flatten())
        return total / places.bincount(minlength=len(total))

    def labels(self, names: Iterable[str], values: Iterable[float]) -> list[str]:
        """The units with their values; a pixel's is in the picture."""
        if self.grid.kind == "pixel":
            return [*names]
        write = features.category if self.grid.kind == "category" else features.written
        return [write(name, value) for name, value in zip(names, values, strict=True)]

    def _no_numbers(self, raw: Any) -> str:
        hint = "a list is a batch of observations"
        if isinstance(raw, tuple):
            hint = "env.reset() gives (observation, info), pass the first"
        if isinstance(raw, (int, float, list)):
            hint = "a list is a batch of observations; say np.asarray(obs) for one of numbers"
        kind = f" of {raw.dtype}" if isinstance(raw, (np.ndarray, Tensor)) else ""
        if isinstance(raw, Tensor) and raw.layout != torch.strided:
            kind = f" of layout {raw.layout}"
        if isinstance(raw, Tensor) and raw.is_meta:
            kind = " on the device 'meta', which holds no numbers"
        return (
            "an observation must be a tensor or an array of numbers (got "
            f"{type(raw).__name__}{kind}); {hint}"
        )


class Observations:
    """The observation space of an agent: raw observations there, tensors z that move here.

    z is what the agent's ``preprocessed`` makes of an observation (after its normalisation, if
    there is one): images divided by 255, categories one-hot.

    Args:
        agent: its observation space is Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of
            these.
        frames: how many observations are stacked in each.
        leading: whether along a dimension of their own, the first.
        normalisation: of raw observations; None where they come normalised or need none.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        frames: int = 1,
        leading: bool = False,
        normalisation: Normalisation | None = None,
    ) -> None:
        from gymnasium.spaces import Dict

        self.agent = agent
        self.space = space = agent.observation_space
        images = getattr(agent.policy, "normalize_images", True)
        self.normalisation = normalisation
        self.keyed = isinstance(space, Dict)
        spaces = space.spaces if self.keyed else {"": space}
        if not spaces:
            raise InputError("observations of this agent have no parts: its Dict space is empty")
        self.parts = {
            f"{OBSERVATION}.{key}" if key else OBSERVATION: Part(
                key, one, grid_of(key, one, images, frames, leading)
            )
            for key, one in spaces.items()
        }
        if normalisation is not None:
            normalisation.check({part.key: part.shape for part in self.parts.values()})

    def read(self, raw: Any) -> tuple[Tensors, bool]:
        """Raw observations with a leading dimension, and whether they were a batch.

        Raises:
            InputError: they are no observations of this agent.
        """
        if isinstance(raw, list):
            each = [self._alone(one) for one in raw]
            found = {
                name: torch.stack([one[name] for one in each])
                if each
                else torch.empty(0, *part.shape)
                for name, part in self.parts.items()
            }
            batch = True
        else:
            arrays = self._arrays(raw)
            more = {arrays[name].dim() - len(part.shape) for name, part in self.parts.items()}
            batch = more == {1}
            found = arrays if batch else {name: value[None] for name, value in arrays.items()}
            self._check_shapes(found, arrays)
        for name, part in self.parts.items():
            if len(found[name]):
                part.check(found[name])
        return found, batch

    def encode(self, raw: Mapping[str, Tensor]) -> Tensors:
        """A batch of raw observations as the networks receive it."""
        values = dict(raw)
        if self.normalisation is not None:
            for name, value in raw.items():
                array = self.normalisation.normalised(self.parts[name].key, value.numpy())
                values[name] = torch.from_numpy(np.asarray(array))
        z = self.agent.preprocessed(self.received(values))
        return {OBSERVATION: z} if isinstance(z, Tensor) else {n: z[self.parts[n].key] for n in raw}

    def received(self, tensors: Mapping[str, Tensor]) -> Tensor | Tensors:
        """Tensors by the name of the input, as a features extractor receives them."""
        if not self.keyed:
            return tensors[OBSERVATION]
        return {p.key: tensors[name] for name, p in self.parts.items() if name in tensors}

    def clipped(self, z: Mapping[str, Tensor], names: Mapping[str, Sequence[str]]) -> list[str]:
        """The units of one observation at which its normalisation cut it off."""
        if self.normalisation is None:
            return []
        found: list[str] = []
        for name, part in self.parts.items():
            hit = self.normalisation.bites(part.key, z[name].cpu())
            units = part.grid.index().expand(hit.shape)[hit].unique().tolist() if hit.any() else []
            found += [names[name][unit] for unit in units]
        return found

    def undone(self, z: Mapping[str, Tensor]) -> list[float]:
        """The raw value of every unit at a point of a path; NaN of categories, which are mixed."""
        found: list[float] = []
        for name, part in self.parts.items():
            if part.grid.kind == "category":
                found += [math.nan] * part.grid.units
                continue
            value = z[name].detach().double().cpu() * (255 if part.whole else 1)
            if self.normalisation is not None:
                value = self.normalisation.undone(part.key, value)
            found += part.values(value).tolist()
        return found

    def remarks(self, start: Mapping[str, Tensor]) -> list[str]:
        """What a start is, where it is no observation: between categories, or none of them."""
        told = []
        for part in (p for p in self.parts.values() if p.grid.kind == "category"):
            each = start[part.grid.name].reshape(-1, sum(part.grid.sizes)).split(part.grid.sizes, 1)
            if any(not bool((one.amax(1) == 1).all()) for one in each):
                none = all(not bool(one.any()) for one in each)
                what = "no category at all" if none else "a distribution over categories"
                told.append(f"the start of {part.grid.name} is {what}")
        return told

    def picture(self, raw: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The last frame of the first image of an observation, in 0 to 1, as JSON holds it.

        ``first`` is the first of its units.
        """
        first = 0
        for name, part in self.parts.items():
            grid = part.grid
            if grid.kind == "pixel" and grid.count <= MOST_PIXELS:
                channels = raw[name].double().movedim(grid.axis, 0)
                last = channels[-(len(channels) // grid.frames) :].mean(0)
                return {
                    "shape": list(grid.one),
                    "frames": grid.frames,
                    "first": first,
                    "pixels": (last / (255 if part.whole else 1)).clamp(0, 1).tolist(),
                }
            first += grid.units
        return None

    def _arrays(self, raw: Any) -> Tensors:
        if not self.keyed:
            if isinstance(raw, Mapping):
                raise InputError(
                    f"observations of this agent are arrays in {self.space}, without keys (got "
                    f"the keys {sorted(map(str, raw))})"
                )
            return {name: part.read(raw) for name, part in self.parts.items()}
        keys = [part.key for part in self.parts.values()]
        if not isinstance(raw, Mapping) or set(raw) != set(keys):
            got = f"the keys {sorted(map(str, raw))}" if isinstance(raw, Mapping) else type(raw)
            hint = "; env.reset() gives (observation, info), pass the first"
            raise InputError(
                f"an observation of this agent is a dict with the keys {sorted(keys)} (got {got})"
                f"{hint if isinstance(raw, tuple) else ''}"
            )
        return {name: part.read(raw[part.key]) for name, part in self.parts.items()}

    def _alone(self, raw: Any) -> Tensors:
        arrays = self._arrays(raw)
        self._check_shapes({name: value[None] for name, value in arrays.items()}, arrays)
        return arrays

    def _check_shapes(self, found: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
        counts = {len(value) if value.dim() else -1 for value in found.values()}
        for name, part in self.parts.items():
            if tuple(found[name].shape[1:]) == part.shape:
                continue
            key = f"[{part.key!r}]" if part.key else " of this agent"
            image = ", channels as in the agent's space" * (part.grid.kind == "pixel")
            raise InputError(
                f"an observation{key} has the shape {part.shape}{image} (got "
                f"{tuple(given[name].shape)}); one more leading dimension, or a list of "
                "observations, is a batch"
            )
        if len(counts) > 1:
            raise InputError(
                "all keys of a batch of observations need one first dimension (got "
                f"{ {name: len(value) for name, value in found.items()} })"
            )


def _plain(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers, one after the other."""
    odd = tensor.is_complex() or tensor.is_quantized or tensor.is_nested or tensor.is_meta
    return tensor.layout == torch.strided and not odd


def grid_of(key: str, space: Any, images: bool, frames: int, leading: bool) -> Grid:
    """The units of one observation space.

    Raises:
        InputError: it is of a kind that Stable-Baselines3 has no networks for, or the frames do
            not divide it.
    """
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    name = f"{OBSERVATION}.{key}" if key else OBSERVATION
    flat = isinstance(space, MultiDiscrete) and space.nvec.ndim == 1
    if not flat and not isinstance(space, (Box, Discrete, MultiBinary)):
        raise InputError(
            "observations must lie in a Box, Discrete, MultiDiscrete (of one dimension), "
            f"MultiBinary or a Dict of these (got {space}{f' for {key!r}' if key else ''})"
        )
    shape = tuple(int(n) for n in space.shape)
    axis = 0 if leading or (len(shape) > 1 and shape[0] == frames > 1) else -1
    if isinstance(space, Box) and _is_image(space, images):
        axis = -1 if shape[2] < min(shape[:2]) else 0
        found = Grid(name, "pixel", shape, frames, axis)
    elif isinstance(space, (Box, MultiBinary)):
        found = Grid(name, "feature", shape, frames, axis)
    else:
        sizes = space.nvec.tolist() if flat else [int(space.n)]
        found = Grid(name, "category", shape, frames, axis, sizes=tuple(sizes))
    if frames > 1 and (not shape or shape[axis] % frames):
        raise InputError(
            f"frames={frames} stacked observations do not divide the shape {shape} along its "
            f"{'first' if axis == 0 else 'last'} dimension"
        )
    return found


def _is_image(space: Any, images: bool) -> bool:
    """Whether Stable-Baselines3 takes it for an image; one that comes normalised is no uint8."""
    from stable_baselines3.common.preprocessing import is_image_space

    return bool(is_image_space(space, normalized_image=not images))
