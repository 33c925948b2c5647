"""Removal: whether a model says something else once the highlighted words are gone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ig_core as ig
from ig_core import Attribution, InputError, Table
from ig_text.domain import TextDomain
from ig_text.passage import Passage
from ig_text.predictions import Prediction, domain_of, predictions
from ig_text.tasks.classification import SequenceClassification
from ig_text.tasks.generation import CausalLM, Generation, NothingWrittenError
from ig_text.tokens import Span

CLOSING = ",.;:!?)"
"""What stands behind a word without a space."""


@dataclass(frozen=True)
class Answer:
    """What a model says of a text: its class, or what it writes greedily, which may be nothing.

    ``probability`` is that of this class, and ``former`` that of the class before the removal; NaN
    for what a model writes.
    """

    texts: Sequence[str]
    said: str
    probability: float = math.nan
    former: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What a model says before and after some words were taken out of the raw text.

    ``control`` is the same for as many words of lowest score; a control has none itself.
    """

    removed: Sequence[str]
    before: Answer
    after: Answer
    control: Removal | None = None

    @property
    def changed(self) -> bool:
        """Whether the model says something else."""
        return self.after.said != self.before.said

    def table(self) -> Table:
        """Both removals as a table."""
        both = [("highest", self), *([("lowest", self.control)] if self.control else [])]
        columns, classified = ["scores", "removed", "said", "changed"], self.before.former
        rows: list[list[str | int | float]] = [
            [which, ", ".join(one.removed), one.after.said, "yes" if one.changed else "no"]
            for which, one in both
        ]
        rows.insert(0, ["", "nothing", self.before.said, ""])
        if not math.isnan(classified):
            columns += ["probability", "of the former"]
            for row, answer in zip(rows, [self.before, *(o.after for _, o in both)], strict=True):
                row += [answer.probability, answer.former]
        return Table(columns, rows)

    def to_text(self) -> str:
        """The table as plain text."""
        return self.table().to_text()

    def to_html(self) -> str:
        """The table as an HTML fragment, escaped."""
        return self.table().to_html()


def removal(
    model: Any,
    text: Any,
    *,
    tokenizer: Any = None,
    k: int = 1,
    result: Attribution | None = None,
    baseline: Any = None,
    **options: Any,
) -> Removal:
    """Take the k words of highest score out of the raw text and ask the model again.

    The text is tokenised again, as a user's would be, unlike in :func:`ig_text.faithfulness`. For a
    classifier the predicted classes are compared, for a language model what it writes greedily:
    the next token (or as many as ``generated`` asks for or holds), or the whole translation. Only
    words of what the model reads are taken out, none of what it wrote. The control is the same
    with the k words of lowest score, which speak most against what is explained: without them the
    model should say the same.

    Args:
        text: what :func:`ig_core.attribute` takes as one text.
        k: words to take out; units, if ``result`` has others.
        result: the attribution of this text, if there is one; made with the options otherwise.
        baseline: of that attribution.
        **options: as in :func:`ig_text.faithfulness`; and ``generated`` and ``contrast``.

    Raises:
        InputError: the model neither classifies nor writes texts, the result is of another text,
            there are fewer than 2 k words to choose from, or no text is left.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k must be a whole number of at least 1 (got {k!r})")
    domain, engine = domain_of(model, tokenizer, options)
    if not isinstance(domain.task, (SequenceClassification, Generation)):
        raise InputError(
            f"removal needs a model that classifies or writes (this is {domain.task.name!r})"
        )
    [passage] = domain.split([text])
    with domain.prepared():
        said = None
        if isinstance(domain.task, SequenceClassification):
            [said] = predictions(domain, [passage])
        if result is None:
            result = ig.attribute(
                model, passage, domain=domain, baseline=baseline,
                target=said and said.target, **engine,
            )  # fmt: skip
        spans = _spans(result, passage)
        order = _ranked(result, spans, k)
        asked = _asked(domain, passage, result)
        before = _answer(domain, asked, said)

        def without(units: Sequence[int], control: Removal | None = None) -> Removal:
            shorter = _without(asked, [span for unit in units for span in spans[unit]])
            return Removal(
                removed=[result.units.labels[unit] for unit in units],
                before=before,
                after=_answer(domain, shorter, said),
                control=control,
            )

        return without(order[:k], without(order[-k:][::-1]))


def _spans(result: Attribution, passage: Passage) -> list[list[Span]]:
    """Where every unit stands in the texts that are read, text by text."""
    texts = list(passage.texts)
    if result.display.get("texts", [])[: len(texts)] != texts:
        raise InputError(f"the result is of another text than {texts!r:.80}")
    found: list[dict[int, tuple[int, int]]] = [{} for _ in result.units.labels]
    windows = result.display.get("windows")
    for name, index in result.units.index.items():
        spans = result.display["spans"][name]
        places = [p for window in windows for p in window] if windows else range(len(spans))
        for unit, place in zip(index.flatten().tolist(), places, strict=True):
            if unit < 0 or spans[place] is None or spans[place][0] >= len(texts):
                continue
            text, start, end = spans[place]
            first, last = found[unit].get(text, (start, end))
            found[unit][text] = min(first, start), max(last, end)
    return [[(text, a, b) for text, (a, b) in own.items() if a < b] for own in found]


def _ranked(result: Attribution, spans: Sequence[Sequence[Span]], k: int) -> list[int]:
    """The units that can be taken out, from the highest score to the lowest."""
    scores = result.scores
    if not bool(scores.isfinite().all()):
        raise InputError(f"the text could not be explained: {result.reason}")
    order = [u for u in scores.argsort(descending=True, stable=True).tolist() if spans[u]]
    if len(order) < 2 * k:
        raise InputError(
            f"to take out {k} and compare with {k} others needs {2 * k} {result.units.kind}s "
            f"whose place in the text is known (got {len(order)})"
        )
    return order


def _asked(domain: TextDomain, passage: Passage, result: Attribution) -> Passage:
    """The passage that asks a language model to write by itself."""
    count = passage.generated
    if isinstance(count, str):
        written = result.display["generated"]["tokens"]
        count = len(written) if isinstance(domain.task, CausalLM) else None
    return replace(passage, generated=count, contrast=None)


def _answer(domain: TextDomain, passage: Passage, former: Prediction | None) -> Answer:
    if former is None:
        try:
            display = domain.encode(passage).display
        except NothingWrittenError:
            return Answer(passage.texts, "")
        return Answer(passage.texts, display["texts"][display["roles"].index("generated")])
    [own] = predictions(domain, [passage])
    task = ig.prepare(domain, [passage], target=former.of)
    [example] = task.examples
    points = {name: value[None] for name, value in example.inputs.items()}
    return Answer(passage.texts, own.label, own.probability, float(task.values_at(example, points)))


def _without(passage: Passage, spans: Sequence[Span]) -> Passage:
    """The passage without these characters, and without the spaces that they leave behind."""
    texts = list(passage.texts)
    for text, start, end in sorted(spans, reverse=True):
        left, right = texts[text][:start], texts[text][end:]
        if not right or right[0] in CLOSING:
            left = left.rstrip()
        elif not left or left[-1].isspace():
            right = right.lstrip()
        texts[text] = left + right
    whos = [who for who, _ in passage.messages]
    messages = tuple(zip(whos, texts, strict=True)) if whos else ()
    return replace(passage, texts=tuple(texts), messages=messages)
