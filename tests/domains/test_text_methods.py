"""One word at a time: SIG is leave-one-out, shared among dimensions; LOO is exact."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

import ig_core as ig
from ig_core import InputError
from ig_core.quadrature import gauss_legendre
from ig_text import DIG, LOO, SIG, TextDomain

TEXT = "a dull film with no plot great city the story of one actor"
TEXTS = ["a dull film with no plot", "great city", ("the story of one film", "great actor"), "film"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *TEXT.split(), "##less"]


def make_tokenizer() -> Any:
    vocabulary = {token: i for i, token in enumerate(WORDS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, SPECIAL, strict=True))
    )


def make_bert() -> Any:
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32, num_labels=3, initializer_range=0.25,
    )  # fmt: skip
    torch.manual_seed(0)
    return BertForSequenceClassification(config).eval()


def make_writer(kind: str) -> Any:
    """A model that writes on, or another text."""
    torch.manual_seed(0)
    ends = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    if kind == "causal":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
        model: Any = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3, **ends))
    else:
        layers = {f"{part}_layers": 1 for part in ("encoder", "decoder")}
        heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
        wide = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "init_std": 0.3}
        config = BartConfig(decoder_start_token_id=3, **layers, **heads, **wide, **ends)
        model = BartForConditionalGeneration(config)
    return model.double().eval()


@pytest.fixture
def bert() -> Any:
    return make_bert().double()


def explained(model: Any, raw: Any, **options: Any) -> Any:
    options = {"target": 1, **options} if "targets" not in options else options
    return ig.attribute(model, raw, tokenizer=make_tokenizer(), **options)


def plain_loss(model: Any, text: str, baseline: str = "[PAD]") -> Tensor:
    """F(x) - F(x without a word), for every word of one token each, by plain calls."""
    batch = make_tokenizer()(text, return_tensors="pt")
    vectors = model.get_input_embeddings().weight.detach()
    x = vectors[batch["input_ids"][0]]
    points = x.repeat(len(x) - 1, 1, 1)
    for word in range(1, len(x) - 1):
        points[word, word] = vectors[WORDS.index(baseline)]
    with torch.no_grad():
        logits = model(inputs_embeds=points).logits[:, 1].double()
    return logits[0] - logits[1:]


# -- what they are --------------------------------------------------------------------------------


def test_leave_one_out_is_what_plain_calls_say(bert: Any) -> None:
    for text in ("a dull film with no plot", "film"):
        found = explained(bert, text, method="loo")
        torch.testing.assert_close(found.scores, plain_loss(bert, text), rtol=0, atol=1e-12)
        assert found.residual == pytest.approx(float(found.scores.sum()) - found.delta)


def test_sequential_gradients_summed_over_dimensions_are_leave_one_out(bert: Any) -> None:
    exact = explained(bert, TEXTS, method="loo")
    for one, other in zip(explained(bert, TEXTS, method="sig", tol=1e-6), exact, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-6)
        assert one.at_input == pytest.approx(other.at_input, abs=1e-14)
        assert one.at_baseline == pytest.approx(other.at_baseline, abs=1e-14)


def test_a_hundred_steps_in_single_precision_are_leave_one_out_to_4e_6() -> None:
    bert = make_bert()
    steps = {"rule": "gauss-legendre", "steps": 100}
    exact = explained(bert, TEXTS, method="loo")
    for one, other in zip(explained(bert, TEXTS, method="sig", **steps), exact, strict=True):
        assert float((one.scores - other.scores).abs().max()) < 4e-6


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("contrast", [None, " great"])
def test_what_a_model_writes_is_owed_to_words_one_at_a_time(kind: str, contrast: Any) -> None:
    """Of the prompt or source, and of what it wrote before; later words get exactly zero."""
    model = make_writer(kind)
    raw = {"text": "a dull film", "generated": " no plot", "contrast": contrast}
    options = {"tokenizer": make_tokenizer(), "targets": "each", "baseline": "mask"}
    exact = ig.attribute(model, raw, method="loo", **options)
    found = ig.attribute(model, raw, method="sig", tol=1e-7, budget=4096, **options)
    assert len(exact) == len(found) == 2
    assert exact[0].units.labels[:4] == ["a", "dull", "film", "no"]
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-6)
        assert {**one.display} == {**other.display}
    if contrast is None:
        assert found[0].scores[3] == 0
        assert exact[0].scores[3] == pytest.approx(0, abs=1e-14)
        assert exact[1].scores[3] != 0

    plain = ig.attribute(model, raw, method="ig", **options)
    assert [one.at_input for one in exact] == pytest.approx([one.at_input for one in plain])
    assert [one.delta for one in exact] == pytest.approx([one.delta for one in plain])


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_every_word_is_complete_to_the_tolerance(bert: Any, tol: float) -> None:
    found = explained(bert, TEXTS, method="sig", tol=tol)
    exact = explained(bert, TEXTS, method="loo")
    for one, other in zip(found, exact, strict=True):
        missed = (one.scores - other.scores).abs()
        assert (missed <= tol * other.scores.abs() + 1e-12).all()


def test_the_values_are_those_of_paths_on_which_one_word_moves(bert: Any) -> None:
    text = "a dull film with no plot"
    found = explained(bert, text, method="sig", tol=1e-8, budget=4096)
    batch = make_tokenizer()(text, return_tensors="pt")
    vectors = bert.get_input_embeddings().weight.detach()
    x = vectors[batch["input_ids"][0]]
    rule = gauss_legendre(60)
    for word in range(1, len(x) - 1):
        total = torch.zeros_like(x[0])
        for t, weight in zip(rule.nodes, rule.weights, strict=True):
            point = x.clone()
            point[word] = torch.lerp(vectors[0], x[word], float(t))
            point.requires_grad_()
            [gradient] = torch.autograd.grad(bert(inputs_embeds=point[None]).logits[0, 1], point)
            total += float(weight) * gradient[word]
        by_hand = total * (x[word] - vectors[0])
        torch.testing.assert_close(found.values[word], by_hand, rtol=0, atol=1e-8)


def test_the_status_promises_no_sum_and_the_residual_says_what_it_is(bert: Any) -> None:
    for method in ("sig", "loo"):
        found = explained(bert, TEXTS[0], method=method)
        assert found.status == "one_shot"
        assert found.residual == pytest.approx(float(found.scores.sum()) - found.delta, abs=1e-6)
        assert abs(found.residual) > 0.1 * abs(found.delta)
        assert found.provenance["method"] == method


def test_a_text_of_one_word_is_integrated_gradients(bert: Any) -> None:
    plain, one = (explained(bert, "film", method=method) for method in ("ig", "sig"))
    assert torch.equal(plain.values, one.values)
    assert one.residual == pytest.approx(plain.residual, abs=1e-12)
    assert one.error == pytest.approx(plain.error)
    assert one.evaluations == plain.evaluations


def test_the_estimated_error_holds_the_real_one(bert: Any) -> None:
    near = explained(bert, TEXTS, method="sig", tol=1e-9, budget=4096)
    for rough, fine in zip(explained(bert, TEXTS, method="sig", tol=0.1), near, strict=True):
        wrong = (rough.values - fine.values).abs().sum() / fine.values.abs().sum()
        assert wrong <= rough.error <= 0.1
        assert (rough.uncertainty >= 0).all() and len(rough.uncertainty) == len(rough.units)


def test_leave_one_out_is_spread_evenly_over_its_elements(bert: Any) -> None:
    found = explained(bert, "filmless plot", method="loo")
    first, second = found.scores.tolist()
    width = bert.config.hidden_size
    expected = [0.0, first / 2 / width, first / 2 / width, second / width, 0.0]
    assert torch.equal(found.values, found.values[:, :1].expand(-1, width))
    assert found.values[:, 0].tolist() == pytest.approx(expected, abs=1e-15)


# -- costs ----------------------------------------------------------------------------------------


def rows_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rows: list[int] = []
    forward = TextDomain.forward

    def counted(self: TextDomain, packed: ig.Rows) -> Tensor:
        rows.append(len(packed))
        return forward(self, packed)

    monkeypatch.setattr(TextDomain, "forward", counted)
    return rows


def test_leave_one_out_takes_a_forward_pass_for_each_word_and_two(
    bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(monkeypatch)
    found = explained(bert, TEXTS[0], method="loo")
    assert sum(rows) == found.evaluations == len(found.units) + 2


def test_the_paths_of_all_words_and_texts_share_their_passes(
    bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(monkeypatch)
    found = explained(bert, TEXTS, method="sig")
    count = sum(len(one.units) for one in found)
    assert len(rows) < count, "fewer passes than words"
    assert sum(one.evaluations for one in found) > 5 * count


def test_texts_with_fewer_generated_words_are_not_left_out_from_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, rows = make_writer("seq2seq"), rows_of(monkeypatch)
    raws = [{"text": "a film", "generated": " no plot great"}, {"text": "one", "generated": " no"}]
    options = {"tokenizer": make_tokenizer(), "targets": "each", "baseline": "mask"}
    found = ig.attribute(model, raws, method="loo", **options)
    assert [len(own) for own in found] == [3, 1]
    assert sum(rows) <= sum(one.evaluations for own in found for one in own) + 4


def test_several_targets_share_rows_and_are_those_of_single_calls(
    bert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(monkeypatch)
    for method in ("sig", "loo"):
        rows.clear()
        together = explained(bert, TEXTS, method=method, targets=[0, 2, 1])
        shared = sum(rows)
        rows.clear()
        for number, target in enumerate((0, 2, 1)):
            alone = explained(bert, TEXTS, method=method, target=target)
            for own, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(own[number].values, expected.values, rtol=0, atol=1e-12)
                assert own[number].evaluations == expected.evaluations
        if method == "sig":
            assert shared < 0.5 * sum(rows)


def test_starts_are_made_when_they_are_needed(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words times tokens times width numbers, for every word, would be too many at once."""
    from ig_text import methods

    held: list[int] = []
    without = methods._without
    monkeypatch.setattr(methods, "POINTS", 6 * 8 * 16)
    monkeypatch.setattr(
        methods,
        "_without",
        lambda example, units, start: held.append(len(units)) or without(example, units, start),
    )
    explained(bert, "a dull film with no plot great city the story", method="loo")
    assert max(held) == 4 and sum(held) == 10
    held.clear()
    explained(bert, TEXTS[0], method="sig")
    assert max(held) == 1


