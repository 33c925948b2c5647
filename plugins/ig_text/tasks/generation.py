"""Language models: the log-probability of what was written, token by token or in sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import InputError, TargetError
from ig_text.passage import Passage
from ig_text.tasks.base import Chosen, Given, Points, Reading, Run, TextTask, classes_of, part
from ig_text.tokens import Reader, Span, Tokens, joined, unlocated
from ig_text.words import counted

NOTHING = -1
"""In place of a label: no token, whose log-probability counts as zero."""

CONTRAST = "contrast_embeddings"
"""The input that holds what only the other continuation has."""

LONGEST_TRANSLATION = 128
"""Tokens that an encoder-decoder model is asked for if nobody says how many."""


class NothingWrittenError(InputError):
    """The model ended at once: there is nothing to explain."""


class Generation(TextTask):
    """The log-probability of a continuation, given all that is before each of its tokens.

    A target is None (the sum over all tokens), the number of a token, or a slice (the sum over it).
    ``targets="each"`` explains every token. A function gets (rows, generated tokens).

    With a contrast the log-probability of the other continuation is subtracted, each with its own
    prefix: token k of one minus token k of the other, which adds up to the difference of the two
    continuations; of the shorter one the missing tokens count as zero. Where the two have the
    same prefix that is the difference of two logits (Yin and Neubig 2022, arXiv:2202.10419).
    Special tokens are not explained, and stay where they are.
    """

    side: ClassVar[str]
    """The input that is continued."""
    role: ClassVar[str]
    """What the text before the continuation is called."""
    baseline: ClassVar[str] = "mean"
    fills: ClassVar[Mapping[str, int]] = {
        "places": 0, "labels": NOTHING, "contrast_places": 0, "contrast_labels": NOTHING,
        "contrast_ids": 0, "contrast_from": 0,
    }  # fmt: skip

    def numbers(self, outputs: Float[Tensor, "rows tokens"]) -> Float[Tensor, "rows sums"]:
        """Sums over the first tokens, of which any slice is a difference."""
        sums = outputs.double().cumsum(1)
        return torch.cat([torch.zeros_like(sums[:, :1]), sums], dim=1)

    def asks(self, target: Any) -> bool:
        return False

    def chosen(self, target: Any, reading: Reading, outputs: Tensor | None) -> Chosen:
        assert reading.generated is not None
        written = reading.generated["tokens"]
        other = reading.generated["contrast"] or []
        count = max(len(written), len(other))
        first, last = _range(target, count)
        told = f"log p({''.join(written[first:last])!r})"
        if reading.generated["contrast"] is not None:
            told += f" minus log p({''.join(other[first:last])!r})"
        return Chosen((last, first), told, (first, last))

    def expanded(self, targets: Any, reading: Reading) -> list[Any]:
        assert reading.generated is not None
        count = max(len(reading.generated["tokens"]), len(reading.generated["contrast"] or []))
        if targets == "sum":
            return [None]
        if targets == "each" or isinstance(targets, slice):
            found = list(range(count))[targets if isinstance(targets, slice) else slice(None)]
            if not found:
                raise TargetError(f"{targets!r} is none of the {count} generated tokens")
            return found
        raise TargetError(
            "targets= is 'each', 'sum', a slice of the generated tokens or a list "
            f"(got {targets!r})"
        )

    def outputs(self, run: Run, given: Given, points: Points) -> Float[Tensor, "rows tokens"]:
        own = {n: v for n, v in points.items() if n != CONTRAST}
        places = given["places"]
        if "contrast_labels" not in given:
            logits, at = self._logits(run, given, own, places)
            return _log_probabilities(logits, at, given["labels"])
        count = places.shape[1]
        if bool((given["contrast_from"] < 0).any()):  # the contrast goes on by itself
            logits, at = self._logits(run, given, own, places)
            others, there = self._logits(run, *self._other(given, points))
        else:
            both = torch.cat([places, given["contrast_places"]], dim=1)
            logits, at = self._logits(run, given, own, both)
            others, at, there = logits, at[:, :count], at[:, count:]
        found = _log_probabilities(logits, at, given["labels"])
        other = _log_probabilities(others, there, given["contrast_labels"])
        longest = max(count, other.shape[1])
        found, other = (
            torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in (found, other)
        )
        return found - other

    def _logits(
        self, run: Run, given: Given, points: Points, places: Int[Tensor, "rows some"]
    ) -> tuple[Float[Tensor, "rows some vocabulary"], Int[Tensor, "rows some"]]:
        """Logits where they are wanted, and where that is among them."""
        raise NotImplementedError

    def _other(
        self, given: Given, points: Points
    ) -> tuple[Given, Points, Int[Tensor, "rows some"]]:
        """The rows with the other continuation in place of the one."""
        ids, origin = given["contrast_ids"], given["contrast_from"]
        own = {n: v for n, v in points.items() if n != CONTRAST}
        if points:
            width = points[self.side].shape[1]
            both = torch.cat([points[self.side], points[CONTRAST]], dim=1)
            place = torch.where(origin >= 0, origin, width - 1 - origin)
            own[self.side] = both.gather(1, place[..., None].expand(-1, -1, both.shape[-1]))
        return self._with(given, ids), own, given["contrast_places"]

    def _with(self, given: Given, ids: Int[Tensor, "rows tokens"]) -> Given:
        """The rows with other ids in the input that is continued."""
        raise NotImplementedError

    def _reading(
        self,
        passage: Passage,
        before: Tokens,
        written: Tokens,
        other: Tokens | None,
        tokens: Mapping[str, Tokens],
        text: str,
    ) -> Reading:
        """Put together what both kinds of language models explain.

        Args:
            before: what stands before the continuation in the input that is continued.
            written: the continuation, as it would be written on.
            other: its contrast.
            tokens: other inputs.
            text: what the continuation spells.
        """
        shift = len(before) - 1
        explained = written.moving
        labels = [written.ids[i] for i in explained]
        context = {
            "places": torch.tensor([shift + i for i in explained]),
            "labels": torch.tensor(labels),
        }
        whole = {**tokens, self.side: joined(before, written.part(range(len(written) - 1)))}
        if not explained:
            raise NothingWrittenError(
                f"nothing was generated that could be explained (got {text!r:.80})"
            )
        names = _surfaces(written, text)
        generated: dict[str, Any] = {"tokens": names, "contrast": None}
        roles = [*([self.role] if passage.roles == ("text",) else passage.roles), "generated"]
        texts = [*passage.texts, text]
        if other is not None:
            assert passage.contrast is not None
            same = _shared(written.ids, other.ids)  # what both begin with cancels, exactly
            first = min(same, len(written) - 1)
            own = other.part(range(first, max(len(other) - 1, first)))
            length = len(before) + first
            context |= {
                "labels": torch.tensor(
                    [NOTHING if i < same else written.ids[i] for i in explained]
                ),
                "contrast_places": torch.tensor([shift + i for i in other.moving]),
                "contrast_labels": torch.tensor(
                    [NOTHING if i < same else other.ids[i] for i in other.moving]
                ),
                "contrast_ids": torch.tensor([*whole[self.side].ids[:length], *own.ids]),
                "contrast_from": torch.tensor([*range(length), *(-1 - i for i in range(len(own)))]),
            }
            spans: list[Span | None] = [s and (len(texts), *s[1:]) for s in own.spans]
            own = replace(own, spans=spans, words=counted(own.words))
            whole[CONTRAST] = own
            generated["contrast"] = _surfaces(other, passage.contrast)
            texts, roles = [*texts, passage.contrast], [*roles, "contrast"]
        return Reading(texts, roles, whole, context, generated)


class CausalLM(Generation):
    """A decoder: prompt and generated text are one sequence."""

    name = "text-generation"
    side = "embeddings"
    role = "prompt"

    def read(self, passage: Passage) -> Reading:
        assert isinstance(self.reader, Reader)
        if len(passage.texts) != 1 and not passage.messages:
            raise InputError(f"a language model continues one text (got {passage.texts!r:.80})")
        prompt, pieces = passage.texts[0], [(0, len(passage.texts[0]))]
        if passage.messages:
            prompt, pieces = _template(self.reader, passage)
        before = self._read(prompt, pieces, chat=bool(passage.messages))
        asked = 1 if passage.generated is None else passage.generated
        if isinstance(asked, str):
            text = asked
            written = self._continued(prompt, text, pieces, before, bool(passage.messages))
        else:
            text, written = self._generated(before, asked)
            written = _numbered(written, len(pieces))
        other = None
        if passage.contrast is not None:
            other = self._continued(
                prompt, passage.contrast, pieces, before, bool(passage.messages)
            )
        return self._reading(passage, before, written, other, {}, text)

    def _read(self, text: str, pieces: Sequence[tuple[int, int]], chat: bool) -> Tokens:
        """The tokens of a prompt, without special ones at its end, where it goes on."""
        assert isinstance(self.reader, Reader)
        located = self.reader.tokenizer.is_fast
        found = self.reader.read(text, pieces=pieces if located else (), special=not chat)
        if chat:
            return found
        return found.part(range(max(found.moving) + 1))

    def _continued(
        self,
        prompt: str,
        text: str,
        pieces: Sequence[tuple[int, int]],
        before: Tokens,
        chat: bool,
    ) -> Tokens:
        """What the tokenizer makes of a text behind the prompt."""
        whole = [*pieces, (len(prompt), len(prompt) + len(text))]
        found = self._read(prompt + text, whole, chat)
        count = len(before)
        if list(found.ids[:count]) != list(before.ids) or len(found) == count:
            raise InputError(
                f"the tokenizer does not part the end of the prompt, {prompt[-12:]!r}, from the "
                f"start of {text[:12]!r}; put a space at the start of what is generated, not at "
                "the end of the prompt"
            )
        written = found.part(range(count, len(found)))
        if not found.located:
            return unlocated(written.ids, written.names, [word < 0 for word in written.words])
        return _numbered(written, len(pieces))

    @torch.no_grad()
    def _generated(self, before: Tokens, count: int) -> tuple[str, Tokens]:
        """What the model goes on with by itself, greedily."""
        assert isinstance(self.reader, Reader)
        made = _greedy(self.model, before.ids, count)[len(before) :]
        return _trimmed(self.reader, made)

    def _logits(
        self, run: Run, given: Given, points: Points, places: Int[Tensor, "rows some"]
    ) -> tuple[Tensor, Tensor]:
        keep, at = torch.unique(places, return_inverse=True)
        output = run({**given, "keep": keep}, points)
        logits = part(output, "logits", self.model, "it is no language model")
        logits = classes_of(logits, len(places), 3, self.model)
        return logits, at if logits.shape[1] == len(keep) else places

    def _with(self, given: Given, ids: Tensor) -> Given:
        present = torch.ones_like(ids)
        return {"input_ids": ids, "attention_mask": present}


class Seq2SeqLM(Generation):
    """An encoder that reads a source, and a decoder that writes, such as a translation.

    The source and what was written before each token are both explained.
    """

    name = "text2text-generation"
    side = "decoder_embeddings"
    role = "source"
    inputs = ("embeddings", "decoder_embeddings")
    fills: ClassVar[Mapping[str, int]] = {**Generation.fills, "decoder_input_ids": 0}

    def read(self, passage: Passage) -> Reading:
        assert isinstance(self.reader, Reader)
        if len(passage.texts) != 1:
            raise InputError(f"an encoder reads one text at a time (got {passage.texts!r:.80})")
        source = self.reader.read(*passage.texts)
        asked = LONGEST_TRANSLATION if passage.generated is None else passage.generated
        if isinstance(asked, str):
            text, written = asked, self.reader.target(asked)
        else:
            made = _greedy(self.model, source.ids, asked)
            text, written = _trimmed(self.reader, made[1:])
        written = _numbered(written, 1)
        other = None
        if passage.contrast is not None:
            other = self.reader.target(passage.contrast)
        start = self._start(written.ids)
        before = Tokens([start], self.reader.spelled([start]), [None], [-1])
        reading = self._reading(passage, before, written, other, {"embeddings": source}, text)
        ids = torch.tensor(reading.tokens[self.side].ids)
        return Reading(
            reading.texts, reading.roles, reading.tokens,
            {**reading.context, "decoder_input_ids": ids}, reading.generated,
        )  # fmt: skip

    def _start(self, labels: Sequence[int]) -> int:
        """The id that the decoder starts from."""
        shifted = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if shifted is not None:
            return int(shifted(labels=torch.tensor([labels]))[0, 0])
        holder = getattr(self.model, "config", self.model)
        start = getattr(holder, "decoder_start_token_id", None)
        if start is None:
            raise InputError(
                f"{type(self.model).__name__} does not say which token its decoder starts from: "
                "its config needs a decoder_start_token_id"
            )
        return int(start)

    def _logits(
        self, run: Run, given: Given, points: Points, places: Int[Tensor, "rows some"]
    ) -> tuple[Tensor, Tensor]:
        output = run(given, points)
        logits = part(output, "logits", self.model, "it is no language model")
        return classes_of(logits, len(places), 3, self.model), places

    def _with(self, given: Given, ids: Tensor) -> Given:
        return {**given, "decoder_input_ids": ids}


def _log_probabilities(
    logits: Float[Tensor, "rows some vocabulary"],
    places: Int[Tensor, "rows tokens"],
    labels: Int[Tensor, "rows tokens"],
) -> Float[Tensor, "rows tokens"]:
    """log p of each label at its place; zero where there is none."""
    rows = torch.arange(len(places), device=logits.device)[:, None]
    own = logits[rows, places]
    own = own.float() if torch.finfo(own.dtype).bits < 32 else own
    known = labels >= 0
    chosen = own.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return torch.where(known, chosen - own.logsumexp(-1), 0.0)


def _greedy(model: Any, ids: Sequence[int], count: int) -> list[int]:
    """What the model writes by itself, the most probable token each time."""
    if not hasattr(model, "generate"):
        raise InputError(
            f"{type(model).__name__} cannot generate; say what was generated: generated=' ...'"
        )
    device = next(model.parameters()).device
    given = torch.tensor([list(ids)], device=device)
    options = {"max_new_tokens": count, "do_sample": False, "num_beams": 1}
    made = model.generate(given, attention_mask=torch.ones_like(given), **options)
    return [int(i) for i in made[0]]


def _trimmed(reader: Reader, ids: Sequence[int]) -> tuple[str, Tokens]:
    """What was written, without the special tokens at its end."""
    ids = list(ids)
    while ids and ids[-1] in reader.special:
        ids.pop()
    if not ids:
        raise NothingWrittenError(
            "the model generated nothing; say what to explain: generated=' ...'"
        )
    return reader.written(ids)


def _numbered(tokens: Tokens, text: int) -> Tokens:
    """A continuation as the text of this number, its words counted from 0."""
    spans: list[Span | None] = [s and (text, *s[1:]) for s in tokens.spans]
    return replace(tokens, spans=spans, words=counted(tokens.words))


def _surfaces(tokens: Tokens, text: str) -> list[str]:
    """The explained tokens as they stand in the text, each with the white space before it."""
    found, end = [], 0
    for place in tokens.moving:
        span = tokens.spans[place]
        found.append(text[end : span[2]] if span else tokens.names[place])
        end = span[2] if span else end
    return found


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens at the start of two continuations are the same."""
    same = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(same, min(len(one), len(other)))


def _range(target: Any, count: int) -> tuple[int, int]:
    if target is None or target == "sum":
        return 0, count
    if isinstance(target, slice):
        first, last, step = target.indices(count)
        if step == 1 and first < last:
            return first, last
    elif isinstance(target, int) and not isinstance(target, bool) and -count <= target < count:
        return target % count, target % count + 1
    raise TargetError(
        f"a target is one of the {count} generated tokens, counted from 0, a slice of them or None "
        f"for their sum (got {target!r})"
    )


def _template(reader: Reader, passage: Passage) -> tuple[str, list[tuple[int, int]]]:
    """The chat as the model reads it, and where the messages stand in it."""
    if not reader.tokenizer.is_fast or reader.tokenizer.chat_template is None:
        raise InputError("messages need a fast tokenizer with a chat template")
    said = [{"role": who, "content": text} for who, text in passage.messages]
    prompt = reader.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    pieces, start = [], 0
    for _, text in passage.messages:
        begin = prompt.find(text, start)
        if begin < 0:
            raise InputError(
                f"the chat template does not keep the message {text!r:.60} as it is; strip white "
                "space from its ends"
            )
        start = begin + len(text)
        pieces.append((begin, start))
    return prompt, pieces
