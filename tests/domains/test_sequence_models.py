"""Models that read sequences, of every kind: each gives what it gives one sequence at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

import ig_core as ig
from ig_sequences.domain import SequenceDomain
from ig_sequences.recurrent import unpacked_where_alike

LENGTHS = (6, 2, 9, 1, 6)
NODES = {"rule": "gauss-legendre", "steps": 5}
"""A fixed rule, so that what is compared has the same points whatever rows share a pass."""


def ragged(
    lengths: Sequence[int] = LENGTHS, dtype: torch.dtype = torch.float64, width: int = 3
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for n in lengths]


def values_by_hand(f: Callable[[Tensor], Tensor], x: Tensor, start: float = 0.0) -> Tensor:
    """IG of one sequence by Gauss-Legendre nodes, one plain pass each."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES["steps"])
    total = torch.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        point = (start + (x - start) * ((node + 1) / 2)).requires_grad_(True)
        total += weight / 2 * torch.autograd.grad(f(point), point)[0]
    return (x - start) * total


def explain(model: Any, raw: Any, **options: Any) -> Any:
    return ig.attribute(model, raw, **{"domain": "sequences", **NODES, **options})


def assert_same(
    results: Sequence[ig.Attribution], expected: Sequence[Tensor], tol: float = 1e-12
) -> None:
    assert len(results) == len(expected)
    for result, values in zip(results, expected, strict=True):
        assert result.values.shape == values.shape
        assert (result.values - values).abs().max() <= tol * values.abs().max()
        assert values.abs().max() > 1e-6


# -- RNN, LSTM, GRU -----------------------------------------------------------------------------


