"""Every family of transformers, tiny and random: the number explained is the plain call's."""

import pytest
import torch

import ig_core as ig

transformers = pytest.importorskip("transformers")

WORDS = [
    "a", "actor", "and", "city", "dull", "film", "great", "no", "of", "one", "plot", "story",
    "wonderful", "with",
]  # fmt: skip
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
IDS = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
ENDS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
DECODER = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_position_embeddings": 64, "scale_embedding": True, "decoder_start_token_id": 3, **ENDS,
}  # fmt: skip
KEYED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, **ENDS}

MODERN = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi")
PAIRS = ("Bart", "MBart", "Marian", "Pegasus", "M2M100", "Blenderbot")

ENCODERS = {
    **{
        family: {**SIZES, "pad_token_id": 1}
        for family in (
            "Bert",
            "Roberta",
            "XLMRoberta",
            "Camembert",
            "Electra",
            "MPNet",
            "DebertaV2",
            "Esm",
        )
    },
    "ModernBert": {**SIZES, "pad_token_id": 1, "cls_token_id": 2, "sep_token_id": 3},
    "Albert": {**SIZES, "embedding_size": 16, "pad_token_id": 1},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "pad_token_id": 1},
}
CAUSAL = {
    **dict.fromkeys(MODERN, KEYED),
    "GPTNeoX": {**SIZES, **ENDS},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **ENDS},
    "OPT": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
        "max_position_embeddings": 64, "word_embed_proj_dim": 16, **ENDS,
    },
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, **ENDS},
}  # fmt: skip
SEQ2SEQ = {
    **dict.fromkeys(PAIRS, DECODER),
    "T5": {
        "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 1,
        "eos_token_id": 3, "decoder_start_token_id": 1, "feed_forward_proj": "gated-gelu",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(whole_words):
    return whole_words(IDS)


def make(family, ending, sizes, seed=0):
    """A random model with weights large enough that attention attends; in float64."""
    config = {"Gemma3": "Gemma3Text"}.get(family, family)
    torch.manual_seed(seed)
    config = getattr(transformers, f"{config}Config")(vocab_size=len(IDS), **sizes)
    model = getattr(transformers, f"{family}{ending}")(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5 if family == "T5" else 3)
    return model


def causal(family):
    return make(family, "LMHeadModel" if family == "GPT2" else "ForCausalLM", CAUSAL[family])


def seq2seq(family):
    ending = "MTModel" if family == "Marian" else "ForConditionalGeneration"
    return make(family, ending, SEQ2SEQ[family])


def log_probabilities(logits, places, labels):
    """log p of each label, by the definition of softmax, from one row of logits."""
    return [
        float(logits[p, i] - torch.log(torch.exp(logits[p]).sum()))
        for p, i in zip(places, labels, strict=True)
    ]


def ids_of(*words):
    return [IDS[word] for word in words]


# -- classifiers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ENCODERS)
def test_a_classifier_is_explained_as_it_stands(family, tokenizer):
    model = make(family, "ForSequenceClassification", {**ENCODERS[family], "num_labels": 3})
    texts = ["a dull film with no plot", "great"]
    found = ig.attribute(model, texts, tokenizer=tokenizer, target=1, tol=1e-4, budget=1000)
    for text, result in zip(texts, found, strict=True):
        ids = torch.tensor([ids_of("[CLS]", *text.split(), "[SEP]")])
        with torch.no_grad():
            plain = float(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 1])
        alone = ig.attribute(model, text, tokenizer=tokenizer, target=1, tol=1e-4, budget=1000)
        assert result.at_input == pytest.approx(plain, abs=1e-12)
        assert result.status == "converged"
        assert float(result.scores.sum()) == pytest.approx(
            result.delta, abs=1e-4 * abs(result.delta)
        )
        torch.testing.assert_close(result.values, alone.values, rtol=0, atol=1e-10)
        assert list(result.units.labels) == text.split()


def test_the_decoder_of_a_classifier_reads_the_same_words(tokenizer):
    """BART's classifier reads its text twice, in the decoder one place later; both move."""
    model = make("Bart", "ForSequenceClassification", {**DECODER, "num_labels": 3})
    text = "a dull film"
    options = {"tokenizer": tokenizer, "target": 2, "tol": 1e-6, "budget": 2000}
    result = ig.attribute(model, text, baseline="mask", **options)
    ids = torch.tensor([ids_of("[CLS]", "a", "dull", "film", "[SEP]")])
    with torch.no_grad():
        plain = float(model(input_ids=ids).logits[0, 2])
        masked = ids.clone()
        masked[0, 1:4] = IDS["[MASK]"]
        absent = float(model(input_ids=masked).logits[0, 2])
    assert result.at_input == pytest.approx(plain, abs=1e-12)
    assert result.at_baseline == pytest.approx(absent, abs=1e-12)
    assert float(result.scores.sum()) == pytest.approx(plain - absent, rel=1e-6)


# -- decoders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CAUSAL)
def test_a_causal_model_is_explained_token_by_token(family, tokenizer):
    model = causal(family)
    options = {"tokenizer": tokenizer, "tol": 1e-5, "budget": 8000, "baseline": "mask"}
    raw = {"text": "a dull film with", "generated": " no plot and"}
    found = ig.attribute(model, raw, targets="each", **options)
    ids = ids_of("[CLS]", "a", "dull", "film", "with", "no", "plot", "and")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert [r.at_input for r in found] == pytest.approx(
        log_probabilities(logits, (4, 5, 6), ids[5:]), abs=1e-9
    )
    whole = ig.attribute(model, raw, **options)
    total = sum(result.values for result in found)
    size = float(whole.values.abs().sum())
    torch.testing.assert_close(total, whole.values, rtol=0, atol=3e-5 * size)
    assert whole.at_input == pytest.approx(sum(r.at_input for r in found), abs=1e-9)
    for k, result in enumerate(found):
        assert result.status == "converged"
        assert float(result.scores.sum()) == pytest.approx(
            result.delta, abs=1e-5 * abs(result.delta)
        )
        assert bool((result.values[5 + k :] == 0).all()), "a later token plays no part"
        assert bool((result.values[0] == 0).all()), "[CLS] stays where it is"
        assert list(result.units.labels) == ["a", "dull", "film", "with", "no", "plot"]


def test_a_warning_counts_the_tokens_that_there_are(tokenizer):
    raws = [
        {"text": "a dull film with", "generated": " no"},
        {"text": "great", "generated": " story of one city"},
    ]
    options = {"rule": "midpoint", "steps": 1, "tol": 1e-9, "baseline": "mask"}
    with pytest.warns(ig.NotConvergedWarning, match="5 of 5 results missed"):
        ig.attribute(causal("GPT2"), raws, tokenizer=tokenizer, targets="each", **options)


@pytest.mark.parametrize("family", CAUSAL)
def test_ragged_prompts_share_a_batch(family, tokenizer):
    model = causal(family)
    raws = [
        {"text": "a dull film with", "generated": " no plot"},
        {"text": "great", "generated": " story of one city"},
    ]
    options = {"tokenizer": tokenizer, "rule": "gauss-legendre", "steps": 8, "tol": 0.9}
    together = ig.attribute(model, raws, targets="each", **options)
    assert [len(own) for own in together] == [2, 4]
    for raw, own in zip(raws, together, strict=True):
        alone = ig.attribute(model, raw, targets="each", **options)
        for one, other in zip(own, alone, strict=True):
            torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["GPT2", "Llama", "OPT", "Bloom"])
