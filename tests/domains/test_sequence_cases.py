"""Sequences of the benchmark: how series are read, and what trained networks say of them."""

import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core.bench.folder import case_folder
from ig_sequences.cases import CASES, classified, series, speech, sunspots, training
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.cases.letters import LettersToPhonemes
from ig_sequences.cases.memory import remembered
from ig_sequences.cases.readers import Convolutions, Recurrent, answers


def loaded(name: str) -> ig.Loaded:
    """A case, made in its own folder of the cache."""
    case = next(case for case in CASES if case.name == name)
    with case_folder(case.name) as folder:
        return case.load(folder)


# -- what all have in common ----------------------------------------------------------------------


def test_every_real_case_has_a_licence_and_a_source() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.domain for case in CASES} == {"sequences"}
    assert all(case.licence and case.source for case in CASES if case.real)


def test_the_smoke_suite_has_only_what_is_fast() -> None:
    tags = {case.name: case.tags for case in CASES if case.real}
    assert tags == {
        "g2p-first-phoneme": ("smoke",),
        "italy-power-demand": ("smoke",),
        "japanese-vowels": ("smoke",),
        "sunspots": ("smoke",),
        "basic-motions": ("default",),
        "appliances-acsf1": ("default",),
        "speech-silero-vad": ("default",),
    }


@pytest.mark.parametrize("name", ["italy-power-demand", "sunspots", "speech-silero-vad"])
def test_what_cannot_be_fetched_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip fails as without an index."""
    command = [sys.executable, "-c", "raise SystemExit('no index here')"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda asked, **told: run(command, **told))
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(ig.StorageError, match=r"no index here.*get .*(whl|gz) .*put it into"):
        case.load(tmp_path)
    assert not list(tmp_path.iterdir())


# -- reading series -------------------------------------------------------------------------------

RAGGED = """\
# two features, two lengths
@problemName Toy
@timeStamps false
@univariate false
@equalLength false
@classLabel true up down