# -- starts, texts, failures ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sig", "loo"])
def test_several_baselines_give_their_mean_and_spread(bert: Any, method: str) -> None:
    options = {"method": method, "tol": 1e-6}
    both = explained(bert, TEXTS[0], baseline=["pad", "mask"], **options)
    one, other = (explained(bert, TEXTS[0], baseline=b, **options) for b in ("pad", "mask"))
    torch.testing.assert_close(both.values, (one.values + other.values) / 2, rtol=0, atol=1e-9)
    spread = torch.stack([one.scores, other.scores]).std(0)
    torch.testing.assert_close(both.spread, spread, rtol=0, atol=1e-9)
    assert both.at_baseline == pytest.approx((one.at_baseline + other.at_baseline) / 2)
    assert one.spread is None
    if method == "loo":
        assert both.evaluations == 1 + 2 * (1 + len(both.units))


@pytest.mark.parametrize("method", ["sig", "loo"])
def test_a_batch_gives_what_single_calls_give(bert: Any, method: str) -> None:
    for text, one in zip(TEXTS, explained(bert, TEXTS, method=method), strict=True):
        alone = explained(bert, text, method=method)
        torch.testing.assert_close(one.values, alone.values, rtol=0, atol=1e-12)
        assert one.evaluations == alone.evaluations


