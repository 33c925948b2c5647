"""What each task explains: the number of the plain call that its target names."""

import math

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import InputError, ModelError, TargetError

transformers = pytest.importorskip("transformers")

from ig_text import cosine_to  # noqa: E402
from ig_text.domain import TextDomain  # noqa: E402

WORDS = ["a", "and", "ann", "came", "city", "dull", "film", "great", "late", "no", "plot", "who"]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
IDS = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 24, "initializer_range": 0.25, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(whole_words):
    chat = "{% for m in messages %}[CLS] {{ m.content }} [SEP] {% endfor %}[CLS]"
    return whole_words(IDS, chat_template=chat)


def make(ending, seed=0, **options):
    torch.manual_seed(seed)
    config = transformers.BertConfig(vocab_size=len(IDS), **SIZES, **options)
    return getattr(transformers, f"Bert{ending}")(config).eval().double()


def plain(model, tokenizer, *texts):
    with torch.no_grad():
        return model(**tokenizer(*texts, return_tensors="pt"))


# -- classification -------------------------------------------------------------------------------


def test_classes_are_named_or_numbered_or_set_against_each_other(tokenizer):
    names = {0: "bad", 1: "fair", 2: "good"}
    model = make("ForSequenceClassification", num_labels=3, id2label=names)
    logits = plain(model, tokenizer, "a dull film").logits[0].tolist()
    options = {"tokenizer": tokenizer, "tol": 0.1}
    for target, value, told in (
        ("good", logits[2], "good"),
        (1, logits[1], "fair"),
        (("good", "bad"), logits[2] - logits[0], "good minus bad"),
        ((0, 2), logits[0] - logits[2], "bad minus good"),
    ):
        result = ig.attribute(model, "a dull film", target=target, **options)
        assert result.at_input == pytest.approx(value, abs=1e-12)
        assert result.display["explained"] == told
    with pytest.raises(TargetError, match=r"one of bad, fair, good \(got 'excellent'\)"):
        ig.attribute(model, "a dull film", target="excellent", **options)


def test_of_labels_that_exclude_nothing_the_most_probable_is_explained(tokenizer):
    kind = {"num_labels": 3, "problem_type": "multi_label_classification"}
    model = make("ForSequenceClassification", **kind)
    result = ig.attribute(model, "a dull film", tokenizer=tokenizer)
    best = plain(model, tokenizer, "a dull film").logits[0].max()
    assert result.at_input == pytest.approx(float(best), abs=1e-12)


def test_a_function_receives_the_classes(tokenizer):
    model = make("ForSequenceClassification", num_labels=3)

    def probability(logits):
        return logits.softmax(1)[:, 2]

    result = ig.attribute(model, "a dull film", tokenizer=tokenizer, target=probability)
    logits = plain(model, tokenizer, "a dull film").logits
    assert result.at_input == pytest.approx(float(probability(logits)), abs=1e-12)
    assert result.display["explained"] == "probability"


def test_a_batch_may_mix_given_targets_and_the_margin(tokenizer):
    model = make("ForSequenceClassification", num_labels=3)
    texts = ["a dull film", "great city"]
    margin, given = ig.attribute(model, texts, tokenizer=tokenizer, target=[None, 0])
    logits = [plain(model, tokenizer, text).logits[0] for text in texts]
    first, second = logits[0].topk(2).values.tolist()
    assert margin.at_input == pytest.approx(first - second, abs=1e-12)
    assert given.at_input == pytest.approx(float(logits[1][0]), abs=1e-12)


# -- tokens ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagger():
    names = {0: "O", 1: "B-PER", 2: "B-LOC"}
    return make("ForTokenClassification", num_labels=3, id2label=names)


def test_a_token_is_named_by_its_word_or_its_place(tagger, tokenizer):
    text = "who came late and ann"
    logits = plain(tagger, tokenizer, text).logits[0]
    options = {"tokenizer": tokenizer, "tol": 0.1}
    for target in (
        ("word", 4, "B-PER"),
        ("word", "ann", 1),
        ("token", 5, "B-PER"),
        ("word", -1, 1),
    ):
        result = ig.attribute(tagger, text, target=target, **options)
        assert result.at_input == pytest.approx(float(logits[5, 1]), abs=1e-12)
        assert result.display["explained"] == "B-PER at 'ann'"
    margin = ig.attribute(tagger, text, target=("word", "ann"), **options)
    first, second = logits[5].topk(2).values.tolist()
    assert margin.at_input == pytest.approx(first - second, abs=1e-12)


