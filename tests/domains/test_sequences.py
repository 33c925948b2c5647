"""Sequences: ragged batches, padding, cuDNN's flags, and the half-life of a memory."""

import re

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

import ig_core as ig
import ig_sequences
import ig_sequences.domain
import ig_sequences.recurrent
from ig_core.testing import Check, Subject, checks
from ig_sequences.baselines import TimeMean
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.domain import SequenceDomain
from ig_sequences.recurrent import cudnn_differentiable, without_cudnn

LENGTHS = (5, 1, 9, 5, 2, 9, 7)


class Packed(nn.Module):
    """Takes lengths, packs, and answers from the last hidden state."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][-1])


class EveryStep(nn.Module):
    """Takes no lengths, answers at every step, and notes the shapes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 4)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return self.head(self.rnn(x)[0])


def seeded(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def ragged(lengths: tuple[int, ...] = LENGTHS, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, generator=generator, dtype=dtype) for n in lengths]


# -- ragged batches -----------------------------------------------------------------------------


def test_32_ragged_sequences_packed_give_what_single_calls_give() -> None:
    model = seeded(Packed)
    lengths = tuple(torch.randint(1, 25, (32,), generator=torch.Generator().manual_seed(0)))
    sequences = ragged(tuple(int(n) for n in lengths), torch.float32)
    options = {"target": 1, "rule": "gauss-legendre", "steps": 5}
    together = ig.attribute(model, sequences, **options)
    for x, batched in zip(sequences, together, strict=True):
        alone = ig.attribute(model, x, **options)
        assert batched.values.shape == x.shape
        assert (batched.values - alone.values).abs().max() < 1e-6
        assert abs(batched.delta - alone.delta) < 1e-6


def test_padded_with_lengths_gives_what_the_list_gives() -> None:
    model = seeded(Packed).double()
    sequences = ragged()
    padded = torch.full((len(LENGTHS), 12, 3), 77.0, dtype=torch.float64)
    for row, x in zip(padded, sequences, strict=True):
        row[: len(x)] = x
    listed = ig.attribute(model, sequences, target=1)
    for a, b in zip(listed, ig.attribute(model, padded, target=1, lengths=LENGTHS), strict=True):
        assert torch.equal(a.values, b.values)


def test_a_model_without_lengths_never_sees_padding() -> None:
    inner = seeded(EveryStep).double()

    class MeanOverTime(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return inner(x).mean(1)

    sequences = ragged()
    together = ig.attribute(MeanOverTime(), sequences, domain="sequences", target=2)
    for x, batched in zip(sequences, together, strict=True):
        alone = ig.attribute(MeanOverTime(), x, domain="sequences", target=2)
        assert torch.allclose(batched.values, alone.values, rtol=0, atol=1e-12)
        assert batched.at_input == pytest.approx(inner(x[None])[0, :, 2].mean().item(), abs=1e-12)
        assert batched.reason == ""  # rows shared a batch


def test_every_row_is_read_at_its_own_last_step() -> None:
    class Unpacked(EveryStep):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], True)[0])

    sequences = ragged()
    together = ig.attribute(seeded(Unpacked).double(), sequences, target=2, step="last")
    reference = seeded(EveryStep).double()
    for x, result in zip(sequences, together, strict=True):
        assert result.at_input == pytest.approx(reference(x[None])[0, -1, 2].item(), abs=1e-12)
        assert result.reason == ""


def test_a_model_without_lengths_runs_once_per_distinct_length() -> None:
    model = seeded(EveryStep).double()
    domain = SequenceDomain(model, step="last")
    ig.attribute(model, ragged(), domain=domain, target=2, rule="gauss-legendre", steps=4)
    rows = {time: 4 * LENGTHS.count(time) for time in set(LENGTHS)}
    assert model.seen[-len(rows) :] == [(rows[time], time, 3) for time in sorted(rows)]


@pytest.mark.parametrize("make", [Packed, EveryStep])
def test_padding_gets_a_gradient_of_exactly_zero(make: type[nn.Module]) -> None:
    model = seeded(make).double()
    gradients: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            if x.requires_grad:
                beyond = torch.arange(x.shape[1]) >= lengths[:, None]
                x.register_hook(lambda g: gradients.append(g[beyond]))
            if make is Packed:
                return model(x, lengths)
            return model(x)[torch.arange(len(x)), lengths - 1]

    results = ig.attribute(Watched(), ragged(), domain="sequences", target=1)
    assert sum(g.numel() for g in gradients) > 0
    assert all(bool((g == 0).all()) for g in gradients)
    assert [len(a.values) for a in results] == list(LENGTHS)


def test_a_sequence_of_one_step_is_explained() -> None:
    result = ig.attribute(LeakyIntegrator(0.5), torch.tensor([[3.0, -1.0]]), domain="sequences")
    assert result.values.tolist() == [[3.0, -1.0]]
    assert result.units.labels == ("t=0",)


