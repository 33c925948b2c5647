"""Texts and language models as they should not be: named errors, and no wrong number in silence."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core import BaselineError, ForwardError, InputError, ModelError, TargetError

transformers = pytest.importorskip("transformers")

from ig_text import NeutralText, OtherText, TokenIds  # noqa: E402

WORDS = ["a", "and", "city", "dull", "film", "great", "no", "plot", "user", "who"]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
IDS = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 24, "initializer_range": 0.25, "pad_token_id": 1,
}  # fmt: skip
TEXTS = ["a dull film and no plot", "great", "a great city"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, IDS[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=(
            "{% for m in messages %}[CLS] {{ m.role }} {{ m.content | trim }} [SEP] {% endfor %}"
            "[CLS]"
        ),
        **dict(zip(names, SPECIAL, strict=True)),
    )


def make(ending="ForSequenceClassification", family="Bert", **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(vocab_size=len(IDS), **SIZES | options)
    return getattr(transformers, f"{family}{ending}")(config).eval().double()


def make_gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(IDS), n_embd=32, n_layer=2, n_head=4, n_positions=24, initializer_range=0.3
    )
    return transformers.GPT2LMHeadModel(config).eval().double()


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"text": None}, r"one of these only.*\(got none\)"),
        ({"text": "a", "messages": [{"role": "user", "content": "b"}]}, "got text, messages"),
        ({"text": "a", "question": "who", "context": "b"}, "got text, question, context"),
        ({"text": "a", "context": "b"}, "got text, context"),
        ({"messages": [{"role": "user", "content": " "}]}, "no message says anything"),
    ],
)
def test_a_mapping_says_one_thing(tokenizer, raw, told):
    with pytest.raises(InputError, match=told):
        ig.attribute(make_gpt(), raw, domain="text", tokenizer=tokenizer)


def test_a_context_is_for_no_chat(tokenizer):
    raw = {"messages": [{"role": "user", "content": "who"}]}
    with pytest.raises(InputError, match="context= is for one question"):
        ig.attribute(make_gpt(), raw, domain="text", tokenizer=tokenizer, context="a film")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"generated": "  "}, r"finds no token behind the prompt.*got '  '"),
        ({"generated": " [SEP]"}, r"finds no token behind the prompt.*got ' \[SEP\]'"),
        ({"generated": " film", "contrast": ""}, "'contrast' must be another continuation"),
        ({"generated": " film", "contrast": " "}, r"finds no token behind the prompt"),
    ],
)
def test_a_continuation_has_tokens(tokenizer, options, told):
    with pytest.raises(InputError, match=told):
        ig.attribute(make_gpt(), "a dull", tokenizer=tokenizer, **options)


def test_more_tokens_than_the_model_has_places_for_are_an_error_of_ours(tokenizer):
    with pytest.raises(ForwardError, match=r"while it generated 300 tokens.*ask for fewer"):
        ig.attribute(make_gpt(), "a dull", tokenizer=tokenizer, generated=300)


def test_a_special_token_inside_a_continuation_is_not_said_to_be_explained(tokenizer):
    model = make_gpt()
    found = ig.attribute(
        model, "a dull", tokenizer=tokenizer, generated=" film [SEP] city", targets="each"
    )
    assert [r.display["explained"] for r in found] == ["log p(' film')", "log p(' city')"]
    ids = torch.tensor([[IDS[w] for w in ("[CLS]", "a", "dull", "film", "[SEP]")]])
    with torch.no_grad():
        log_p = model(input_ids=ids).logits[0, -1].log_softmax(-1)
    assert found[1].at_input == pytest.approx(float(log_p[IDS["city"]]), abs=1e-10)


def test_a_message_may_be_a_word_of_the_template(tokenizer):
    raw = {"messages": [{"role": "user", "content": "user"}, {"role": "film", "content": "film"}]}
    result = ig.attribute(make_gpt(), {**raw, "generated": " city"}, tokenizer=tokenizer)
    # [CLS] user user [SEP] [CLS] film film [SEP] [CLS]: only the second of each is a message.
    moved = result.values.abs().sum(1) > 0
    assert moved.tolist() == [False, False, True, False, False, False, True, False, False]
    assert list(result.units.labels) == ["user", "film"]


def test_windows_are_for_one_text(tokenizer):
    model = make()
    with pytest.raises(InputError, match=r"windows are for one text.*'text' and 'text pair'"):
        ig.attribute(model, ("a dull film", "no plot"), tokenizer=tokenizer, window=6)
    with pytest.raises(InputError, match=r"overlap= needs window=.*\(got 2\)"):
        ig.attribute(model, "a dull film", tokenizer=tokenizer, overlap=2)


# -- targets --------------------------------------------------------------------------------------


def test_white_space_is_no_answer(tokenizer):
    model = make("ForQuestionAnswering")
    with pytest.raises(TargetError, match="does not hold ' '"):
        ig.attribute(
            model, ("who", "a city"), tokenizer=tokenizer, domain="text", target=("answer", " ")
        )


def test_masks_are_counted_with_numbers(tokenizer):
    with pytest.raises(TargetError, match=r"has 2 masks, counted from 0.*True"):
        ig.attribute(
            make("ForMaskedLM"), "a [MASK] film [MASK]", tokenizer=tokenizer,
            target=("mask", True, "dull"),
        )  # fmt: skip


def test_a_tagger_with_one_label_has_no_runner_up(tokenizer):
    model = make("ForTokenClassification", num_labels=1)
    result = ig.attribute(model, "a dull film", tokenizer=tokenizer, target=("word", 1))
    with torch.no_grad():
        logits = model(**tokenizer("a dull film", return_tensors="pt")).logits
    assert result.at_input == pytest.approx(float(logits[0, 2, 0]), abs=1e-12)


# -- baselines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_baseline", "told"),
    [
        (lambda: NeutralText(""), "finds no token in ''"),
        (lambda: NeutralText(3), "a text is needed"),
        (lambda: OtherText(None), "a text is needed"),
        (lambda: TokenIds(3.5), r"the ids 0 to 14 \(got 3.5\)"),
        (lambda: TokenIds(True), r"the ids 0 to 14 \(got True\)"),
        (lambda: TokenIds([True, 1, 1]), r"the ids 0 to 14 \(got True\)"),
        (lambda: TokenIds(torch.tensor([5, 99, 5])), r"the ids 0 to 14 \(got 99\)"),
    ],
)
def test_baselines_that_are_no_text_are_refused(tokenizer, make_baseline, told):
    with pytest.raises(BaselineError, match=told):
        ig.attribute(make(), "a dull film", tokenizer=tokenizer, baseline=make_baseline())


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.weight.data.mul_(2),  # which torch does not count
        lambda table: setattr(table.weight, "data", table.weight.data * 2),
        lambda table: table.load_state_dict({"weight": table.weight * 2}),
    ],
)
def test_a_changed_table_has_another_mean(tokenizer, change):
    model = make()
    words = model.get_input_embeddings()
    options = {"tokenizer": tokenizer, "target": 1, "baseline": "mean"}
    ig.attribute(model, "a dull film", **options)
    change(words)
    result = ig.attribute(model, "a dull film", **options)
    with torch.no_grad():
        vectors = words(tokenizer("a dull film", return_tensors="pt").input_ids)
        vectors[:, 1:-1] = words.weight.mean(0)
        expected = float(model(inputs_embeds=vectors).logits[0, 1])
    assert result.at_baseline == pytest.approx(expected, abs=1e-10)


def test_ranges_of_another_kind_are_refused(tokenizer):
    result = ig.attribute(make(), "a dull film", tokenizer=tokenizer)
    for by in (torch.tensor([[0, 6]]).numpy(), [(True, 3)], [(0, 1.5)]):
        with pytest.raises(InputError, match=r"character"):
            result.by(by)


# -- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("generated", [" film and no", " film"])
def test_a_model_that_reads_what_comes_after_is_no_language_model(tokenizer, generated):
    """BERT with a language head attends to both sides unless its config says that it is a decoder.

    The log-probability of a token would be that of one who has read it.
    """
    options = {"tokenizer": tokenizer, "generated": generated, "baseline": "mask"}
    with pytest.raises(ModelError, match=r"no causal language model.*is_decoder=True"):
        ig.attribute(make("LMHeadModel"), "a dull", **options)
    model = make("LMHeadModel", is_decoder=True)
    result = ig.attribute(model, "a dull", **options)
    ids = torch.tensor([[IDS[w] for w in ("[CLS]", "a", "dull", *generated.split())]])
    with torch.no_grad():
        log_p = model(input_ids=ids).logits[0].log_softmax(-1)
    expected = sum(float(log_p[place - 1, ids[0, place]]) for place in range(3, ids.shape[1]))
    assert result.at_input == pytest.approx(expected, abs=1e-10)


def test_a_model_of_characters_is_refused_by_name(tokenizer):
    model = make(family="Canine", num_hash_buckets=16, local_transformer_stride=8)
    with pytest.raises(ModelError, match="CanineForSequenceClassification cannot be explained"):
        ig.attribute(model, "a dull film", tokenizer=tokenizer)


def test_two_encoders_become_a_translator(tokenizer):
    config = transformers.BertConfig(vocab_size=len(IDS), **SIZES)
    decoder = transformers.BertConfig(
        vocab_size=len(IDS), **SIZES, is_decoder=True, add_cross_attention=True
    )
    both = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(config, decoder)
    torch.manual_seed(0)
    model = transformers.EncoderDecoderModel(both).eval().double()
    options = {"tokenizer": tokenizer, "generated": "great city", "baseline": "mask"}
    with pytest.raises(InputError, match="needs a decoder_start_token_id"):
        ig.attribute(model, "a dull film", **options)
    model.config.decoder_start_token_id = 2
    model.config.pad_token_id = 1
    result = ig.attribute(model, "a dull film", **options)
    source = tokenizer("a dull film", return_tensors="pt").input_ids
    ids = torch.tensor([[2, IDS["[CLS]"], IDS["great"], IDS["city"]]])
    with torch.no_grad():
        log_p = model(input_ids=source, decoder_input_ids=ids).logits[0].log_softmax(-1)
    expected = float(log_p[1, IDS["great"]] + log_p[2, IDS["city"]])
    assert result.at_input == pytest.approx(expected, abs=1e-10)


class Tagger(nn.Module):
    """Both directions of an LSTM, which know of no padding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(len(IDS), 8)
        self.lstm = nn.LSTM(8, 8, bidirectional=True, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, input_ids):
        return self.out(self.lstm(3 * self.words(input_ids))[0])


