"""Normalisation: the running mean and variance by which observations were scaled in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ig_core import InputError

Arrays = Any
"""An array, or one per key of an observation."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """z = (observation - mean) / sqrt(var + epsilon), cut off at -clip and clip.

    The statistics of Stable-Baselines3's ``VecNormalize`` as plain arrays, for which no pickle
    needs to be loaded. For observations with keys, ``mean`` and ``var`` are mappings; keys that
    they lack are not normalised.

    >>> import numpy as np
    >>> by = Normalisation(mean=np.array([1.0, 0.0]), var=np.array([4.0, 1.0]), epsilon=0.0)
    >>> by.normalised("", np.array([[5.0, -20.0]])).tolist()
    [[2.0, -10.0]]
    """

    mean: Arrays
    var: Arrays
    clip: float = 10.0
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if isinstance(self.mean, Mapping) != isinstance(self.var, Mapping):
            raise InputError("mean and var of a Normalisation are two arrays or two mappings")
        if isinstance(self.mean, Mapping) and self.mean.keys() != self.var.keys():
            raise InputError(
                f"mean and var of a Normalisation need the same keys (got {sorted(self.mean)} and "
                f"{sorted(self.var)})"
            )
        for key in self.keys:
            try:
                mean, var = self._of(key)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"mean and var of a Normalisation are arrays of numbers ({error})"
                ) from error
            known = np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()
            if mean.shape != var.shape or not known:
                raise InputError(
                    "mean and var of a Normalisation need one shape and finite numbers, the "
                    f"variance none below 0 (got shapes {mean.shape} and {var.shape})"
                )
        for name, least in (("clip", self.clip), ("epsilon", self.epsilon)):
            if isinstance(least, bool) or not isinstance(least, (int, float)) or not least >= 0:
                raise InputError(f"{name} of a Normalisation is a number above 0 (got {least!r})")

    @classmethod
    def of(cls, given: Any, model: Any) -> Normalisation | None:
        """What ``vecnormalize=`` means: a ``VecNormalize``, True for the model's own, or None.

        The statistics are copied, so that later training changes nothing here.

        Raises:
            InputError: it is something else, or the model has none.
        """
        from stable_baselines3.common.base_class import BaseAlgorithm
        from stable_baselines3.common.vec_env import VecNormalize

        if given is None or given is False or isinstance(given, Normalisation):
            return given or None
        if given is True:
            own = model.get_vec_normalize_env() if isinstance(model, BaseAlgorithm) else None
            if own is None:
                raise InputError(
                    "vecnormalize=True means the model's own, and no VecNormalize is in its "
                    "environment; pass the VecNormalize, or ig_rl.Normalisation(mean, var)"
                )
            given = own
        if not isinstance(given, VecNormalize):
            raise InputError(
                "vecnormalize must be a VecNormalize, an ig_rl.Normalisation or True (got "
                f"{type(given).__name__})"
            )
        if not given.norm_obs:
            return None
        keys = given.norm_obs_keys
        rms: Any = given.obs_rms
        return cls(
            mean={k: rms[k].mean.copy() for k in keys} if keys is not None else rms.mean.copy(),
            var={k: rms[k].var.copy() for k in keys} if keys is not None else rms.var.copy(),
            clip=float(given.clip_obs),
            epsilon=float(given.epsilon),
        )

    @property
    def keys(self) -> list[str]:
        """The keys that are normalised; one empty one where observations have none."""
        return [*self.mean] if isinstance(self.mean, Mapping) else [""]

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """That these are statistics of such observations.

        Raises:
            InputError: they are of others.
        """
        for key in self.keys:
            own = self._of(key)[0].shape
            if key not in shapes or own != shapes[key]:
                named = f"key {key!r}" if key else "observations"
                raise InputError(
                    f"vecnormalize has statistics of {named} of shape {own}; this agent observes "
                    f"{dict(shapes) if '' not in shapes else shapes['']}. A VecNormalize under a "
                    "frame stack or behind a change of the observation cannot be undone: leave "
                    "vecnormalize out and pass what the agent receives"
                )

    def normalised(self, key: str, raw: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
        """Observations as the agent receives them: computed in float64, rounded to float32."""
        if key not in self.keys:
            return raw
        mean, var = self._of(key)
        z = (raw - mean) / np.sqrt(var + self.epsilon)
        return np.clip(z, -self.clip, self.clip).astype(np.float32)

    def undone(self, key: str, z: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """What the environment would have given for z, unless it was cut off."""
        if key not in self.keys:
            return z
        mean, var = (torch.from_numpy(one).to(z) for one in self._of(key))
        return z * (var + self.epsilon).sqrt() + mean

    def normalize_obs(self, observation: Any) -> Any:
        """One observation or a batch of them, as ``VecNormalize.normalize_obs`` does it."""
        if isinstance(observation, Mapping):
            return {key: self.normalised(key, value) for key, value in observation.items()}
        return self.normalised("", observation)

    def bites(self, key: str, z: Float[Tensor, ...]) -> Bool[Tensor, ...]:
        """Where z was cut off."""
        limit = float(np.float32(self.clip)) if key in self.keys else np.inf
        return z.abs() >= limit

    def _of(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.mean, Mapping):
            return np.asarray(self.mean[key], float), np.asarray(self.var[key], float)
        return np.asarray(self.mean, float), np.asarray(self.var, float)