@data
1,2,3:0,0,0.5:up
# a remark
3,-1e1:1,1:down
"""


def test_a_file_of_ragged_series_with_two_features_is_read() -> None:
    found = series.read(RAGGED)
    assert [x.tolist() for x in found.sequences] == [[[1, 0], [2, 0], [3, 0.5]], [[3, 1], [-10, 1]]]
    assert (found.names, found.classes.tolist()) == (("up", "down"), [0, 1])
    assert (len(found), found.features) == (2, 2)


@pytest.mark.parametrize(
    ("wrong", "right", "fault"),
    [
        ("# a remark", "1,2:1:up", r"line 10: expected 2 features of one length \(got 2 of \[1, 2"),
        ("# a remark", "1,2:up", r"line 10: expected 2 features of one length \(got 1 of \[2\]\)"),
        ("# a remark", "1,2:1,2:left", "line 10: 'left' is no class; known: up, down"),
        ("# a remark", "1,?:1,2:up", r"line 10: '\?' is no finite number"),
        ("# a remark", "1,inf:1,2:up", "line 10: 'inf' is no finite number"),
        ("# a remark", "1,:1,2:up", "line 10: '' is no finite number"),
        ("true up down", "false", "no line '@classLabel true"),
        ("@timeStamps false", "@timeStamps true", "line 3: @timeStamps true is not read"),
        ("@timeStamps false", "@missing true", "line 3: @missing true is not read"),
        ("@timeStamps false", "1,2,3:up", r"line 3: expected @ or # before @data \(got '1,2,3:up'"),
        ("@data", "", r"expected @ or # before @data \(got '1,2,3"),
        (RAGGED[RAGGED.index("@data") :], "", "there is no line @data"),
        (RAGGED[RAGGED.index("1,2,3") :], "", "no sequence follows @data"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(wrong: str, right: str, fault: str) -> None:
    with pytest.raises(ig.StorageError, match=fault):
        series.read(RAGGED.replace(wrong, right))


def test_series_are_kept_as_they_were_read(tmp_path: Path) -> None:
    parts = series.read(RAGGED), series.read(RAGGED.replace("1,2,3:", "4,5,6:"))
    series.write(parts, tmp_path / "kept")
    for before, after in zip(parts, series.load(tmp_path / "kept"), strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(before.sequences, after.sequences, strict=True)
        )
        assert torch.equal(before.classes, after.classes) and before.names == after.names


def toy(count: int) -> str:
    """A file of falling and rising series of 6 steps."""
    slopes = [(-1) ** number * (1 + number / count) for number in range(count)]
    lines = [
        ",".join(f"{slope * t:.3f}" for t in range(6)) + ":" + ("up" if slope > 0 else "down")
        for slope in slopes
    ]
    return "\n".join(["@classLabel true up down", "@data", *lines, ""])


def test_a_case_is_made_without_reading_a_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a wheel that lies in the folder, and then from what was kept of it."""
    wheel = tmp_path / series.WHEEL.file
    with zipfile.ZipFile(wheel, "w") as opened:
        for part, count in (("TRAIN", 16), ("TEST", 8)):
            opened.writestr(f"aeon/datasets/data/Toy/Toy_{part}.ts", toy(count))
    known = sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(series, "WHEEL", replace(series.WHEEL, sha256=known))
    for module, name in ((torch, "load"), (torch.jit, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, None)
    schedule = training.Schedule(epochs=20, batch=16)
    toys = {"name": "Toy", "classes": ("up", "down"), "count": 4, "schedule": schedule}
    case = replace(classified.POWER, **toys)
    first = case(tmp_path)
    wheel.unlink()
    again = case(tmp_path)
    assert first.facts == again.facts
    assert first.facts["test accuracy"] == "1.000 on 8, fitted to 16"
    assert [margin.__name__ for margin in first.targets] == [
        "up (predicted) minus down", "down (predicted) minus up",
    ] * 2  # fmt: skip
    assert first.options["labels"](first.inputs[0])[:2] == ["00:00", "01:00"]


def test_examples_are_taken_from_the_classes_in_turn() -> None:
    classes = torch.tensor([1, 1, 1, 0, 0, 2])
    assert training.spread(classes, 5) == [3, 0, 5, 4, 1]


# -- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_reader_of_ragged_sequences_reads_no_padding(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind, features=3, width=4, outputs=2).double()
    sequences = [torch.randn(n, 3, dtype=torch.float64) for n in (5, 2, 7)]
    alone = torch.cat([answers(model, [x]) for x in sequences])
    assert torch.allclose(answers(model, sequences), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Recurrent(nn.GRU, features=1, width=4, outputs=2),
        lambda: Convolutions(features=1, width=4, outputs=2),
    ],
)
def test_a_reader_is_fitted_once_and_alike_every_time(build: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(24) % 2
    steps = torch.randn(24, 8, 1, generator=generator) + classes[:, None, None]
    toy = series.Series(list(steps), classes, ("low", "high"))
    schedule = training.Schedule(epochs=20, batch=8)
    drawn = torch.get_rng_state()
    first, again, elsewhere = (
        training.classifier(build, toy, tmp_path / name, schedule) for name in "aab"
    )
    assert torch.equal(drawn, torch.get_rng_state())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not first.training and training.accuracy(first, toy) > 0.9
    said = [answers(model, toy.sequences) for model in (first, again, elsewhere)]
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])


def test_a_network_that_learned_nothing_is_refused() -> None:
    toy = series.Series(list(torch.zeros(6, 4, 1)), torch.arange(6) % 2, ("low", "high"))
    model = Recurrent(nn.GRU, features=1, width=4, outputs=2)
    with pytest.raises(ig.ModelError, match=r"accuracy 0\.500, .* alone gives 0\.500"):
        training.accuracy(model, toy)


def test_the_margin_of_a_case_is_the_predicted_class_minus_the_runner_up() -> None:
    model = nn.Module()
    model.forward = lambda x, lengths: torch.tensor([[1.0, 5.0, 3.0], [0.0, 7.0, 6.0]])
    first, second = training.predicted(model, [torch.zeros(1, 1)] * 2, ("a", "b", "c"))
    assert first.__name__ == "b (predicted) minus c" and first is second
    assert first(torch.tensor([[1.0, 5.0, 3.0]])).tolist() == [2.0]


def test_a_case_tells_the_half_life_of_its_network() -> None:
    """A leak of 0.5 halves at every step, and half of all is in the last; all sequences agree."""
    signs = torch.randn(12, 30, 1, generator=torch.Generator().manual_seed(0)).sign().double()
    loaded = ig.Loaded(LeakyIntegrator(0.5), list(signs), baseline="zeros", facts={"known": 1})
    found = remembered(loaded, "ms", each=32)
    assert found.facts == {
        "known": 1,
        "half-life of attributions": "32 ms (32 to 32), exponential",
        "half of their sum": "in the last 32 ms",
    }
    assert found.model is loaded.model and found.inputs is loaded.inputs


