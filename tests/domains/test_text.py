"""Text: the embedding path, its words and baselines, against plain calls, Captum and by hand."""

import random

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import (
    BaselineError,
    ForwardError,
    InputError,
    ModelError,
    OutputError,
    TargetError,
)
from ig_core.rows import Batch

transformers = pytest.importorskip("transformers")

from ig_text.domain import TextDomain  # noqa: E402

TEXT = "a dull film with great actor and no plot at all the wonderful story of one city"
WORDS = sorted(set(TEXT.split()))
PIECES = ["##s", "##less", "##ly", ".", ",", "!"]
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "initializer_range": 0.25,
}  # fmt: skip
ENCODERS = ["bert", "roberta", "distilbert", "albert"]
CLASSIFIERS = [*ENCODERS, "gpt2"]


def make_tokenizer(pad=0, **options):
    """WordPiece with the given id of the pad token, and templates for texts and pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special.insert(pad, "[PAD]")
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS, *PIECES])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", **options}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", **names
    )


def make(kind, labels=3, seed=0):
    """A tiny random classifier of one architecture, and its tokenizer."""
    tokenizer = make_tokenizer(pad=1 if kind == "roberta" else 0)
    common = {
        "vocab_size": len(tokenizer), "num_labels": labels, "pad_token_id": tokenizer.pad_token_id
    }  # fmt: skip
    distil = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.1}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.25}
    family, sizes = {
        "bert": ("Bert", SIZES),
        "roberta": ("Roberta", SIZES),
        "distilbert": ("DistilBert", distil),
        "albert": ("Albert", {**SIZES, "embedding_size": 16}),
        "gpt2": ("GPT2", gpt2),
    }[kind]
    config = getattr(transformers, f"{family}Config")(**common, **sizes)
    torch.manual_seed(seed)
    return getattr(transformers, f"{family}ForSequenceClassification")(config).eval(), tokenizer


def bart_config(words):
    return transformers.BartConfig(
        vocab_size=words, pad_token_id=0, d_model=16, scale_embedding=True, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.2,
    )  # fmt: skip


@pytest.fixture(params=CLASSIFIERS)
def any_classifier(request):
    return make(request.param)


@pytest.fixture
def bert():
    return make("bert")


@pytest.fixture
def encoder(bert):
    return bert[0].bert, bert[1]


def logits(model, tokenizer, *texts):
    """The plain call's logits of one text or pair, with what this architecture accepts."""
    batch = tokenizer(*texts, return_tensors="pt")
    if not isinstance(model, (transformers.BertForSequenceClassification, transformers.BertModel)):
        batch.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**batch).logits[0]


