"""TextDomain: classifiers and sentence encoders of transformers, explained by their words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

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
    Layout,
    ModelError,
    OutputError,
    Pad,
    Rows,
    Site,
    Stack,
)
from ig_text.view import heat_map, line
from ig_text.words import words

Head = Callable[[Float[Tensor, "rows width"]], Float[Tensor, "rows ..."]]

CHECK_ULPS = 16
"""The replaced embeddings must give the plain call's output to this many roundings."""

VOCABULARY_CHUNK = 4096


class TextDomain(Domain):
    """A sequence classifier, or an encoder with a head on its sentence embedding.

    A raw input is a text, or a tuple of two texts. The path runs through the output of the word
    embedding; ids, masks, segments and positions remain those of the text, also at the baseline.
    (Embeddings passed instead of ids, or ids of pads, would move the positions of RoBERTa.)
    Special tokens do not move and get exactly zero.

    Without a target a classifier's margin is explained: the logit of the predicted class minus
    that of the runner-up; a single output is explained as it is.

    Args:
        tokenizer: the model's own.
        head: for an encoder, a function of its sentence embedding that gives one number or
            several per row, such as a linear layer or a cosine to another sentence.
        pool: how token states become a sentence embedding: their ``"mean"``, or the ``"first"``.
        class_names: one per output; those of ``model.config.id2label`` by default.

    Raises:
        InputError: the model is no encoder with word embeddings, or the options do not suit it.
    """

    name = "text"
    requires = ("transformers",)
    extra = "ig-core[text]"

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any,
        head: Head | None = None,
        pool: Literal["mean", "first"] = "mean",
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(model)
        _check(model, tokenizer, head, pool)
        self.class_names = _class_names(class_names, model, head)
        self.tokenizer = tokenizer
        self.head = head
        self.pool = pool
        self.embedding: nn.Embedding = model.get_input_embeddings()
        self.longest = _longest(model, tokenizer)
        known = inspect.signature(model.forward).parameters
        context = {"input_ids": tokenizer.pad_token_id or 0, "attention_mask": 0}
        if "token_type_ids" in known and "token_type_ids" in tokenizer.model_input_names:
            context["token_type_ids"] = 0
        self._context = tuple(context)
        self.layouts: Mapping[str, Layout] = {
            "embeddings": Pad(),
            "classes": Stack(),
            **{name: Pad(fill=fill) for name, fill in context.items()},
        }
        self.baseline_name = "mean" if tokenizer.pad_token_id is None else "pad"
        self._verified = False

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        from transformers import PreTrainedModel

        several = raw if isinstance(raw, list) else [raw]
        return isinstance(model, PreTrainedModel) and all(_texts(one) for one in several)

    def modules(self) -> Sequence[nn.Module]:
        return [*super().modules(), *([self.head] if isinstance(self.head, nn.Module) else [])]

    def encode(self, raw: Any, target: Any = None) -> Example:
        texts = _texts(raw)
        if not texts:
            raise InputError(f"expected a text or a tuple of two texts (got {raw!r:.80})")
        encoding = self._tokenized(texts)
        tokens = self.tokenizer.convert_ids_to_tokens(encoding["input_ids"])
        self._check_vocabulary(encoding["input_ids"], tokens)
        context = {
            name: torch.tensor(encoding[name], device=self.embedding.weight.device)
            for name in self._context
        }
        classes = torch.full((2,), -1)
        with self.prepared(), torch.no_grad():
            embeddings = self.embedding(context["input_ids"])
            if target is None or not self._verified:
                row = {name: value[None] for name, value in context.items()}
                outputs = self._plain(texts, row)
                if not self._verified:
                    self._verify(outputs, embeddings[None], row)
                if target is None and outputs.numel() > 1:
                    classes = outputs.flatten().topk(2).indices.cpu()
        return Example(
            inputs={"embeddings": embeddings},
            context={**context, "classes": classes},
            target=target,
            units=words(encoding, texts, tokens),
            display={"tokens": tokens, "explained": self._told(target, classes.tolist())},
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        with Site(self.embedding).replaced(rows["embeddings"]):
            outputs = self._outputs({name: rows[name] for name in self._context})
        classes = rows["classes"]
        if bool((classes >= 0).all()):
            first, second = outputs.gather(1, classes).unbind(1)
            return rows.select(first - second)
        return rows.select(outputs)

    def baseline(self, example: Example) -> Mapping[str, Tensor]:
        """The pad token in place of every token; the mean embedding if there is no pad token."""
        has_pad = self.baseline_name == "pad"
        vector = self.token_embedding("pad") if has_pad else self.mean_embedding
        return self.with_vector(example, vector)

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        if fmt == "html":
            return heat_map(attribution)
        return f"{line(attribution)}\n\n{super().render(attribution, fmt)}"

    # -- what baselines are made of -------------------------------------------------------------

    def token_embedding(self, kind: Literal["pad", "mask"]) -> Float[Tensor, " width"]:
        """The word embedding of the tokenizer's pad or mask token.

        Raises:
            BaselineError: it has none.
        """
        token = {"pad": self.tokenizer.pad_token_id, "mask": self.tokenizer.mask_token_id}[kind]
        if token is None:
            raise BaselineError(
                f"the tokenizer has no {kind} token; choose another baseline, such as 'mean'"
            )
        with torch.no_grad():
            return self.embedding(torch.tensor(token, device=self.embedding.weight.device))

    @cached_property
    def mean_embedding(self) -> Float[Tensor, " width"]:
        """The mean word embedding of the vocabulary."""
        ids = torch.arange(self.embedding.num_embeddings, device=self.embedding.weight.device)
        with torch.no_grad():
            sums = [self.embedding(part).double().sum(0) for part in ids.split(VOCABULARY_CHUNK)]
        return (torch.stack(sums).sum(0) / len(ids)).to(self.embedding.weight.dtype)

    @staticmethod
    def with_vector(
        example: Example, vector: Float[Tensor, " width"]
    ) -> dict[str, Float[Tensor, "tokens width"]]:
        """``vector`` for every token; the core keeps the special ones, which are no units."""
        return {"embeddings": vector.expand_as(example.inputs["embeddings"])}

    # -- the model ------------------------------------------------------------------------------

    def _plain(self, texts: Sequence[str], row: Mapping[str, Tensor]) -> Float[Tensor, "1 ..."]:
        """The output of the plain call on one text."""
        try:
            outputs = self._outputs(row)
        except IGError:
            raise
        except Exception as error:
            told = f"{type(error).__name__} on {' / '.join(texts)!r:.80}: {error}"
            raise ForwardError(f"the model raised {told}") from error
        if self.class_names and outputs.numel() != len(self.class_names):
            raise InputError(
                f"class_names must hold {outputs.numel()} names, one per output "
                f"(got {len(self.class_names)})"
            )
        return outputs

    def _check_vocabulary(self, ids: Sequence[int], tokens: Sequence[str]) -> None:
        known = self.embedding.num_embeddings
        if beyond := [(i, token) for i, token in zip(ids, tokens, strict=True) if i >= known]:
            raise InputError(
                f"the tokenizer's vocabulary is larger than the model's, {known} (got id "
                f"{beyond[0][0]} for {beyond[0][1]!r}); pass the model's own tokenizer, or call "
                "model.resize_token_embeddings(len(tokenizer)) before training"
            )

    def _tokenized(self, texts: Sequence[str]) -> Any:
        for text in texts:
            if lone := next((c for c in text if "\ud800" <= c <= "\udfff"), ""):
                raise InputError(
                    f"a text holds {lone!r} at character {text.index(lone)}, half of a surrogate "
                    "pair; decode it with errors='replace'"
                )
        if not all(text.strip() for text in texts):
            raise InputError(f"a text is empty (got {texts!r:.80})")
        encoding = self.tokenizer(
            *texts,
            truncation=False,
            padding=False,
            verbose=False,
            return_attention_mask=True,
            return_special_tokens_mask=True,
            return_offsets_mapping=self.tokenizer.is_fast,
        )
        if all(encoding["special_tokens_mask"]):
            raise InputError(f"the tokenizer finds no token in {texts!r:.80}")
        length = len(encoding["input_ids"])
        if length > self.longest:
            raise InputError(
                f"the text has {length} tokens, the model takes {self.longest} at most; nothing "
                "is cut off silently: shorten the text or explain its parts"
            )
        return encoding

    def _outputs(self, context: Mapping[str, Tensor]) -> Float[Tensor, "rows ..."]:
        """Logits, or what the head makes of the sentence embedding."""
        output = self.model(**context, return_dict=True)
        rows = len(context["input_ids"])
        if self.head is None:
            logits = self._part(output, "logits", "pass head= to explain an encoder")
            if logits.dim() != 2 or len(logits) != rows:
                raise OutputError(
                    f"expected logits of shape (rows, classes), one answer per text, here {rows} "
                    f"(got shape {tuple(logits.shape)} from {type(self.model).__name__})"
                )
            return logits
        states = self._part(output, "last_hidden_state", "head= is for encoders only")
        mask = context["attention_mask"][..., None].to(states.dtype)
        mean = self.pool == "mean"
        outputs = self.head((states * mask).sum(1) / mask.sum(1) if mean else states[:, 0])
        if isinstance(outputs, Tensor) and outputs.dim() == 0 and rows == 1:
            return outputs.view(1)  # what a squeeze makes of a single row
        if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != rows:
            got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else repr(outputs)
            raise OutputError(f"head must give one answer per text, here {rows} (got {got})")
        return outputs

    def _part(self, output: Mapping[str, Tensor], name: str, advice: str) -> Tensor:
        if name not in output:
            raise InputError(
                f"expected a model that gives {name} (got {type(self.model).__name__} with "
                f"{', '.join(output)}); {advice}"
            )
        return output[name]

    def _verify(
        self,
        plain: Float[Tensor, "1 ..."],
        embeddings: Float[Tensor, "1 tokens width"],
        context: Mapping[str, Tensor],
    ) -> None:
        """Replacing the word embeddings by themselves must give the plain call's output."""
        first, second = Site(self.embedding), Site(self.embedding, call=1)
        with second.recorded() as again, first.replaced(embeddings):
            replaced = self._outputs(context)
        allowed = CHECK_ULPS * torch.finfo(plain.dtype).eps * float(plain.nan_to_num().abs().max())
        if again or not torch.allclose(replaced, plain, rtol=0, atol=allowed, equal_nan=True):
            raise ModelError(
                f"{type(self.model).__name__} cannot be explained by its words: its word embedding "
                "must be called once, and replacing the output by itself must change nothing "
                f"(got {'several calls' if again else 'one call'}, largest change "
                f"{float((replaced - plain).abs().max()):.2g})"
            )
        self._verified = True

    def _told(self, target: Any, classes: Sequence[int]) -> str:
        """What is explained, in words."""
        if callable(target):
            return getattr(target, "__name__", "a function of the output")
        chosen = list(classes) if target is None else [target]
        told = [self._class_name(c) for c in chosen if c != -1]
        if target is None and told:
            told[0] += " (predicted)"
        return " minus ".join(told) or getattr(self.head, "__name__", "the output")

    def _class_name(self, index: Any) -> str:
        known = isinstance(index, int) and 0 <= index < len(self.class_names)
        return self.class_names[index] if known else f"output {index}"


def _texts(raw: Any) -> tuple[str, ...]:
    """The text or the two texts of one raw input; none if it is something else."""
    texts = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw,)
    return texts if all(isinstance(text, str) for text in texts) else ()