def test_taggers_of_ragged_texts_share_a_batch(tagger, tokenizer):
    texts = ["who came late and ann", "ann", "ann came"]
    targets = [("word", "ann", label) for label in ("B-PER", "O", "B-LOC")]
    options = {"tokenizer": tokenizer, "rule": "gauss-legendre", "steps": 12, "tol": 0.5}
    together = ig.attribute(tagger, texts, target=targets, **options)
    for text, target, result in zip(texts, targets, together, strict=True):
        alone = ig.attribute(tagger, text, target=target, **options)
        torch.testing.assert_close(result.values, alone.values, rtol=0, atol=1e-10)


def test_without_a_token_the_error_says_what_the_model_says(tagger, tokenizer):
    said = plain(tagger, tokenizer, "ann came").logits[0].argmax(-1).tolist()
    names = tagger.config.id2label
    with pytest.raises(TargetError) as caught:
        ig.attribute(tagger, "ann came", tokenizer=tokenizer)
    assert f"0: ann {names[said[1]]}, 1: came {names[said[2]]}" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (("word", 5, 0), "has 5 words"),
        (("word", "bob", 0), "must be one word"),
        (("word", "a", 0), "it is 2 of them"),
        (("token", 7, 0), "has 7 tokens"),
        (("word", 0, "B-ORG"), "one of O, B-PER"),
        (("word",), "expected"),
        (3, "say which token"),
    ],
)
def test_tokens_that_are_not_there_are_refused(tagger, tokenizer, target, told):
    with pytest.raises(TargetError, match=told):
        ig.attribute(tagger, "a dull city and a", tokenizer=tokenizer, target=target)


# -- answers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    return make("ForQuestionAnswering", seed=3)


def test_the_best_answer_starts_before_it_ends_in_the_context(reader, tokenizer):
    question, context = "who came late", "a great city and ann came late"
    output = plain(reader, tokenizer, question, context)
    starts, ends = output.start_logits[0], output.end_logits[0]
    places = range(5, 12)
    best, first, last = max(
        (float(starts[i] + ends[j]), i, j) for i in places for j in places if i <= j
    )
    options = {"tokenizer": tokenizer, "tol": 0.1}
    answer = ig.attribute(reader, (question, context), **options)
    words = context.split()[first - 5 : last - 4]
    assert answer.at_input == pytest.approx(best, abs=1e-12)
    assert f"answer {' '.join(words)!r}" in answer.display["explained"]
    assert answer.display["roles"] == ["question", "context"]
    start = ig.attribute(reader, (question, context), target="start", **options)
    end = ig.attribute(reader, question, context=context, target="end", **options)
    assert start.at_input == pytest.approx(float(starts[first]), abs=1e-12)
    assert end.at_input == pytest.approx(float(ends[last]), abs=1e-12)
    torch.testing.assert_close(
        answer.scores.sum(),
        torch.tensor(answer.delta).double(),
        atol=1e-2 * abs(answer.delta),
        rtol=0,
    )


def test_another_answer_is_given_in_words(reader, tokenizer):
    raw = {"question": "who came late", "context": "a great city and ann came late"}
    output = plain(reader, tokenizer, raw["question"], raw["context"])
    result = ig.attribute(reader, raw, tokenizer=tokenizer, target=("answer", "ann came"), tol=0.1)
    expected = float(output.start_logits[0, 9] + output.end_logits[0, 10])
    assert result.at_input == pytest.approx(expected, abs=1e-12)
    with pytest.raises(TargetError, match="does not hold 'bob'"):
        ig.attribute(reader, raw, tokenizer=tokenizer, target=("answer", "bob"))


def test_a_question_needs_a_context(reader, tokenizer):
    with pytest.raises(InputError, match="needs a context"):
        ig.attribute(reader, "who came", tokenizer=tokenizer)