def subjects() -> list[Subject]:
    def packed() -> SequenceDomain:
        return SequenceDomain(seeded(Packed))

    def unpacked() -> SequenceDomain:
        return SequenceDomain(seeded(EveryStep), step="last")

    sequences = ragged((5, 1, 9), torch.float32)
    return [
        Subject(make=make, examples=sequences, targets=1, smallest=sequences[1], plugin=plugin)
        for make, plugin in ((packed, ig_sequences), (unpacked, None))
    ]


@pytest.mark.parametrize("check", [c for s in subjects() for c in checks(s)], ids=str)
def test_the_domain_keeps_its_promise(check: Check) -> None:
    check()


# -- numbers ------------------------------------------------------------------------------------


def test_agrees_with_captum_on_a_batch_of_equal_length() -> None:
    model = seeded(EveryStep).double()
    x = torch.stack(ragged((12,) * 6))
    # Captum takes the dtype of its quadrature weights from the default.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        theirs = IntegratedGradients(lambda z: model(z)[:, -1]).attribute(
            x, target=3, n_steps=32, method="gausslegendre"
        )
    finally:
        torch.set_default_dtype(before)
    ours = ig.attribute(model, x, target=3, step="last", rule="gauss-legendre", steps=32)
    assert (torch.stack([a.values for a in ours]) - theirs).abs().max() < 1e-8


def test_values_sum_to_the_difference_of_outputs() -> None:
    model = seeded(Packed).double()
    for result in ig.attribute(model, [4 * x for x in ragged()], target=0, tol=1e-4):
        assert result.status == "converged"
        assert abs(float(result.values.sum()) - result.delta) <= 1e-4 * abs(result.delta)


def test_a_leaky_integrator_credits_each_step_with_its_decayed_input() -> None:
    x = torch.tensor([[1.0], [2.0], [-4.0]], dtype=torch.float64)
    result = ig.attribute(LeakyIntegrator(0.5), x, domain="sequences")
    assert result.scores.tolist() == pytest.approx([0.25, 1.0, -4.0], abs=1e-14)


def test_time_mean_explains_what_differs_from_the_level() -> None:
    x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    result = ig.attribute(LeakyIntegrator(0.5), x, domain="sequences", baseline="time-mean")
    assert result.scores.tolist() == pytest.approx([-0.5, -0.5, 3.0], abs=1e-14)
    assert result.at_baseline == pytest.approx(3 * 1.75)


def test_time_mean_is_for_sequences_only() -> None:
    with pytest.raises(ig.InputError, match="for sequences"):
        ig.attribute(lambda x: x.sum(1), torch.ones(1, 2), baseline=TimeMean())


# -- the door -----------------------------------------------------------------------------------


def test_a_recurrent_model_is_recognised_and_two_dimensions_are_one_sequence() -> None:
    model = seeded(Packed)
    one = ig.attribute(model, torch.randn(5, 3), target=0)
    assert isinstance(one, ig.Attribution)
    assert one.provenance["domain"] == "sequences"
    assert one.units.labels == ("t=0", "t=1", "t=2", "t=3", "t=4")
    assert len(ig.attribute(model, torch.randn(2, 5, 3), target=0)) == 2


@pytest.mark.parametrize("raw", ["text", torch.ones(2, 2, 5, 3), torch.ones(2, 3).long(), [1.0]])
def test_other_inputs_are_left_to_other_domains(raw: object) -> None:
    assert not SequenceDomain.accepts(nn.GRU(3, 4, batch_first=True), raw)


def test_a_model_without_recurrence_is_left_to_other_domains() -> None:
    assert not SequenceDomain.accepts(nn.Linear(3, 4), torch.ones(2, 3))


def test_a_bare_rnn_is_explained_at_its_own_last_step() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 4, batch_first=True).double()
    short, long = ragged((3, 6))
    result = ig.attribute(rnn, [short, long], target=1, output=0, step="last")[0]
    assert result.at_input == pytest.approx(rnn(short[None])[0][0, -1, 1].item(), abs=1e-12)


def test_lengths_go_to_the_parameter_that_is_named() -> None:
    class Renamed(Packed):
        def forward(self, x: Tensor, sizes: Tensor) -> Tensor:
            assert sizes.dtype == torch.long and sizes.device.type == "cpu"
            return super().forward(x, sizes)

    x = ragged()
    named = ig.attribute(seeded(Renamed).double(), x, target=1, lengths_name="sizes")
    usual = ig.attribute(seeded(Packed).double(), x, target=1)
    assert all(torch.equal(a.values, b.values) for a, b in zip(named, usual, strict=True))


