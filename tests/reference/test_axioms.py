"""What must hold for every model, input and baseline: the axioms, as properties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ig_core as ig

WIDTH = 4
DTYPES = [torch.float64, torch.float32]
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-2, 2).filter(lambda a: abs(a) > 0.1)
Function = Callable[[Tensor], Tensor]


class Draw:
    """Random tensors of one dtype from one seed."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def network(self, width: int = WIDTH) -> Function:
        """A smooth network of two layers with one output."""
        first, bias, second = self(width, 6) / width**0.5, self(6), self(6)
        return lambda x: torch.tanh(x @ first + bias) @ second


def explained(model: Function, x: Tensor, start: Tensor, **options: object) -> Tensor:
    options = {"rule": "gauss-legendre", "steps": 100} | options
    return torch.stack([r.values for r in ig.attribute(model, x, baseline=start, **options)])


def same(mine: Tensor, theirs: Tensor, dtype: torch.dtype = torch.float64) -> None:
    """Equal to rounding, relative to the largest attribution of the batch."""
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=CLOSE[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds)
def test_attributions_sum_to_the_difference_of_the_output(dtype: torch.dtype, seed: int) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(2, WIDTH), draw(2, WIDTH)
    values = explained(model, x, start)
    same(values.sum(1), model(x) - model(start), dtype)


@given(seed=seeds, tol=st.sampled_from([1e-1, 1e-2, 1e-3]))
def test_the_adaptive_rule_keeps_its_word_about_the_sum(seed: int, tol: float) -> None:
    draw = Draw(seed)
    for result in ig.attribute(draw.network(), 3 * draw(2, WIDTH), tol=tol, budget=2**12):
        assert result.status == "converged"
        size = max(abs(result.delta), 0.01 * float(result.values.abs().sum()))
        assert abs(float(result.values.sum()) - result.delta) <= tol * size * (1 + 1e-9)


@given(seed=seeds, a=scales, b=scales)
def test_a_linear_combination_of_models_gets_that_of_the_attributions(
    seed: int, a: float, b: float
) -> None:
    draw = Draw(seed)
    f, g, x, start = draw.network(), draw.network(), draw(2, WIDTH), draw(2, WIDTH)
    mixed = explained(lambda x: a * f(x) + b * g(x), x, start)
    same(mixed, a * explained(f, x, start) + b * explained(g, x, start))


@given(seed=seeds)
def test_two_implementations_of_one_function_get_the_same(seed: int) -> None:
    draw = Draw(seed)
    first, bias, second = draw(WIDTH, 6), draw(6), draw(6)
    order = torch.randperm(6, generator=draw.generator)

    def other(x: Tensor) -> Tensor:
        doubled = torch.cat([first[:, order], first[:, order]], 1) * 2
        hidden = 2 * torch.sigmoid(x @ doubled + 2 * bias[order].repeat(2)) - 1
        return (hidden * second[order].repeat(2) / 2).sum(1)

    x, start = draw(2, WIDTH), draw(2, WIDTH)
    same(
        explained(lambda x: torch.tanh(x @ first + bias) @ second, x, start),
        explained(other, x, start),
    )


@given(seed=seeds, dummy=st.integers(0, WIDTH - 1), adaptive=st.booleans())
def test_a_feature_that_the_model_ignores_gets_exactly_zero(
    seed: int, dummy: int, adaptive: bool
) -> None:
    draw = Draw(seed)
    inner = draw.network(WIDTH - 1)
    used = [i for i in range(WIDTH) if i != dummy]
    options = {"rule": "adaptive", "steps": None} if adaptive else {}
    values = explained(lambda x: inner(x[:, used]), draw(2, WIDTH), draw(2, WIDTH), **options)
    assert (values[:, dummy] == 0).all()
    assert (values[:, used] != 0).all()


@given(seed=seeds, still=st.integers(0, WIDTH - 1))
def test_a_feature_that_does_not_move_gets_exactly_zero(seed: int, still: int) -> None:
    draw = Draw(seed)
    x, start = draw(2, WIDTH), draw(2, WIDTH)
    start[:, still] = x[:, still]
    assert (explained(draw.network(), x, start)[:, still] == 0).all()