# -- masks ----------------------------------------------------------------------------------------


def test_the_word_behind_a_mask_is_explained(tokenizer):
    model = make("ForMaskedLM")
    text = "a [MASK] film"
    logits = plain(model, tokenizer, text).logits[0, 2]
    options = {"tokenizer": tokenizer, "tol": 0.1}
    log_p = logits - logits.logsumexp(0)
    great = ig.attribute(model, text, target="great", **options)
    assert great.at_input == pytest.approx(float(log_p[IDS["great"]]), abs=1e-12)
    assert list(great.units.labels) == ["a", "film"], "the mask is the question: it stays"
    pair = ig.attribute(model, text, target=("great", "dull"), **options)
    difference = float(logits[IDS["great"]] - logits[IDS["dull"]])
    assert pair.at_input == pytest.approx(difference, abs=1e-12)
    margin = ig.attribute(model, text, **options)
    first, second = logits.topk(2).values.tolist()
    assert margin.at_input == pytest.approx(first - second, abs=1e-12)


def test_of_several_masks_one_is_named(tokenizer):
    model = make("ForMaskedLM")
    text = "[MASK] and a [MASK] film"
    logits = plain(model, tokenizer, text).logits[0, 4]
    result = ig.attribute(model, text, tokenizer=tokenizer, target=("mask", 1, "dull"), tol=0.1)
    expected = float(logits.log_softmax(0)[IDS["dull"]])
    assert result.at_input == pytest.approx(expected, abs=1e-12)
    with pytest.raises(TargetError, match="say which"):
        ig.attribute(model, text, tokenizer=tokenizer)
    with pytest.raises(TargetError, match="no single token"):
        ig.attribute(model, text, tokenizer=tokenizer, target=("mask", 0, "wonderful"))
    with pytest.raises(InputError, match=r"no mask token, '\[MASK\]'"):
        ig.attribute(model, "a film", tokenizer=tokenizer)


# -- sentences ------------------------------------------------------------------------------------


def test_the_likeness_of_two_sentences_is_explained(tokenizer):
    model = make("Model")
    states = [
        plain(model, tokenizer, text).last_hidden_state[0].mean(0)
        for text in ("a dull film", "no plot")
    ]
    expected = float(states[0] @ states[1] / states[0].norm() / states[1].norm())
    for reference in ("no plot", states[1]):
        result = ig.attribute(
            model, "a dull film", tokenizer=tokenizer, head=cosine_to(reference), tol=1e-6
        )
        assert result.at_input == pytest.approx(expected, abs=1e-12)
        assert float(result.scores.sum()) == pytest.approx(result.delta, rel=1e-6)
    assert result.display["explained"] == "cosine to the given embedding"


def test_the_last_token_can_stand_for_the_sentence(tokenizer):
    model = make("Model")
    texts = ["a dull film", "no plot and a city"]
    found = ig.attribute(
        model, texts, tokenizer=tokenizer, head=lambda e: e[:, 0], pool="last", tol=0.5
    )
    for text, result in zip(texts, found, strict=True):
        state = plain(model, tokenizer, text).last_hidden_state[0, -1]
        assert result.at_input == pytest.approx(float(state[0]), abs=1e-12)


def test_a_cosine_needs_something_to_compare_with():
    with pytest.raises(InputError, match="a text or an embedding"):
        cosine_to(3)


# -- continuations --------------------------------------------------------------------------------


class OneByOne(transformers.PreTrainedTokenizer):
    """Words as they are, read by Python code that gives no offsets."""

    def __init__(self):
        names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
        super().__init__(**dict(zip(names, SPECIAL, strict=True)))

    @property
    def vocab_size(self):
        return len(IDS)

    def get_vocab(self):
        return dict(IDS)

    def _tokenize(self, text):
        return text.split()

    def _convert_token_to_id(self, token):
        return IDS.get(token, IDS["[UNK]"])

    def _convert_id_to_token(self, index):
        return list(IDS)[index]

    def convert_tokens_to_string(self, tokens):
        return " ".join(tokens)


