"""Extractive question answering: where in a context the answer starts and ends."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError, TargetError
from ig_text.passage import Passage
from ig_text.tasks.base import Ask, Chosen, Given, Points, Reading, Run, TextTask, classes_of, part

LONGEST_ANSWER = 30
"""Tokens of an answer at most, as in the pipeline of transformers."""


class QuestionAnswering(TextTask):
    """The logits of the answer's first and last token.

    A target is ``"answer"`` (the start's logit plus the end's; the default), ``"start"`` or
    ``"end"``, of the best answer, or ``("answer", "some words of the context")`` and the like of
    another. A function gets (rows, tokens, 2): the start logits and the end logits.
    """

    name = "question-answering"

    def read(self, passage: Passage) -> Reading:
        if len(passage.texts) != 2:
            raise InputError(
                "a question needs a context: pass (question, context), or context= "
                f"(got {passage.texts!r:.80})"
            )
        reading = super().read(passage)
        return Reading(reading.texts, ("question", "context"), reading.tokens)

    def outputs(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows tokens 2"]:
        output = run(given, points)
        ends = [
            part(output, name, self.model, "it answers no questions")
            for name in ("start_logits", "end_logits")
        ]
        return classes_of(torch.stack(ends, dim=-1), len(given["input_ids"]), 3, self.model)

    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        kind, words = target if isinstance(target, tuple) and len(target) == 2 else (target, None)
        kind = "answer" if kind is None else kind
        if kind not in ("answer", "start", "end") or not isinstance(words, (str, type(None))):
            raise TargetError(
                "a target is 'answer', 'start' or 'end', or a tuple of one of these and words of "
                f"the context (got {target!r})"
            )
        spans = reading.tokens["embeddings"].spans
        context = [i for i, span in enumerate(spans) if span is not None and span[0] == 1]
        if not context:
            raise InputError("the tokenizer does not tell which tokens are the context's")
        first, last = _best(ask()[0], context) if words is None else _found(words, reading)
        (_, start, _), (_, _, end) = spans[first], spans[last]  # type: ignore[misc]
        answer = reading.texts[1][start:end].strip()
        begins, ends = 2 * first + 1, 2 * last + 2
        return {
            "answer": Chosen((begins, ends, 0, 0), f"answer {answer!r}: its start plus its end"),
            "start": Chosen((begins, 0, 0, 0), f"start of the answer {answer!r}"),
            "end": Chosen((ends, 0, 0, 0), f"end of the answer {answer!r}"),
        }[kind]


def _best(outputs: Float[Tensor, "tokens 2"], context: list[int]) -> tuple[int, int]:
    """The answer of highest logits that starts before it ends, in the context."""
    starts, ends = outputs[context].unbind(-1)
    total = starts[:, None] + ends[None, :]
    legal = torch.ones_like(total, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    best = int(total.masked_fill(~legal, -torch.inf).argmax())
    return context[best // len(context)], context[best % len(context)]


def _found(words: str, reading: Reading) -> tuple[int, int]:
    begin = reading.texts[1].find(words) if words.strip() else -1
    if begin < 0:
        raise TargetError(f"the context does not hold {words!r}: {reading.texts[1]!r:.120}")
    end = begin + len(words)
    spans = reading.tokens["embeddings"].spans
    context = ((i, s) for i, s in enumerate(spans) if s is not None and s[0] == 1)
    inside = [i for i, (_, start, stop) in context if start < end and stop > begin]
    return inside[0], inside[-1]
