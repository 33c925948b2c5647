"""Classification of texts and of tokens, and whatever a head makes of a sentence embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import OutputError, TargetError
from ig_text.tasks.base import (
    Ask,
    Chosen,
    Given,
    Names,
    Points,
    Reading,
    Run,
    TextTask,
    classes_of,
    part,
)
from ig_text.tokens import OwnReader, Reader
from ig_text.words import units

Head = Callable[[Float[Tensor, "rows width"]], Float[Tensor, "rows ..."]]
Pool = Literal["mean", "first", "last"]


class SequenceClassification(TextTask):
    """One answer per text: classes, labels that may hold together, or a single number.

    A target is a class by number or name, a tuple of two of them (the first one's logit minus the
    second one's), or a function of the outputs (rows, classes). Without one the margin is
    explained: the predicted class minus the runner-up; of a single output that, and of labels
    that exclude nothing the most probable one.
    """

    name = "text-classification"
    per_token: ClassVar[bool] = False

    def __init__(self, model: Any, reader: Reader | OwnReader, names: Sequence[str] = ()) -> None:
        super().__init__(model, reader)
        self.names = Names(names)
        config = getattr(model, "config", None)
        self.labels = getattr(config, "problem_type", None) == "multi_label_classification"
        # Outputs: as many as a config tells, or those that were seen.
        self.count: int = getattr(config, "num_labels", 0)

    def outputs(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows classes"]:
        advice = "pass head= to explain an encoder"
        logits = part(run(given, points), "logits", self.model, advice)
        return classes_of(logits, len(given["input_ids"]), 2, self.model)

    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        if target is None or not self.count:
            outputs = ask()
            self.count = outputs.numel()
        self.names.check(self.count)
        if target is None:
            return self._predicted(outputs.flatten())
        if isinstance(target, tuple) and len(target) == 2:
            best, second = (self.names.index(one, self.count) for one in target)
            return Chosen((best + 1, second + 1), f"{self.names[best]} minus {self.names[second]}")
        best = self.names.index(target, self.count)
        return Chosen((best + 1, 0), self.names[best])

    def _predicted(self, outputs: Float[Tensor, " classes"]) -> Chosen:
        if len(outputs) == 1 or self.labels:
            best = int(outputs.argmax())
            told = self.names[best] if self.names.names else self.whole
            return Chosen((best + 1, 0), f"{told} (most probable)" if self.labels else told)
        best, second = outputs.topk(2).indices.tolist()
        told = f"{self.names[best]} (predicted) minus {self.names[second]}"
        return Chosen((best + 1, second + 1), told)

    @property
    def whole(self) -> str:
        """What a single output is called."""
        return "the output"


class SentenceEncoder(SequenceClassification):
    """What a head makes of a sentence embedding: a class, a cosine, any number.

    Args:
        head: a function of the embedding that gives one number or several per row.
        pool: how the states of the tokens become the embedding: their mean, or the state of the
            first token, or of the last one.
    """

    name = "feature-extraction"

    def __init__(
        self,
        model: Any,
        reader: Reader | OwnReader,
        names: Sequence[str] = (),
        *,
        head: Head,
        pool: Pool = "mean",
    ) -> None:
        super().__init__(model, reader, names)
        self.head = head
        self.pool = pool
        self.labels = False
        self.count = 0

    def outputs(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows ..."]:
        embedding = self.embedding(run, given, points)
        rows = len(embedding)
        outputs = self.head(embedding)
        if isinstance(outputs, Tensor) and outputs.dim() == 0 and rows == 1:
            return outputs.view(1, 1)  # what a squeeze makes of a single row
        if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != rows:
            got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else repr(outputs)
            raise OutputError(f"head must give one answer per text, here {rows} (got {got})")
        return outputs.flatten(1) if outputs.dim() > 1 else outputs[:, None]

    def embedding(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows width"]:
        """The sentence embedding of every row."""
        advice = "head= is for encoders only"
        states = part(run(given, points), "last_hidden_state", self.model, advice)
        if self.pool == "first":
            return states[:, 0]
        mask = given["attention_mask"]
        if self.pool == "last":
            last = mask.sum(1) - 1
            return states[torch.arange(len(states), device=states.device), last]
        weight = mask[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)

    @property
    def whole(self) -> str:
        return getattr(self.head, "__name__", "the output")


class TokenClassification(TextTask):
    """One answer per token, such as the kind of a name.

    A target is ``("word", i, label)`` or ``("token", i, label)``: the logit of a label, given by
    number or name, at the first token of the i-th word of the result (or at the only word that is
    written like that), or at the i-th token, special ones counted. Without a label the margin of
    the predicted one over the runner-up is explained. A function gets (rows, tokens, labels).
    """

    name = "token-classification"

    def __init__(self, model: Any, reader: Reader | OwnReader, names: Sequence[str] = ()) -> None:
        super().__init__(model, reader)
        self.names = Names(names)

    def outputs(
        self, run: Run, given: Given, points: Points
    ) -> Float[Tensor, "rows tokens labels"]:
        logits = part(run(given, points), "logits", self.model, "its tokens are not classified")
        return classes_of(logits, len(given["input_ids"]), 3, self.model)

    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        outputs = ask()
        tokens = reading.tokens["embeddings"]
        labels = outputs.shape[-1]
        self.names.check(labels)
        if not isinstance(target, tuple) or target[:1] not in (("word",), ("token",)):
            raise TargetError(
                "say which token is to be explained: target=('word', i, label) or ('token', i, "
                f"label), the label being optional (got {target!r}); the model says "
                + self._said(reading, outputs)
            )
        if len(target) not in (2, 3):
            raise TargetError(f"expected ({target[0]!r}, i, label) (got {target!r})")
        if target[0] == "word":
            place = tokens.words.index(self._word(target[1], reading))
        else:
            place = _index(target[1], len(tokens), "tokens")
        base = place * labels + 1
        at = f"{tokens.names[place]!r}"
        if len(target) == 3:
            label = self.names.index(target[2], labels)
            return Chosen((base + label, 0), f"{self.names[label]} at {at}")
        if labels == 1:
            return Chosen((base, 0), f"{self.names[0]} at {at}")
        best, second = outputs[0, place].topk(2).indices.tolist()
        told = f"{self.names[best]} (predicted) minus {self.names[second]} at {at}"
        return Chosen((base + best, base + second), told)

    def _word(self, given: Any, reading: Reading) -> int:
        labels = _labels(reading)
        if isinstance(given, str):
            if labels.count(given) != 1:
                raise TargetError(
                    f"{given!r} must be one word of the text; it is {labels.count(given)} of them: "
                    f"{', '.join(labels)[:200]}"
                )
            return labels.index(given)
        return _index(given, len(labels), "words")

    def _said(self, reading: Reading, outputs: Tensor) -> str:
        tokens = reading.tokens["embeddings"]
        first = [tokens.words.index(w) for w in dict.fromkeys(w for w in tokens.words if w >= 0)]
        said = outputs[0].argmax(-1).tolist()
        pairs = zip(_labels(reading), first, strict=True)
        told = [f"{i}: {label} {self.names[said[place]]}" for i, (label, place) in enumerate(pairs)]
        return ", ".join(told)


def _labels(reading: Reading) -> list[str]:
    return list(units(reading.display).labels)


def _index(given: Any, count: int, things: str) -> int:
    whole = isinstance(given, int) and not isinstance(given, bool)
    if not whole or not -count <= given < count:
        raise TargetError(f"the text has {count} {things}, counted from 0 (got {given!r})")
    return int(given) % count
