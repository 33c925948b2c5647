"""Language models: the log-probability of what was written, token by token or in sum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ig_core import InputError, ModelError, TargetError
from ig_text.passage import Passage
from ig_text.tasks.base import (
    Ask,
    Chosen,
    Given,
    Points,
    Reading,
    Run,
    TextTask,
    classes_of,
    part,
)
from ig_text.tasks.continuation import (
    Continuation,
    NothingWrittenError,
    as_text,
    greedy,
    shared,
    written,
)
from ig_text.tokens import Piece, Reader, Tokens, joined

NOTHING = -1
"""In place of a label: no token, whose log-probability counts as zero."""

CONTRAST = "contrast_embeddings"
"""The input that holds what only the other continuation has."""

CAUSAL_ULPS = 1024
"""A longer text may change log-probabilities by this many roundings, since it is summed anew."""

LONGEST_TRANSLATION = 128
"""Tokens that an encoder-decoder model is asked for if nobody says how many."""


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

    reader: Reader
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

    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        first, last = _range(target, _count(reading))
        told = f"log p({''.join(reading.generated[first:last])!r})"
        if reading.contrast is not None:
            told += f" minus log p({''.join(reading.contrast[first:last])!r})"
        return Chosen((last, first), told, (first, last))

    def expanded(self, targets: Any, reading: Reading) -> list[Any]:
        if targets == "sum":
            return [None]
        if targets == "each" or isinstance(targets, slice):
            count = _count(reading)
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

    @abstractmethod
    def _logits(
        self, run: Run, given: Given, points: Points, places: Int[Tensor, "rows some"]
    ) -> tuple[Float[Tensor, "rows some vocabulary"], Int[Tensor, "rows some"]]:
        """Logits where they are wanted, and where that is among them."""

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

    @abstractmethod
    def _with(self, given: Given, ids: Int[Tensor, "rows tokens"]) -> Given:
        """The rows with other ids in the input that is continued."""

    def _reading(
        self,
        passage: Passage,
        source: Mapping[str, Tokens],
        before: Tokens,
        found: Continuation,
        other: Continuation | None,
    ) -> Reading:
        """Put together what both kinds of language models explain.

        Args:
            passage: what is read.
            source: the inputs that are not continued.
            before: what stands before the continuation in the one that is.
            found: the continuation.
            other: its contrast.

        Raises:
            NothingWrittenError: the continuation has special tokens only.
        """
        tokens = found.tokens
        if not tokens.moving:
            raise NothingWrittenError(
                f"nothing was generated that could be explained (got {found.text!r:.80})"
            )
        whole = joined(before, tokens.part(range(len(tokens) - 1)))
        reading = Reading(
            texts=[*passage.texts, found.text],
            roles=[*([self.role] if passage.roles == ("text",) else passage.roles), "generated"],
            tokens={**source, self.side: whole},
            context={"places": _places(tokens, len(before)), "labels": _labels(tokens)},
            generated=found.surfaces,
        )
        return reading if other is None else self._against(other, reading, len(before), tokens)

    def _against(
        self, other: Continuation, reading: Reading, begin: int, tokens: Tokens
    ) -> Reading:
        """The reading of a continuation, whose tokens begin at this place, with its contrast."""
        theirs = other.tokens
        same = shared(tokens.ids, theirs.ids)  # what both begin with cancels, exactly
        first = min(same, len(tokens) - 1)
        own = theirs.part(range(first, max(len(theirs) - 1, first)))
        length = begin + first
        ids = [*reading.tokens[self.side].ids[:length], *own.ids]
        origin = [*range(length), *(-1 - i for i in range(len(own)))]
        return replace(
            reading,
            texts=[*reading.texts, other.text],
            roles=[*reading.roles, "contrast"],
            tokens={**reading.tokens, CONTRAST: as_text(own, len(reading.texts))},
            context={
                **reading.context,
                "labels": _labels(tokens, same),
                "contrast_places": _places(theirs, begin),
                "contrast_labels": _labels(theirs, same),
                "contrast_ids": torch.tensor(ids),
                "contrast_from": torch.tensor(origin),
            },
            contrast=other.surfaces,
        )


@dataclass(frozen=True)
class Prompt:
    """What a decoder goes on with, and the ranges of it that are the user's words.

    ``special`` says whether the tokenizer puts special tokens before it; a chat's template has
    its own.
    """

    text: str
    pieces: Sequence[Piece]
    special: bool = True

    def continued(self, text: str) -> Prompt:
        """The prompt with a text behind it, which is a piece of its own."""
        whole = self.text + text
        return replace(self, text=whole, pieces=[*self.pieces, (len(self.text), len(whole))])


class CausalLM(Generation):
    """A decoder: prompt and generated text are one sequence."""

    name = "text-generation"
    side = "embeddings"
    shared: ClassVar[Mapping[str, str]] = {CONTRAST: side}
    role = "prompt"

    def read(self, passage: Passage) -> Reading:
        if len(passage.texts) != 1 and not passage.messages:
            raise InputError(f"a language model continues one text (got {passage.texts!r:.80})")
        text = passage.texts[0]
        whole = Prompt(text, [(0, len(text))])
        prompt = _chat(self.reader, passage) if passage.messages else whole
        before = self._read(prompt)
        asked = 1 if passage.generated is None else passage.generated
        if isinstance(asked, str):
            found = self._continued(prompt, before, asked)
        else:
            self.check_length(len(before))
            made = greedy(self.model, before.ids, asked)[len(before) :]
            found = written(self.reader, made)
            found = replace(found, tokens=as_text(found.tokens, len(prompt.pieces)))
        contrast = passage.contrast
        other = None if contrast is None else self._continued(prompt, before, contrast)
        return self._reading(passage, {}, before, found, other)

    def _read(self, prompt: Prompt) -> Tokens:
        """The tokens of a prompt, without special ones at its end, where it goes on."""
        found = self.reader.read(prompt.text, pieces=prompt.pieces, special=prompt.special)
        return found.part(range(max(found.moving) + 1)) if prompt.special else found

    def _continued(self, prompt: Prompt, before: Tokens, text: str) -> Continuation:
        """What the tokenizer makes of a text behind the prompt."""
        found = self._read(prompt.continued(text))
        count = len(before)
        if list(found.ids) == list(before.ids):
            raise InputError(
                f"the tokenizer finds no token behind the prompt that is no special one (got "
                f"{text!r:.60})"
            )
        if list(found.ids[:count]) != list(before.ids):
            raise InputError(
                "the tokenizer does not part the end of the prompt, "
                f"{prompt.text[-12:]!r}, from the start of {text[:12]!r}; put a space at the start "
                "of what is generated, not at the end of the prompt"
            )
        own = found.part(range(count, len(found)))
        return Continuation(text, as_text(own, len(prompt.pieces)))

    def check_causal(self, run: Run, given: Given, outputs: Float[Tensor, "1 tokens"]) -> None:
        """A further token behind the text must change nothing, else labels are read beforehand.

        Raises:
            ModelError: it does.
        """
        longer = {
            name: value if name in self.fills else torch.cat([value, value[:, -1:]], dim=1)
            for name, value in given.items()
        }
        changed = float((self.outputs(run, longer, {}) - outputs).abs().max())
        allowed = CAUSAL_ULPS * torch.finfo(outputs.dtype).eps * float(outputs.abs().max())
        if changed > max(allowed, 1e-6):
            raise ModelError(
                f"{type(self.model).__name__} is no causal language model: a token behind the text "
                f"changes the log-probabilities before it, by {changed:.2g}; load it as a decoder "
                "(is_decoder=True), or explain a masked token: task='fill-mask'"
            )

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
    shared: ClassVar[Mapping[str, str]] = {CONTRAST: side}
    fills: ClassVar[Mapping[str, int]] = {**Generation.fills, "decoder_input_ids": 0}

    def read(self, passage: Passage) -> Reading:
        if len(passage.texts) != 1:
            raise InputError(f"an encoder reads one text at a time (got {passage.texts!r:.80})")
        source = self.reader.read(*passage.texts)
        asked = LONGEST_TRANSLATION if passage.generated is None else passage.generated
        if isinstance(asked, str):
            found = Continuation(asked, self.reader.target(asked))
        else:
            self.check_length(len(source))
            found = written(self.reader, greedy(self.model, source.ids, asked)[1:])
        found = replace(found, tokens=as_text(found.tokens, 1))
        contrast = passage.contrast
        other = None if contrast is None else Continuation(contrast, self.reader.target(contrast))
        start = self._start(found.tokens.ids)
        before = Tokens([start], self.reader.spelled([start]), [None], [-1])
        reading = self._reading(passage, {"embeddings": source}, before, found, other)
        ids = torch.tensor(reading.tokens[self.side].ids)
        return replace(reading, context={**reading.context, "decoder_input_ids": ids})

    def _start(self, labels: Sequence[int]) -> int:
        """The id that the decoder starts from."""
        shifted = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        holder = getattr(self.model, "config", self.model)
        start = getattr(holder, "decoder_start_token_id", None)
        if shifted is not None:
            with suppress(ValueError):  # the config says too little
                return int(shifted(labels=torch.tensor([labels]))[0, 0])
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


def _places(tokens: Tokens, begin: int) -> Int[Tensor, " explained"]:
    """Where the logits of each explained token stand: one place before its own."""
    return torch.tensor([begin + i - 1 for i in tokens.moving], dtype=torch.long)


def _labels(tokens: Tokens, cancelled: int = 0) -> Int[Tensor, " explained"]:
    """The id of each explained token; none of the first ones, which a contrast has as well."""
    ids = [NOTHING if i < cancelled else tokens.ids[i] for i in tokens.moving]
    return torch.tensor(ids, dtype=torch.long)


def _count(reading: Reading) -> int:
    """How many tokens can be explained: those of the longer continuation."""
    return max(len(reading.generated), len(reading.contrast or ()))


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


def _chat(reader: Reader, passage: Passage) -> Prompt:
    """The chat as the model reads it, of which the messages are the pieces."""
    if not reader.tokenizer.is_fast or reader.tokenizer.chat_template is None:
        raise InputError("messages need a fast tokenizer with a chat template")
    texts = [text for _, text in passage.messages]
    marks = [f"\ue000{number}\ue001" for number in range(len(texts))]
    whole, rest = (
        reader.tokenizer.apply_chat_template(
            [
                {"role": who, "content": text}
                for (who, _), text in zip(passage.messages, said, strict=True)
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        for said in (texts, marks)
    )
    # A word of the template may be that of a message, so a mark tells where each one stands.
    pieces, prompt = [], ""
    for mark, text in zip(marks, texts, strict=True):
        before, found, rest = rest.partition(mark)
        prompt += before
        if not found or not whole.startswith(prompt + text):
            raise InputError(
                f"the chat template does not keep the message {text!r:.60} as it is; strip white "
                "space from its ends"
            )
        pieces.append((len(prompt), len(prompt) + len(text)))
        prompt += text
    if prompt + rest != whole:
        raise InputError(f"the chat template does not keep the message {texts[-1]!r:.60} as it is")
    return Prompt(whole, pieces, special=False)
