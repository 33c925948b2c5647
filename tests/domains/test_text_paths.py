"""Paths through words: the published definitions, and what integrating every leg adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput

import ig_core as ig
from ig_core import InputError
from ig_core.quadrature import Fixed
from ig_text import DIG, UDIG, TextDomain, anchors
from ig_text.anchors import Walk, nearest

TEXT = "a dull film with great actor and no plot"
OTHER = "the wonderful story of one city"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *TEXT.split(), *OTHER.split()]
PATHS = [kind(strategy=strategy) for kind in (DIG, UDIG) for strategy in ("greedy", "maxcount")]
IDS = ["dig-greedy", "dig-maxcount", "udig-greedy", "udig-maxcount"]
LEFT = Fixed(np.zeros(1), np.ones(1))
"""The left sum over the legs of a path, which is what was published."""


def make_tokenizer() -> Any:
    vocabulary = {token: i for i, token in enumerate(WORDS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, SPECIAL, strict=True))
    )


def config() -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32, num_labels=2, initializer_range=0.25,
    )  # fmt: skip


class BagOfWords(PreTrainedModel):
    """Linear in its word embeddings."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.num_labels)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor, return_dict: bool = True) -> Any:
        states = self.words(input_ids) * attention_mask[..., None]
        return SequenceClassifierOutput(logits=self.head(states.sum(1)))


@pytest.fixture
def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(config()).double().eval()


def explained(model: Any, raw: Any, **options: Any) -> Any:
    return ig.attribute(model, raw, tokenizer=make_tokenizer(), target=1, **options)


def task_of(model: Any, path: ig.Path, texts: Sequence[str] = (TEXT,), **options: Any) -> ig.Task:
    domain = TextDomain(model, tokenizer=make_tokenizer())
    return ig.prepare(domain, list(texts), target=1, path=path, **options)


def points_of(task: ig.Task, number: int = 0) -> Tensor:
    """Start, knots and end of one example's path."""
    legs = task.path.legs(task.examples[number], task.starts[number][0])
    return torch.stack([legs[0][0]["embeddings"], *(end["embeddings"] for _, end in legs)])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- the definition -------------------------------------------------------------------------------