@pytest.mark.parametrize(
    ("generated", "contrast"),
    [(" no", " great"), (" no plot", " great"), (" no plot and", " no story of one")],
)
def test_a_contrast_is_the_difference_of_two_continuations(family, generated, contrast, tokenizer):
    model = causal(family)
    options = {"tokenizer": tokenizer, "tol": 1e-6, "budget": 4000, "baseline": "mask"}
    prompt = "a dull film with"
    forth = ig.attribute(model, prompt, generated=generated, contrast=contrast, **options)
    back = ig.attribute(model, prompt, generated=contrast, contrast=generated, **options)
    expected = []
    for words in (generated.split(), contrast.split()):
        ids = ids_of("[CLS]", *prompt.split(), *words)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        expected.append(sum(log_probabilities(logits, range(4, 4 + len(words)), ids[5:])))
    assert forth.at_input == pytest.approx(expected[0] - expected[1], abs=1e-9)
    assert back.at_input == pytest.approx(-forth.at_input, abs=1e-9)
    parts = [r.tensors["embeddings"][:5] for r in (forth, back)]  # what stands before both
    size = sum(float(v.abs().sum()) for v in forth.tensors.values())
    torch.testing.assert_close(parts[0], -parts[1], rtol=0, atol=2e-6 * size)
    each = ig.attribute(
        model, prompt, generated=generated, contrast=contrast, targets="each", **options
    )
    for name, value in forth.tensors.items():
        total = sum(result.tensors[name] for result in each)
        torch.testing.assert_close(total, value, rtol=0, atol=5e-6 * size)


def test_a_contrast_of_log_probabilities_is_one_of_logits(tokenizer):
    model = causal("GPT2")
    options = {"tokenizer": tokenizer, "rule": "gauss-legendre", "steps": 30}
    given = ig.attribute(model, "a dull film", generated=" no", contrast=" great", **options)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            last = attention_mask.sum(1) - 1
            return logits[torch.arange(len(last)), last]

    def encode(text):
        ids = ids_of("[CLS]", *text.split())
        return {"input_ids": ids, "special_tokens_mask": [1, *(0 for _ in ids[1:])]}

    options = {"rule": "gauss-legendre", "steps": 30, "baseline": "mean"}
    pair = (IDS["no"], IDS["great"])
    own = ig.attribute(
        Logits(), "a dull film", domain="text", encode=encode, target=pair, **options
    )
    assert own.at_input == pytest.approx(given.at_input, abs=1e-9)
    torch.testing.assert_close(own.values, given.tensors["embeddings"], rtol=0, atol=1e-9)