def test_a_memory_that_does_not_fade_has_no_half_life() -> None:
    signs = torch.ones(12, 30, 1, dtype=torch.float64)
    facts = remembered(ig.Loaded(LeakyIntegrator(1.0), list(signs), baseline="zeros")).facts
    assert facts["half-life of attributions"] == "none, no_decay"


# -- closed forms and words -----------------------------------------------------------------------


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
    loaded = next(case for case in CASES if case.name == "g2p-first-phoneme").load(tmp_path)
    assert loaded.facts["first phonemes right"] == "12 of 12"
    assert len(loaded.inputs) == len(loaded.targets) == 12
    assert len({len(x) for x in loaded.inputs}) > 1


# -- real data ------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "accuracy", "tested", "shape"),
    [("italy-power-demand", 0.94, 1029, (24, 1)), ("japanese-vowels", 0.94, 370, (19, 12))],
)
def test_series_of_the_world_are_told_apart_and_explained_completely(
    name: str, accuracy: float, tested: int, shape: tuple[int, int]
) -> None:
    case = loaded(name)
    measured, _, count, *_ = case.facts["test accuracy"].replace(",", "").split()
    assert float(measured) >= accuracy and int(count) == tested
    assert tuple(case.inputs[0].shape) == shape
    found = ig.attribute(
        case.model, list(case.inputs), target=case.targets, baseline=case.baseline,
        domain="sequences", **case.options,
    )  # fmt: skip
    for result, margin in zip(found, case.targets, strict=True):
        assert result.converged and result.delta != 0
        assert result.provenance["target"] == margin.__name__
        assert float(result.values.sum()) == pytest.approx(result.delta, rel=1e-2)


@pytest.mark.real
def test_vowels_differ_in_length_and_packing_is_what_one_by_one_is() -> None:
    case = loaded("japanese-vowels")
    assert len({len(x) for x in case.inputs}) > 5
    options = {"domain": "sequences", "baseline": "zeros", **case.options}
    together = ig.attribute(case.model, list(case.inputs[:4]), target=case.targets[:4], **options)
    for x, target, result in zip(case.inputs, case.targets, together, strict=False):
        alone = ig.attribute(case.model, x, target=target, **options)
        assert torch.allclose(result.values, alone.values, rtol=0, atol=1e-5)


@pytest.mark.real
def test_sunspots_of_the_next_year_follow_from_years_with_names() -> None:
    case = loaded("sunspots")
    explained, again = (float(case.facts["test R^2"].split()[i].strip(",")) for i in (0, -1))
    assert explained > 0.8 and again == pytest.approx(0.597, abs=5e-4)
    first, *_ = ig.attribute(
        case.model, list(case.inputs), baseline="mean", domain="sequences", **case.options
    )
    assert (first.units.labels[0], first.units.labels[-1]) == ("1896", "1939")
    assert case.inputs[0][-1].item() == pytest.approx(88.8)  # the sunspots of 1939
    assert first.scores.abs().argmax() == sunspots.WINDOW - 1
    years = float(case.facts["half-life of attributions"].split()[0])
    assert 1 < years < 5  # far below the eleven years of a cycle: the slope of its rise or fall
    assert first.at_input == pytest.approx(
        float(case.facts["said (true)"]["1940"].split()[0]), abs=0.5
    )


PROBABILITIES = {
    0: 0.0016697, 1: 0.0410315, 2: 0.0443421, 10: 0.1063881, 30: 0.0106874, 50: 0.0058702,
    100: 0.9998197, 200: 0.9991061, 400: 0.9939058, 800: 0.7913463, 999: 0.9999347,
}  # fmt: skip
"""What ``silero_vad.jit`` of silero-vad 6.2.3 says of chunks of its example, read as a stream."""


@pytest.mark.real
def test_the_port_of_the_speech_detector_says_what_the_original_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(torch.jit, "load", None)
    with case_folder(speech.CASE.name) as folder:
        model, samples = speech.detector(
            ig.made_once(folder / "silero-vad.safetensors", speech.convert)
        )
    chunks = samples[: 1000 * speech.CHUNK].view(1, -1, speech.CHUNK)
    with torch.no_grad():
        said = model(model.spectra(chunks))[0].sigmoid()
    for place, probability in PROBABILITIES.items():
        assert float(said[place]) == pytest.approx(probability, abs=1e-5), place