def walked(vocabulary: Tensor, start: Tensor, word: Tensor, walk: Walk) -> list[Tensor]:
    """The knots of one word, dimension by dimension as the papers say it."""

    def is_between(low: float, value: float, high: float) -> bool:
        return min(low, high) <= value <= max(low, high)

    def monotone(before: Tensor, anchor: Tensor) -> Tensor:
        pairs = zip(start.tolist(), before.tolist(), anchor.tolist(), strict=True)
        moved = [a if is_between(s, a, b) else b - (b - s) / walk.knots for s, b, a in pairs]
        return torch.tensor(moved, dtype=torch.float64)

    def cost(before: Tensor, anchor: Tensor) -> float:
        if walk.strategy == "greedy":
            return float((anchor - monotone(before, anchor)).norm())
        pairs = zip(start.tolist(), before.tolist(), anchor.tolist(), strict=True)
        return -sum(is_between(s, a, b) for s, b, a in pairs)

    def farness(centre: Tensor, number: int) -> float:
        return float((vocabulary[number] - centre).norm())

    anchor, knot, used, knots = word, word, set(), []
    for step in range(walk.knots):
        part = (walk.knots - step) / (walk.knots + 1)
        centre = start + part * (word - start) if walk.uniform else anchor
        order = sorted(range(len(vocabulary)), key=lambda number: farness(centre, number))
        near = order[: walk.neighbours + (not walk.uniform)]
        allowed = [
            number for number in near
            if number not in used
            and not torch.equal(vocabulary[number], start)
            and not torch.equal(vocabulary[number], word)
        ]  # fmt: skip
        if torch.equal(anchor, start) or not allowed:
            anchor = start
        else:
            best = min(allowed, key=lambda number: cost(anchor, vocabulary[number]))
            used.add(best)
            anchor = vocabulary[best]
        knot = monotone(knot, anchor)
        knots.append(knot)
    return knots[::-1]


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("strategy", ["greedy", "maxcount"])
@pytest.mark.parametrize(("knots", "neighbours"), [(1, 5), (6, 5), (9, 60)])
def test_knots_are_those_of_the_papers(
    uniform: bool, strategy: Any, knots: int, neighbours: int
) -> None:
    vocabulary = draw(60, 5)
    start = torch.cat([vocabulary[:2], draw(2, 5, seed=1)])  # of the vocabulary, and others
    word = vocabulary[[7, 8, 9, 7]]
    walk = Walk(knots, neighbours, strategy, uniform)
    found = walk.knots_of(vocabulary, start, word)
    for token in range(4):
        expected = torch.stack(walked(vocabulary, start[token], word[token], walk))
        torch.testing.assert_close(found[:, token], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
@pytest.mark.parametrize("baseline", ["pad", "mean"])
def test_knots_are_monotone_and_words_in_every_dimension_that_moves_further_than_its_step(
    bert: Any, path: Any, baseline: str
) -> None:
    points = points_of(task_of(bert, path, baseline=baseline))
    start, word = points[0], points[-1]
    assert torch.equal(points, points.clamp(torch.minimum(start, word), torch.maximum(start, word)))
    steps = points.diff(dim=0) * (word - start).sign()
    assert (steps >= 0).all()
    vocabulary = bert.get_input_embeddings().weight.detach()
    knot, after = points[1:-1], points[2:]
    stepped = torch.isclose(knot, after - (after - start) / path.walk.knots, rtol=0, atol=1e-14)
    of_a_word = (knot[:, :, None] == vocabulary) | stepped[:, :, None]
    assert of_a_word.all(3).any(2)[:, 1:-1].all(), "one and the same word in all dimensions"
    assert not stepped[:, 1:-1].all()


def test_the_left_sum_over_the_knots_is_the_published_formula(bert: Any) -> None:
    for path in PATHS:
        task = task_of(bert, path)
        points = points_of(task)
        moved = points.clone().requires_grad_()
        logits = bert(inputs_embeds=moved).logits[:, 1]
        [gradient] = torch.autograd.grad(logits.sum(), moved)
        published = (gradient[:-1] * points.diff(dim=0)).sum(0)
        with pytest.warns(ig.NotConvergedWarning):
            found = explained(bert, TEXT, path=path, rule=LEFT)
        torch.testing.assert_close(found.values, published, rtol=0, atol=1e-12)


def test_integrated_legs_leave_less_than_the_left_sum_over_thirty_knots(bert: Any) -> None:
    for kind in (DIG, UDIG):
        with pytest.warns(ig.NotConvergedWarning):
            left = explained(bert, TEXT, path=kind(knots=30), rule=LEFT)
        ours = explained(bert, TEXT, path=kind(), tol=1e-3)
        assert abs(left.residual / left.delta) > 0.02
        assert abs(ours.residual / ours.delta) < 1e-3
        assert ours.provenance["path"] == kind.name


# -- on the engine --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_every_leg_is_complete(bert: Any, path: Any) -> None:
    task = task_of(bert, path, texts=[TEXT, OTHER], tol=1e-8, budget=4096)
    for number, (_, whole) in enumerate(task.integrals()):
        example = task.examples[number]
        legs = task.path.legs(example, task.starts[number][0])
        parts = replace(
            task,
            examples=[replace(example, inputs=end) for _, end in legs],
            starts=[[start] for start, _ in legs],
            path=ig.Straight(),
        )
        found = [integral for _, integral in parts.integrals()]
        assert max(abs(integral.residual) for integral in found) < 1e-6
        assert abs(whole.residual) < 1e-6
        total = sum(integral.values["embeddings"] for integral in found)
        torch.testing.assert_close(whole.values["embeddings"], total, rtol=0, atol=1e-6)


def test_a_model_that_is_linear_in_its_embeddings_does_not_see_the_path() -> None:
    torch.manual_seed(0)
    model = BagOfWords(config()).double().eval()
    for path in (ig.Straight(), *PATHS):
        found = explained(model, TEXT, path=path)
        vectors = model.words.weight.detach()
        ids = torch.tensor([WORDS.index(word) for word in TEXT.split()])
        by_hand = (vectors[ids] - vectors[0]) * model.head.weight.detach()[1]
        torch.testing.assert_close(found.values[1:-1], by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_special_tokens_stay_and_get_zero(bert: Any, path: Any) -> None:
    points = points_of(task_of(bert, path))
    assert (points[:, [0, -1]] == points[0, [0, -1]]).all()
    assert (explained(bert, TEXT, path=path).values[[0, -1]] == 0).all()


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_a_batch_gives_what_single_calls_give_and_the_same_again(bert: Any, path: Any) -> None:
    texts = [TEXT, "no plot", OTHER, "film film film"]
    together, again = (explained(bert, texts, path=path, tol=1e-3) for _ in range(2))
    for text, one, other in zip(texts, together, again, strict=True):
        alone = explained(bert, text, path=path, tol=1e-3)
        torch.testing.assert_close(one.values, alone.values, rtol=0, atol=1e-12)
        assert torch.equal(one.values, other.values)


def test_the_way_of_a_word_depends_on_the_word_and_its_baseline_only(bert: Any) -> None:
    one, other = (
        points_of(task_of(bert, UDIG(), texts=[text])) for text in ("dull film", "film plot film")
    )
    assert torch.equal(one[:, 2], other[:, 1]) and torch.equal(one[:, 2], other[:, 3])


def test_targets_of_one_text_share_its_knots(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    search = anchors.nearest
    monkeypatch.setattr(anchors, "nearest", lambda *args: calls.append(1) or search(*args))
    options = {"tokenizer": make_tokenizer(), "path": DIG(knots=3)}
    both = ig.attribute(bert, TEXT, targets=[0, 1], **options)
    assert len(calls) == 3
    for target, found in enumerate(both):
        alone = ig.attribute(bert, TEXT, target=target, **options)
        torch.testing.assert_close(found.values, alone.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_source_and_prefix_of_a_translation_move_at_once(path: Any) -> None:
    torch.manual_seed(0)
    sizes = {
        f"{part}_{name}": 16
        for part in ("encoder", "decoder")
        for name in ("layers", "attention_heads", "ffn_dim")
    }
    sizes |= {name: 1 for name in sizes if not name.endswith("dim")}
    config = BartConfig(
        vocab_size=len(WORDS), d_model=16, init_std=0.3, scale_embedding=True, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, **sizes,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).double().eval()
    domain = TextDomain(model, tokenizer=make_tokenizer())
    raw = {"text": "a dull film", "generated": "no plot"}
    options = {"path": path, "targets": "each", "baseline": "mask"}
    with domain.prepared():
        task = ig.prepare(domain, [raw], **options)
        legs = task.path.legs(task.examples[0], task.starts[0][0])
        vocabulary = domain.vocabulary("decoder_embeddings")
    assert len(legs) == path.walk.knots + 1
    for name, word in task.examples[0].inputs.items():
        points = torch.stack([legs[0][0][name], *(end[name] for _, end in legs)])
        moves = task.examples[0].units.index[name] >= 0
        assert torch.equal((points[1:] != points[:-1]).any(2).any(0), moves)
        assert torch.equal(points[-1], word)
    steps = torch.stack([end["decoder_embeddings"] for _, end in legs[:-1]])[:, 1]
    assert (steps[-1] == vocabulary).any(1).any(), "as the decoder scales them"
    for result in ig.attribute(model, raw, domain=domain, tol=1e-6, budget=4096, **options):
        assert abs(result.residual) < 1e-6 and result.status == "converged"


def test_half_precision_keeps_the_order_of_the_knots(bert: Any) -> None:
    points = points_of(task_of(bert.to(torch.bfloat16), DIG()))
    assert points.dtype == torch.bfloat16
    low, high = torch.minimum(points[0], points[-1]), torch.maximum(points[0], points[-1])
    assert ((low <= points) & (points <= high)).all()


# -- what can be odd ------------------------------------------------------------------------------


def test_a_word_that_is_its_own_baseline_does_not_move(bert: Any) -> None:
    task = task_of(bert, DIG(), texts=["dull film"])
    start = task.examples[0].inputs["embeddings"].clone()
    start[2] = bert.get_input_embeddings().weight[0].detach()  # film from the pad, dull stays
    points = points_of(task_of(bert, DIG(), texts=["dull film"], baseline=start))
    assert (points[:, 1] == points[0, 1]).all()
    assert (points[1:, 2] != points[:-1, 2]).any()
    nothing = explained(bert, "dull film", baseline=task.examples[0].inputs, path=DIG())
    assert (nothing.values == 0).all() and nothing.delta == 0


def test_a_small_vocabulary_runs_out_of_words_and_goes_on_to_the_baseline() -> None:
    vocabulary = draw(4, 3)
    for uniform in (False, True):
        walk = Walk(6, 500, "greedy", uniform)
        found = walk.knots_of(vocabulary, vocabulary[:1], vocabulary[1:2])[:, 0]
        assert (found[:4] == vocabulary[0]).all(), "two other words, then the baseline"
        assert (found[4:] != vocabulary[0]).any(1).all()
        nowhere = walk.knots_of(vocabulary[:2], vocabulary[:1], vocabulary[1:2])[:, 0]
        assert (nowhere == vocabulary[0]).all()


def test_legs_of_no_length_are_dropped(bert: Any) -> None:
    path = DIG(knots=40)
    task = task_of(bert, path, texts=["film"])
    legs = task.path.legs(task.examples[0], task.starts[0][0])
    assert len(legs) < len(WORDS)
    assert all(not torch.equal(a["embeddings"], b["embeddings"]) for a, b in legs)
    found = explained(bert, "film", path=path)
    assert found.status == "converged"


def test_copies_of_the_word_and_of_the_baseline_are_no_anchors() -> None:
    vocabulary = draw(30, 4)
    copied = torch.cat([vocabulary[[0, 1, 0, 1]], vocabulary])
    for uniform in (False, True):
        for strategy in ("greedy", "maxcount"):
            # Four neighbours more leave as many others when the copies are the nearest.
            plain = Walk(4, 30, strategy, uniform)
            more = Walk(4, 34, strategy, uniform)
            ends = vocabulary[:1], vocabulary[1:2]
            assert torch.equal(plain.knots_of(vocabulary, *ends), more.knots_of(copied, *ends))


@pytest.mark.parametrize("chunk", [7, 2**24])
def test_nearest_words_are_found_in_parts_of_the_vocabulary(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "VOCABULARY_CHUNK", chunk)
    largest, addmm = [], torch.addmm
    monkeypatch.setattr(
        torch,
        "addmm",
        lambda s, a, b, **more: largest.append(len(a) * b.shape[1]) or addmm(s, a, b, **more),
    )
    vocabulary, points = draw(300, 7), draw(5, 7, seed=1)
    distance = (vocabulary[None] - points[:, None]).norm(dim=2)
    assert torch.equal(nearest(vocabulary, points, 9), distance.argsort(dim=1)[:, :9])
    assert nearest(vocabulary[:4], points, 9).shape == (5, 4)
    assert max(largest) <= max(chunk, len(points))


def test_knots_do_not_depend_on_how_many_candidates_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vocabulary = draw(60, 5)
    walk = Walk(4, 20, "greedy", False)
    ends = draw(9, 5, seed=1), vocabulary[:9]
    whole = walk.knots_of(vocabulary, *ends)
    monkeypatch.setattr(anchors, "CANDIDATE_CHUNK", 1)
    assert torch.equal(walk.knots_of(vocabulary, *ends), whole)


@pytest.mark.parametrize("kind", [DIG, UDIG])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"knots": 0}, "knots must be a whole number of at least 1 (got 0)"),
        ({"knots": 2.0}, "knots must be a whole number"),
        ({"knots": True}, "knots must be a whole number"),
        ({"neighbours": 0}, "neighbours must be a whole number of at least 1 (got 0)"),
        ({"strategy": "nearest"}, "strategy must be 'greedy' or 'maxcount' (got 'nearest')"),
    ],
)
def test_bad_arguments_are_named(kind: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as raised:
        kind(**options)
    assert told in str(raised.value)


def test_the_paths_are_for_texts_and_need_the_model() -> None:
    with pytest.raises(InputError, match="the path 'dig' is for text, not for 'tensor'"):
        ig.attribute(lambda x: x.sum(1), torch.ones(1, 2), path=DIG())
    with pytest.raises(InputError, match="vocabulary"):
        example = ig.Example({"embeddings": torch.ones(2, 3)})
        UDIG().legs(example, {"embeddings": torch.zeros(2, 3)})


def test_the_paths_are_found_by_name(bert: Any) -> None:
    for name in ("dig", "udig"):
        found = explained(bert, TEXT, path=name)
        assert (found.status, found.provenance["path"]) == ("converged", name)
