"""Masked language models: which word stands behind a mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError, TargetError
from ig_text.passage import Passage
from ig_text.tasks.base import Ask, Chosen, Given, Points, Reading, Run, TextTask, classes_of, part
from ig_text.tokens import Reader


class MaskedLM(TextTask):
    """The log-probability of a word in place of a mask token.

    A target is a word of the vocabulary (or its id), a tuple of two of them (the first one's
    log-probability minus the second one's, which is the difference of their logits), or
    ``("mask", i, word)`` where the text has several masks. Without one the most probable word is
    explained against the runner-up. A function gets (rows, masks, vocabulary).
    """

    reader: Reader
    name = "fill-mask"
    fills: ClassVar[Mapping[str, int]] = {"masks": 0}

    def read(self, passage: Passage) -> Reading:
        reading = super().read(passage)
        mask = self.reader.tokenizer.mask_token_id
        ids = reading.tokens["embeddings"].ids
        places = [place for place, i in enumerate(ids) if i == mask]
        if not places:
            raise InputError(
                f"the text has no mask token, {self.reader.tokenizer.mask_token!r}, to be filled "
                f"(got {passage.texts!r:.80})"
            )
        context = {"masks": torch.tensor(places)}
        return Reading(reading.texts, reading.roles, reading.tokens, context)

    def outputs(
        self, run: Run, given: Given, points: Points
    ) -> Float[Tensor, "rows masks vocabulary"]:
        logits = part(run(given, points), "logits", self.model, "it fills no masks")
        logits = classes_of(logits, len(given["input_ids"]), 3, self.model)
        places = given["masks"][..., None].expand(-1, -1, logits.shape[-1])
        return logits.gather(1, places).log_softmax(-1)

    def chosen(self, target: Any, reading: Reading, ask: Ask) -> Chosen:
        outputs = ask()
        _, masks, size = outputs.shape
        mask = 0
        if isinstance(target, tuple) and len(target) == 3 and target[0] == "mask":
            mask, target = target[1:]
            whole = isinstance(mask, int) and not isinstance(mask, bool)
            if not whole or not 0 <= mask < masks:
                raise TargetError(f"the text has {masks} masks, counted from 0 (got {mask!r})")
        elif masks > 1:
            raise TargetError(
                f"the text has {masks} masks; say which: target=('mask', i, word) (got {target!r})"
            )
        base = mask * size + 1
        if target is None:
            best, second = outputs[0, mask].topk(2).indices.tolist()
            names = self.reader.spelled([best, second])
            told = f"{names[0]!r} (predicted) minus {names[1]!r}"
            return Chosen((base + best, base + second), told)
        pair = target if isinstance(target, tuple) and len(target) == 2 else (target,)
        ids = [self._id(word, size) for word in pair]
        told = " minus ".join(repr(name) for name in self.reader.spelled(ids))
        other = base + ids[1] if len(ids) == 2 else 0
        return Chosen((base + ids[0], other), f"log-probability of {told}")

    def _id(self, word: Any, size: int) -> int:
        if isinstance(word, int) and not isinstance(word, bool) and 0 <= word < size:
            return word
        if isinstance(word, str):
            tokenizer = self.reader.tokenizer
            for written in (word, f" {word}"):
                ids = tokenizer(written, add_special_tokens=False)["input_ids"]
                if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                    return int(ids[0])
            raise TargetError(
                f"{word!r} is no single token of the vocabulary (got {len(ids)} tokens)"
            )
        raise TargetError(f"a target is a word, its id or two of them (got {word!r})")
