"""TextDomain: what language models of every kind say of a text, explained by its words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import (
    Attribution,
    BaselineError,
    Domain,
    Example,
    ForwardError,
    IGError,
    InputError,
    ModelError,
    Rows,
    Site,
    Units,
)
from ig_text import towers
from ig_text.call import Call
from ig_text.heads import CosineTo
from ig_text.passage import Passage, passage, with_options
from ig_text.tasks import task_of
from ig_text.tasks.base import Chosen, Points, Reading
from ig_text.tasks.classification import Head, Pool, SentenceEncoder
from ig_text.tasks.generation import CausalLM
from ig_text.tokens import OwnReader, Reader
from ig_text.view import heat_map, line
from ig_text.words import regrouped, units

CHECK_ULPS = 16
"""The replaced embeddings must give the plain call's output to this many roundings."""

MOST_READ = 4096
"""Texts whose tokens are remembered at most."""

_known: WeakKeyDictionary[nn.Module, dict[Any, towers.Towers]] = WeakKeyDictionary()
"""Towers of the models that were checked, by task."""


class TextDomain(Domain):
    """A transformer, or any module that reads the ids of tokens.

    A raw input is a text, a tuple of two texts, or a mapping with ``text`` and ``pair``,
    ``question`` and ``context``, or ``messages`` (a chat), and ``generated`` and ``contrast``.
    The path runs through the output of the word embedding; ids, masks, segments and positions
    remain those of the text, also at the baseline. (Embeddings passed instead of ids, or ids of
    pads, would move the positions of RoBERTa.) Special tokens do not move and get exactly zero.

    What can be explained, and how a target says it, is told by the tasks:
    :class:`~ig_text.tasks.classification.SequenceClassification` (without a target the margin: the
    predicted class minus the runner-up), ``SentenceEncoder``, ``TokenClassification``,
    :class:`~ig_text.tasks.answers.QuestionAnswering`, :class:`~ig_text.tasks.masked.MaskedLM`,
    :class:`~ig_text.tasks.generation.CausalLM` and ``Seq2SeqLM``.

    >>> domain = TextDomain(classifier, tokenizer=tokenizer)
    >>> result = ig.attribute(classifier, "a dull film", domain=domain, target=1)
    >>> list(result.units.labels)
    ['a', 'dull', 'film']

    Args:
        tokenizer: the model's own.
        task: what the model does, in the words of transformers' pipelines:
            ``"text-classification"``, ``"token-classification"``, ``"question-answering"``,
            ``"fill-mask"``, ``"text-generation"``, ``"text2text-generation"`` or
            ``"feature-extraction"``; known from the class of a model of transformers.
        head: for an encoder, a function of its sentence embedding that gives one number or
            several per row, such as a linear layer, or :func:`ig_text.cosine_to`.
        pool: how token states become a sentence embedding: their ``"mean"``, or the ``"first"`` or
            ``"last"``.
        class_names: one per output; those of ``model.config.id2label`` by default.
        context: where the answer to the question stands; one for all, or a list.
        generated: what a language model wrote or might have written behind the text; a text, or
            how many tokens it is asked for. The next token, or the whole translation, by default.
        contrast: another continuation, whose log-probability is subtracted.
        window: read a text in windows of so many tokens, special ones included; the explained
            number is the mean over the windows. For classification and sentence embeddings.
        overlap: tokens that two windows share.
        embedding: for a module outside transformers, the one that turns ids into vectors.
        encode: for the same, a function of a text that gives its ids, or a mapping with
            ``input_ids`` and, if known, ``offset_mapping``, ``special_tokens_mask``, ``tokens``;
            what else it holds, a number per token, goes to the model by name.

    Raises:
        InputError: the model does not embed words, or the options do not suit it.
        ModelError: its word embedding cannot be replaced without changing its output.
    """

    name = "text"
    requires = ("transformers",)
    extra = "ig-core[text]"

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        task: str | None = None,
        head: Head | CosineTo | None = None,
        pool: Pool = "mean",
        class_names: Sequence[str] | None = None,
        context: str | list[str] | None = None,
        generated: str | int | list[str | int] | None = None,
        contrast: str | list[str] | None = None,
        window: int | None = None,
        overlap: int = 0,
        embedding: nn.Module | None = None,
        encode: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(model)
        _check(model, embedding)
        self.reader = reader = _reader(tokenizer, encode)
        if isinstance(head, CosineTo):
            head = head.head(self._sentence_embedding)
        self.task = task_of(model, reader, task, head, pool, class_names)
        self.tokenizer = tokenizer
        self.call = Call(model, tokenizer, self.task, window, overlap)
        self.layouts = self.call.layouts
        self.baseline_name = self.task.baseline
        if getattr(tokenizer, "pad_token_id", None) is None:
            self.baseline_name = "mean"
        self._options = (context, generated, contrast)
        self._embedding = embedding
        self._read: dict[Passage, Reading] = {}

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from transformers import PreTrainedModel

        several = raw if isinstance(raw, list) else [raw]
        known = isinstance(model, PreTrainedModel if not several else nn.Module)
        return known and all(map(_textual, several))

    def split(self, raw: Any) -> Sequence[Any] | None:
        if not isinstance(raw, list):
            return None
        return with_options([passage(one) for one in raw], *self._options)

    def modules(self) -> Sequence[nn.Module]:
        head = getattr(self.task, "head", None)
        return [*super().modules(), *([head] if isinstance(head, nn.Module) else [])]

    def expand(self, raw: Any, targets: Any) -> list[Any]:
        with self.prepared():
            return self.task.expanded(targets, self._reading(raw))

    def encode(self, raw: Any, target: Any = None) -> Example:
        with self.prepared(), torch.no_grad():
            reading = self._reading(raw)
            self._check_vocabulary(reading)
            ids, context, windows = self.call.tensors(reading, self._device)
            outputs = self._prepared(reading, ids, context)

            def ask() -> Float[Tensor, "1 ..."]:
                return self._plain(reading, context) if outputs is None else outputs

            chosen = None if callable(target) else self.task.chosen(target, reading, ask)
            with _named(reading):
                vectors = {n: self._tower(n).embedded(own[None])[0] for n, own in ids.items()}
        display = _display(reading, windows, chosen, target)
        return Example(
            inputs=vectors,
            context=context,
            target=chosen.places if chosen else target,
            units=units(display),
            display=display,
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        given = {name: rows[name] for name in self.layouts if name in rows}
        points = {name: given.pop(name) for name in self.call.inputs if name in given}
        outputs = self.call.outputs(given, points, rows.owners("embeddings"), len(rows))
        if not rows.parts:
            return rows.select(outputs)
        numbers, half = self.task.numbers(outputs), rows.parts // 2
        total = rows.select(numbers, 0) - rows.select(numbers, half)
        for place in range(1, half):
            total = total + (rows.select(numbers, place) - rows.select(numbers, half + place))
        return total.to(outputs.dtype)

    def baseline(self, example: Example) -> Mapping[str, Tensor]:
        """What ``baseline_name`` says: the pad token, or the mean embedding, for every token."""
        if self.baseline_name == "pad":
            return self.with_vectors(example, lambda name: self.token_embedding("pad", name))
        return self.with_vectors(example, self.mean_embedding)

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        if fmt == "html":
            return heat_map(attribution)
        return f"{line(attribution)}\n\n{super().render(attribution, fmt)}"

    @classmethod
    def regroup(cls, attribution: Attribution, by: Any) -> Units:
        """The units of a text as words, tokens, sentences or spans.

        Args:
            by: ``"word"``, ``"token"``, ``"sentence"``, or a list of character ranges
                ``(start, end)`` of the first text, or ``(text, start, end)``.

        Raises:
            InputError: something else, or nothing tells where the tokens stand in the text.
        """
        return regrouped(attribution, by)

    # -- what baselines are made of -------------------------------------------------------------

    def token_embedding(
        self, kind: Literal["pad", "mask", "unk"], name: str = "embeddings"
    ) -> Float[Tensor, " width"]:
        """The word embedding of the tokenizer's pad, mask or unknown token.

        Raises:
            BaselineError: it has none.
        """
        token = getattr(self.tokenizer, f"{kind}_token_id", None)
        if token is None:
            raise BaselineError(
                f"the tokenizer has no {kind} token; choose another baseline, such as 'mean'"
            )
        return self.embedded([token], name)[0]

    @torch.no_grad()
    def embedded(
        self, ids: Sequence[int], name: str = "embeddings"
    ) -> Float[Tensor, "tokens width"]:
        """The word embeddings of some ids."""
        return self._tower(name).embedded(torch.tensor([list(ids)], device=self._device))[0]

    def ids(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        return self.reader.ids(text)

    @torch.no_grad()
    def vocabulary(self, name: str = "embeddings") -> Float[Tensor, "words width"]:
        """The word embeddings of all ids."""
        tower = self._tower(name)
        return towers.vocabulary(tower, towers.size_of(tower), self._device)

    @torch.no_grad()
    def mean_embedding(self, name: str = "embeddings") -> Float[Tensor, " width"]:
        """The mean word embedding of the vocabulary."""
        return towers.mean(self._tower(name), self._device)

    @staticmethod
    def with_vectors(
        example: Example, vector: Callable[[str], Float[Tensor, " width"]]
    ) -> dict[str, Float[Tensor, "tokens width"]]:
        """One vector for every token of an input; the core keeps the tokens that are no units."""
        return {name: vector(name).expand_as(value) for name, value in example.inputs.items()}

    # -- the model ------------------------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        return next((p.device for m in self.modules() for p in m.parameters()), torch.device("cpu"))

    def _reading(self, raw: Any) -> Reading:
        """What a raw input says, read once."""
        if not isinstance(raw, Passage):
            [raw] = with_options([passage(raw)], *self._options)
        if raw not in self._read:
            if len(self._read) >= MOST_READ:
                self._read.clear()
            self._read[raw] = self.task.read(raw)
        return self._read[raw]

    def _tower(self, name: str) -> towers.Tower:
        return self.call.towers[self.task.shared.get(name, name)][0]

    def _prepared(
        self, reading: Reading, ids: Mapping[str, Tensor], context: Mapping[str, Tensor]
    ) -> Float[Tensor, "1 ..."] | None:
        """Find the towers and check that replacing them by themselves changes nothing.

        Once per model. Returns the plain call's outputs if that was needed.
        """
        if self.call.towers:
            return None
        key = (self.task.name, id(self._embedding))
        known = _known.setdefault(self.model, {})
        if key in known and _present(known[key], self.model):
            self.call.towers = known[key]
            return None
        several = {name: torch.atleast_2d(ids[name]) for name in self.task.inputs}
        plain = self._plain(reading, context)
        with _named(reading):
            longest = self.call.longest or math.inf
            if isinstance(self.task, CausalLM) and several["embeddings"].shape[1] < longest:
                self.task.check_causal(self.call.run, self._rows(context), plain)
            if self._embedding is not None:
                found: towers.Towers = {"embeddings": [towers.Tower(Site(self._embedding))]}
            else:
                given = self._rows(context)
                found = towers.found(self.model, lambda: self.call.run(given, {}), several)
            self.call.towers = found
            try:
                self._verify(plain, ids, context)
            except BaseException:
                self.call.towers = {}
                raise
        known[key] = found
        return plain

    def _verify(
        self,
        plain: Float[Tensor, "1 ..."],
        ids: Mapping[str, Tensor],
        context: Mapping[str, Tensor],
    ) -> None:
        """Replacing the word embeddings by themselves must give the plain call's output."""
        points = {
            name: self._tower(name).embedded(torch.atleast_2d(own)) for name, own in ids.items()
        }
        replaced = self._outputs(context, points)
        allowed = CHECK_ULPS * torch.finfo(plain.dtype).eps * float(plain.nan_to_num().abs().max())
        if not torch.allclose(replaced, plain, rtol=0, atol=allowed, equal_nan=True):
            raise ModelError(
                f"{type(self.model).__name__} cannot be explained by its words: replacing the "
                "output of its word embedding by itself must change nothing (got a largest change "
                f"of {float((replaced - plain).abs().max()):.2g})"
            )

    def _plain(self, reading: Reading, context: Mapping[str, Tensor]) -> Float[Tensor, "1 ..."]:
        """The outputs of the plain call on one text."""
        with _named(reading):
            return self._outputs(context, {})

    def _outputs(self, context: Mapping[str, Tensor], points: Points) -> Float[Tensor, "1 ..."]:
        given = self._rows(context)
        owner = torch.zeros(len(given["input_ids"]), dtype=torch.long)
        return self.call.outputs(given, points, owner, 1)

    def _rows(self, context: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of one text as a batch of one, or of its windows."""
        if self.call.window is not None:
            return context
        return {name: value[None] for name, value in context.items()}

    def _check_vocabulary(self, reading: Reading) -> None:
        words = towers.words_of(self.model) or self._embedding
        known = getattr(words, "num_embeddings", None)
        for tokens in reading.tokens.values():
            for i, token in zip(tokens.ids, tokens.names, strict=True):
                if known is not None and i >= known:
                    raise InputError(
                        f"the tokenizer's vocabulary is larger than the model's, {known} (got id "
                        f"{i} for {token!r}); pass the model's own tokenizer, or call "
                        "model.resize_token_embeddings(len(tokenizer)) before training"
                    )

    def _sentence_embedding(self, text: str) -> Float[Tensor, " width"]:
        """The sentence embedding of another text, by the plain call."""
        assert isinstance(self.task, SentenceEncoder)
        with self.prepared(), torch.no_grad():
            reading = self._reading(text)
            _, context, _ = self.call.tensors(reading, self._device)
            return self.task.embedding(self.call.run, self._rows(context), {}).mean(0)


@contextmanager
def _named(reading: Reading) -> Iterator[None]:
    """Inside, what the model raises becomes an error that says on which text."""
    try:
        yield
    except IGError:
        raise
    except Exception as error:
        told = f"{type(error).__name__} on {' / '.join(reading.texts)!r:.80}: {error}"
        raise ForwardError(f"the model raised {told}") from error


def _display(
    reading: Reading, windows: list[list[int]] | None, chosen: Chosen | None, target: Any
) -> dict[str, Any]:
    """What views and other groupings need to know of one text and its target; JSON values only."""
    display = reading.display
    if windows is not None:
        display["windows"] = windows
    if reading.generated:
        contrast = None if reading.contrast is None else list(reading.contrast)
        explained = list(chosen.explained) if chosen and chosen.explained else None
        display["generated"] = {
            "tokens": list(reading.generated), "contrast": contrast, "explained": explained,
        }  # fmt: skip
    unnamed = getattr(target, "__name__", "a function of the output")
    display["explained"] = chosen.told if chosen else unnamed
    return display


def _textual(raw: Any) -> bool:
    try:
        passage(raw)
    except InputError:
        return False
    return True


def _present(known: towers.Towers, model: nn.Module) -> bool:
    """Whether the towers are still parts of the model."""
    modules = {id(module) for module in model.modules()}
    return all(id(tower.site.module) in modules for own in known.values() for tower in own)


def _reader(tokenizer: Any, encode: Any) -> Reader | OwnReader:
    from transformers import PreTrainedTokenizerBase

    if encode is not None:
        if tokenizer is not None or not callable(encode):
            raise InputError("give tokenizer=, or a function of a text as encode=, not both")
        return OwnReader(encode)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(
            f"tokenizer must be the model's tokenizer (got {tokenizer!r:.80}); for a model outside "
            "transformers pass encode=, a function of a text that gives ids"
        )
    return Reader(tokenizer)


def _check(model: Any, embedding: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch module that reads ids (got {type(model).__name__})")
    if embedding is not None and not isinstance(embedding, nn.Module):
        raise InputError(f"embedding must be a module of the model (got {embedding!r:.80})")
    if embedding is not None and not any(one is embedding for one in model.modules()):
        raise InputError(f"embedding={embedding!r:.80} is no part of {type(model).__name__}")
