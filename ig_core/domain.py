"""A Domain turns what users have into Examples, and Rows into the model's numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core.attribution import Attribution
from ig_core.errors import InputError, TargetError
from ig_core.example import Example, Target, Units
from ig_core.layout import Layout
from ig_core.model_state import modules_in, prepared
from ig_core.report import html, text
from ig_core.rows import Rows

if TYPE_CHECKING:
    from ig_core.methods import Task


class Domain(ABC):
    """One kind of model; an instance wraps one model.

    A subclass names its tensors' layouts, encodes one raw input and runs the model on packed
    rows. It never sees the path, the steps or the other examples::

        class Tabular(Domain):
            name = "tabular"
            layouts = {"x": Stack()}

            def encode(self, raw, target=None):
                return Example({"x": raw}, target=target)

            def forward(self, rows):
                return rows.select(self.model(rows["x"]))
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    """Packages without which the domain cannot work; it is only guessed when they are loaded."""
    extra: ClassVar[str] = ""
    """What to install for them, such as ``ig-core[text]``."""
    layouts: Mapping[str, Layout]
    baseline_name: str = "zeros"
    """What results call the start that :meth:`baseline` gives; it changes with that."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        """Whether this domain should be guessed for this model and input."""
        return False

    def split(self, raw: Any) -> Sequence[Any] | None:
        """The examples in ``raw`` if it is a batch, None if it is a single example."""
        return raw if isinstance(raw, list) else None

    @abstractmethod
    def encode(self, raw: Any, target: Target = None) -> Example:
        """One raw input as an example, without a batch dimension.

        Raises:
            InputError: the input does not suit the model.
        """

    def expand(self, raw: Any, targets: Any) -> list[Target]:
        """The targets that something else than a list means for one raw input.

        Raises:
            TargetError: nothing; the default.
        """
        raise TargetError(f"targets= is a list of at least one target (got {targets!r})")

    @abstractmethod
    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        """The explained number of every row; rows must not influence each other."""

    def finish(self, task: Task, results: Sequence[Attribution]) -> Sequence[Attribution]:
        """What the user is given of a task's results: by default just these.

        Override it to add what is asked of the model once more for all of them, or where the
        examples were a part of what the user gave. What is added to ``display`` about the start
        of the path goes beneath ``"start"``, lest baselines could not be compared.
        """
        return results

    def baseline(self, example: Example) -> Mapping[str, Tensor]:
        """Where the path starts when the user does not say; zeros by default."""
        return {name: torch.zeros_like(value) for name, value in example.inputs.items()}

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        """A view of one attribution as ``"text"`` or as an ``"html"`` fragment.

        Of the class, so that a result that is kept does not keep the model with it. A fragment
        whose element has the class ``ig-wide`` takes the whole width of the benchmark's page.
        """
        card = attribution.card()
        return html.bars(card) if fmt == "html" else text.table(card)

    @classmethod
    def regroup(cls, attribution: Attribution, by: Any) -> Units:
        """The units of one attribution in another grouping.

        Raises:
            InputError: there is no such grouping; the default.
        """
        raise InputError(f"domain {cls.name!r} has no other units (got {by!r})")

    def start(self, example: Example, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A start that the user gave, shaped like the example; by default as it is.

        Override it where an example is a part of what the user gave.
        """
        return given

    def modules(self) -> Sequence[nn.Module]:
        """The modules to evaluate, freeze and restore during a call."""
        return modules_in(self.model)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """The model in evaluation mode and frozen inside, as it was found outside."""
        with prepared(self.modules()):
            yield

    def device(self, wanted: str | torch.device | None, example: Example) -> torch.device:
        """Where to compute: where the model is, or else where it is wanted, or the input.

        Raises:
            InputError: another device is wanted than the model's.
        """
        own = next(
            (t.device for m in self.modules() for t in (*m.parameters(), *m.buffers())), None
        )
        if wanted is None:
            return own or next(iter(example.inputs.values())).device
        try:
            device = torch.empty(0, device=wanted).device
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device={str(wanted)!r} cannot be used: {error}") from error
        if own is not None and own != device:
            raise InputError(
                f"the model is on {own}, device={str(wanted)!r} was asked for; ig_core never "
                f"moves a model: call model.to({str(wanted)!r}) first"
            )
        return device