def test_steps_and_features_are_shown_by_name_and_escaped() -> None:
    result = ig.attribute(
        LeakyIntegrator(0.5),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64),
        domain="sequences",
        labels=lambda x: [f"<day {i}>" for i in range(len(x))],
        feature_names=["rain", "wind & sun"],
    )
    assert result.top(1) == [("<day 1>", 7.0)]
    page = result.to_html()
    assert "&lt;day 0&gt;" in page and "<day" not in page
    assert page.index("&lt;day 0&gt;") < page.index("&lt;day 1&gt;")
    assert "wind &amp; sun, &lt;day 1&gt;: +4" in page
    assert "<day 0>" in result.to_text()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(fails: bool) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.rnn = nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            if fails:
                raise RuntimeError("no")
            return self.rnn(self.norm(x.transpose(1, 2)).transpose(1, 2))[0][:, -1]

    model = seeded(Whole).double().train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if fails:
        with pytest.raises(ig.ForwardError):
            ig.attribute(model, ragged(), target=0)
    else:
        ig.attribute(model, ragged(), target=0)
    assert model.training and model.rnn.training and not model.norm.training
    assert model.rnn.dropout == 0.5
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


# -- cuDNN --------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Dropout inside and outside of the RNN; notes the flags at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 8, num_layers=2, dropout=0.5, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.flags: set[tuple[bool, float, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.flags.add((self.rnn.training, self.rnn.dropout, self.drop.training))
        return self.drop(self.rnn(x)[0][:, -1])


def test_only_rnn_modules_are_set_to_train_and_their_dropout_is_off() -> None:
    model = seeded(Noisy).double().eval()
    x = torch.stack(ragged((6, 6)))
    expected = model(x)
    with cudnn_differentiable([model.rnn]):
        assert (model.rnn.training, model.rnn.dropout, model.drop.training) == (True, 0.0, False)
        assert torch.equal(model(x), expected)
    assert (model.rnn.training, model.rnn.dropout) == (False, 0.5)


def test_the_flags_come_back_after_an_exception() -> None:
    model = seeded(Noisy).eval()
    with pytest.raises(RuntimeError, match="inside"), cudnn_differentiable([model.rnn]):
        raise RuntimeError("inside")
    assert (model.rnn.training, model.rnn.dropout) == (False, 0.5)


@pytest.mark.parametrize("cuda", [False, True])
def test_flags_change_during_a_call_only_on_cuda(
    cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ig_sequences.domain, "on_cuda", lambda rnn: cuda)
    model = seeded(Noisy).double().train()
    ig.attribute(model, ragged(), target=0)
    assert model.flags == {(True, 0.0, False) if cuda else (False, 0.5, False)}
    assert (model.rnn.training, model.rnn.dropout, model.drop.training) == (True, 0.5, True)


class Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("cuda", [False, True])
def test_cudnn_is_left_out_only_for_scripted_modules_on_cuda(
    cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ig_sequences.recurrent, "on_cuda", lambda module: cuda)
    plain, before = seeded(Scriptable), torch.backends.cudnn.enabled
    for model in (plain, torch.jit.script(plain), nn.Sequential(torch.jit.script(plain))):
        with pytest.raises(RuntimeError, match="inside"), without_cudnn([model]):
            assert torch.backends.cudnn.enabled == (before and not (cuda and model is not plain))
            raise RuntimeError("inside")
        assert torch.backends.cudnn.enabled == before


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_model_is_explained() -> None:
    plain = seeded(Scriptable).double()
    found = ig.attribute(plain, ragged(), target=1, step="last")
    scripted = torch.jit.script(plain)
    for a, b in zip(
        found, ig.attribute(scripted, ragged(), domain="sequences", target=1, step="last"),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(a.values, b.values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_scripted_model_on_cuda_gives_what_it_gives_on_the_cpu() -> None:
    model = torch.jit.script(seeded(Scriptable).double().eval())
    options = {"domain": "sequences", "target": 1, "step": "last"}
    here = ig.attribute(model, ragged(), **options)
    there = ig.attribute(model.cuda(), [x.cuda() for x in ragged()], **options)
    for a, b in zip(here, there, strict=True):
        assert (a.values - b.values).abs().max() < 1e-8
    assert torch.backends.cudnn.enabled


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("make", [Packed, EveryStep, Noisy])
def test_cuda_gives_what_the_cpu_gives(make: type[nn.Module]) -> None:
    model = seeded(make).double()
    options = {"step": "last"} if make is EveryStep else {}
    x = ragged()
    here = ig.attribute(model, x, target=1, **options)
    there = ig.attribute(model.cuda(), [one.cuda() for one in x], target=1, **options)
    for a, b in zip(here, there, strict=True):
        assert (a.values - b.values).abs().max() < 1e-8


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "error", "told"),
    [
        (torch.ones(0, 3), ig.InputError, r"at least one step.*\(0, 3\)"),
        (torch.ones(4, 0), ig.InputError, r"one feature.*\(4, 0\)"),
        (torch.ones(4), ig.InputError, r"\(time, features\).*\(4,\)"),
        (torch.ones(1, 1, 4, 3), ig.InputError, r"\(time, features\).*\(1, 1, 4, 3\)"),
        ([[1.0, 2.0]], ig.InputError, r"\(time, features\).*list"),
        (np.full((4, 3), "a"), ig.InputError, r"\(time, features\).*ndarray"),
        (torch.ones(4, 3, dtype=torch.long), ig.InputError, "int64"),
        (torch.full((4, 3), torch.nan), ig.NonFiniteError, r"NaN.*\[0, 0\]"),
        ([torch.ones(4, 3), torch.ones(4, 2)], ig.InputError, "ragged dimension"),
        (torch.ones(4, 5), ig.InputError, "GRU reads 3 features.*got 5"),
    ],
    ids=["no-step", "no-feature", "1-d", "4-d", "list", "array", "int", "nan", "widths", "width"],
)  # fmt: skip
def test_a_bad_sequence_is_refused_by_name(raw: object, error: type, told: str) -> None:
    with pytest.raises(error, match=re.compile(told, re.DOTALL)):
        ig.attribute(seeded(Packed), raw, domain="sequences", target=0)


