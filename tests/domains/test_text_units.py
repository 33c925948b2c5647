"""Units and baselines of texts: words in every script, and what stands for nothing."""

import pytest
import torch

import ig_core as ig
from ig_core import BaselineError, InputError

transformers = pytest.importorskip("transformers")

from ig_text import NeutralText, OtherText, TokenIds  # noqa: E402
from ig_text.tokens import Reader  # noqa: E402

CORPUS = [
    "The unhappiest actors don't act; they're acting!", "a naïve café, a dull film",
    "这部电影很无聊。", "映画はつまらない。", "ภาพยนตร์น่าเบื่อ", "영화가 지루하다", "фильм скучный",
    "🎬 great 👍🏽",
]  # fmt: skip


def byte_level():
    """Byte-level BPE as GPT-2 has it, trained on a few sentences."""
    from tokenizers import ByteLevelBPETokenizer

    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(CORPUS, vocab_size=420, special_tokens=["<|end|>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )


def metaspace():
    """Unigram pieces that begin with a visible space, as SentencePiece makes them."""
    from tokenizers import SentencePieceUnigramTokenizer

    backend = SentencePieceUnigramTokenizer()
    backend.train_from_iterator(
        CORPUS, vocab_size=120, special_tokens=["<unk>", "<pad>"], unk_token="<unk>",
        show_progress=False,
    )  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, unk_token="<unk>", pad_token="<pad>"
    )


def word_piece():
    from tokenizers import BertWordPieceTokenizer

    backend = BertWordPieceTokenizer(lowercase=True, strip_accents=False)
    backend.train_from_iterator(CORPUS, vocab_size=200, show_progress=False)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, cls_token="[CLS]", sep_token="[SEP]", **names
    )