def _class_names(given: Any, model: Any, head: Any) -> tuple[str, ...]:
    """The given names, or those that the config has for the model's own outputs."""
    if given is None:
        own = {} if head is not None else model.config.id2label or {}
        return tuple(str(own[i]) for i in sorted(own)) if [*own] == [*range(len(own))] else ()
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise InputError(f"class_names must be a list of strings (got {given!r:.80})")
    return tuple(given)


def _check(model: Any, tokenizer: Any, head: Any, pool: Any) -> None:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if not isinstance(model, PreTrainedModel):
        raise InputError(f"expected a transformers model (got {type(model).__name__})")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(f"tokenizer must be the model's tokenizer (got {tokenizer!r:.80})")
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        raise InputError(
            f"{type(model).__name__} is an encoder-decoder model, which domain 'text' does not "
            "explain yet; pass its encoder with head="
        )
    if pool not in ("mean", "first"):
        raise InputError(f"pool must be 'mean' or 'first' (got {pool!r})")
    if head is not None and not callable(head):
        raise InputError(f"head must be a function of the sentence embedding (got {head!r:.80})")
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"the word embedding of {type(model).__name__} must be a torch.nn.Embedding "
            f"(got {type(embedding).__name__})"
        )


def _longest(model: Any, tokenizer: Any) -> int:
    """How many tokens the model takes: what its config, positions and tokenizer allow."""
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the one after the pad's.
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - first)
    return min(int(limit) for limit in limits if isinstance(limit, (int, float)) and limit > 0)
