"""Arrays out of a pickle of which nothing is run: every name in it stands for an inert record."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from ig_core import StorageError


class Inert:
    """What a pickle says of an object: the name it goes by, its arguments and its state."""

    origin = ""

    def __new__(cls, *arguments: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    arguments: tuple[Any, ...]
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """Imports nothing: each name gives a class that only records what it is called with."""

    def find_class(self, module: str, name: str) -> Any:
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})


def read(content: bytes) -> Any:
    """Containers, numbers and text of a pickle as they are, and all else as :class:`Inert`.

    Raises:
        StorageError: it is no whole pickle.
    """
    try:
        return _Reader(io.BytesIO(content)).load()
    except Exception as error:
        raise StorageError(f"the pickle is damaged: {type(error).__name__}: {error}") from error


def array(record: Any) -> np.ndarray[Any, Any]:
    """The numbers of a NumPy array that was read as :class:`Inert`.

    Raises:
        StorageError: it is no array of plain numbers.
    """
    try:
        _, shape, dtype, fortran, content = record.state
        order = np.dtype(dtype.arguments[0]).newbyteorder(dtype.state[1])
        if order.kind not in "biuf" or not isinstance(content, bytes):
            raise TypeError(f"{order} holds more than numbers")
        return np.frombuffer(content, order).reshape(shape, order="F" if fortran else "C")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise StorageError(f"the pickle holds no array of numbers there: {error}") from error