def whole_words():
    """Every word a token, between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["a", "the", "dull", "great", "film", "actors", ".", "!", "acting"]
    ids = {token: i for i, token in enumerate([*special, *words, "un", "##happi", "##est"])}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, special, strict=True))
    )


def model_for(tokenizer, seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=96, initializer_range=0.3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval().double()


def labels(tokenizer, text):
    result = ig.attribute(model_for(tokenizer), text, tokenizer=tokenizer, target=0, tol=0.5)
    return list(result.units.labels)


@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece])
@pytest.mark.parametrize("text", CORPUS)
def test_units_put_the_text_together_again(make, text):
    """Whatever is cut where: all letters of the text are in one unit each, in their order."""
    found = labels(make(), text)
    assert "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece])
def test_every_sum_over_units_is_the_sum_over_tokens(make):
    tokenizer = make()
    for text in CORPUS:
        result = ig.attribute(model_for(tokenizer), text, tokenizer=tokenizer, target=0, tol=0.5)
        total = float(result.values.double().sum())
        for by in ("token", "word", "sentence", [(0, len(text))]):
            scores = result.by(by).scores
            assert float(scores.sum()) == pytest.approx(total, abs=1e-14)


def test_words_are_what_white_space_and_the_tokenizer_part():
    assert labels(byte_level(), "they're acting, film!") == [
        "they",
        "'re",
        "acting",
        ",",
        "film",
        "!",
    ]
    assert labels(metaspace(), "a dull film") == ["a", "dull", "film"]
    assert labels(word_piece(), "a naïve café, film") == ["a", "naïve", "café", ",", "film"]


def test_a_character_of_several_tokens_is_one_unit():
    tokenizer = byte_level()
    text = "🎬 ſtrange"
    pieces = tokenizer(text)["input_ids"]
    found = labels(tokenizer, text)
    assert len(pieces) > len(found)
    assert found == ["🎬", "ſtrange"]


def test_scripts_without_spaces_are_parted_at_tokens():
    for make in (byte_level, metaspace):
        found = labels(make(), "这部电影很无聊。")
        assert len(found) > 1
        assert all(unit for unit in found)
    assert labels(word_piece(), "这部电影") == ["这", "部", "电", "影"]


def test_tokens_words_sentences_and_spans():
    tokenizer = whole_words()
    text = "the dull film. the unhappiest actors! acting"
    result = ig.attribute(model_for(tokenizer), text, tokenizer=tokenizer, target=0, tol=1e-3)
    tokens = result.by("token")
    inner = result.display["tokens"]["embeddings"][1:-1]
    assert list(tokens.units.labels) == inner
    assert tokens.scores.tolist() == result.values.double().sum(1)[1:-1].tolist()
    sentences = result.by("sentence")
    assert list(sentences.units.labels) == [
        "the dull film.",
        "the unhappiest actors!",
        "acting",
    ]
    assert sentences.units.kind == "sentence"
    words = dict(zip(result.units.labels, result.scores.tolist(), strict=True))
    assert list(result.units.labels) == [
        "the", "dull", "film", ".", "the", "unhappiest", "actors", "!", "acting",
    ]  # fmt: skip
    first = float(result.scores[:4].sum())
    assert float(sentences.scores[0]) == pytest.approx(first, abs=1e-15)
    spans = result.by([(4, 13), (19, 36)])
    assert list(spans.units.labels) == ["dull film", "unhappiest actors"]
    assert float(spans.scores[0]) == pytest.approx(words["dull"] + words["film"], abs=1e-15)
    again = tokens.by("word")
    assert list(again.units.labels) == list(result.units.labels)
    assert torch.equal(again.scores, result.scores)


def test_the_uncertainty_of_a_union_is_at_most_the_sum():
    tokenizer = whole_words()
    text = "the dull film. the unhappiest actors!"
    result = ig.attribute(
        model_for(tokenizer),
        text,
        tokenizer=tokenizer,
        target=0,
        tol=1e-3,
        rule="midpoint",
        steps=4,
    )
    found = ig.attribute(model_for(tokenizer), text, tokenizer=tokenizer, target=0, tol=1e-3)
    assert result.by("sentence").uncertainty is None
    sums = found.by("sentence").uncertainty
    assert float(sums.sum()) == pytest.approx(float(found.uncertainty.sum()), rel=1e-12)
    assert found.by("token").uncertainty is None, "parts of a unit have an uncertainty of their own"


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ("page", "'word', 'token', 'sentence'"), ([], "list of character ranges"),
        ([(3, 2)], "no range of characters"), ([(0, 99)], "no range"), ([(1, 0, 2)], "no range"),
        ([(0.5, 2)], "no range"), (3, "list of character ranges"),
    ],
)  # fmt: skip
def test_units_that_are_not_there_are_refused(by, told):
    tokenizer = whole_words()
    result = ig.attribute(model_for(tokenizer), "a dull film", tokenizer=tokenizer, tol=0.5)
    with pytest.raises(InputError, match=told):
        result.by(by)


def test_a_result_from_a_file_keeps_the_units_that_it_has(tmp_path):
    tokenizer = word_piece()
    result = ig.attribute(model_for(tokenizer), "a dull film", tokenizer=tokenizer, tol=0.5)
    loaded = ig.Attribution.load(result.save(tmp_path / "a.safetensors"))
    assert loaded.display == result.display
    with pytest.raises(InputError, match=r"by ig.load\(\)"):
        loaded.by("token")
    again = ig.load(tmp_path / "a.safetensors")
    assert again.by("token").scores.tolist() == result.by("token").scores.tolist()
    assert again.to_html() == result.to_html()


def test_what_a_model_wrote_is_located_in_its_text():
    tokenizer = byte_level()
    ids = tokenizer(" a dull film 🎬")["input_ids"]
    text, tokens = Reader(tokenizer).written([*ids, tokenizer.eos_token_id])
    assert text == " a dull film 🎬"
    assert tokens.spans[-1] is None
    assert "".join(dict.fromkeys(text[s[1] : s[2]] for s in tokens.spans[:-1]))
    joined = {}
    for word, span in zip(tokens.words, tokens.spans, strict=True):
        if span is not None:
            joined[word] = joined.get(word, "") + text[span[1] : span[2]]
    assert [w.strip() for w in joined.values()][:3] == ["a", "dull", "film"]


# -- baselines ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def setting():
    tokenizer = whole_words()
    return model_for(tokenizer), tokenizer


def at_ids(model, ids):
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids])).logits[0, 1])


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("pad", ["[PAD]"] * 3), ("mask", ["[MASK]"] * 3), ("unk", ["[UNK]"] * 3),
        ("neutral", ["the"] * 3), (NeutralText("a film"), ["a", "film", "a"]),
        (OtherText("the great film"), ["the", "great", "film"]),
    ],
)  # fmt: skip
def test_a_baseline_is_the_text_that_it_names(setting, baseline, words):
    """F(x') is the plain call on those ids; BERT's positions do not depend on them."""
    model, tokenizer = setting
    ids = tokenizer.convert_tokens_to_ids(words)
    assert tokenizer.unk_token_id not in ids or words[0] == "[UNK]"
    whole = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
    result = ig.attribute(
        model, "a dull film", tokenizer=tokenizer, target=1, baseline=baseline, tol=0.5
    )
    assert result.at_baseline == pytest.approx(at_ids(model, whole), abs=1e-12)
    result = ig.attribute(
        model, "a dull film", tokenizer=tokenizer, target=1, baseline=TokenIds(ids), tol=0.5
    )
    assert result.at_baseline == pytest.approx(at_ids(model, whole), abs=1e-12)


def test_words_that_both_texts_have_get_exactly_zero(setting):
    model, tokenizer = setting
    result = ig.attribute(
        model, "a dull film", tokenizer=tokenizer, target=1, baseline=OtherText("a great film")
    )
    words = dict(zip(result.units.labels, result.scores.tolist(), strict=True))
    assert words["a"] == words["film"] == 0
    assert words["dull"] == pytest.approx(result.delta, rel=1e-2)


def test_one_id_stands_for_all(setting):
    model, tokenizer = setting
    one, all_three = (
        ig.attribute(
            model, "a dull film", tokenizer=tokenizer, target=1, baseline=TokenIds(ids), tol=0.5
        )
        for ids in (7, [7, 7, 7])
    )
    assert one.at_baseline == all_three.at_baseline


def test_a_list_of_baselines_gives_mean_and_spread(setting):
    model, tokenizer = setting
    options = {"tokenizer": tokenizer, "target": 1, "rule": "gauss-legendre", "steps": 20}
    kinds = ["pad", "mask", OtherText("the great film")]
    text = "a dull film"
    together = ig.attribute(model, text, baseline=kinds, **options)
    each = torch.stack([ig.attribute(model, text, baseline=k, **options).scores for k in kinds])
    torch.testing.assert_close(together.scores, each.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(together.spread, each.std(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        (OtherText("a film"), r"in which 3 move \('a film' has 2\)"),
        (TokenIds([5, 6]), r"in which 3 move \(there are 2\)"),
        (TokenIds(10_000), "the vocabulary has the ids 0 to"),
        (TokenIds([-1, 2, 3]), "the vocabulary has the ids 0 to"),
    ],
)
def test_another_text_has_as_many_tokens(setting, baseline, told):
    model, tokenizer = setting
    with pytest.raises(BaselineError, match=told):
        ig.attribute(model, "a dull film", tokenizer=tokenizer, target=1, baseline=baseline)


def test_the_counterfactual_of_a_prompt_leaves_what_was_written_to_the_default():
    tokenizer = byte_level()
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64
    )
    model = transformers.GPT2LMHeadModel(config).eval().double()
    domain = ig.plugins().domain("text")(model, tokenizer=tokenizer)
    example = domain.encode({"text": "a dull film", "generated": " acting acting"})
    generator = torch.Generator()
    other = tokenizer(" film film")["input_ids"]
    count = len(tokenizer("a dull film")["input_ids"])
    ids = (other * count)[:count]
    [start] = TokenIds(ids).starts(example, domain, generator)
    vectors = model.transformer.wte.weight.detach()
    assert torch.equal(start["embeddings"][:count], vectors[ids])
    mean = vectors.mean(0).expand(len(start["embeddings"]) - count, -1)
    torch.testing.assert_close(start["embeddings"][count:], mean, rtol=0, atol=1e-12)
