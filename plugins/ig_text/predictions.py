"""Predictions: the class that a model gives a text, and how probable it is by the model itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

import ig_core as ig
from ig_core import InputError
from ig_text.domain import TextDomain
from ig_text.tasks.classification import SequenceClassification

Kind = Literal["softmax", "sigmoid", "positive", "negative"]
"""A class among others, a label of its own, or the sign of a single output."""

ENGINE = ("path", "tol", "budget", "rule", "steps", "device", "seed")
"""Options that :func:`ig_core.prepare` takes; all others are the domain's."""


def the_output(outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, " rows"]:
    """A single output."""
    return outputs[:, 0]


def minus_the_output(outputs: Float[Tensor, "rows 1"]) -> Float[Tensor, " rows"]:
    """What speaks against a single output."""
    return -outputs[:, 0]


SIGNED = {"positive": the_output, "negative": minus_the_output}
"""What explains the sign of a single output."""


@dataclass(frozen=True)
class Prediction:
    """The class of a text and its probability, by the model's own outputs.

    Of classes that exclude each other the probability is that of the softmax. Of labels that may
    hold together the most probable one is meant, with its sigmoid. A single output is taken for
    the logit of something that is so or ``"not"``, whichever is more probable.
    """

    label: str
    probability: float
    kind: Kind
    index: int
    second: int | None = None
    """The runner-up, of classes that exclude each other."""

    def of(self, outputs: Float[Tensor, "rows classes"]) -> Float[Tensor, " rows"]:
        """The probability of this class in float64, as a target."""
        if self.kind == "softmax":
            return outputs.double().softmax(1)[:, self.index]
        sign = -1 if self.kind == "negative" else 1
        return (sign * outputs[:, self.index].double()).sigmoid()

    @property
    def target(self) -> Any:
        """What explains this class: its margin over the runner-up, or its logit."""
        if self.kind in SIGNED:
            return SIGNED[self.kind]
        return self.index if self.second is None else (self.index, self.second)


def predictions(domain: TextDomain, raws: Sequence[Any]) -> list[Prediction]:
    """What a classifier says of some texts; call it inside ``domain.prepared()``.

    Raises:
        InputError: the model does not classify texts.
    """
    classifier = _classifier(domain)
    found = []
    for raw in raws:
        target = domain.encode(raw).target
        assert isinstance(target, tuple), "a classifier chooses outputs by their numbers, from 1"
        index, second = target[0] - 1, target[1] - 1 if target[1] else None
        kind: Kind = "sigmoid" if second is None else "softmax"
        label = classifier.names[index]
        probability = _at_input(domain, raw, Prediction(label, 0.0, kind, index).of)
        if classifier.count == 1:
            kind = "positive" if probability >= 0.5 else "negative"
        if kind == "negative":
            label, probability = f"not {label}", 1 - probability
        found.append(Prediction(label, probability, kind, index, second))
    return found


def domain_of(
    model: Any, tokenizer: Any, options: Mapping[str, Any]
) -> tuple[TextDomain, dict[str, Any]]:
    """The domain of a text model, and those of the options that are not the domain's.

    Raises:
        InputError: there is no such option.
    """
    known = [*inspect.signature(TextDomain).parameters][1:]
    if unknown := sorted(options.keys() - {*known, *ENGINE}):
        raise InputError(f"no option {unknown[0]!r}; options: {', '.join([*known, *ENGINE])}")
    own = {name: value for name, value in options.items() if name in known}
    engine = {name: value for name, value in options.items() if name in ENGINE}
    return TextDomain(model, tokenizer=tokenizer, **own), engine


def _classifier(domain: TextDomain) -> SequenceClassification:
    config = getattr(domain.model, "config", None)
    numbers = getattr(config, "problem_type", None) == "regression"
    if not isinstance(domain.task, SequenceClassification) or numbers:
        told = "regression" if numbers else domain.task.name
        raise InputError(f"the probability of a class needs a text classifier (this is {told!r})")
    return domain.task


def _at_input(domain: TextDomain, raw: Any, target: Callable[[Tensor], Tensor]) -> float:
    task = ig.prepare(domain, [raw], target=target)
    [example] = task.examples
    return float(task.values_at(example, {n: v[None] for n, v in example.inputs.items()}))
