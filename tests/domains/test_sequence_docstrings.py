"""The examples in the docstrings of sequences run, and every public name has one."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest
import torch

import ig_core as ig
import ig_sequences
from ig_sequences.cases.closed_forms import LeakyIntegrator

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [
    "ig_sequences",
    *(found.name for found in pkgutil.walk_packages(ig_sequences.__path__, "ig_sequences.")),
]
NAMES = {"ig": ig, "torch": torch, "leaky": LeakyIntegrator(0.5)}
SHOWN_BY = {
    "Decay": "attribution_decay", "Faithfulness": "faithfulness", "Fit": "attribution_decay",
    "Sweep": "sweep",
}  # fmt: skip
"""Results, which the examples of the functions that make them show."""

EXAMPLES = [
    pytest.param(example, id=example.name)
    for name in MODULES
    for example in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=NAMES)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=told.append, clear_globs=False)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", ig_sequences.__all__)
def test_a_public_name_has_an_example(name: str) -> None:
    shown = getattr(ig_sequences, SHOWN_BY.get(name, name))
    assert doctest.DocTestFinder(recurse=False).find(shown, name)[0].examples
