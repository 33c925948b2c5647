"""The Call of a text model: its arguments, in batches of ragged texts and in windows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import Cat, InputError, Layout, Pad
from ig_text import towers
from ig_text.tasks.base import Given, Points, Reading, TextTask
from ig_text.tokens import Tokens

CHUNK_TOKENS = 512
"""Tokens that share a pass, unless the model is narrow."""

CHUNK_NUMBERS = 2**17
"""Tokens times the width of their states that share a pass of a narrow model."""

MOST_TOKENS = 4096
"""Tokens that share a pass of the narrowest model."""


class Call:
    """How the tensors of an example become one call of the model, and its outputs.

    ``longest`` is how many tokens the model takes, None if nothing tells. With a window a text is a
    union of windows, each with the special tokens around it, and the outputs are their mean.
    """

    def __init__(
        self, model: Any, tokenizer: Any, task: TextTask, window: int | None, overlap: int
    ) -> None:
        self.model = model
        self.task = task
        self.takes = inspect.signature(model.forward).parameters
        self.longest = task.longest = _longest(model, tokenizer)
        self.window, self.overlap = window, overlap
        self.inputs = (*task.inputs, *task.shared)
        self.towers: towers.Towers = {}
        self._pad = getattr(tokenizer, "pad_token_id", None) or 0
        capacity = _capacity(model)
        windowed = Cat(capacity=max(1, capacity // (window or 1)))
        self._fill = lambda fill: windowed if window else Pad(fill, capacity)
        self.layouts: dict[str, Layout] = {
            **{name: self._fill(0) for name in self.inputs},
            "input_ids": self._fill(self._pad),
            "attention_mask": self._fill(0),
            **{name: self._fill(fill) for name, fill in task.fills.items()},
        }
        if window is not None or overlap != 0:
            _check_window(window, overlap, task, self.longest)

    def tensors(
        self, reading: Reading, device: torch.device
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[list[int]] | None]:
        """The ids of every input, the context of an example, and the places in each window.

        Raises:
            InputError: the text is too long for the model, or has tokens that it does not know.
        """
        ids = {
            name: torch.tensor(own.ids, dtype=torch.long, device=device)
            for name, own in reading.tokens.items()
        }
        own = reading.tokens["embeddings"]
        windows = None
        if self.window is None:
            self.task.check_length(max(len(own) for own in reading.tokens.values()))
            lists = {"input_ids": own.ids, "attention_mask": [1] * len(own), **self._extras(own)}
            context = {name: torch.tensor(list(v), device=device) for name, v in lists.items()}
        else:
            if len(reading.texts) > 1:
                raise InputError(
                    "windows are for one text: parts of a pair say nothing of each other (got "
                    f"{' and '.join(map(repr, reading.roles))}); shorten the longer one"
                )
            windows = _windows(own, self.window, self.overlap)
            places = torch.tensor(windows, device=device)
            lists = {"input_ids": own.ids, **self._extras(own)}
            ends = {"input_ids": self._pad}
            context = {
                name: torch.tensor([*values, ends.get(name, 0)], device=device)[places]
                for name, values in lists.items()
            }
            context["attention_mask"] = (places >= 0).long()
            ids = {"embeddings": context["input_ids"]}
        context |= {name: value.to(device) for name, value in reading.context.items()}
        for name in context:
            self.layouts.setdefault(name, self._fill(0))
        return ids, context, windows

    def outputs(
        self, given: Given, points: Points, owner: Int[Tensor, " texts"], rows: int
    ) -> Float[Tensor, "rows ..."]:
        """What the task makes of the model's answer; the mean over the windows of each row."""
        outputs = self._answers(given, points)
        if self.window is None:
            return outputs
        owner = owner.to(outputs.device)
        count = torch.bincount(owner, minlength=rows).to(outputs.dtype)
        total = outputs.new_zeros(rows, *outputs.shape[1:]).index_add(0, owner, outputs)
        return total / count.view(-1, *(1,) * (outputs.dim() - 1))

    def run(self, given: Given, points: Points) -> Any:
        """Call the model on these rows, its word embeddings replaced by these points."""
        arguments = {
            name: value
            for name, value in given.items()
            if name in self.takes and name not in self.task.fills
        }
        if "decoder_input_ids" in given:
            arguments["decoder_input_ids"] = given["decoder_input_ids"]
        if "keep" in given and "logits_to_keep" in self.takes:
            arguments["logits_to_keep"] = given["keep"]
        if "use_cache" in self.takes:
            arguments["use_cache"] = False
        first = () if "input_ids" in self.takes else (given["input_ids"],)
        if hasattr(self.model, "config"):
            arguments["return_dict"] = True
        with towers.replaced(self.towers, points):
            return self.model(*first, **arguments)

    def _answers(self, given: Given, points: Points) -> Float[Tensor, "texts ..."]:
        """The outputs; a model without a mask sees texts of one length at a time."""
        if "attention_mask" in self.takes or self.task.per_token:
            return self.task.outputs(self.run, given, points)
        lengths = given["attention_mask"].sum(1)
        parts, order = [], []
        for length in torch.unique(lengths).tolist():
            own = (lengths == length).nonzero().view(-1)
            some = {name: value[own, :length] for name, value in given.items()}
            at = {name: value[own, :length] for name, value in points.items()}
            parts.append(self.task.outputs(self.run, some, at))
            order.append(own)
        return torch.cat(parts)[torch.argsort(torch.cat(order))]

    def _extras(self, tokens: Tokens) -> Mapping[str, Sequence[int]]:
        return {name: v for name, v in tokens.extras.items() if name in self.takes}


