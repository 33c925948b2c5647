"""Weights of a saved agent, read without running what else is in its file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ig_core import InputError, StorageError
from ig_rl.agents import policy_of

MEMBER = "policy.pth"

ENVELOPE = 2**20
"""Bytes that names, shapes and padding of all tensors may take, beside their numbers."""

EACH = 2**12
"""Bytes that one more tensor may add to those."""


def load(path: str | Path, model: Any, *, trust_pickle: bool = False) -> Any:
    """An agent with the weights of a Stable-Baselines3 ``.zip``.

    Such a file holds pickles, and unpickling runs whatever the file's maker put there. With a
    model that you built, only its ``policy.pth`` is read, and only tensors are taken from it::

        model = ig_rl.load("downloaded.zip", DQN("MlpPolicy", "CartPole-v1", policy_kwargs=...))

    A saved ``VecNormalize`` is a pickle as a whole: give its statistics as
    ``ig_rl.Normalisation(mean, var)``.

    >>> model.save("mine.zip")
    >>> load("mine.zip", model) is model
    True

    Args:
        path: the file.
        model: a model of Stable-Baselines3 or a policy, which gets the weights and is given back.
        trust_pickle: let Stable-Baselines3 unpickle the file, with an algorithm in place of the
            model: ``load("my-own.zip", DQN, trust_pickle=True)``. **The file can then run any
            code with your rights**: only for files that you, or those whom you trust, have made.

    Raises:
        StorageError: the file cannot be read, or holds more than tensors.
        InputError: the weights do not fit the model, which is then left as it was; or a class was
            given without ``trust_pickle``, or a model with it.
    """
    named = model.__name__ if isinstance(model, type) else type(model).__name__
    if trust_pickle != isinstance(model, type):
        raise InputError(
            f"trust_pickle=True lets an algorithm load itself, and needs the class {named}, not a "
            "model of it"
            if trust_pickle
            else f"weights go into a model that you built, as in {named}('MlpPolicy', env) (got "
            "the class); a class alone can only be built from the pickles in the file, which can "
            "run any code: trust_pickle=True if you trust them"
        )
    if trust_pickle:
        return model.load(_file(path))
    load_policy_weights(path, model)
    return model


def load_policy_weights(path: str | Path, model: Any) -> None:
    """Put the policy's weights of a Stable-Baselines3 ``.zip`` into a model that you built.

    Only ``policy.pth`` is read, with ``torch.load(weights_only=True)``, and no more of it than the
    model's own weights can take.

    Raises:
        StorageError: the file cannot be read, or holds more than tensors.
        InputError: the weights do not fit the model, which is then left as it was.
    """
    policy = policy_of(model)
    if not isinstance(policy, torch.nn.Module):
        raise InputError(
            f"weights go into a model of Stable-Baselines3 or its policy (got "
            f"{type(model).__module__}.{type(model).__qualname__})"
        )
    own: dict[str, Tensor] = policy.state_dict()
    most = sum(v.numel() * v.element_size() + EACH for v in own.values()) + ENVELOPE
    stored = io.BytesIO(_member(_file(path), most))
    try:
        if zipfile.is_zipfile(stored):
            with zipfile.ZipFile(stored) as inner:
                size = sum(one.file_size for one in inner.infolist())
            _bounded(size, most, f"inside {MEMBER}", path)
        stored.seek(0)
        state = torch.load(stored, map_location="cpu", weights_only=True)
    except StorageError:
        raise
    except Exception as error:  # a damaged or hostile file makes its readers fail in any way
        raise StorageError(
            f"{MEMBER} in {str(path)!r} is damaged or holds more than tensors; none of it was run"
        ) from error
    _check(state, own, path)
    policy.load_state_dict(state)


def _file(path: str | Path) -> Path:
    """A path that holds a file, with what is amiss where it does not."""
    path = Path(path)
    if path.is_file():
        return path
    longer = path.with_name(path.name + ".zip")
    hint = f"; there is {str(longer)!r}" if longer.is_file() else ""
    kind = "is a folder" if path.is_dir() else "does not exist"
    raise StorageError(f"{str(path)!r} {kind}, and no zip file with a {MEMBER}{hint}")


def _member(path: Path, most: int) -> bytes:
    """The bytes of the policy's weights, of which there may be so many."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(MEMBER)
            if info.flag_bits & 1:
                raise StorageError(
                    f"{MEMBER} in {str(path)!r} is encrypted; save the agent without a password"
                )
            _bounded(info.file_size, most, MEMBER, path)
            with archive.open(info) as member:
                stored = member.read(most + 1)
    except KeyError as error:
        raise StorageError(f"{str(path)!r} is no saved agent: it has no {MEMBER}") from error
    except StorageError:
        raise
    except Exception as error:  # zipfile lets through what zlib, lzma and struct raise
        raise StorageError(f"{str(path)!r} is no zip file with a {MEMBER}: {error}") from error
    _bounded(len(stored), most, MEMBER, path)
    return stored


def _bounded(size: int, most: int, name: str, path: str | Path) -> None:
    if size > most:
        raise StorageError(
            f"{name} unpacks to {size:,} bytes in {str(path)!r}, and the model's weights take at "
            f"most {most:,}: it is another agent's, or made to fill the memory; nothing was read"
        )


def _check(state: Any, own: dict[str, Tensor], path: str | Path) -> None:
    """Refuse before anything is copied: ``load_state_dict`` copies what fits, then raises."""
    if not isinstance(state, dict) or not all(map(_plain, state.values())):
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


def _plain(value: Any) -> bool:
    """Whether a value is a tensor whose numbers lie in memory, one after the other."""
    return (
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    )
