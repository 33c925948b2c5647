"""Weights of a saved agent, read without running what else is in its file."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ig_core import InputError, StorageError

MEMBER = "policy.pth"


def load_policy_weights(path: str | Path, model: Any) -> None:
    """Put the policy's weights of a Stable-Baselines3 ``.zip`` into a model that you built.

    Stable-Baselines3's own ``load`` unpickles the file's ``data``, which can run any code. Here
    only ``policy.pth`` is read, with ``torch.load(weights_only=True)``. ::

        model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs=...)
        load_policy_weights("downloaded.zip", model)

    Raises:
        StorageError: the file cannot be read, or holds more than tensors.
        InputError: the weights do not fit the model, which is then left as it was.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            stored = io.BytesIO(archive.read(MEMBER))
        state = torch.load(stored, map_location="cpu", weights_only=True)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise StorageError(f"{str(path)!r} is no zip file with a {MEMBER}: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise StorageError(
            f"{MEMBER} in {str(path)!r} is damaged or holds more than tensors; none of it was run"
        ) from error
    _check(state, model.policy.state_dict(), path)
    model.policy.load_state_dict(state)


def _check(state: Any, own: dict[str, Tensor], path: str | Path) -> None:
    """Refuse before anything is copied: ``load_state_dict`` copies what fits, then raises."""
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise StorageError(f"{MEMBER} in {str(path)!r} is no dictionary of tensors")
    if strange := sorted(state.keys() ^ own.keys(), key=str):
        raise InputError(
            f"the weights in {str(path)!r} are of another policy: {strange[0]!r} is only in the "
            f"{'file' if strange[0] in state else 'model'}; build the model with the policy and "
            "policy_kwargs that it was trained with"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise InputError(
                f"{name!r} has the shape {tuple(value.shape)} in {str(path)!r} and "
                f"{tuple(own[name].shape)} in the model; build the model with the policy_kwargs "
                "that it was trained with"
            )
        if value.dtype != own[name].dtype:
            raise InputError(
                f"{name!r} holds {value.dtype} in {str(path)!r} and {own[name].dtype} in the "
                "model; converted weights are another agent's: convert the model too, as with "
                "model.policy.half()"
            )
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{name!r} holds NaN or infinity in {str(path)!r}")