def together_and_alone(model, raws, **options):
    options = {"rule": "gauss-legendre", "steps": 6, "tol": 0.9, **options}
    return ig.attribute(model, raws, **options), [ig.attribute(model, r, **options) for r in raws]


def test_models_that_read_padding_give_what_they_give_alone(tokenizer):
    fnet = make("ForMaskedLM", "FNet")
    convolutions = make("ForTokenClassification", "ConvBert", embedding_size=32, num_labels=3)
    masked = ["a [MASK] film and no plot", "[MASK] film", "a [MASK]"]
    cases = [
        (fnet, masked, {"tokenizer": tokenizer, "target": "dull"}),
        (convolutions, TEXTS, {"tokenizer": tokenizer, "target": ("word", 0, 1)}),
        (Tagger().double(), TEXTS, {
            "domain": "text", "encode": lambda text: [IDS[w] for w in text.split()],
            "task": "token-classification", "target": ("word", 0, 1), "baseline": "mean",
        }),
    ]  # fmt: skip
    for model, raws, options in cases:
        together, alone = together_and_alone(model, raws, **options)
        for one, other in zip(together, alone, strict=True):
            assert one.at_input == pytest.approx(other.at_input, abs=1e-12)
            torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-10)


# -- state ----------------------------------------------------------------------------------------


