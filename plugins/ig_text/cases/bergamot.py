"""The file of a Marian model that Bergamot quantised to 8 bits: named tensors, read as float32.

All numbers are little-endian. The layout is that of ``src/common/binary.cpp`` in marian-dev
(browsermt fork, version 1.9.56): the version and the number of tensors (uint64); per tensor the
length of its name, its type, its number of axes and its bytes (4 uint64); the names, which end in a
zero byte; the axes (int32); the length of a filling (uint64), the filling, and the tensors' bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ig_core import StorageError

VERSION = 1
FLOAT32, INT8, INTGEMM8 = 0x0404, 0x0101, 0x4101
"""Codes of types: their class in the upper byte, bytes per number in the lower one."""

TABLE = "Wemb"
"""The embedding: the one quantised matrix that is not stored transposed."""

ACTIVATION = "_QuantMultA"
"""How a name ends that holds the step of an activation, which float32 arithmetic does not need."""


def parameters(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a model by name; int8 numbers are divided by their tensor's multiplier.

    Raises:
        StorageError: it is a file of another kind.
    """
    data = path.read_bytes()
    try:
        return _read(data)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise StorageError(f"{str(path)!r} is no Marian model ({error})") from error


def _read(data: bytes) -> Mapping[str, Tensor]:
    version, count = struct.unpack_from("<2Q", data)
    if version != VERSION:
        raise ValueError(f"expected version {VERSION} (got {version})")
    at = 16
    heads = list(struct.iter_unpack("<4Q", data[at : at + 32 * count]))
    at += 32 * count
    names = []
    for length, *_ in heads:
        names.append(data[at : at + length - 1].decode())
        at += length
    shapes = []
    for _, _, axes, _ in heads:
        shapes.append(struct.unpack_from(f"<{axes}i", data, at))
        at += 4 * axes
    at += 8 + struct.unpack_from("<Q", data, at)[0]
    found = {}
    for (_, kind, _, size), name, shape in zip(heads, names, shapes, strict=True):
        if kind != INT8 and not name.endswith(ACTIVATION):
            found[name] = _tensor(data[at : at + size], kind, shape, transposed=name != TABLE)
        at += size
    return found


def _tensor(data: bytes, kind: int, shape: tuple[int, ...], transposed: bool) -> Tensor:
    size = math.prod(shape)
    if kind == FLOAT32:
        values = np.frombuffer(data, "<f4", size).reshape(shape)
    elif kind == INTGEMM8:
        (multiplier,) = struct.unpack_from("<f", data, size)
        stored = np.frombuffer(data, np.int8, size)
        stored = stored.reshape(shape[::-1]).T if transposed else stored.reshape(shape)
        values = stored / np.float32(multiplier)
    else:
        raise ValueError(f"a tensor has the type {kind:#06x}")
    return torch.from_numpy(values.astype(np.float32, order="C"))