@pytest.mark.parametrize("method", ["sig", "loo"])
def test_special_tokens_and_words_that_do_not_move_get_zero(bert: Any, method: str) -> None:
    start = TextDomain(bert, tokenizer=make_tokenizer()).encode("dull film plot", 1)
    baseline = start.inputs["embeddings"].clone()
    baseline[2] = 0.0
    found = explained(bert, "dull film plot", method=method, baseline=baseline)
    assert (found.values[[0, 1, 3, 4]] == 0).all()
    assert found.scores[1] == pytest.approx(found.delta, rel=0.01)
    still = explained(bert, "dull", method=method, baseline=lambda example: example.inputs)
    assert (still.values == 0).all()
    assert (still.delta, still.residual) == pytest.approx((0, 0), abs=1e-14)
    assert still.status == "one_shot"


def test_the_words_may_move_on_another_path(bert: Any) -> None:
    options = {"method": "sig", "tol": 1e-6}
    straight, through = (
        explained(bert, TEXTS[0], path=path, **options) for path in ("straight", DIG(knots=3))
    )
    torch.testing.assert_close(straight.scores, through.scores, rtol=0, atol=1e-6)
    assert (straight.values - through.values).abs().max() > 1e-3, "shared otherwise"


def test_words_that_miss_their_tolerance_are_named(bert: Any) -> None:
    with pytest.warns(ig.NotConvergedWarning):
        found = explained(bert, TEXTS[0], method="sig", tol=1e-9, budget=11)
    assert found.status == "budget"
    assert "words missed the tolerance on their own paths" in found.reason
    assert "'dull'" in found.reason


