"""A TextTask says what a model reads, what numbers it gives, and which one a target means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError, OutputError, TargetError
from ig_text.passage import Passage
from ig_text.tokens import OwnReader, Reader, Tokens

Given = Mapping[str, Tensor]
"""The tensors of some rows by name: what an example has as context, with the rows first."""

Points = Mapping[str, Float[Tensor, "rows tokens width"]]
"""The vectors in place of the word embeddings, by input; empty for a plain call."""

Run = Callable[[Given, Points], Any]
"""Calls the model on these rows, its word embeddings replaced by these points."""

Ask = Callable[[], Float[Tensor, "1 ..."]]
"""Gives the task's outputs for one text, for targets that depend on what the model says of it."""


@dataclass(frozen=True)
class Reading:
    """One raw input as the model reads it.

    ``tokens`` by input; ``context`` holds further tensors of the example. ``generated`` are the
    explained tokens of a continuation as they stand in its text, ``contrast`` those of another.
    """

    texts: Sequence[str]
    roles: Sequence[str]
    tokens: Mapping[str, Tokens]
    context: Mapping[str, Tensor] = field(default_factory=dict)
    generated: Sequence[str] = ()
    contrast: Sequence[str] | None = None

    @property
    def display(self) -> dict[str, Any]:
        """What views and other groupings need to know of the text; JSON values only."""
        tokens = self.tokens
        return {
            "texts": list(self.texts),
            "roles": list(self.roles),
            "tokens": {name: list(own.names) for name, own in tokens.items()},
            "spans": {name: [s and list(s) for s in own.spans] for name, own in tokens.items()},
            "words": {name: list(own.words) for name, own in tokens.items()},
        }


@dataclass(frozen=True)
class Chosen:
    """The number that a target means: some of the task's numbers, minus as many others.

    Number 0 is nothing; the others are those of ``TextTask.numbers``.
    """

    places: tuple[int, ...]
    told: str
    explained: tuple[int, int] | None = None
    """Which of the generated tokens, from and to."""


class TextTask(ABC):
    """One kind of answer that a model gives about a text."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    """What the model embeds: its source, and what its decoder reads."""
    shared: ClassVar[Mapping[str, str]] = {}
    """Further inputs that move, each with the one of ``inputs`` whose word embedding it shares."""
    fills: ClassVar[Mapping[str, int]] = {}
    """What the ends of further context tensors are filled with where examples share a batch."""
    per_token: ClassVar[bool] = True
    """Whether the outputs' shape depends on the number of tokens."""
    baseline: ClassVar[str] = "pad"
    longest: int | None = None
    """How many tokens the model takes, None if nothing tells."""

    def __init__(self, model: Any, reader: Reader | OwnReader) -> None:
        self.model = model
        self.reader = reader

    def read(self, passage: Passage) -> Reading:
        """The tokens of a passage.

        Raises:
            InputError: the passage has what this task has no use for.
        """
        if passage.generated is not None or passage.contrast is not None:
            raise InputError(
                f"generated= and contrast= are for language models (this is {self.name!r})"
            )
        if passage.messages:
            raise InputError(f"messages are for language models (this is {self.name!r})")
        tokens = self.reader.read(*passage.texts)
        return Reading(passage.texts, passage.roles, {"embeddings": tokens})

    def check_length(self, tokens: int) -> None:
        """Refuse more tokens than the model takes.

        Raises:
            InputError: there are more.
        """
        if self.longest is None or tokens <= self.longest:
            return
        advice = "shorten the text or explain its parts"
        if not self.per_token:
            advice += f", or read it in windows: window={self.longest}, overlap="
        raise InputError(
            f"the text has {tokens} tokens, the model takes {self.longest} at most; nothing "
            f"is cut off silently: {advice}"
        )

    @abstractmethod
    def outputs(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows ..."]:
        """What can be explained of every row; a function as target receives this."""

    def numbers(self, outputs: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows numbers"]:
        """The numbers that :class:`Chosen` counts, the first one being zero."""
        flat = outputs.flatten(1)
        return torch.cat([torch.zeros_like(flat[:, :1]), flat], dim=1)

    @abstractmethod
    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        """What a target means for one text.

        Raises:
            TargetError: there is no such number.
        """

    def expanded(self, targets: Any, reading: Reading) -> list[Any]:
        """What ``targets="each"`` and the like mean for one text.

        Raises:
            TargetError: nothing, in this task.
        """
        raise TargetError(f"targets= is a list in the task {self.name!r} (got {targets!r})")


def part(output: Any, name: str, model: Any, advice: str) -> Tensor:
    """A tensor of the model's output by name, or the output itself if it is a tensor.

    Raises:
        InputError: it has none of that name.
    """
    if isinstance(output, Tensor):
        return output
    found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    if not isinstance(found, Tensor):
        has = ", ".join(output) if isinstance(output, Mapping) else type(output).__name__
        raise InputError(
            f"expected a model that gives {name} (got {type(model).__name__} with {has}); {advice}"
        )
    return found


def classes_of(logits: Tensor, rows: int, dims: int, model: Any) -> Tensor:
    """Logits of the shape that a task needs, (rows, classes) or (rows, tokens, classes).

    Raises:
        OutputError: they have another one.
    """
    shape = "(rows, classes)" if dims == 2 else "(rows, tokens, classes)"
    if logits.dim() != dims or len(logits) != rows:
        raise OutputError(
            f"expected logits of shape {shape}, one answer per text, here {rows} (got shape "
            f"{tuple(logits.shape)} from {type(model).__name__})"
        )
    return logits


class Names:
    """The names of a model's classes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __getitem__(self, index: int) -> str:
        return self.names[index] if index < len(self.names) else f"output {index}"

    def index(self, given: Any, count: int) -> int:
        """The number of a class that is given by its number or its name.

        Raises:
            TargetError: there is none.
        """
        if isinstance(given, str) and given in self.names:
            return self.names.index(given)
        whole = isinstance(given, int) and not isinstance(given, bool)
        if not whole or not 0 <= given < count:
            known = f", or one of {', '.join(self.names)}" if self.names else ""
            raise TargetError(
                f"the model has {count} outputs: a target is a number from 0 to {count - 1}{known} "
                f"(got {given!r})"
            )
        return int(given)

    def check(self, count: int) -> None:
        """Refuse names for another number of outputs.

        Raises:
            InputError: there are more or fewer outputs than names.
        """
        if self.names and len(self.names) != count:
            raise InputError(
                f"class_names must hold {count} names, one per output (got {len(self.names)})"
            )
