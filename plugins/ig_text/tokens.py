"""Tokens: what a tokenizer makes of texts, and where each token stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ig_core import InputError
from ig_text.words import counted, numbered

Span = tuple[int, int, int]
"""The number of a text, and the characters of it from start to end."""

Piece = tuple[int, int]
"""Some characters of a text, from start to end."""

OFFERED = "input_ids", "offset_mapping", "special_tokens_mask", "tokens"
"""What a user's own encoder may give; everything else goes to the model by its name."""


@dataclass(frozen=True)
class Tokens:
    """A sequence as the model receives it.

    ``spans`` is None for tokens that stay where they are: special ones and those of a template.
    ``words`` numbers the words, -1 for those tokens. ``located`` is false where the tokenizer
    does not tell where its tokens stand: then every token counts as a word, named by its spelling.
    ``extras`` are further arguments of the model, a number for each token.
    """

    ids: Sequence[int]
    names: Sequence[str]
    spans: Sequence[Span | None]
    words: Sequence[int]
    located: bool = True
    extras: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, places: Sequence[int]) -> Tokens:
        """Some of the tokens, in this order."""
        return Tokens(
            [self.ids[i] for i in places],
            [self.names[i] for i in places],
            [self.spans[i] for i in places],
            [self.words[i] for i in places],
            self.located,
            {name: [values[i] for i in places] for name, values in self.extras.items()},
        )

    @property
    def moving(self) -> list[int]:
        """The places of the tokens that move."""
        return [i for i, word in enumerate(self.words) if word >= 0]


def checked(texts: Sequence[str]) -> None:
    """Refuse texts that no tokenizer can read.

    Raises:
        InputError: half of a surrogate pair, or nothing but white space.
    """
    for text in texts:
        if lone := next((c for c in text if "\ud800" <= c <= "\udfff"), ""):
            raise InputError(
                f"a text holds {lone!r} at character {text.index(lone)}, half of a surrogate "
                "pair; decode it with errors='replace'"
            )
    if not all(text.strip() for text in texts):
        raise InputError(f"a text is empty (got {tuple(texts)!r:.80})")