@pytest.mark.parametrize("method", ["sig", "loo"])
def test_one_text_that_fails_leaves_the_others(bert: Any, method: str) -> None:
    class Spoilt(type(bert)):
        def forward(self, input_ids: Tensor, **options: Any) -> Any:
            output = super().forward(input_ids, **options)
            dull = (input_ids == WORDS.index("dull")).any(1)
            output.logits = output.logits.masked_fill(dull[:, None], torch.nan)
            return output

    bert.__class__ = Spoilt
    with pytest.warns(ig.IGWarning, match="1 of 3 examples failed"):
        found = explained(bert, ["great city", "a dull film", "film"], method=method)
    assert [one.status for one in found] == ["one_shot", "failed", "one_shot"]
    assert found[1].values.isnan().all() and "NaN" in found[1].reason
    with pytest.raises(ig.NonFiniteError):
        explained(bert, "a dull film", method=method)


class Rounded(ig.Domain):
    """3 x_0 + size round(x_1): no gradient reaches the second unit."""

    name = "text"
    layouts: ClassVar[dict[str, ig.Layout]] = {"x": ig.Stack()}

    def encode(self, raw: Any, target: Any = None) -> ig.Example:
        return ig.Example({"x": raw}, units=ig.Units(("first", "second"), {"x": torch.arange(2)}))

    def forward(self, rows: ig.Rows) -> Tensor:
        x = rows["x"]
        return 3 * x[:, 0] + self.model * x[:, 1].round()


def test_a_word_that_no_gradient_reaches_counts_by_what_it_misses() -> None:
    x = torch.ones(2, dtype=torch.float64)
    small = ig.attribute(1e-3, x, domain=Rounded(1e-3), method="sig")
    assert small.scores.tolist() == pytest.approx([3, 0])
    assert small.uncertainty[1] == pytest.approx(1e-3)
    assert (small.status, small.error) == ("one_shot", pytest.approx(1e-3 / 3, rel=1e-3))
    with pytest.raises(ig.NoGradientError):
        ig.attribute(1.0, x, domain=Rounded(1.0), method="sig")
    exact = ig.attribute(1.0, x, domain=Rounded(1.0), method="loo")
    assert exact.scores.tolist() == pytest.approx([3, 1])


def test_the_methods_are_for_texts() -> None:
    for method in (SIG(), LOO()):
        with pytest.raises(InputError, match="is for text, not for 'tensor'"):
            ig.attribute(lambda x: x.sum(1), torch.ones(1, 2), method=method)


def test_the_results_can_be_kept_and_shown(bert: Any, tmp_path: Any) -> None:
    for method in ("sig", "loo"):
        found = explained(bert, TEXTS[0], method=method)
        kept = ig.Attribution.load(found.save(tmp_path / method))
        np.testing.assert_array_equal(kept.scores.numpy(), found.scores.numpy())
        assert "promises no sum" in found.to_text()
