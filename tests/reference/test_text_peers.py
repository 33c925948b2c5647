"""Where Captum's layer integrated gradients go wrong on texts, and ours do not, by numbers.

The truth is by hand: the model called with the word embeddings of each point in place of those of
its ids, and everything else of the plain call as it is; many midpoints, in float64.
"""

import pytest
import torch

import ig_core as ig

transformers = pytest.importorskip("transformers")
captum_attr = pytest.importorskip("captum.attr")

WORDS = ["a", "all", "at", "dull", "film", "great", "no", "of", "plot", "story", "with"]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
PAD = SPECIAL.index("[PAD]")
TEXT = "a dull film with no plot at all"
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "initializer_range": 0.25,
}  # fmt: skip
TARGET = 1


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(one, ids[one]) for one in ("[CLS]", "[SEP]")]
    )
    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, SPECIAL, strict=True))
    )


def make(family, words):
    """A random classifier in float64."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=words, num_labels=3, pad_token_id=PAD, **SIZES
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForSequenceClassification")(config).eval().double()


def words_only(ids, other):
    """Ids with another one in place of every word, and the special tokens as they are."""
    return torch.where(ids < len(SPECIAL), ids, other)


def output(model, ids, vectors):
    """The explained logit of rows of word embeddings in place of those of the ids."""
    words = model.get_input_embeddings()
    rows = ids.expand(len(vectors), -1)
    handle = words.register_forward_hook(lambda module, inputs, plain: vectors)
    try:
        mask = torch.ones_like(rows)
        return model(input_ids=rows, attention_mask=mask).logits[:, TARGET]
    finally:
        handle.remove()


def by_hand(model, ids, start, nodes=4000):
    """The attributions of every token, and F(x) - F(x')."""
    with torch.no_grad():
        words = model.get_input_embeddings()
        x, begin = words(ids)[0], words(start)[0]
    total = torch.zeros_like(x)
    for t in ((torch.arange(nodes).double() + 0.5) / nodes).split(500):
        points = (begin + t[:, None, None] * (x - begin)).requires_grad_(True)
        total += torch.autograd.grad(output(model, ids, points).sum(), points)[0].sum(0) / nodes
    with torch.no_grad():
        difference = output(model, ids, x[None]) - output(model, ids, begin[None])
    return (x - begin) * total, float(difference)


def layer_ig(model, ids, start, nodes, more=None, forward=None):
    """Captum's attributions and its convergence delta."""
    forward = forward or (lambda given, mask: model(input_ids=given, attention_mask=mask).logits)
    more = (torch.ones_like(ids),) if more is None else more
    peer = captum_attr.LayerIntegratedGradients(forward, model.get_input_embeddings())
    found, delta = peer.attribute(
        ids, start, target=TARGET, additional_forward_args=more, n_steps=nodes,
        internal_batch_size=500, return_convergence_delta=True,
    )  # fmt: skip
    return found[0], float(delta)


def relative(values, truth):
    return float((values - truth).abs().sum() / truth.abs().sum())


def ours(model, tokenizer, baseline="pad", **options):
    return ig.attribute(
        model, TEXT, tokenizer=tokenizer, target=TARGET, baseline=baseline, budget=4096, **options
    )


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLMRoberta", "MPNet"])
def test_ours_are_the_sum_by_hand(family, tokenizer):
    model = make(family, len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    truth, delta = by_hand(model, ids, words_only(ids, PAD))
    found = ours(model, tokenizer, tol=1e-6)
    assert found.status == "converged"
    assert found.delta == pytest.approx(delta, abs=1e-12)
    assert relative(found.values, truth) < 1e-6


def test_captum_is_right_where_the_ids_of_the_baseline_change_nothing_else(tokenizer):
    model = make("Bert", len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    truth, _ = by_hand(model, ids, words_only(ids, PAD))
    found, delta = layer_ig(model, ids, words_only(ids, PAD), 50)
    assert relative(found, truth) < 1e-6
    assert abs(delta) < 1e-6


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta", "MPNet"])
def test_pads_as_the_baseline_move_the_positions_under_captum(family, tokenizer):
    """Its F(x') is of other positions than its path: the residual stays, whatever the steps."""
    model = make(family, len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    truth, difference = by_hand(model, ids, words_only(ids, PAD))
    residuals = [abs(layer_ig(model, ids, words_only(ids, PAD), n)[1]) for n in (50, 500, 2000)]
    assert min(residuals) > 1e-2 * abs(difference)
    assert max(residuals) - min(residuals) < 1e-4 * abs(difference)
    found = ours(model, tokenizer, tol=1e-6)
    assert abs(found.residual) < 1e-6 * abs(difference)
    assert relative(found.values, truth) < 1e-6


def test_a_mask_computed_from_the_ids_leaves_captum_with_a_residual(tokenizer):
    """A forward that makes its mask of the ids masks the whole baseline; ours keeps the text's."""
    model = make("Bert", len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    start = words_only(ids, PAD)

    def forward(given):
        return model(input_ids=given, attention_mask=(given != PAD).long()).logits

    truth, difference = by_hand(model, ids, start)
    residuals = [abs(layer_ig(model, ids, start, n, (), forward)[1]) for n in (50, 2000)]
    assert min(residuals) > 1e-2 * abs(difference)
    assert max(residuals) - min(residuals) < 1e-4 * abs(difference)
    found = ours(model, tokenizer, tol=1e-6)
    assert abs(found.residual) < 1e-6 * abs(difference)
    assert relative(found.values, truth) < 1e-6


def test_a_mask_in_the_tuple_of_inputs_leaves_captum_with_a_residual(tokenizer):
    """As an input it has a baseline too: F(x') is taken there, and the path does not end there."""
    model = make("Bert", len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    start, mask = words_only(ids, PAD), torch.ones_like(ids)
    truth, difference = by_hand(model, ids, start)
    peer = captum_attr.LayerIntegratedGradients(
        lambda given, own: model(input_ids=given, attention_mask=own).logits,
        model.get_input_embeddings(),
    )
    residuals = []
    for nodes in (50, 2000):
        _, delta = peer.attribute(
            (ids, mask), (start, torch.zeros_like(mask)), target=TARGET, n_steps=nodes,
            internal_batch_size=500, return_convergence_delta=True,
        )  # fmt: skip
        residuals.append(abs(float(delta)))
    assert min(residuals) > 1e-2 * abs(difference)
    assert max(residuals) - min(residuals) < 1e-4 * abs(difference)
    assert relative(ours(model, tokenizer, tol=1e-6).values, truth) < 1e-6


def test_the_default_baseline_of_captum_is_the_token_zero_everywhere(tokenizer):
    """Id 0 also stands for the special tokens, and is no pad here: another question is answered."""
    model = make("Bert", len(tokenizer))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    found, _ = layer_ig(model, ids, None, 200)
    everywhere, _ = by_hand(model, ids, torch.zeros_like(ids))
    truth, _ = by_hand(model, ids, words_only(ids, PAD))
    assert relative(found, everywhere) < 1e-6
    assert float(found[[0, -1]].abs().sum()) > 1e-2 * float(found.abs().sum())  # [CLS] and [SEP]
    assert relative(found, truth) > 0.1
    own = ours(model, tokenizer, tol=1e-6)
    assert relative(own.values, truth) < 1e-6
    assert bool((own.values[[0, -1]] == 0).all())
    assert own.provenance["baseline"] == "pad"
