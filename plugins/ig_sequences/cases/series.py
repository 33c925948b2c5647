"""Series are labelled sequences, read from ``.ts`` files; some lie in the package aeon."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ig_core import Archive, StorageError, made_once

WHEEL = Archive(
    requirement="aeon==1.6.0",
    file="aeon-1.6.0-py3-none-any.whl",
    sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    content="time series",
)
PARTS = ("TRAIN", "TEST")


@dataclass(frozen=True, eq=False)
class Series:
    """Sequences, which may differ in length, and the class of each."""

    sequences: Sequence[Float[Tensor, "time features"]]
    classes: Int[Tensor, " sequences"]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def features(self) -> int:
        """How many numbers a step has."""
        return self.sequences[0].shape[1]


def read(text: str) -> Series:
    """The series of a ``.ts`` file, the format of aeon and timeseriesclassification.com.

    A line is a sequence: its features, apart by ``:``, each a list of numbers, and its class.

    >>> series = read("@classLabel true up down\\n@data\\n1,2,3:0,0,0:up\\n3,1:1,1:down\\n")
    >>> [x.tolist() for x in series.sequences][1], series.classes.tolist(), series.names
    ([[3.0, 1.0], [1.0, 1.0]], [0, 1], ('up', 'down'))

    Raises:
        StorageError: it is malformed, has missing values or times of its own, or no classes.
    """
    lines = enumerate(text.splitlines(), 1)
    names = _header(lines)
    sequences: list[Tensor] = []
    classes: list[int] = []
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        *features, label = (part.strip() for part in line.split(":"))
        if label not in names:
            raise StorageError(f"line {number}: {label!r} is no class; known: {', '.join(names)}")
        columns = [_numbers(feature, number) for feature in features]
        lengths = {len(column) for column in columns}
        width = sequences[0].shape[1] if sequences else len(columns)
        if len(lengths) != 1 or len(columns) != width:
            raise StorageError(
                f"line {number}: expected {width} features of one length "
                f"(got {len(columns)} of {sorted(lengths)})"
            )
        sequences.append(torch.tensor(columns).t().contiguous())
        classes.append(names.index(label))
    if not sequences:
        raise StorageError("no sequence follows @data")
    return Series(sequences, torch.tensor(classes), names)


def packaged(name: str, folder: Path) -> tuple[Series, Series]:
    """What to fit to and what to test on, of a data set in the package aeon; kept in ``folder``.

    Raises:
        StorageError: the package is not in ``folder`` and could not be fetched.
    """

    def extract(partial: Path) -> None:
        members = [f"aeon/datasets/data/{name}/{name}_{part}.ts" for part in PARTS]
        texts = WHEEL.members(members, partial.parent)
        write([read(text.decode("utf-8")) for text in texts], partial)

    return load(made_once(folder / f"{name}.safetensors", extract))


def write(parts: Sequence[Series], path: Path) -> None:
    """Keep two series in one file: all steps one after another, lengths and classes."""
    tensors = {}
    for part, series in zip(PARTS, parts, strict=True):
        tensors[f"{part}.steps"] = torch.cat([*series.sequences])
        tensors[f"{part}.lengths"] = torch.tensor([len(x) for x in series.sequences])
        tensors[f"{part}.classes"] = series.classes
    save_file(tensors, path, metadata={"classes": "\n".join(parts[0].names)})


def load(path: Path) -> tuple[Series, Series]:
    """What :func:`write` kept."""
    with safe_open(path, framework="pt") as file:
        names = tuple(file.metadata()["classes"].split("\n"))
        found = []
        for part in PARTS:
            lengths = file.get_tensor(f"{part}.lengths").tolist()
            sequences = file.get_tensor(f"{part}.steps").split(lengths)
            found.append(Series(sequences, file.get_tensor(f"{part}.classes"), names))
    return found[0], found[1]


def _header(lines: Iterator[tuple[int, str]]) -> tuple[str, ...]:
    """The names of the classes, with the lines read as far as ``@data``."""
    names: tuple[str, ...] = ()
    for number, line in lines:
        word, _, value = line.strip().partition(" ")
        values = value.split()
        match word.lower():
            case "@data":
                if not names:
                    raise StorageError("no line '@classLabel true ...' stands before @data")
                return names
            case "@classlabel":
                names = tuple(values[1:]) if values and values[0].lower() == "true" else ()
            case "@timestamps" | "@missing" if value.strip().lower() == "true":
                raise StorageError(
                    f"line {number}: {word} true is not read; only steps without times of their "
                    "own and without missing values are"
                )
            case other if other and other[0] not in "@#":
                raise StorageError(
                    f"line {number}: expected @ or # before @data (got {line[:40]!r})"
                )
    raise StorageError("there is no line @data: this is no .ts file, or its end is missing")


def _numbers(feature: str, line: int) -> list[float]:
    """Numbers apart by commas.

    Raises:
        StorageError: one of them is none, or is missing or infinite.
    """
    found = []
    for word in feature.split(","):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise StorageError(f"line {line}: {word[:40]!r} is no finite number")
        found.append(value)
    return found