def test_what_is_written_counts_its_characters_from_its_own_start():
    model = make("LMHeadModel", is_decoder=True)
    told = {"generated": " dull plot who", "contrast": " dull city who"}
    result = ig.attribute(model, "a film", tokenizer=OneByOne(), task="text-generation", **told)
    assert list(result.units.labels) == ["a", "film", "dull", "plot", "city"]
    assert result.display["generated"]["tokens"] == [" dull", " plot", " who"]
    assert result.display["generated"]["contrast"] == [" dull", " city", " who"]


# -- chats ----------------------------------------------------------------------------------------


def test_the_template_of_a_chat_stays_where_it_is(tokenizer):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(IDS), n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
    )
    model = transformers.GPT2LMHeadModel(config).eval().double()
    messages = [
        {"role": "user", "content": "who came"}, {"role": "assistant", "content": "ann"},
        {"role": "user", "content": "a dull film"},
    ]  # fmt: skip
    raw = {"messages": messages, "generated": " no plot"}
    result = ig.attribute(model, raw, tokenizer=tokenizer, tol=1e-4)
    chat = "[CLS] who came [SEP] [CLS] ann [SEP] [CLS] a dull film [SEP] [CLS] no plot"
    ids = [IDS[token] for token in chat.split()]
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = float(log_p[12, IDS["no"]] + log_p[13, IDS["plot"]])
    assert result.at_input == pytest.approx(expected, abs=1e-10)
    assert list(result.units.labels) == ["who", "came", "ann", "a", "dull", "film", "no"]
    assert result.display["roles"] == ["user", "assistant", "user", "generated"]
    special = torch.tensor([i < 5 for i in ids[:-1]])
    assert bool((result.values[special] == 0).all())


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"messages": []}, "a list of messages"),
        ({"messages": [{"role": "user"}]}, "a 'role' and a 'content'"),
        ({"messages": "hello"}, "a list of messages"),
        ({"text": "a", "generate": "b"}, "knows no 'generate'"),
        ({"pair": "a"}, "needs a 'text', a 'question' or 'messages'"),
        ({"text": "a film", "generated": ""}, "how many tokens"),
        ({"text": "a film", "generated": 0}, "how many tokens"),
        ({"text": "a film", "contrast": 3}, "'contrast' must be a text"),
        ({"text": ["a"]}, "'text' must be a text"),
    ],
)
def test_what_a_mapping_must_not_hold(tokenizer, raw, told):
    config = transformers.GPT2Config(vocab_size=len(IDS), n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    with pytest.raises(InputError, match=told):
        ig.attribute(model, raw, domain="text", tokenizer=tokenizer)


def test_classifiers_have_no_use_for_continuations(tokenizer):
    model = make("ForSequenceClassification")
    with pytest.raises(InputError, match="for language models"):
        ig.attribute(model, "a film", tokenizer=tokenizer, generated=" great")
    with pytest.raises(TargetError, match=r"targets= is a list.*got 'each'"):
        ig.attribute(model, "a film", tokenizer=tokenizer, targets="each")


def test_lists_of_continuations_have_the_length_of_the_batch(tokenizer):
    config = transformers.GPT2Config(vocab_size=len(IDS), n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    with pytest.raises(
        InputError, match=r"generated= needs one text for each of 2 inputs \(got 1\)"
    ):
        ig.attribute(model, ["a film", "a city"], tokenizer=tokenizer, generated=[" great"])


# -- modules outside transformers ------------------------------------------------------------------


class Bag(nn.Module):
    """The sum of what each word is worth; it knows no mask, so padding would count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(len(IDS), 6)
        self.worth = nn.Linear(6, 2, bias=False)

    def forward(self, tokens):
        return self.worth(self.words(tokens)).sum(1)


def encode(text):
    return [IDS[word] for word in text.split()]


def test_a_module_of_ones_own_is_explained_exactly():
    model = Bag().double()
    with torch.no_grad():
        worth = model.worth(model.words.weight)
        mean = worth.mean(0)
    options = {"domain": "text", "encode": encode, "target": 1, "baseline": "mean"}
    texts = ["a dull film", "great", "no plot and no city"]
    for named in ({}, {"embedding": model.words}):
        found = ig.attribute(model, texts, **options, **named)
        for text, result in zip(texts, found, strict=True):
            ids = encode(text)
            assert result.at_input == pytest.approx(float(worth[ids, 1].sum()), abs=1e-12)
            expected = worth[ids, 1] - mean[1]
            torch.testing.assert_close(result.scores, expected, rtol=0, atol=1e-12)
            assert result.units.kind == "token"


def test_an_encoder_of_ones_own_may_tell_where_the_tokens_stand():
    model = Bag().double()

    def located(text):
        starts = [i for i, c in enumerate(text) if i == 0 or text[i - 1] == " "]
        spans = [(i, i + len(word)) for i, word in zip(starts, text.split(), strict=True)]
        return {
            "input_ids": encode(text),
            "offset_mapping": spans,
            "special_tokens_mask": [1, 0, 0],
        }

    result = ig.attribute(
        model, "a dull film", domain="text", encode=located, target=0, baseline="mean"
    )
    assert list(result.units.labels) == ["dull", "film"]
    assert result.units.kind == "word"
    assert bool((result.values[0] == 0).all())


def test_a_mean_over_tokens_without_a_mask_is_not_disturbed_by_longer_texts():
    class Average(Bag):
        def forward(self, tokens):
            return torch.tanh(self.worth(self.words(tokens)).mean(1))

    model = Average().double()
    texts = ["a dull film", "great", "no plot and no city"]
    options = {"domain": "text", "encode": encode, "target": 0, "baseline": "mean"}
    together = ig.attribute(model, texts, **options)
    for text, result in zip(texts, together, strict=True):
        alone = ig.attribute(model, text, **options)
        torch.testing.assert_close(result.values, alone.values, rtol=0, atol=1e-12)
        assert "alone" not in result.reason


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"encode": lambda text: []}, InputError, "at least one"),
        (
            {"encode": lambda text: {"input_ids": [5, 6], "kinds": [1]}},
            InputError,
            "of that length",
        ),
        ({"encode": lambda text: "ab"}, InputError, "must give lists"),
        ({"encode": 3}, InputError, "a function of a text"),
        ({}, InputError, "pass encode="),
        ({"encode": encode, "embedding": "words"}, InputError, "a module of the model"),
        ({"encode": encode, "embedding": nn.Embedding(3, 2)}, InputError, "no part of"),
        ({"encode": encode, "task": "text-generation"}, InputError, "needs tokenizer="),
        ({"encode": encode, "task": "translation"}, InputError, "task must be one of"),
        ({"encode": encode, "task": "feature-extraction"}, InputError, "needs head="),
    ],
)
def test_options_of_a_module_that_do_not_suit_are_refused(options, error, told):
    with pytest.raises(error, match=told):
        ig.attribute(Bag(), "a dull film", domain="text", target=0, **options)


def test_a_model_without_word_embeddings_says_so():
    class OneHot(nn.Module):
        def forward(self, tokens):
            return nn.functional.one_hot(tokens, len(IDS)).float().sum(1)

    with pytest.raises(ModelError, match=r"once \(got none for 'embeddings'\); name it with"):
        ig.attribute(OneHot(), "a film", domain="text", encode=encode, target=0, baseline="mean")


# -- windows --------------------------------------------------------------------------------------


def test_a_long_text_is_the_mean_of_its_windows(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    words = [WORDS[(7 * i) % len(WORDS)] for i in range(40)]
    text = " ".join(words)
    with pytest.raises(InputError, match=r"has 42 tokens, the model takes 24.*window=24"):
        ig.attribute(model, text, tokenizer=tokenizer, target=1)
    options = {"tokenizer": tokenizer, "target": 1, "window": 12, "overlap": 4, "tol": 1e-6}
    result = ig.attribute(model, text, **options)
    windows = [words[begin : begin + 10] for begin in range(0, 36, 6)]
    outputs = [plain(model, tokenizer, " ".join(own)).logits[0, 1] for own in windows]
    assert result.at_input == pytest.approx(float(torch.stack(outputs).mean()), abs=1e-12)
    assert list(result.units.labels) == words
    assert float(result.scores.sum()) == pytest.approx(result.delta, rel=1e-6)
    # Every window's own attribution, divided by their number, summed over the windows of a word.
    expected = torch.zeros(40, dtype=torch.float64)
    for begin, own in zip(range(0, 36, 6), windows, strict=True):
        part = ig.attribute(
            model, " ".join(own), tokenizer=tokenizer, target=1, tol=1e-6, budget=2000
        )
        expected[begin : begin + len(own)] += part.scores / len(windows)
    size = float(expected.abs().sum())
    torch.testing.assert_close(result.scores, expected, rtol=0, atol=4e-6 * size)


def test_texts_in_windows_share_a_batch(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    texts = [" ".join(WORDS * n) for n in (1, 3, 2)]
    options = {"tokenizer": tokenizer, "window": 10, "overlap": 2}
    for text, result in zip(texts, ig.attribute(model, texts, **options), strict=True):
        alone = ig.attribute(model, text, **options)
        torch.testing.assert_close(result.scores, alone.scores, rtol=0, atol=1e-10)


def test_a_short_text_has_one_window(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    one = ig.attribute(model, "a dull film", tokenizer=tokenizer, window=20)
    plainly = ig.attribute(model, "a dull film", tokenizer=tokenizer)
    torch.testing.assert_close(one.scores, plainly.scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"window": 25}, "24 tokens at most"),
        ({"window": 0}, "whole number of at least 1"),
        ({"window": 10, "overlap": -1}, "overlap must be"),
        ({"window": 10, "overlap": 8}, "does not reach beyond an overlap of 8"),
        ({"window": 2}, "does not reach beyond"),
    ],
)
def test_windows_that_cannot_be_are_refused(tokenizer, options, told):
    model = make("ForSequenceClassification", num_labels=2)
    with pytest.raises(InputError, match=told):
        ig.attribute(model, "a dull film", tokenizer=tokenizer, **options)


def test_windows_are_for_one_answer_per_text(tagger, tokenizer):
    with pytest.raises(InputError, match="one answer per text"):
        ig.attribute(tagger, "a film", tokenizer=tokenizer, window=10, target=("word", 0))


# -- the check of the model ------------------------------------------------------------------------


def test_the_model_is_checked_once(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for _ in range(2):
        calls.clear()
        ig.attribute(model, "a film", tokenizer=tokenizer)
        counts.append(len(calls))
    assert counts[0] - counts[1] == 2, "the watched call and the replaced one"
    handle.remove()


def test_a_new_embedding_is_found_again(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    ig.attribute(model, "a film", tokenizer=tokenizer)
    model.resize_token_embeddings(len(IDS) + 3)
    model.double()
    result = ig.attribute(model, "a film", tokenizer=tokenizer, target=0)
    expected = float(plain(model, tokenizer, "a film").logits[0, 0])
    assert result.at_input == pytest.approx(expected, abs=1e-12)


def test_a_model_that_looks_at_its_ids_twice_over_is_caught(tokenizer):
    """A copy of the ids elsewhere would make the replaced call another function."""

    class Peeks(transformers.BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, return_dict=True):
            output = super().forward(input_ids, attention_mask, return_dict=True)
            own = self.get_input_embeddings().weight[input_ids]
            live = self.bert.embeddings.word_embeddings(input_ids)
            output.logits = output.logits + (live - own).square().sum()
            return output

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(IDS), **SIZES)
    with pytest.raises(ModelError, match="once"):
        ig.attribute(Peeks(config).eval(), "a film", tokenizer=tokenizer)


def test_nothing_is_left_after_an_exception_inside_the_model(tokenizer):
    model = make("ForSequenceClassification", num_labels=2)
    broken = model.classifier.forward

    def fails(*args):
        raise RuntimeError("out of order")

    model.classifier.forward = fails
    with pytest.raises(ig.ForwardError, match="out of order"):
        ig.attribute(model, "a film", tokenizer=tokenizer)
    model.classifier.forward = broken
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert math.isfinite(ig.attribute(model, "a film", tokenizer=tokenizer).delta)


def test_the_domain_says_what_it_explains(tokenizer):
    assert TextDomain(make("ForMaskedLM"), tokenizer=tokenizer).task.name == "fill-mask"