# -- encoders and decoders ------------------------------------------------------------------------


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_source_and_prefix_of_a_translation_are_both_explained(family, tokenizer):
    model = seq2seq(family)
    options = {"tokenizer": tokenizer, "tol": 1e-4, "budget": 4000, "baseline": "mask"}
    raw = {"text": "a dull film with no plot", "generated": "great actor and"}
    found = ig.attribute(model, raw, targets="each", **options)
    source = torch.tensor([ids_of("[CLS]", *raw["text"].split(), "[SEP]")])
    labels = torch.tensor([ids_of("[CLS]", *raw["generated"].split(), "[SEP]")])
    with torch.no_grad():
        logits = model(input_ids=source, labels=labels).logits[0]  # the model's own shift
    assert [r.at_input for r in found] == pytest.approx(
        log_probabilities(logits, (1, 2, 3), labels[0, 1:4].tolist()), abs=1e-9
    )
    whole = ig.attribute(model, raw, **options)
    for name, value in whole.tensors.items():
        total = sum(result.tensors[name] for result in found)
        size = sum(float(v.abs().sum()) for v in whole.tensors.values())
        torch.testing.assert_close(total, value, rtol=0, atol=3e-4 * size)
    for k, result in enumerate(found):
        assert result.status == "converged"
        assert float(result.scores.sum()) == pytest.approx(
            result.delta, abs=1e-4 * abs(result.delta)
        )
        assert bool((result.tensors["decoder_embeddings"][2 + k :] == 0).all())
        assert float(result.tensors["embeddings"].abs().sum()) > 0
        labels_of_units = [*raw["text"].split(), "great", "actor", "and"]
        assert list(result.units.labels) == labels_of_units


@pytest.mark.filterwarnings("ignore::ig_core.NotConvergedWarning")
@pytest.mark.parametrize("family", SEQ2SEQ)
def test_ragged_translations_share_a_batch(family, tokenizer):
    model = seq2seq(family)
    raws = [
        {"text": "a dull film with no plot", "generated": "great"},
        {"text": "one city", "generated": "story of one"},
    ]
    options = {"tokenizer": tokenizer, "rule": "gauss-legendre", "steps": 8, "tol": 0.9}
    together = ig.attribute(model, raws, targets="each", **options)
    for raw, own in zip(raws, together, strict=True):
        alone = ig.attribute(model, raw, targets="each", **options)
        assert len(alone) == len(own)
        for one, other in zip(own, alone, strict=True):
            for name, value in one.tensors.items():
                torch.testing.assert_close(value, other.tensors[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["Bart", "T5"])
def test_a_contrast_of_translations(family, tokenizer):
    model = seq2seq(family)
    options = {"tokenizer": tokenizer, "tol": 1e-5, "budget": 4000, "baseline": "mask"}
    texts = ("great actor and plot", "great story")
    forth, back = (
        ig.attribute(model, "a dull film", generated=one, contrast=other, **options)
        for one, other in (texts, texts[::-1])
    )
    expected = []
    for text in texts:
        labels = ids_of("[CLS]", *text.split(), "[SEP]")
        source = torch.tensor([ids_of("[CLS]", "a", "dull", "film", "[SEP]")])
        with torch.no_grad():
            logits = model(input_ids=source, labels=torch.tensor([labels])).logits[0]
        places = range(1, len(labels) - 1)
        expected.append(sum(log_probabilities(logits, places, labels[1:-1])))
    assert forth.at_input == pytest.approx(expected[0] - expected[1], abs=1e-9)
    size = sum(float(v.abs().sum()) for v in forth.tensors.values())
    torch.testing.assert_close(
        forth.tensors["embeddings"], -back.tensors["embeddings"], rtol=0, atol=2e-5 * size
    )


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_what_the_model_would_write_is_explained_by_default(kind, tokenizer):
    model = causal("Llama") if kind == "causal" else seq2seq("Pegasus")
    result = ig.attribute(
        model, "a dull film", tokenizer=tokenizer, generated=3, tol=0.1, baseline="mask",
        budget=2000,
    )  # fmt: skip
    written = result.display["generated"]["tokens"]
    ids = torch.tensor(
        [ids_of("[CLS]", "a", "dull", "film", *(["[SEP]"] if kind != "causal" else []))]
    )
    made = model.generate(ids, max_new_tokens=3, do_sample=False, num_beams=1)[0].tolist()
    new = made[ids.shape[1] :] if kind == "causal" else made[1:]
    spelled = [t for t in tokenizer.convert_ids_to_tokens(new) if t not in SPECIAL[1:]]
    assert [token.strip() for token in written] == spelled
