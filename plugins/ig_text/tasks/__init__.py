"""What number of a text model is explained, task by task; named as transformers names them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ig_core import InputError
from ig_text.tasks.answers import QuestionAnswering
from ig_text.tasks.base import TextTask
from ig_text.tasks.classification import (
    Head,
    Pool,
    SentenceEncoder,
    SequenceClassification,
    TokenClassification,
)
from ig_text.tasks.generation import CausalLM, Seq2SeqLM
from ig_text.tasks.masked import MaskedLM
from ig_text.tokens import OwnReader, Reader

TASKS: dict[str, type[TextTask]] = {
    one.name: one
    for one in (
        SequenceClassification, TokenClassification, QuestionAnswering, MaskedLM, CausalLM,
        Seq2SeqLM, SentenceEncoder,
    )
}  # fmt: skip

ENDINGS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForQuestionAnsweringSimple": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "EncoderDecoderModel": "text2text-generation",
}
"""How the names of transformers' classes end, and what such a model does."""


def task_of(
    model: Any,
    reader: Reader | OwnReader,
    name: str | None,
    head: Head | None,
    pool: Pool,
    names: Sequence[str] | None,
) -> TextTask:
    """The task of a model, known from its class if it is not named.

    Raises:
        InputError: there is no such task, or the options do not suit it.
    """
    if pool not in ("mean", "first", "last"):
        raise InputError(f"pool must be 'mean', 'first' or 'last' (got {pool!r})")
    if head is not None and not callable(head):
        raise InputError(f"head must be a function of the sentence embedding (got {head!r:.80})")
    if name is not None and name not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)} (got {name!r})")
    if head is not None:
        if name not in (None, SentenceEncoder.name):
            raise InputError(f"head= makes the task {SentenceEncoder.name!r} (got {name!r})")
        return SentenceEncoder(model, reader, _names(names, None), head=head, pool=pool)
    task = TASKS[name or _guessed(model)]
    if task is SentenceEncoder:
        raise InputError(f"the task {name!r} needs head=, a function of the sentence embedding")
    if issubclass(task, (SequenceClassification, TokenClassification)):
        return task(model, reader, _names(names, getattr(model, "config", None)))
    if names is not None:
        raise InputError(f"class_names= is for classifiers (this is {task.name!r})")
    if isinstance(reader, OwnReader):
        raise InputError(f"the task {task.name!r} needs tokenizer=; encode= is for classifiers")
    return task(model, reader)


def _guessed(model: Any) -> str:
    for one in type(model).__mro__:
        for ending, task in ENDINGS.items():
            if one.__name__.endswith(ending):
                return task
    config = getattr(model, "config", None)
    takes = inspect.signature(model.forward).parameters
    if config is None and "decoder_input_ids" in takes:
        return Seq2SeqLM.name
    return SequenceClassification.name


def _names(given: Any, config: Any) -> tuple[str, ...]:
    """The given names, or those that the config has for the model's own outputs."""
    if given is None:
        own = getattr(config, "id2label", None) or {}
        return tuple(str(own[i]) for i in sorted(own)) if [*own] == [*range(len(own))] else ()
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise InputError(f"class_names must be a list of strings (got {given!r:.80})")
    return tuple(given)