class Net(nn.Module):
    """A recurrent layer and a linear one on what it says at every step or of the whole."""

    def __init__(self, kind: type[nn.RNNBase], reads: str, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = options.pop("batch_first", True)
        self.rnn = kind(3, 5, batch_first=self.first, **options)
        self.head = nn.Linear(5 * (1 + self.rnn.bidirectional), 4)
        self.reads = reads
        self.double()

    def states(self, x: Tensor | PackedSequence, h0: Any = None) -> tuple[Any, Tensor]:
        found, last = self.rnn(x, h0)
        last = last[0] if isinstance(last, tuple) else last
        return found, last[-1 - self.rnn.bidirectional :].transpose(0, 1).flatten(1)


class ReadsPadded(Net):
    """Padded input, lengths, packed inside; answers once per sequence or at every step."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, self.first, enforce_sorted=False)
        found, last = self.states(packed)
        if self.reads == "end":
            return self.head(last)
        return self.head(pad_packed_sequence(found, self.first)[0])


class ReadsPacked(Net):
    """A packed input; answers once per sequence, or packed at every step."""

    def forward(self, x: PackedSequence) -> Any:
        found, last = self.states(x)
        if self.reads == "end":
            return self.head(last)
        return PackedSequence(self.head(found.data), *found[1:])


class ReadsOne(Net):
    """Knows nothing of lengths."""

    def forward(self, x: Tensor) -> Tensor:
        found, last = self.states(x)
        return self.head(last if self.reads == "end" else found)


KINDS = (nn.RNN, nn.LSTM, nn.GRU)
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 2, "dropout": 0.5},
    "bidirectional": {"bidirectional": True, "num_layers": 2},
    "time-first": {"batch_first": False},
    "time-first-bidirectional": {"batch_first": False, "bidirectional": True},
}


@pytest.mark.parametrize("reads", ["end", "steps"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_padded_and_one_by_one_agree(kind: type[nn.RNNBase], shape: str, reads: str) -> None:
    options = SHAPES[shape]
    one = ReadsOne(kind, reads, **options).eval()
    first = options.get("batch_first", True)
    axes = "ntf" if first else "tnf"

    def alone(x: Tensor) -> Tensor:
        out = one(x[None] if first else x[:, None])
        return out[0, 1] if reads == "end" else (out[0] if first else out[:, 0])[-1, 1]

    raw = ragged()
    expected = [values_by_hand(alone, x) for x in raw]
    step = "last" if reads == "steps" else None
    for model in (one, ReadsPadded(kind, reads, **options), ReadsPacked(kind, reads, **options)):
        packed = isinstance(model, ReadsPacked)
        found = explain(model, raw, target=1, step=step, axes=axes, packed=packed)
        assert_same(found, expected)
        assert all(a.reason == "" for a in found)
        padded = pad_sequence(raw, batch_first=first, padding_value=7.0)
        again = explain(
            model, padded, lengths=LENGTHS, target=1, step=step, axes=axes, packed=packed
        )
        assert all(torch.equal(a.values, b.values) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_they_agree_to_1e_6(kind: type[nn.RNNBase]) -> None:
    raw = ragged((40, 7, 23, 40, 1, 12), torch.float32)
    model = ReadsPadded(kind, "end", bidirectional=True).float()
    alone = [explain(model, x, target=1).values for x in raw]
    assert_same(explain(model, raw, target=1), alone, tol=1e-6)


def test_lstms_in_float32_run_by_length_which_is_faster_and_gives_the_same() -> None:
    raw = ragged((40, 7, 23, 40), torch.float32)
    seen: list[tuple[int, ...]] = []
    for kind, passes in ((nn.LSTM, 3), (nn.GRU, 1)):
        model = ReadsPadded(kind, "end").float()
        model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
        alone = [explain(model, x, target=1).values for x in raw]
        found = explain(model, raw, target=1)
        assert_same(found, alone, tol=1e-6)
        assert sum(rows for rows, *_ in seen[-passes:]) == len(raw) * NODES["steps"]
        assert all(a.reason == "" for a in found)


@pytest.mark.parametrize("model", [ReadsPadded, ReadsPacked, ReadsOne])
def test_a_raw_packed_sequence_is_a_batch_in_the_order_that_it_was_made(model: type[Net]) -> None:
    raw, net = ragged(), model(nn.GRU, "end")
    packed = pack_sequence(raw, enforce_sorted=False)
    options = {"target": 1, "packed": model is ReadsPacked}
    for a, b in zip(explain(net, packed, **options), explain(net, raw, **options), strict=True):
        assert torch.equal(a.values, b.values)
    assert SequenceDomain.accepts(net, packed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_of_one_length_are_computed_as_a_tensor_all_the_same(
    kind: type[nn.RNNBase], shape: str
) -> None:
    torch.manual_seed(0)
    rnn = kind(3, 5, **SHAPES[shape]).double().eval()
    packed = pack_sequence(ragged((4, 4, 4)), enforce_sorted=False)
    packed = packed._replace(
        sorted_indices=torch.tensor([2, 0, 1]), unsorted_indices=torch.tensor([1, 2, 0])
    )
    layers = rnn.num_layers * (1 + rnn.bidirectional)
    state = torch.randn(layers, 3, 5, dtype=torch.float64)
    state = (state, state + 1) if kind is nn.LSTM else state
    for given in ((packed,), (packed, state)):
        expected, last = rnn(*given)
        with unpacked_where_alike([rnn]):
            found, own = rnn(*given)
        assert isinstance(found, PackedSequence)
        assert (found.data - expected.data).abs().max() < 1e-14
        assert all(a is b for a, b in zip(found[1:], expected[1:], strict=True))
        pairs = zip(own, last, strict=True) if kind is nn.LSTM else [(own, last)]
        assert all((a - b).abs().max() < 1e-14 for a, b in pairs)


@pytest.mark.parametrize("packs", [False, True])
def test_a_sequence_of_4_000_steps_takes_no_more_passes_than_a_short_one(packs: bool) -> None:
    """Cost is linear in time if as many rows share a pass, and no packed step is cut out of all."""
    torch.manual_seed(0)
    model = (ReadsPadded if packs else ReadsOne)(nn.GRU, "end").float()
    seen: list[tuple[int, int]] = []

    def watched(x: Tensor, *lengths: Tensor) -> Tensor:
        out = model(x, *lengths)
        if out.requires_grad:
            seen.append((len(x), x.shape[1]))
        return out

    def with_lengths(x: Tensor, lengths: Tensor) -> Tensor:
        return watched(x, lengths)

    passes = {}
    for time in (100, 4_000):
        seen.clear()
        x = torch.randn(time, 3, generator=torch.Generator().manual_seed(1))
        result = explain(with_lengths if packs else watched, x, target=1)
        assert result.status == "converged" and result.values.shape == (time, 3)
        passes[time] = [rows for rows, _ in seen]
    assert passes[100] == passes[4_000]


# -- a bare RNN ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_rnn_is_explained_at_the_last_state_of_each_direction(
    kind: type[nn.RNNBase], bidirectional: bool, batch_first: bool
) -> None:
    torch.manual_seed(0)
    options = {"bidirectional": bidirectional, "batch_first": batch_first}
    rnn = kind(3, 4, num_layers=2, **options).double()
    unit = 6 if bidirectional else 2  # unit 2 of the way back

    def alone(x: Tensor) -> Tensor:
        out = rnn(x[None] if batch_first else x[:, None])[0]
        out = out[0] if batch_first else out[:, 0]
        return out[0, unit] if bidirectional else out[-1, unit]

    raw = ragged()
    found = explain(rnn, raw, target=unit)
    assert_same(found, [values_by_hand(alone, x) for x in raw])
    if bidirectional:
        assert found[0].display["output"] == "last state of each direction"
        assert found[0].display["bidirectional"] is True
    else:
        assert_same(explain(rnn, raw, target=unit, step=-1), [a.values for a in found])


def test_a_bare_rnn_reads_a_ragged_batch_in_one_packed_pass() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4).double()
    seen: list[Any] = []
    rnn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    explain(rnn, ragged(), target=0)
    assert isinstance(seen[0], PackedSequence)
    assert seen[-1].batch_sizes.tolist() == [25, 20, 15, 15, 15, 15, 5, 5, 5]


def test_a_padded_tensor_of_a_time_first_rnn_is_time_first() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 4).double()
    raw = ragged((5, 5, 5))
    found = explain(rnn, torch.stack(raw, dim=1), target=2)
    assert_same(found, [values_by_hand(lambda x: rnn(x[:, None])[0][-1, 0, 2], x) for x in raw])
    assert explain(rnn, raw[0], target=2).values.shape == (5, 3)


def test_the_states_of_a_bare_rnn_are_a_target_of_layer_and_unit() -> None:
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4, num_layers=2).double()
    raw = ragged()
    found = explain(rnn, raw, output=1, target=(0, 3))
    assert_same(found, [values_by_hand(lambda x: rnn(x[:, None])[1][0, 0, 3], x) for x in raw])


# -- h0 and c0 ----------------------------------------------------------------------------------


class Begun(Net):
    """Takes its first state, an LSTM's as a pair or apart."""

    def forward(self, x: Tensor, lengths: Tensor, h0: Any) -> Tensor:
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.head(self.states(packed, h0)[1])


class BegunApart(Begun):
    def forward(self, x: Tensor, lengths: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
        return super().forward(x, lengths, (h0, c0))


def first_state(kind: type[nn.RNNBase], layers: int = 2) -> Any:
    generator = torch.Generator().manual_seed(2)
    made = [
        torch.randn(layers, len(LENGTHS), 5, generator=generator, dtype=torch.float64)
        for _ in range(2)
    ]
    return tuple(made) if kind is nn.LSTM else made[0]


def of(state: Any, i: int) -> Any:
    if isinstance(state, tuple):
        return tuple(of(one, i) for one in state)
    return state[:, i : i + 1].contiguous()


@pytest.mark.parametrize("kind", KINDS)
def test_every_sequence_begins_with_its_own_state(kind: type[nn.RNNBase]) -> None:
    state, raw = first_state(kind), ragged()
    models = [Begun(kind, "end", bidirectional=True)]
    models += [BegunApart(kind, "end", bidirectional=True)] if kind is nn.LSTM else []

    def alone(x: Tensor, i: int) -> Tensor:
        return models[0](x[None], torch.tensor([len(x)]), of(state, i))[0, 1]

    expected = [values_by_hand(lambda x, i=i: alone(x, i), x) for i, x in enumerate(raw)]
    for model in models:
        assert_same(explain(model, raw, target=1, state=state), expected)
    single = explain(models[0], raw[2], target=1, state=of(state, 2))
    assert_same([single], expected[2:3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_rnn_begins_with_the_state_that_is_given(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    rnn, state, raw = kind(3, 5, num_layers=2).double(), first_state(kind), ragged()
    found = explain(rnn, raw, target=1, state=state)
    for i, (x, result) in enumerate(zip(raw, found, strict=True)):
        values = values_by_hand(lambda x, i=i: rnn(x[:, None], of(state, i))[0][-1, 0, 1], x)
        assert_same([result], [values])
    assert found[0].at_baseline != explain(rnn, raw, target=1)[0].at_baseline


# -- at any step --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "at", "told"),
    [
        ("last", lambda n: n - 1, "last step"),
        ("middle", lambda n: (n - 1) // 2, None),
        (0, lambda n: 0, "step 0"),
        (-1, lambda n: n - 1, None),
        ([3, -1, 0, 0, 5], None, None),
        ("mean", None, "mean over steps"),
    ],
    ids=["last", "middle", "first", "from the end", "own", "mean"],
)
def test_the_output_is_read_where_step_says(step: Any, at: Any, told: str | None) -> None:
    raw, one = ragged(), ReadsOne(nn.LSTM, "steps")
    found = {
        kind: explain(kind(nn.LSTM, "steps"), raw, target=1, step=step, packed=kind is ReadsPacked)
        for kind in (ReadsOne, ReadsPadded, ReadsPacked)
    }
    for i, x in enumerate(raw):
        place = step[i] % len(x) if isinstance(step, list) else at and at(len(x))

        def alone(x: Tensor, place: int | None = place) -> Tensor:
            out = one(x[None])[0, :, 1]
            return out.mean() if place is None else out[place]

        for results in found.values():
            assert_same([results[i]], [values_by_hand(alone, x)])
            shown = results[i].display
            assert told is None or shown["output"] == told
            own_end = place is None or place == len(x) - 1
            assert shown.get("step") == (None if own_end else place)


def test_steps_after_the_explained_one_get_exactly_zero() -> None:
    for result in explain(ReadsPadded(nn.GRU, "steps"), ragged((6, 9)), target=1, step=3):
        assert bool((result.values[4:] == 0).all())
        assert bool((result.values[:4] != 0).all())


def test_a_target_of_step_and_class_reads_ragged_outputs() -> None:
    raw, model = ragged((4, 7, 5)), ReadsOne(nn.GRU, "steps")
    found = explain(model, raw, target=[(3, 1), (6, 0), (0, 2)])
    assert_same(found, [a.values for a in (
        explain(model, raw[0], target=1, step=3),
        explain(model, raw[1], target=0, step=6),
        explain(model, raw[2], target=2, step=0),
    )])  # fmt: skip
    with pytest.raises(ig.TargetError, match=r"target 5 is out of range.*has 5 entries"):
        explain(model, raw, target=(5, 1))
    several = explain(model, raw, targets=[(3, 1), (0, 2)])
    assert_same([several[0][0], several[2][1]], [found[0].values, found[2].values])


def test_every_row_of_as_many_steps_as_rows_is_read_by_time() -> None:
    """5 nodes and 5 steps of one sequence: (time, rows) cannot be told from (rows, time)."""
    model = ReadsOne(nn.GRU, "steps", batch_first=False)
    x = ragged((5,))[0]
    values = values_by_hand(lambda z: model(z[:, None])[3, 0, 1], x)
    assert_same([explain(model, x, axes="tnf", target=(3, 1))], [values])
    assert_same([explain(model, x, axes="tnf", target=1, step=3)], [values])


# -- regression, next step, series of numbers ---------------------------------------------------


def test_regression_and_next_step_need_no_target() -> None:
    class NextValue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 3)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    model, raw = NextValue(), ragged()
    found = explain(model, raw, target=2, step="last")  # feature 2 of the step that comes next
    assert_same(found, [values_by_hand(lambda x: model(x[None])[0, -1, 2], x) for x in raw])
    one = explain(lambda x: model(x)[:, :, 0], raw, step="last")
    assert_same(one, [values_by_hand(lambda x: model(x[None])[0, -1, 0], x) for x in raw])


@pytest.mark.parametrize("axes", ["nt", "tn"])
def test_a_series_of_numbers_needs_no_features(axes: str) -> None:
    weights = torch.linspace(-1, 1, 9, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        x = x if axes == "nt" else x.t()
        assert x.dim() == 2
        return (x**2 * weights[: x.shape[1]]).sum(1)

    raw = [x[:, 0] for x in ragged()]
    for x, result in zip(raw, explain(model, raw, axes=axes), strict=True):
        assert torch.allclose(result.values[:, 0], x**2 * weights[: len(x)], rtol=0, atol=1e-13)
    together = torch.stack([raw[0], raw[4]], dim=axes.index("n"))
    assert len(explain(model, together, axes=axes)) == 2
    given = explain(model, raw[0], axes=axes, baseline=torch.ones(6, dtype=torch.float64))
    assert given.at_baseline == pytest.approx(float(weights[:6].sum()), abs=1e-14)


# -- temporal CNNs ------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """Causal, dilated, with a normalisation; reads (n, features, t)."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv1d(3, 6, 3), nn.Conv1d(6, 6, 3, dilation=2)
        self.norm, self.head = nn.BatchNorm1d(6), nn.Conv1d(6, 4, 1)
        self.pool = pool
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(nn.functional.pad(x, (2, 0))))
        hidden = self.norm(torch.tanh(self.second(nn.functional.pad(hidden, (4, 0)))))
        out = self.head(hidden)
        return out.mean(2) if self.pool else out


@pytest.mark.parametrize("step", [None, "last", "mean", 0])
def test_a_temporal_cnn_reads_features_before_time(step: Any) -> None:
    model = Convolutions(pool=step is None).eval()
    raw = ragged()

    def alone(x: Tensor) -> Tensor:
        out = model(x.t()[None])[0, 1]
        return out if step is None else out.mean() if step == "mean" else out[step and -1]

    expected = [values_by_hand(alone, x) for x in raw]
    transposed = [x.t() for x in raw]
    assert_same(explain(model, transposed, axes="nft", target=1, step=step), expected)
    padded = pad_sequence(raw, True).transpose(1, 2)
    again = explain(model, padded, axes="nft", lengths=LENGTHS, target=1, step=step)
    assert_same(again, expected)


def test_a_cnn_that_answers_at_fewer_places_is_read_at_the_last_or_their_mean() -> None:
    conv = nn.Conv1d(3, 2, 3, stride=2).double()
    raw = ragged((9, 4))
    last = explain(conv, [x.t() for x in raw], axes="nft", target=1, step="last")
    assert_same(last, [values_by_hand(lambda x: conv(x.t()[None])[0, 1, -1], x) for x in raw])
    mean = explain(conv, [x.t() for x in raw], axes="nft", target=1, step="mean")
    assert_same(mean, [values_by_hand(lambda x: conv(x.t()[None])[0, 1].mean(), x) for x in raw])
    with pytest.raises(ig.OutputError, match="4 places of a sequence of 9 steps"):
        explain(conv, raw[0].t(), axes="nft", target=1, step=2)


# -- transformers -------------------------------------------------------------------------------


class Attentive(nn.Module):
    """Encoder layers over a linear embedding, and their mean; masked by lengths if it has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed, self.head = nn.Linear(3, 8), nn.Linear(8, 4)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.double()

    def pooled(self, x: Tensor, inside: Tensor | None) -> Tensor:
        beyond = None if inside is None else ~inside
        hidden = self.encoder(self.embed(x), src_key_padding_mask=beyond)
        if inside is None:
            return self.head(hidden.mean(1))
        hidden = torch.where(inside[..., None], hidden, 0.0)
        return self.head(hidden.sum(1) / inside.sum(1, keepdim=True))


class Masked(Attentive):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.pooled(x, torch.arange(x.shape[1]) < lengths[:, None])


class Unmasked(Attentive):
    def forward(self, x: Tensor) -> Tensor:
        return self.pooled(x, None)


@pytest.mark.parametrize("kind", [Masked, Unmasked])
def test_a_transformer_gives_what_it_gives_alone(kind: type[Attentive]) -> None:
    model, raw = kind().eval(), ragged()
    expected = [values_by_hand(lambda x: model.pooled(x[None], None)[0, 1], x) for x in raw]
    found = explain(model, raw, target=1)
    assert_same(found, expected, tol=1e-11)
    assert all(a.reason == "" for a in found)


# -- state spaces -------------------------------------------------------------------------------


class Diagonal(nn.Module):
    """h_t = a h_{t-1} + B x_t, y_t = C h_t, unrolled as a convolution (a diagonal SSM)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rates = nn.Parameter(torch.linspace(0.5, 0.95, 4))
        self.read, self.out = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        u, time = self.read(x), torch.arange(x.shape[1])
        lag = time[:, None] - time
        kernel = torch.where(lag[..., None] >= 0, self.rates ** lag.clamp(min=0)[..., None], 0.0)
        return self.out(torch.einsum("tsk,nsk->ntk", kernel, u))


def test_a_diagonal_state_space_credits_each_step_with_its_decayed_input() -> None:
    model, raw = Diagonal(), ragged()
    for x, result in zip(raw, explain(model, raw, target=1, step="last"), strict=True):
        lag = torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
        with torch.no_grad():
            weight = (model.rates ** lag[:, None] * model.out.weight[1]) @ model.read.weight
        assert torch.allclose(result.values, x * weight, rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def mamba() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=4, hidden_size=8, state_size=4, num_hidden_layers=2, use_mambapy=False
    )
    return transformers.MambaModel(config).eval().double()


def test_mamba_reads_embeddings_and_runs_by_length(mamba: nn.Module) -> None:
    def last(x: Tensor) -> Tensor:
        return mamba(inputs_embeds=x)[0]

    raw = ragged((5, 3, 5), width=8)
    found = explain(last, raw, target=1, step="last", baseline=3.0, tol=0.5)
    expected = [values_by_hand(lambda x: last(x[None])[0, -1, 1], x, start=3.0) for x in raw]
    assert_same(found, expected, tol=1e-9)


def test_mamba_tells_that_zero_is_no_baseline_and_converges_from_another_sequence(
    mamba: nn.Module,
) -> None:
    """RMSNorm sees no scale: from zero, most of what happens does so next to zero."""
    x, other = ragged((7, 7), width=8)
    asked = {"domain": "sequences", "target": 0, "step": "last"}
    fixed = {**asked, "rule": "gauss-legendre", "steps": 64}

    def last(z: Tensor) -> Tensor:
        return mamba(inputs_embeds=z)[0]

    with pytest.warns(ig.NotConvergedWarning, match="scale-invariant"):
        zero = ig.attribute(last, x, **fixed)
    assert zero.status == "budget" and "scale-invariant" in zero.reason
    assert abs(zero.residual / zero.delta) > 0.05
    with pytest.warns(ig.IGWarning, match="scale-invariant"):
        adaptive = ig.attribute(last, x, **asked)
    assert adaptive.status == "converged" and "scale-invariant" in adaptive.reason
    found = ig.attribute(last, x, baseline=other, **fixed)
    assert found.status == "converged" and found.reason == ""
    assert abs(found.residual / found.delta) < 1e-6


# -- encoders and decoders ----------------------------------------------------------------------


class Translator(nn.Module):
    """An encoder's last state begins a decoder, which reads the tokens before each of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.GRU(3, 6, batch_first=True)
        self.words, self.decoder = nn.Embedding(7, 4), nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, 7)
        self.double()

    def forward(self, x: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.head(self.decoder(self.words(tokens), self.encoder(packed)[1])[0])

    def greedy(self, x: Tensor, steps: int = 4) -> Tensor:
        """The logits of every step, each fed with the token that scored highest before."""
        state = self.encoder(x)[1]
        token, found = torch.zeros(len(x), 1, dtype=torch.long), []
        for _ in range(steps):
            hidden, state = self.decoder(self.words(token), state)
            found.append(self.head(hidden[:, 0]))
            token = found[-1].argmax(1, keepdim=True)
        return torch.stack(found, dim=1)


def test_a_decoder_reads_ragged_tokens_and_is_explained_at_step_and_token() -> None:
    model, raw = Translator(), ragged((6, 2, 9))
    tokens = [torch.tensor(one) for one in ([0, 3, 5], [0, 1], [0, 6, 6, 2, 1])]
    target = [(2, 4), (1, 3), (4, 0)]
    found = explain(model, raw, target=target, per_example={"tokens": tokens})
    for i, (step, token) in enumerate(target):
        values = values_by_hand(
            lambda x, i=i, step=step, token=token: model(
                x[None], torch.tensor([len(x)]), tokens[i][None]
            )[0, step, token],
            raw[i],
        )
        assert_same([found[i]], [values])
        [single] = [explain(model, raw[i], target=(step, token), per_example={"tokens": tokens[i]})]
        assert_same([single], [values])
    with pytest.raises(ig.TargetError, match=r"target 4 is out of range.*has 3 entries"):
        explain(model, raw, target=(4, 0), per_example={"tokens": tokens})


def test_a_time_first_decoder_reads_ragged_tokens_time_first() -> None:
    inner, raw = Translator(), ragged((6, 2))
    tokens = [torch.tensor([0, 3, 5]), torch.tensor([0, 1])]

    def model(x: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        return inner(x.transpose(0, 1), lengths, tokens.t()).transpose(0, 1)

    options = {"target": (1, 4), "per_example": {"tokens": tokens}}
    usual = explain(inner, raw, **options)
    assert_same(explain(model, raw, axes="tnf", **options), [a.values for a in usual])


def test_greedy_decoding_inside_the_model_is_explained_along_the_path_that_it_takes() -> None:
    model, raw = Translator(), ragged((6, 2, 9))
    found = explain(model.greedy, raw, target=(3, 2), rule="midpoint", steps=64)
    nodes = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    for x, result in zip(raw, found, strict=True):
        points = (nodes.view(-1, 1, 1) * x).requires_grad_(True)
        out = model.greedy(points)[:, 3, 2].sum()
        assert_same([result], [x * torch.autograd.grad(out, points)[0].mean(0)])


# -- irregular times ----------------------------------------------------------------------------


class Decaying(nn.Module):
    """The sum of inputs, each faded by exp(-time to the last step)."""

    def forward(self, x: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        assert bool((times.diff(dim=1) >= 0).all()), "padding goes back in time"
        last = times.gather(1, lengths[:, None] - 1)
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        return (torch.exp(times - last) * inside * x.sum(2)).sum(1)


def some_times(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(n, generator=generator, dtype=torch.float64).cumsum(0) for n in lengths]


@pytest.mark.parametrize("axes", ["ntf", "tnf"])
@pytest.mark.parametrize("padded", [False, True])
def test_irregular_times_reach_the_model_and_the_result(axes: str, padded: bool) -> None:
    raw, times = ragged(), some_times()
    first = axes == "ntf"

    def model(x: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        return Decaying()(x, lengths, times) if first else Decaying()(
            x.transpose(0, 1), lengths, times.t()
        )  # fmt: skip

    given = {"times": pad_sequence(times, first) if padded else times}
    x = pad_sequence(raw, first) if padded else raw
    found = explain(model, x, axes=axes, **given, **({"lengths": LENGTHS} if padded else {}))
    for one, when, result in zip(raw, times, found, strict=True):
        expected = one * torch.exp(when - when[-1])[:, None]
        assert torch.allclose(result.values, expected, rtol=0, atol=1e-14)
        assert result.display["times"] == when.tolist()


def test_times_are_kept_for_views_where_the_model_reads_none() -> None:
    raw, times = ragged(), [t.numpy() for t in some_times()]
    found = explain(ReadsPadded(nn.GRU, "end"), raw, target=1, times=times)
    plain = explain(ReadsPadded(nn.GRU, "end"), raw, target=1)
    for when, a, b in zip(times, found, plain, strict=True):
        assert torch.equal(a.values, b.values)
        assert a.display["times"] == when.tolist() and "times" not in b.display
    single = explain(ReadsPadded(nn.GRU, "end"), raw[0], target=1, times=times[0])
    assert single.display["times"] == times[0].tolist()


# -- what a result shows ------------------------------------------------------------------------


def test_a_result_keeps_the_series_and_how_far_each_step_moved() -> None:
    raw = ragged((4, 2))
    one, two = explain(
        ReadsPadded(nn.GRU, "end"), raw, target=1, feature_names=["a", "b", "c"],
        baseline=[0.0, 1.0],
    )  # fmt: skip
    assert one.display["features"] == ["a", "b", "c"]
    assert one.display["output"] == "whole sequence" and "step" not in one.display
    assert "bidirectional" not in one.display
    for x, result in zip(raw, (one, two), strict=True):
        assert result.display["series"] == x.tolist()
        moved = (x.abs().sum(1) + (x - 1).abs().sum(1)) / 2
        assert result.display["start"]["moved"] == pytest.approx(moved.tolist(), abs=1e-12)
        result.to_dict()


def test_a_long_series_is_not_kept() -> None:
    x = torch.zeros(2**15 + 1, 2, dtype=torch.float64)
    x[-1] = 1.0
    result = explain(lambda z: z[:, -1].sum(1), x)
    assert "series" not in result.display and len(result.display["start"]["moved"]) == 2**15 + 1
    assert float(result.scores[-1]) == pytest.approx(2.0, abs=1e-12)


# -- masks of padding ---------------------------------------------------------------------------


def near(example: ig.Example) -> Tensor:
    """So near to the input that a LayerNorm is smooth in between."""
    x: Tensor = example.inputs["x"]
    return 0.9 * x + 0.1 * x.flip(0) - 0.05


class Encoder(nn.Module):
    """A small transformer, whose subclasses differ in the mask that they take."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(3, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.double()
        self.seen: list[tuple[int, ...]] = []

    def run(self, x: Tensor, padding: Tensor | None) -> Tensor:
        self.seen.append(tuple(x.shape))
        h = self.layers(self.up(x), src_key_padding_mask=padding)
        kept = torch.ones_like(h[..., :1]) if padding is None else (~padding)[..., None].to(h)
        return (h * kept).sum(1) / kept.sum(1)

    def forward(self, x: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        return self.run(x, src_key_padding_mask)


class Attends(Encoder):
    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.run(x, None if attention_mask is None else ~attention_mask)


class Hides(Encoder):
    def forward(self, x: Tensor, hide: Tensor | None = None) -> Tensor:
        return self.run(x, hide)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Encoder, {}), (Attends, {}), (Hides, {"mask_name": "hide"}),
     (Attends, {"mask_name": "attention_mask"})],
)  # fmt: skip
def test_sequences_of_unlike_lengths_share_passes_under_a_mask(
    kind: type[Encoder], options: dict[str, Any]
) -> None:
    starts = {"baseline": near}
    alone = [explain(kind().eval(), x, target=1, **starts).values for x in ragged()]
    model = kind().eval()
    assert_same(explain(model, ragged(), target=1, **options, **starts), alone)
    assert model.seen[-1][1] == max(LENGTHS) and model.seen[-1][0] > 2
    padded = pad_sequence(ragged(), batch_first=True, padding_value=7.0)
    found = explain(model, padded, lengths=LENGTHS, target=1, **options, **starts)
    assert_same(found, alone)
    assert all(a.reason == "" for a in found)


def test_a_mask_of_the_users_is_cut_to_the_lengths() -> None:
    padded = pad_sequence(ragged(), batch_first=True)
    hidden = torch.zeros(padded.shape[:2], dtype=torch.bool)
    hidden[2, 4] = True  # a step of its own that the user hides
    steps = torch.arange(padded.shape[1]) >= torch.tensor(LENGTHS)[:, None]
    given = {"src_key_padding_mask": hidden | steps}
    starts = {"baseline": near, "target": 1}
    found = explain(Encoder().eval(), padded, lengths=LENGTHS, per_example=given, **starts)
    for i, (x, result) in enumerate(zip(ragged(), found, strict=True)):
        mask = {"src_key_padding_mask": hidden[i, : len(x)]}
        alone = explain(Encoder().eval(), x, per_example=mask, **starts)
        assert_same([result], [alone.values])


def test_a_padded_argument_is_cut_to_the_lengths_like_the_sequences() -> None:
    def model(x: Tensor, z: Tensor) -> Tensor:
        return (x * z[..., None]).sum(1) / x.shape[1]

    padded = pad_sequence(ragged(), batch_first=True, padding_value=7.0)
    z = torch.rand(padded.shape[:2], dtype=torch.float64)
    found = explain(model, padded, lengths=LENGTHS, target=1, per_example={"z": z})
    expected = []
    for x, own in zip(ragged(), z, strict=True):
        values = torch.zeros_like(x)
        values[:, 1] = x[:, 1] * own[: len(x)] / len(x)
        expected.append(values)
    assert_same(found, expected)