@given(seed=seeds)
def test_two_features_that_can_be_swapped_get_the_same(seed: int) -> None:
    draw = Draw(seed)
    inner, x, start = draw.network(), draw(2, WIDTH), draw(2, WIDTH)
    x[:, 1], start[:, 1] = x[:, 0], start[:, 0]
    values = explained(lambda x: inner(x) + inner(x[:, [1, 0, 2, 3]]), x, start)
    same(values[:, 0], values[:, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, a=st.floats(0.5, 2), b=st.floats(-1, 1))
def test_units_of_measurement_do_not_matter(
    dtype: torch.dtype, seed: int, a: float, b: float
) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(2, WIDTH), draw(2, WIDTH)
    other = explained(lambda y: model((y - b) / a), a * x + b, a * start + b)
    same(other, explained(model, x, start), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds)
def test_the_order_of_features_and_of_examples_does_not_matter(
    dtype: torch.dtype, seed: int
) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(5, WIDTH), draw(5, WIDTH)
    feature = torch.randperm(WIDTH, generator=draw.generator)
    example = torch.randperm(5, generator=draw.generator)
    turned = explained(
        lambda x: model(x[:, feature.argsort()]), x[example][:, feature], start[example][:, feature]
    )
    same(turned, explained(model, x, start)[example][:, feature], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, cut=st.integers(1, 6), adaptive=st.booleans())
def test_the_other_examples_of_a_batch_do_not_matter(
    dtype: torch.dtype, seed: int, cut: int, adaptive: bool
) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(7, WIDTH), draw(7, WIDTH)
    options = {"rule": "adaptive", "steps": None} if adaptive else {}
    parts = [
        explained(model, x[rows], start[rows], **options) for rows in (slice(0, cut), slice(cut, 7))
    ]
    same(torch.cat(parts), explained(model, x, start, **options), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, capacity=st.integers(1, 100))
def test_the_size_of_a_chunk_does_not_matter(dtype: torch.dtype, seed: int, capacity: int) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(3, WIDTH), draw(3, WIDTH)
    chunked = explained(model, x, start, layouts={"x": ig.Stack(capacity=capacity)})
    same(chunked, explained(model, x, start), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds)
def test_the_way_back_takes_what_the_way_there_gave(dtype: torch.dtype, seed: int) -> None:
    draw = Draw(seed, dtype)
    model, x, start = draw.network(), draw(2, WIDTH), draw(2, WIDTH)
    same(explained(model, start, x), -explained(model, x, start), dtype)


@given(seed=seeds, stops=st.integers(0, 3))
def test_every_leg_of_a_piecewise_path_is_complete(seed: int, stops: int) -> None:
    draw = Draw(seed)
    model, x, start = draw.network(), draw(1, WIDTH), draw(1, WIDTH)
    points = list(draw(stops, WIDTH))
    whole = explained(model, x, start, path=ig.Piecewise(points))
    ends = [start[0], *points, x[0]]
    legs = [explained(model, end[None], begin) for begin, end in pairwise(ends)]
    for leg, (begin, end) in zip(legs, pairwise(ends), strict=True):
        same(leg.sum(), model(end[None])[0] - model(begin[None])[0])
    same(whole, torch.stack(legs).sum(0))


@given(seed=seeds, count=st.integers(2, 4))
def test_several_baselines_give_the_mean_and_the_spread(seed: int, count: int) -> None:
    draw = Draw(seed)
    model, x, starts = draw.network(), draw(1, WIDTH), draw(count, WIDTH)
    [result] = ig.attribute(model, x, baseline=list(starts), rule="gauss-legendre", steps=100)
    each = torch.cat([explained(model, x, start) for start in starts])
    same(result.values, each.mean(0))
    assert result.spread is not None
    same(result.spread, each.std(0))
    assert result.at_baseline == pytest.approx(float(model(starts).mean()), abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_a_ragged_batch_gives_what_each_example_gives_alone(
    dtype: torch.dtype, seed: int, lengths: list[int]
) -> None:
    draw = Draw(seed, dtype)
    inner = draw.network(2)

    class Summed(ig.Domain):
        name = "summed"
        layouts = {"padded": ig.Pad(), "joined": ig.Cat()}  # noqa: RUF012

        def encode(self, raw, target=None):
            return ig.Example({"padded": raw, "joined": raw.flip(0)})

        def forward(self, rows):
            sizes = rows.sizes("padded")
            mask = torch.arange(rows["padded"].shape[1]) < sizes[:, None]
            padded = (inner(rows["padded"].flatten(0, 1)).view(mask.shape) * mask).sum(1)
            joined = inner(rows["joined"])
            return padded * torch.zeros(len(rows), dtype=dtype).index_add(
                0, rows.owners("joined"), joined
            )

    raws = [draw(length, 2) for length in lengths]
    options = {"domain": Summed(inner), "rule": "gauss-legendre", "steps": 32, "tol": 0.9}
    packed = ig.attribute(inner, raws, **options)
    for result, raw in zip(packed, raws, strict=True):
        alone = ig.attribute(inner, [raw], **options)[0]
        for name in ("padded", "joined"):
            same(result.tensors[name], alone.tensors[name], dtype)
            assert result.tensors[name].shape == raw.shape