class Failing(nn.Module):
    """A classifier that raises at one of its calls, and whose embedding may."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.config = model.config
        self.calls, self.at = 0, 0

    def forward(self, input_ids, attention_mask=None, return_dict=True):
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("boom")
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning", "ignore::ig_core.IGWarning")
def test_a_model_that_fails_at_any_call_is_left_whole(tokenizer):
    options = {"tokenizer": tokenizer, "domain": "text", "target": 1}
    reference = ig.attribute(Failing(make()), TEXTS[:2], **options)
    last = 0
    for at in range(1, 14):
        model = Failing(make())
        model.at = at
        model.train()
        try:
            ig.attribute(model, TEXTS[:2], **options)
        except ForwardError as error:
            assert "boom" in str(error)
            last = at
        assert hooks(model) == 0
        assert model.training
        assert all(p.requires_grad for p in model.parameters())
        model.at = 0
        for one, other in zip(ig.attribute(model, TEXTS[:2], **options), reference, strict=True):
            assert torch.equal(one.values, other.values)
    assert last > 0


def test_an_embedding_that_fails_while_texts_are_encoded_is_a_forward_error(tokenizer):
    for at in range(1, 6):
        model = make()
        table, calls = model.get_input_embeddings(), []
        plain = table.forward

        def failing(ids, plain=plain, calls=calls, at=at):
            calls.append(ids)
            if len(calls) == at:
                raise RuntimeError("boom")
            return plain(ids)

        table.forward = failing
        with pytest.raises(ForwardError, match="boom"):
            ig.attribute(model, "a dull film", tokenizer=tokenizer, baseline=0.0)
        assert hooks(model) == 0


def test_what_is_remembered_of_a_model_does_not_keep_it(tokenizer):
    model = make()
    kept = [
        ig.attribute(model, "a dull film", tokenizer=tokenizer, baseline="mean"),
        ig.attribute(model, "a dull film", tokenizer=tokenizer, path="dig"),
    ]
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
    assert all(result.display["texts"] == ["a dull film"] for result in kept)


def test_a_copy_and_a_larger_vocabulary_are_looked_at_anew(tokenizer):
    model = make()
    options = {"tokenizer": tokenizer, "target": 1, "baseline": "mean"}
    before = ig.attribute(model, "a dull film", **options)
    other = copy.deepcopy(model)
    assert torch.equal(ig.attribute(other, "a dull film", **options).values, before.values)
    other.resize_token_embeddings(len(IDS) + 4)
    after = ig.attribute(other, "a dull film", **options)
    assert after.at_input == pytest.approx(before.at_input, abs=1e-12)
    other.float()
    rounded = ig.attribute(other, "a dull film", **options)
    assert rounded.values.dtype == torch.float32
    torch.testing.assert_close(rounded.values.double(), after.values, rtol=0, atol=1e-3)


def test_threads_take_turns_with_a_model(tokenizer):
    model = make()
    found = []

    def explain():
        found.append(ig.attribute(model, "a dull film", tokenizer=tokenizer, target=1).values)

    threads = [threading.Thread(target=explain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = ig.attribute(model, "a dull film", tokenizer=tokenizer, target=1).values
    assert len(found) == 4
    assert all(torch.equal(one, alone) for one in found)


@pytest.mark.parametrize("generated", [None, 3, " film"])
def test_a_prompt_that_is_too_long_is_refused_before_anything_is_generated(tokenizer, generated):
    """GPT-2 has a table of positions; beyond its end it would raise an IndexError."""
    options = {} if generated is None else {"generated": generated}
    with pytest.raises(InputError, match="at most; nothing is cut off"):
        ig.attribute(make_gpt(), "a dull film " * 40, tokenizer=tokenizer, **options)
