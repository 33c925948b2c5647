"""A Passage is what one raw input says: its texts, and what a model wrote or might have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ig_core import InputError

KEYS = ("text", "pair", "question", "context", "messages", "generated", "contrast")

Message = tuple[str, str]
"""Who speaks, and what."""


@dataclass(frozen=True)
class Passage:
    """One text or two, or the messages of a chat; ``generated`` continues or translates them.

    A whole number as ``generated`` asks the model for so many tokens.
    """

    texts: tuple[str, ...]
    roles: tuple[str, ...] = ("text",)
    messages: tuple[Message, ...] = ()
    generated: str | int | None = None
    contrast: str | None = None


def passage(raw: Any) -> Passage:
    """The passage of one raw input.

    Raises:
        InputError: it is no text, no pair of texts and no mapping with the known keys.
    """
    if isinstance(raw, Passage):
        return raw
    if isinstance(raw, Mapping):
        return _named(raw)
    texts = raw if isinstance(raw, tuple) else (raw,)
    if len(texts) not in (1, 2) or not all(isinstance(text, str) for text in texts):
        raise InputError(
            "expected a text, a tuple of two texts, or a mapping with some of the keys "
            f"{', '.join(KEYS)} (got {raw!r:.80})"
        )
    return Passage(texts, ("text", "text pair")[: len(texts)])


def with_options(
    passages: Sequence[Passage], context: Any, generated: Any, contrast: Any
) -> list[Passage]:
    """The passages with a context, a continuation and a contrast: one for all, or one for each.

    Raises:
        InputError: a list of another length than the batch, or something that is no text.
    """
    contexts = _each("context", context, len(passages))
    written = _each("generated", generated, len(passages))
    others = _each("contrast", contrast, len(passages))
    found = []
    for one, behind, text, other in zip(passages, contexts, written, others, strict=True):
        if behind is not None:
            if len(one.texts) != 1 or one.messages:
                raise InputError(f"context= is for one question (got {one.texts!r:.80})")
            one = replace(
                one,
                texts=(*one.texts, _text("context", behind)),
                roles=("question", "context"),
            )
        if text is not None:
            one = replace(one, generated=_written(text))
        if other is not None:
            one = replace(one, contrast=_other(other))
        found.append(one)
    return found


def _named(raw: Mapping[str, Any]) -> Passage:
    if unknown := [key for key in raw if key not in KEYS]:
        raise InputError(f"a text knows no {unknown[0]!r}; its keys are {', '.join(KEYS)}")
    generated = None if raw.get("generated") is None else _written(raw["generated"])
    contrast = None if raw.get("contrast") is None else _other(raw["contrast"])
    said = [name for name in KEYS[:5] if raw.get(name) is not None]
    for names, roles in (
        (["text", "pair"], ("text", "text pair")),
        (["question", "context"], ("question", "context")),
    ):
        if said in (names, names[:1]):
            texts = tuple(_text(name, raw[name]) for name in said)
            return Passage(texts, roles[: len(texts)], (), generated, contrast)
    if said != ["messages"]:
        raise InputError(
            "a mapping needs a 'text', a 'question' or 'messages', one of these only, and may have "
            f"the text's 'pair' or the question's 'context' (got {', '.join(said) or 'none'})"
        )
    return _chat(raw["messages"], generated, contrast)


def _chat(messages: Any, generated: str | int | None, contrast: str | None) -> Passage:
    if not isinstance(messages, Sequence) or not messages or isinstance(messages, str):
        raise InputError(f"messages must be a list of messages (got {messages!r:.80})")
    said = tuple(_message(one) for one in messages)
    texts = tuple(text for _, text in said)
    if not any(text.strip() for text in texts):
        raise InputError(f"no message says anything (got {messages!r:.80})")
    return Passage(texts, tuple(who for who, _ in said), said, generated, contrast)


def _message(raw: Any) -> Message:
    if not isinstance(raw, Mapping) or not {"role", "content"} <= set(raw):
        raise InputError(f"a message has a 'role' and a 'content' (got {raw!r:.80})")
    return _text("role", raw["role"]), _text("content", raw["content"])


def _each(name: str, given: Any, count: int) -> Sequence[Any]:
    if not isinstance(given, list):
        return [given] * count
    if len(given) != count:
        raise InputError(f"{name}= needs one text for each of {count} inputs (got {len(given)})")
    return given


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InputError(f"{name!r} must be a text (got {given!r:.80})")
    return given


def _written(given: Any) -> str | int:
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    if not isinstance(given, str) or not given:
        raise InputError(
            f"generated must be a text, or how many tokens to generate (got {given!r:.80})"
        )
    return given


def _other(given: Any) -> str:
    if not _text("contrast", given):
        raise InputError("'contrast' must be another continuation (got '')")
    return str(given)