class Reader:
    """Texts read by a tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        ids = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.special = {i for i in ids if i is not None}

    def read(self, *texts: str, pieces: Sequence[Piece] = (), special: bool = True) -> Tokens:
        """One text or two, with the special tokens that the model expects around them.

        With ``pieces`` only what lies in these ranges of the one text moves, and the spans count
        inside them; unless nobody knows where the tokens stand, when all of them move.
        """
        checked(texts)
        encoding = self.tokenizer(
            *texts,
            truncation=False,
            padding=False,
            verbose=False,
            add_special_tokens=special,
            return_attention_mask=True,
            return_special_tokens_mask=True,
            return_offsets_mapping=self.tokenizer.is_fast,
        )
        found = self._tokens(encoding, texts)
        return _within(found, pieces) if pieces and found.located else found

    def target(self, text: str) -> Tokens:
        """A text in the target language, with the special tokens that the decoder writes."""
        checked([text])
        encoding = self.tokenizer(
            text_target=text,
            verbose=False,
            return_special_tokens_mask=True,
            return_offsets_mapping=self.tokenizer.is_fast,
        )
        return self._tokens(encoding, [text])

    def ids(self, text: str) -> list[int]:
        """The ids of a text without special tokens around it."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def written(self, ids: Sequence[int]) -> tuple[str, Tokens]:
        """Tokens that a model wrote, and the text that they spell; special ones stay."""
        kept: list[int] = []
        spans: list[Span | None] = []
        text = ""
        for i in ids:
            if i in self.special:
                spans.append(None)
                continue
            kept.append(i)
            start, text = len(text), self.text(kept)
            spans.append((0, min(start, len(text)), len(text)))
        return text, Tokens(list(ids), self.spelled(ids), spans, numbered([text], spans))

    def spelled(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's spelling of each token."""
        return list(self.tokenizer.convert_ids_to_tokens(list(ids)))

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens spell together."""
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def _tokens(self, encoding: Any, texts: Sequence[str]) -> Tokens:
        ids = list(encoding["input_ids"])
        fixed = [
            bool(mask) or i in self.special
            for i, mask in zip(ids, encoding["special_tokens_mask"], strict=True)
        ]
        names = self.spelled(ids)
        if all(fixed):
            raise InputError(f"the tokenizer finds no token in {tuple(texts)!r:.80}")
        if self.tokenizer.is_fast:
            places = zip(encoding.sequence_ids(), encoding["offset_mapping"], strict=True)
            spans = [
                None if f else (text or 0, start, end)
                for f, (text, (start, end)) in zip(fixed, places, strict=True)
            ]
            words = numbered(texts, spans, encoding.word_ids())
            found = Tokens(ids, names, spans, words)
        else:
            found = self._sought(ids, names, fixed, texts)
        extras = {n: list(v) for n, v in encoding.items() if n == "token_type_ids"}
        return replace(found, extras=extras)

    def _sought(
        self, ids: Sequence[int], names: Sequence[str], fixed: Sequence[bool], texts: Sequence[str]
    ) -> Tokens:
        """Tokens of a tokenizer without offsets: each is looked for in its text, one by one."""
        spans: list[Span | None] = [None] * len(ids)
        ends = [0] * len(texts)
        text = -1
        for place, still in enumerate(fixed):
            if still:
                continue
            if place == 0 or fixed[place - 1]:
                text = min(text + 1, len(texts) - 1)
            spelled = self.tokenizer.convert_tokens_to_string([names[place]])
            surface = spelled.strip() or spelled
            begin = texts[text].find(surface, ends[text])
            if begin < 0 or texts[text][ends[text] : begin].strip():
                return unlocated(ids, names, fixed)
            ends[text] = begin + len(surface)
            spans[place] = (text, begin, ends[text])
        if any(one[end:].strip() for one, end in zip(texts, ends, strict=True)):
            return unlocated(ids, names, fixed)
        return Tokens(ids, names, spans, numbered(texts, spans))


class OwnReader:
    """A text read by a function of the user's, for models outside transformers."""

    def __init__(self, encode: Callable[[str], Any]) -> None:
        self.encode = encode

    def read(self, *texts: str) -> Tokens:
        """What the function makes of the one text.

        Raises:
            InputError: two texts, or the function gives no ids, or lists of other lengths.
        """
        if len(texts) != 1:
            raise InputError(f"encode= reads one text at a time (got {texts!r:.80})")
        checked(texts)
        given = self.encode(texts[0])
        given = given if isinstance(given, Mapping) else {"input_ids": given}
        lists = {name: _numbers(name, values) for name, values in given.items()}
        ids = lists.get("input_ids", [])
        if not ids or any(len(values) != len(ids) for values in lists.values()):
            sizes = {name: len(values) for name, values in lists.items()}
            raise InputError(
                "encode= must give 'input_ids', at least one, and lists of that length "
                f"(got {sizes} for {texts[0]!r:.40})"
            )
        fixed = [bool(f) for f in lists.get("special_tokens_mask", [0] * len(ids))]
        names = [str(n) for n in lists.get("tokens", ids)]
        extras = {name: values for name, values in lists.items() if name not in OFFERED}
        if "offset_mapping" not in lists:
            return replace(unlocated(ids, names, fixed), extras=extras)
        spans = [
            None if f else (0, int(start), int(end))
            for f, (start, end) in zip(fixed, lists["offset_mapping"], strict=True)
        ]
        if "tokens" not in lists:
            both = zip(spans, ids, strict=True)
            names = [texts[0][s[1] : s[2]] if s else str(i) for s, i in both]
        return Tokens(ids, names, spans, numbered(texts, spans), True, extras)

    def ids(self, text: str) -> list[int]:
        """The ids of the tokens of a text that move."""
        found = self.read(text)
        return [found.ids[i] for i in found.moving]


def unlocated(ids: Sequence[int], names: Sequence[str], fixed: Sequence[bool]) -> Tokens:
    """Tokens of which nobody knows where they stand: each moving one is a word of its own."""
    count: Iterator[int] = iter(range(len(ids)))
    words = [-1 if still else next(count) for still in fixed]
    return Tokens(ids, names, [None] * len(ids), words, False)


def joined(*parts: Tokens) -> Tokens:
    """Several pieces as one sequence; words of different pieces are different words."""
    words: list[int] = []
    for part in parts:
        behind = max(words, default=-1) + 1
        words += [word if word < 0 else word + behind for word in part.words]
    names = set.intersection(*(set(part.extras) for part in parts))
    return Tokens(
        [i for part in parts for i in part.ids],
        [name for part in parts for name in part.names],
        [span for part in parts for span in part.spans],
        words,
        all(part.located for part in parts),
        {name: [v for part in parts for v in part.extras[name]] for name in names},
    )


def _within(tokens: Tokens, pieces: Sequence[Piece]) -> Tokens:
    """The tokens of a template: what lies in no piece stays."""
    spans: list[Span | None] = []
    words: list[int] = []
    for span, word in zip(tokens.spans, tokens.words, strict=True):
        own = None
        for number, (begin, end) in enumerate(pieces):
            if span is not None and span[1] < end and span[2] > begin:
                own = (number, max(span[1], begin) - begin, min(span[2], end) - begin)
        spans.append(own)
        # A word that reaches from one piece into the next is one in each.
        words.append(-1 if own is None else word * len(pieces) + own[0])
    return replace(tokens, spans=spans, words=counted(words))


def _numbers(name: str, values: Any) -> list[Any]:
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"encode= must give lists (got {values!r:.60} as {name!r})")
    return list(values)