def _windows(tokens: Tokens, window: int, overlap: int) -> list[list[int]]:
    """The places of the tokens of each window, filled with -1.

    The special tokens at both ends of the text are at both ends of every window.
    """
    first, last = tokens.moving[0], tokens.moving[-1] + 1
    body, ends = list(range(first, last)), (list(range(first)), list(range(last, len(tokens))))
    room = window - sum(map(len, ends))
    if room <= overlap:
        raise InputError(
            f"a window of {window} tokens, {window - room} of them special, does not reach beyond "
            f"an overlap of {overlap}"
        )
    found = []
    for begin in range(0, max(len(body) - overlap, 1), room - overlap):
        places = [*ends[0], *body[begin : begin + room], *ends[1]]
        found.append(places + [-1] * (window - len(places)))
    return found


def _check_window(window: Any, overlap: Any, task: TextTask, longest: int | None) -> None:
    if task.per_token:
        raise InputError(f"window= is for one answer per text (this is {task.name!r})")
    if window is None:
        raise InputError(f"overlap= needs window=, of which it is a part (got {overlap!r})")
    for name, value, least in (("window", window, 1), ("overlap", overlap, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least} (got {value!r})")
    if longest is not None and window > longest:
        raise InputError(f"the model takes {longest} tokens at most (got window={window})")


def _capacity(model: Any) -> int:
    """How many tokens share a pass: more of a narrow model, whose passes are mostly waiting."""
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    if not isinstance(width, int) or width < 1:
        return CHUNK_TOKENS
    return max(CHUNK_TOKENS, min(MOST_TOKENS, CHUNK_NUMBERS // width))


def _longest(model: Any, tokenizer: Any) -> int | None:
    """How many tokens the model takes: what its config, positions and tokenizer allow."""
    config = getattr(model, "config", None)
    limits = [
        getattr(tokenizer, "model_max_length", None),
        getattr(config, "max_position_embeddings", None),
        getattr(config, "n_positions", None),
    ]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the one after the pad's.
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - first)
    known = [int(limit) for limit in limits if isinstance(limit, (int, float)) and limit > 0]
    return min(known, default=None)