def ragged(count):
    """Texts of very different lengths."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=1 + (7 * i) % 40)) for i in range(count)]


# -- the number that is explained -----------------------------------------------------------------


def test_replaced_embeddings_give_the_plain_call(any_classifier):
    model, tokenizer = any_classifier
    texts = ["a dull film with no plot", ("a great city", "no actors at all")]
    for target in range(3):
        found = ig.attribute(model, texts, tokenizer=tokenizer, target=target, tol=0.1)
        for text, result in zip(texts, found, strict=True):
            pair = text if isinstance(text, tuple) else (text,)
            plain = float(logits(model, tokenizer, *pair)[target])
            assert result.at_input == pytest.approx(plain, abs=2e-6)


def test_without_a_target_the_margin_over_the_runner_up_is_explained(bert):
    model, tokenizer = bert
    result = ig.attribute(model, "a great story", tokenizer=tokenizer)
    first, second, _ = logits(model, tokenizer, "a great story").sort(descending=True).values
    assert result.at_input == pytest.approx(float(first - second), abs=2e-6)
    assert result.display["explained"] in {
        f"LABEL_{a} (predicted) minus LABEL_{b}" for a in range(3) for b in range(3) if a != b
    }


def test_the_margin_is_the_difference_of_its_two_logits(bert):
    model, tokenizer = bert
    text = "a great story of one city"
    first, second = logits(model, tokenizer, text).topk(2).indices.tolist()
    options = {"tokenizer": tokenizer, "rule": "gauss-legendre", "steps": 24}
    margin = ig.attribute(model, text, **options)
    one = ig.attribute(model, text, target=first, **options)
    other = ig.attribute(model, text, target=second, **options)
    assert torch.allclose(margin.values, one.values - other.values, atol=2e-6)


def test_a_single_output_is_explained_as_it_is():
    model, tokenizer = make("bert", labels=1)
    result = ig.attribute(model, "a dull plot", tokenizer=tokenizer)
    assert result.at_input == pytest.approx(
        float(logits(model, tokenizer, "a dull plot")), abs=2e-6
    )


def test_each_example_may_have_its_own_target(bert):
    model, tokenizer = bert
    texts = ["a dull plot", "a great film", "no story"]
    found = ig.attribute(model, texts, tokenizer=tokenizer, target=[2, 0, 1], tol=0.1)
    plain = [float(logits(model, tokenizer, t)[c]) for t, c in zip(texts, [2, 0, 1], strict=True)]
    assert [r.at_input for r in found] == pytest.approx(plain, abs=2e-6)


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_a_head_explains_an_encoder_by_its_sentence_embedding(encoder, pool):
    model, tokenizer = encoder
    batch = tokenizer("a great film", return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state[0]
    sentence = states.mean(0) if pool == "mean" else states[0]
    direction = torch.linspace(-1, 1, 32)
    texts = ["a great film", "a dull story with no plot at all"]
    found = ig.attribute(
        model, texts, tokenizer=tokenizer, pool=pool, head=lambda e: e @ direction, tol=0.05
    )
    assert found[0].at_input == pytest.approx(float(sentence @ direction), abs=2e-5)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_the_encoder_of_an_encoder_decoder_model_is_explained(kind):
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    if kind == "bart":
        model = transformers.BartModel(bart_config(len(tokenizer))).get_encoder().eval()
    else:
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        config = transformers.T5Config(vocab_size=len(tokenizer), **sizes)
        model = transformers.T5EncoderModel(config).encoder.eval()
    ids = tokenizer("a great film", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        plain = float(model(input_ids=ids).last_hidden_state[0].mean(0)[3])
    options = {"tokenizer": tokenizer, "baseline": "pad", "budget": 2048}
    result = ig.attribute(model, "a great film", head=lambda e: e[:, 3], **options)
    assert result.at_input == pytest.approx(plain, abs=2e-6)


# -- the attributions -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_values_agree_with_captum(kind):
    from captum.attr import LayerIntegratedGradients

    model, tokenizer = make(kind)
    text = "a dull films with no plot , the actors great"
    batch = tokenizer(text, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    special = torch.tensor(
        tokenizer.get_special_tokens_mask(ids[0].tolist(), already_has_special_tokens=True)
    ).bool()
    start = torch.where(special, ids, tokenizer.pad_token_id)
    peer = LayerIntegratedGradients(
        lambda i, m: model(input_ids=i, attention_mask=m).logits, model.get_input_embeddings()
    )
    expected = peer.attribute(
        ids, start, target=1, additional_forward_args=(mask,), n_steps=40, method="gausslegendre"
    )[0]
    result = ig.attribute(
        model, text, tokenizer=tokenizer, target=1, rule="gauss-legendre", steps=40
    )
    assert result.values.shape == expected.shape
    assert float((result.values - expected).abs().max()) < 1e-6


# The head of DistilBERT has a ReLU: its kinks make the integral converge slowly.
@pytest.mark.parametrize(
    ("kind", "tol"),
    [("bert", 1e-7), ("roberta", 1e-7), ("albert", 1e-7), ("gpt2", 1e-7), ("distilbert", 1e-3)],
)
def test_values_sum_to_the_difference_of_the_outputs(kind, tol):
    model, tokenizer = make(kind)
    text = "a dull film with no plot at all"
    result = ig.attribute(model.double(), text, tokenizer=tokenizer, budget=2048, tol=tol)
    assert result.status == "converged"
    assert float(result.scores.sum()) == pytest.approx(result.delta, abs=tol * abs(result.delta))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_packed_batch_of_ragged_texts_gives_what_single_calls_give(kind):
    model, tokenizer = make(kind)
    texts = ragged(32)
    packed = ig.attribute(model, texts, tokenizer=tokenizer)
    for text, together in zip(texts, packed, strict=True):
        alone = ig.attribute(model, text, tokenizer=tokenizer)
        assert together.values.shape == alone.values.shape
        assert float((together.values - alone.values).abs().max()) < 2e-5


def test_special_tokens_get_exactly_zero(any_classifier):
    model, tokenizer = any_classifier
    for baseline in ("pad", "mask", "mean", "zeros"):
        result = ig.attribute(
            model, ("a dull film", "no plot"), tokenizer=tokenizer, baseline=baseline
        )
        special = torch.tensor(
            [t in ("[CLS]", "[SEP]") for t in result.display["tokens"]["embeddings"]]
        )
        assert special.sum() == 3
        assert bool((result.values[special] == 0).all())
        assert bool((result.values[~special].abs().sum(1) > 0).all())


def test_padding_gets_exactly_zero_gradient(any_classifier):
    model, tokenizer = any_classifier
    domain = TextDomain(model, tokenizer=tokenizer)
    with domain.prepared():
        examples = [domain.encode(text, 1) for text in ("a dull film", "no plot " * 12)]
        batch = Batch(examples, domain.layouts, torch.device("cpu"))
        points = batch.inputs["embeddings"].values.clone().requires_grad_()
        rows = batch.rows(torch.arange(2), {"embeddings": points})
        domain.forward(rows).sum().backward()
    assert points.grad is not None
    assert bool((points.grad[0, 5:] == 0).all())
    assert float(points.grad[0, :5].abs().sum()) > 0


def test_the_baseline_does_not_move_the_positions_of_roberta():
    model, tokenizer = make("roberta")
    seen = []
    positions = model.roberta.embeddings.position_embeddings
    handle = positions.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    text = "a dull film with no plot"
    result = ig.attribute(model, text, tokenizer=tokenizer, target=0)
    handle.remove()
    assert {tuple(row) for call in seen for row in call.tolist()} == {(2, 3, 4, 5, 6, 7, 8, 9)}

    domain = TextDomain(model, tokenizer=tokenizer)
    example = domain.encode(text, 0)
    start = example.inputs["embeddings"].clone()
    start[1:-1] = domain.baseline(example)["embeddings"][1:-1]
    with torch.no_grad():
        by_hand = model(inputs_embeds=start[None], position_ids=torch.arange(2, 10)[None]).logits
    assert result.at_baseline == pytest.approx(float(by_hand[0, 0]), abs=2e-6)


# -- baselines ------------------------------------------------------------------------------------


def test_baselines_put_one_vector_at_every_token_but_the_special_ones(bert):
    model, tokenizer = bert
    weight = model.bert.embeddings.word_embeddings.weight.detach()
    domain = TextDomain(model, tokenizer=tokenizer)
    example = domain.encode("a dull film", 0)
    expected = {
        "pad": weight[tokenizer.pad_token_id],
        "mask": weight[tokenizer.mask_token_id],
        "mean": weight.mean(0),
        "zeros": torch.zeros(32),
    }
    for name, vector in expected.items():
        [[start]] = ig.prepare(domain, ["a dull film"], target=0, baseline=name).starts
        assert torch.allclose(start["embeddings"][1:4], vector.expand(3, -1), atol=1e-7), name
        assert torch.equal(start["embeddings"][[0, 4]], example.inputs["embeddings"][[0, 4]])
    assert torch.equal(domain.baseline(example)["embeddings"][1:4], expected["pad"].expand(3, -1))
    assert domain.baseline_name == "pad"


def test_without_a_pad_token_the_path_starts_at_the_mean_embedding():
    model, _ = make("bert")
    tokenizer = make_tokenizer(pad_token=None)
    domain = TextDomain(model, tokenizer=tokenizer)
    assert domain.baseline_name == "mean"
    start = domain.baseline(domain.encode("a film", 0))["embeddings"]
    mean = model.bert.embeddings.word_embeddings.weight.detach().mean(0)
    assert torch.allclose(start[1:3], mean.expand(2, -1), atol=1e-7)


def test_several_baselines_are_averaged_and_their_spread_is_told(bert):
    model, tokenizer = bert
    options = {"tokenizer": tokenizer, "target": 0, "rule": "gauss-legendre", "steps": 24}
    text = "a dull film"
    pad, mask = (ig.attribute(model, text, baseline=b, **options) for b in ("pad", "mask"))
    both = ig.attribute(model, text, baseline=["pad", "mask"], **options)
    assert torch.allclose(both.values, (pad.values + mask.values) / 2, atol=1e-6)
    assert torch.allclose(both.spread, torch.stack([pad.scores, mask.scores]).std(0), atol=1e-6)


# -- units and views ------------------------------------------------------------------------------


def test_words_sum_to_their_tokens_exactly(bert):
    model, tokenizer = bert
    result = ig.attribute(model, "A plotless, greatly dull films!".lower(), tokenizer=tokenizer)
    assert result.display["tokens"]["embeddings"] == [
        "[CLS]", "a", "plot", "##less", ",", "great", "##ly", "dull", "film", "##s", "!", "[SEP]",
    ]  # fmt: skip
    assert list(result.units.labels) == ["a", "plotless", ",", "greatly", "dull", "films", "!"]
    tokens = result.values.double().sum(1)
    parts = [[1], [2, 3], [4], [5, 6], [7], [8, 9], [10]]
    assert result.scores.tolist() == [sum(tokens[i].item() for i in part) for part in parts]


def test_words_of_a_pair_are_read_one_text_after_the_other(bert):
    model, tokenizer = bert
    result = ig.attribute(model, ("great films", "films"), tokenizer=tokenizer)
    assert list(result.units.labels) == ["great", "films", "films"]
    assert result.units.index["embeddings"].tolist() == [-1, 0, 1, 1, -1, 2, 2, -1]


def test_white_space_parts_words_where_the_tokenizer_knows_none(bert):
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = ["[UNK]", "[PAD]", "▁great", "▁film", "s", "▁"]
    backend = Tokenizer(models.Unigram([(p, -1.0) for p in pieces], unk_id=0))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]"
    )
    result = ig.attribute(bert[0], "great films  great", tokenizer=tokenizer, target=0)
    assert list(result.units.labels) == ["great", "films", "great"]


def test_words_are_sought_where_the_tokenizer_has_no_offsets():
    tokenizer = transformers.ByT5Tokenizer()
    config = transformers.BertConfig(vocab_size=len(tokenizer), **SIZES)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    result = ig.attribute(model, "a film", tokenizer=tokenizer, target=0)
    assert list(result.units.labels) == ["a", "film"]
    assert result.units.index["embeddings"].tolist() == [0, 1, 1, 1, 1, 1, -1]
    # What the tokenizer spells otherwise than the text is not found: the tokens are the units.
    result = ig.attribute(model, "é", tokenizer=tokenizer, target=0)
    assert result.units.kind == "token"
    assert len(result.units) == 2


def test_a_page_escapes_the_text(bert):
    model, tokenizer = bert
    result = ig.attribute(model, "<script>alert(1)</script> film", tokenizer=tokenizer)
    page = result.to_html()
    assert "<script" not in page
    assert "&lt;" in page
    assert "LABEL_" in page


def test_plain_text_shows_the_words_in_reading_order(bert):
    model, tokenizer = bert
    result = ig.attribute(model, "no great \x1b[31mplot at all", tokenizer=tokenizer)
    first = result.to_text().split("\n\n")[0]
    words = [word.rpartition("[")[0] for word in first.split()]
    assert words == [label.replace("\x1b", "\N{REPLACEMENT CHARACTER}") for label in
                     result.units.labels]  # fmt: skip
    assert f"great[{float(result.scores[1]):+.2g}]" in first
    assert result.to_text().count(result.display["explained"]) == 1


def test_classes_have_the_names_of_the_config_or_the_given_ones(bert, encoder):
    model, tokenizer = bert
    model.config.id2label = {0: "bad", 1: "so-so", 2: "good"}
    told = ig.attribute(model, "a film", tokenizer=tokenizer, target=2).display["explained"]
    assert told == "good"
    options = {"tokenizer": tokenizer, "class_names": ["x", "y", "z"]}
    assert ig.attribute(model, "a film", target=0, **options).display["explained"] == "x"
    head = nn.Linear(32, 2)
    options = {"tokenizer": tokenizer, "head": head, "class_names": ("down", "up")}
    states = encoder[0](**tokenizer("a film", return_tensors="pt")).last_hidden_state.mean(1)
    expected = ("up (predicted) minus down", "down (predicted) minus up")
    told = ig.attribute(encoder[0], "a film", **options).display["explained"]
    assert told == expected[int(head(states).argmax() == 0)]
    with pytest.raises(InputError, match=r"class_names must hold 2 names.*\(got 1\)"):
        ig.attribute(encoder[0], "a film", **{**options, "class_names": ["up"]})
    with pytest.raises(InputError, match="class_names must be a list of strings"):
        ig.attribute(encoder[0], "a film", **{**options, "class_names": "up"})


# -- the user's model and tokenizer ---------------------------------------------------------------


def state(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.get_rng_state(),
    )


def same(before, after):
    tensors = all(torch.equal(before[0][n], after[0][n]) for n in before[0])
    return tensors and before[1:4] == after[1:4] and torch.equal(before[4], after[4])


def test_the_model_is_left_as_it_was_found(bert):
    model, tokenizer = bert
    model.train()
    model.bert.embeddings.eval()
    model.classifier.weight.requires_grad_(False)
    before = state(model)
    ig.attribute(model, ["a dull film", "a great plot"], tokenizer=tokenizer)
    assert same(before, state(model))


def test_no_hook_is_left_after_an_exception(encoder):
    model, tokenizer = encoder
    model.train()
    before = state(model)
    calls = []

    def failing(sentence):
        calls.append(len(sentence))
        if len(calls) > 2:
            raise RuntimeError("the head is broken")
        return sentence.sum(1)

    with pytest.raises(ModelError, match="the head is broken"):
        ig.attribute(model, "a dull film", tokenizer=tokenizer, head=failing)
    assert same(before, state(model))


def test_dropout_of_a_model_in_training_mode_plays_no_part(bert):
    model, tokenizer = bert
    expected = ig.attribute(model, "a dull film", tokenizer=tokenizer)
    model.train()
    again = ig.attribute(model, "a dull film", tokenizer=tokenizer)
    assert torch.equal(expected.values, again.values)


def test_a_head_with_parameters_is_frozen_and_restored(encoder):
    model, tokenizer = encoder
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, 2))
    results = [ig.attribute(model, "a film", tokenizer=tokenizer, head=head) for _ in range(2)]
    assert torch.equal(results[0].values, results[1].values)
    assert head.training and head[1].weight.requires_grad and head[1].weight.grad is None


# -- what is guessed, and what is refused ---------------------------------------------------------


def test_texts_on_a_module_are_guessed(bert):
    model, _ = bert
    for raw in ("a film", ("a film", "no plot"), ["a film", ("a", "b")], []):
        assert ig.plugins().guess(model, raw) is TextDomain
    for other in (torch.ones(1, 3), 3, ("a", "b", "c"), [torch.ones(2)]):
        assert not TextDomain.accepts(model, other)
    assert TextDomain.accepts(nn.Linear(2, 2), "a film")
    assert not TextDomain.accepts(nn.Linear(2, 2), [])
    assert not TextDomain.accepts(len, "a film")


def test_an_empty_list_gives_an_empty_list(bert):
    assert ig.attribute(bert[0], [], tokenizer=bert[1]) == []


@pytest.mark.parametrize("raw", ["", "  \n", ("a film", ""), ["a film", " "]])
def test_an_empty_text_is_refused(bert, raw):
    with pytest.raises(InputError, match="empty"):
        ig.attribute(bert[0], raw, tokenizer=bert[1])


@pytest.mark.parametrize("raw", [3, None, ("a", "b", "c"), ("a", 3), ["a", b"b"]])
def test_what_is_no_text_is_refused(bert, raw):
    with pytest.raises(InputError, match="expected a text, a tuple of two texts, or a mapping"):
        ig.attribute(bert[0], raw, domain="text", tokenizer=bert[1])


@pytest.mark.parametrize(("kind", "most"), [("bert", 64), ("roberta", 62), ("gpt2", 64)])
def test_a_text_that_is_too_long_is_refused_and_never_cut(kind, most):
    model, tokenizer = make(kind)
    tokenizer.backend_tokenizer.enable_truncation(4)
    fits = ig.attribute(model, "film " * (most - 2), tokenizer=tokenizer, target=0, method="random")
    assert len(fits.values) == most
    with pytest.raises(InputError, match=f"has {most + 1} tokens, the model takes {most}"):
        ig.attribute(model, "film " * (most - 1), tokenizer=tokenizer, target=0)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(bert):
    model, tokenizer = bert
    tokenizer.add_tokens(["zebra"])
    assert ig.attribute(model, "a film", tokenizer=tokenizer).converged
    with pytest.raises(InputError, match=r"larger than the model's, .* for 'zebra'"):
        ig.attribute(model, "a zebra film", tokenizer=tokenizer)
    small = transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=8, **SIZES)
    )
    with pytest.raises(InputError, match="larger than the model's, 8"):
        ig.attribute(small.eval(), "a film", tokenizer=tokenizer)


def test_a_head_answers_once_per_text(encoder):
    model, tokenizer = encoder
    head = nn.Linear(32, 1)
    options = {"tokenizer": tokenizer, "target": None, "tol": 0.1}
    squeezed = ig.attribute(model, [TEXT, "a film"], head=lambda e: head(e).squeeze(), **options)
    plain = ig.attribute(model, [TEXT, "a film"], head=head, **options)
    for a, b in zip(squeezed, plain, strict=True):
        torch.testing.assert_close(a.scores, b.scores)
    for wrong in (lambda e: head(e).sum(), lambda e: head(e)[:0], lambda e: 3.0):
        with pytest.raises(OutputError, match="head must give one answer per text"):
            ig.attribute(model, [TEXT, "a film"], head=wrong, **options)


def test_half_of_a_surrogate_pair_is_refused(bert):
    with pytest.raises(InputError, match=r"'\\ud83d' at character 2"):
        ig.attribute(bert[0], "a \ud83d film", tokenizer=bert[1])


def test_a_model_that_raises_on_its_first_call_is_a_forward_error(encoder):
    def failing(sentence):
        raise ArithmeticError("no")

    with pytest.raises(ig.ForwardError, match="raised ArithmeticError on 'a film': no"):
        ig.attribute(encoder[0], "a film", tokenizer=encoder[1], head=failing)


def test_the_tokenizer_may_allow_less_than_the_model(bert):
    with pytest.raises(InputError, match="has 5 tokens, the model takes 4"):
        ig.attribute(bert[0], "a dull film", tokenizer=make_tokenizer(model_max_length=4))


def test_targets_out_of_range_or_mixed_are_refused(bert):
    model, tokenizer = bert
    with pytest.raises(TargetError, match=r"a number from 0 to 2, or one of LABEL_0.*got 3"):
        ig.attribute(model, "a film", tokenizer=tokenizer, target=3)
    with pytest.raises(TargetError, match="all indices, all None"):
        ig.attribute(model, ["a film", "a plot"], tokenizer=tokenizer, target=[torch.sum, 1])


def test_options_that_do_not_suit_are_refused(bert):
    model, tokenizer = bert
    with pytest.raises(InputError, match="tokenizer"):
        ig.attribute(model, "a film")
    with pytest.raises(InputError, match="must be the model's tokenizer"):
        ig.attribute(model, "a film", tokenizer=str.split)
    with pytest.raises(InputError, match="pool must be"):
        ig.attribute(model.bert, "a film", tokenizer=tokenizer, head=torch.sum, pool="max")
    with pytest.raises(InputError, match="head must be a function"):
        ig.attribute(model.bert, "a film", tokenizer=tokenizer, head=1)
    with pytest.raises(InputError, match="pass head="):
        ig.attribute(model.bert, "a film", tokenizer=tokenizer)
    with pytest.raises(InputError, match="for encoders only"):
        ig.attribute(model, "a film", tokenizer=tokenizer, head=torch.sum)


def test_models_of_another_kind_are_refused(bert):
    _, tokenizer = bert
    with pytest.raises(
        InputError, match=r"expected a torch module that reads ids \(got function\)"
    ):
        TextDomain(lambda ids: ids, tokenizer=tokenizer)
    with pytest.raises(ForwardError, match="the model raised"):
        ig.attribute(nn.Linear(2, 2), "a film", domain="text", tokenizer=tokenizer)
    config = transformers.BertConfig(vocab_size=len(tokenizer), **SIZES)
    tagger = transformers.BertForTokenClassification(config).eval()
    with pytest.raises(OutputError, match="one answer per text"):
        ig.attribute(tagger, "a film", tokenizer=tokenizer, task="text-classification")


def test_a_model_that_reads_its_words_twice_is_refused(bert):
    _, tokenizer = bert

    class Twice(transformers.BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, return_dict=True):
            plain = super().forward(input_ids, attention_mask, return_dict=True)
            plain.logits = plain.logits + self.get_input_embeddings()(input_ids).sum()
            return plain

    config = transformers.BertConfig(vocab_size=len(tokenizer), **SIZES)
    with pytest.raises(ModelError, match=r"once \(got Embedding, Embedding for"):
        ig.attribute(Twice(config).eval(), "a film", tokenizer=tokenizer)


@pytest.mark.parametrize("name", ["pad", "mask"])
def test_a_baseline_that_the_tokenizer_lacks_is_refused(bert, name):
    tokenizer = make_tokenizer(**{f"{name}_token": None})
    with pytest.raises(BaselineError, match=f"no {name} token"):
        ig.attribute(bert[0], "a film", tokenizer=tokenizer, baseline=name)