@pytest.mark.parametrize("empty", [[], torch.ones(0, 4, 3)])
def test_an_empty_batch_gives_an_empty_list(empty: object) -> None:
    assert ig.attribute(seeded(Packed), empty, target=0) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lengths": [4]}, "2 whole numbers from 1 to 4"),
        ({"lengths": [0, 4]}, "from 1 to 4"),
        ({"lengths": [4, 5]}, "from 1 to 4"),
        ({"lengths_name": "sizes"}, "no parameter 'sizes'.*x, lengths"),
        ({"step": "first"}, "step is None, 'last', 'middle'.*got 'first'"),
        ({"feature_names": ["a"]}, "3 feature_names"),
        ({"labels": lambda x: ["a"]}, "4 steps"),
        ({"window": 3}, "window"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict, told: str) -> None:
    with pytest.raises(ig.InputError, match=told):
        ig.attribute(seeded(Packed), torch.ones(2, 4, 3), target=0, **options)


@pytest.mark.parametrize("width", [2, 4, 40])
@pytest.mark.parametrize("make", [Packed, EveryStep])
@pytest.mark.parametrize("rnn", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_width_that_the_network_does_not_read_is_refused_before_torch_reads_it(
    rnn: type[nn.RNNBase], make: type[nn.Module], width: int
) -> None:
    """Packed, torch does not look: it reads beyond the sequence and crashes the process."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = rnn(3, 8, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            if make is Packed:
                x = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            hidden = self.rnn(input=x)[1]
            return (hidden[0] if rnn is nn.LSTM else hidden)[-1]

    model = seeded(Last)
    with pytest.raises(ig.InputError, match=rf"{rnn.__name__} reads 3 features .*\(got {width}\)"):
        ig.attribute(model, [torch.ones(5, width), torch.ones(2, width)], target=0)
    assert not model.rnn._forward_pre_hooks
    assert ig.attribute(model, torch.ones(5, 3), target=0).converged
    assert not model.rnn._forward_pre_hooks


def test_arrays_are_sequences() -> None:
    model = seeded(Packed).double()
    several = ragged()
    arrays = ig.attribute(model, [x.numpy() for x in several], target=1)
    for a, b in zip(arrays, ig.attribute(model, several, target=1), strict=True):
        assert torch.equal(a.values, b.values)
    alone = ig.attribute(model, several[0], target=1)
    [first] = ig.attribute(model, several[0].numpy()[None], target=1)
    for found in (first, ig.attribute(model, several[0].flip(0).numpy()[::-1], target=1)):
        assert torch.equal(found.values, alone.values)


def test_lengths_of_a_list_are_refused() -> None:
    with pytest.raises(ig.InputError, match="a list of sequences carries its own"):
        ig.attribute(seeded(Packed), ragged((3, 4)), target=0, lengths=[3, 4])


def test_an_output_as_long_as_the_input_needs_a_step_for_a_function() -> None:
    with pytest.raises(ig.OutputError, match="step='last'"):
        ig.attribute(seeded(EveryStep), ragged((3, 4), torch.float32), target=lambda o: o[:, 0, 0])


def test_step_last_needs_an_output_per_step() -> None:
    with pytest.raises(ig.OutputError, match=r"at every step.*\(3, 5, \.\.\.\).*\(3, 4\)"):
        ig.attribute(seeded(Packed), torch.ones(5, 3), target=0, step="last")
