"""Sequences of the benchmark: formulas and trained networks."""

from pathlib import Path

import pytest
import torch

import ig_core as ig
from ig_sequences.cases import CASES
from ig_sequences.cases.letters import LettersToPhonemes


def test_the_closed_form_case_is_explained_exactly(tmp_path: Path) -> None:
    loaded = next(case for case in CASES if case.name == "leaky-integrator").load(tmp_path)
    for x, found in zip(
        loaded.inputs, ig.attribute(loaded.model, loaded.inputs, domain="sequences"), strict=True
    ):
        decayed = 0.8 ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
        assert torch.allclose(found.values, x * decayed[:, None], rtol=0, atol=1e-12)


@pytest.mark.real
def test_the_n_of_knight_is_credited_to_its_n() -> None:
    model = LettersToPhonemes.pretrained()
    word = model.embed("knight")
    [phoneme] = model.first_phoneme([word])
    assert model.phonemes[phoneme] == "N"
    found = ig.attribute(model, word, target=phoneme, tol=1e-5, labels=model.spell)
    assert found.units.labels == (*"knight", "</s>")
    scores = dict(zip(found.units.labels, found.scores.tolist(), strict=True))
    assert scores["n"] == pytest.approx(28.4, abs=0.05)
    assert scores["k"] == pytest.approx(-5.2, abs=0.05)
    assert found.delta == pytest.approx(20.192, abs=1e-3)
    assert sum(scores.values()) == pytest.approx(20.192, abs=2e-3)


@pytest.mark.real
def test_the_real_case_reads_every_word_right(tmp_path: Path) -> None:
    loaded = next(case for case in CASES if case.real).load(tmp_path)
    assert loaded.facts["first phonemes right"] == "12 of 12"
    assert len(loaded.inputs) == len(loaded.targets) == 12
    assert len({len(x) for x in loaded.inputs}) > 1
