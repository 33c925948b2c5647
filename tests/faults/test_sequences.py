"""Sequences that do not fit, and models that surprise: a named error or the right numbers."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import attribution_decay
from ig_sequences.states import forgetful

LENGTHS = (6, 2, 9)
F64 = torch.float64


def ragged(lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, generator=generator, dtype=F64) for n in lengths]


class Last(nn.Module):
    """The last state of a packed GRU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5, batch_first=True).double()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.rnn(packed)[1][-1]


class Of(nn.Module):
    """A function of a GRU's output at every step."""

    def __init__(self, f: Callable[[Tensor], Any], **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5, **{"batch_first": True, **options}).double()
        self.f = f

    def forward(self, x: Tensor) -> Any:
        return self.f(self.rnn(x)[0])


def gru() -> nn.GRU:
    return nn.GRU(3, 5, batch_first=True).double()


def weighed(x: Tensor, z: Tensor) -> Tensor:
    return x.sum(1) * z[:, None]


def explain(model: Any, raw: Any, **options: Any) -> Any:
    return ig.attribute(model, raw, **{"domain": "sequences", "target": 0, **options})


def refused(told: str, model: Any, raw: Any, error: type = ig.InputError, **options: Any) -> None:
    with pytest.raises(error, match=re.compile(told, re.DOTALL)):
        explain(model, raw, **options)


# -- sequences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([*ragged((2,)), torch.full((3, 3), torch.nan, dtype=F64)], r"example 1 is NaN.*\[0, 0\]"),
        (torch.full((3, 3), torch.inf, dtype=F64), "example 0 is NaN or infinite"),
        (torch.ones(4, 3, dtype=torch.long), "int64.*floating-point numbers"),
        (torch.ones(4, 3, dtype=torch.bool), "bool.*floating-point numbers"),
        (torch.ones(4, 3, dtype=torch.cfloat), "complex64.*floating-point numbers"),
        (torch.ones(0, 3), r"at least one step and one feature \(got \(0, 3\)\)"),
        (torch.ones(2, 0, 3), r"at least one step"),
        (torch.ones(4, 5, dtype=F64), r"GRU reads 3 features at every step \(got 5\)"),
        (ragged()[0].t(), r"GRU reads 3 features at every step \(got 6\)"),
        (torch.ones(4), r"\(time, features\) \(got shape \(4,\)\); axes='nt'.*x\[:, None\]"),
        ("text", r"\(time, features\) \(got str\)"),
        (None, r"\(time, features\) \(got NoneType\)"),
        ([[1.0, 2.0]], r"\(time, features\) \(got list\)"),
        ([ragged()[0], ragged()[0][None]], r"\(time, features\) \(got shape \(1, 6, 3\)\)"),
        ([torch.ones(4, 3), torch.ones(4, 2)], r"as many features \(got \[2, 3\]\)"),
    ],
    ids=[
        "nan", "inf", "int", "bool", "complex", "no-step", "no-steps", "width", "turned", "1-d",
        "text", "none", "numbers", "batch-in-list", "widths",
    ],
)  # fmt: skip
def test_a_sequence_that_does_not_fit_is_refused(raw: Any, told: str) -> None:
    with pytest.raises((ig.InputError, ig.NonFiniteError), match=re.compile(told, re.DOTALL)):
        explain(Last(), raw)


@pytest.mark.parametrize("axes", ["ntx", "n", "ntff", "tf", "NTF", "", 3, ["n", "t"]])
def test_axes_are_letters_of_known_dimensions(axes: Any) -> None:
    told = r"letters n \(batch\), t \(time\).*such as 'ntf' \(got " + re.escape(repr(axes))
    refused(told, Last(), ragged(), axes=axes)


def test_sequences_in_another_order_than_axes_are_seen_by_their_widths() -> None:
    refused(
        r"as many features \(got \[2, 6, 9\]\); read with axes='nft'", Last(), ragged(), axes="nft"
    )


def test_a_bare_rnn_knows_its_own_axes() -> None:
    refused(r"GRU\(batch_first=True\) reads axes 'ntf'", gru(), ragged(), axes="tnf")


def test_packed_sequences_have_features_last() -> None:
    refused("features last.*'nft'", Last(), ragged(), axes="nft", packed=True)


# -- lengths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths",
    [
        [1, 2], [0, 1, 2], [9, 9, 10], [1.0, 2.0, 3.0], torch.tensor([1.0, 2.0, 3.0]), "abc",
        [True, True, True], 5, [[1], [2], [3]], np.array([1.5, 2.0, 3.0]), [-1, 2, 3],
    ],
    ids=str,
)  # fmt: skip
def test_lengths_are_whole_numbers_within_the_padded_sequences(lengths: Any) -> None:
    told = r"lengths must be 3 whole numbers from 1 to 9, one per padded sequence \(got"
    refused(told, Last(), torch.ones(3, 9, 3, dtype=F64), lengths=lengths)


def test_lengths_as_floats_are_refused_with_advice() -> None:
    padded = torch.ones(3, 9, 3, dtype=F64)
    refused(r"lengths.long\(\)", Last(), padded, lengths=torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("raw", [ragged(), ragged()[0]], ids=["list", "single"])
def test_lengths_belong_to_a_padded_tensor(raw: Any) -> None:
    refused("lengths belong to one padded", Last(), raw, lengths=[1, 2, 3])


def padded() -> Tensor:
    return nn.utils.rnn.pad_sequence(ragged(), batch_first=True)


@pytest.mark.parametrize("given", [padded(), padded().numpy()], ids=["tensor", "array"])
def test_zeros_at_the_end_that_may_be_padding_are_told(given: Any) -> None:
    told = r"2 of 3 sequences end in steps of nothing but zeros \(up to 7 of 9\).*lengths=\[...\]"
    for found in explain(Of(lambda h: h[:, -1]), given, **NODES):
        assert re.search(told, found.reason)
    decay = attribution_decay(Of(lambda h: h[:, -1]), given, target=0)
    assert any(re.search(told, note) for note in decay.notes)
    with pytest.warns(ig.IGWarning, match=told + ": this model has a parameter 'lengths'"):
        explain(Last(), given, **NODES)


def test_zeros_that_are_no_padding_are_not_told() -> None:
    spikes = torch.zeros(2, 9, 3, dtype=F64)
    spikes[0, 8], spikes[0, 1], spikes[1, 5] = 1.0, 1.0, 1.0
    ended = torch.ones(2, 9, 3, dtype=F64)
    ended[:, 7:] = 0.0
    for given in (spikes, ended, torch.ones(2, 9, 3, dtype=F64)):
        assert all(a.reason == "" for a in explain(Of(lambda h: h[:, -1]), given, **NODES))
    known = explain(Of(lambda h: h[:, -1]), padded(), lengths=LENGTHS, **NODES)
    assert all(a.reason == "" for a in known)
    assert all(a.reason == "" for a in explain(Of(lambda h: h[:, -1]), list(padded()), **NODES))


# -- times --------------------------------------------------------------------------------------


def times(*lengths: int) -> list[Tensor]:
    return [torch.arange(float(n)) for n in lengths]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (times(6, 2, 8), r"times of sequence 2 must be 9 numbers, one per step \(got shape \(8,\)"),
        (times(6, 2), "one value for each of 3 sequences.*got 2"),
        ([times(6)[0].flip(0), *times(2, 9)], "sequence 0 must not decrease.*5 before 4 at step 1"),
        (torch.full((3, 9), torch.nan), "times of sequence 0 hold NaN"),
        (torch.ones(3, 8), "times of sequence 0 must be 6 numbers"),
        (5, "one value for each of 3 sequences.*got int"),
        ([["a"]] * 3, "times must be tensors or numbers"),
    ],
    ids=["short", "few", "back", "nan", "padded-short", "number", "words"],
)
def test_times_are_one_rising_number_per_step(given: Any, told: str) -> None:
    refused(told, Last(), ragged(), times=given)


def test_times_that_float64_cannot_tell_apart_are_refused() -> None:
    options = {"step": "last", "target": 0}
    refused(
        r"beyond 2\*\*53.*subtract", gru(), ragged()[1], times=2**60 + torch.arange(2), **options
    )
    refused(
        "must be numbers .got torch.complex64", gru(), ragged()[1], times=torch.ones(2).cfloat()
    )


def test_names_are_lists_and_functions_that_give_them() -> None:
    x = ragged()[1]
    told = "labels is a list with a name for each step.*got {}"
    refused(told.format("1 names for a sequence of 2 steps"), gru(), x, labels=["a"])
    for labels in ("ab", 3):
        refused(told.format(type(labels).__name__), gru(), x, labels=labels)
    assert explain(gru(), x, labels=["a", "b"]).units.labels == ("a", "b")
    refused("names of the steps .AttributeError", gru(), x, labels=lambda x: x.foo)
    refused("names of the steps .TypeError", gru(), x, labels=lambda x: None)
    for names in ("abc", 3):
        refused(
            f"a list with a name for each feature .got {names!r}", gru(), x, feature_names=names
        )
    result = explain(gru(), x, feature_names=[1, 2, 3], labels=range_of)
    assert result.units.labels == ("0", "1") and result.display["features"] == ["1", "2", "3"]
    assert "ig-sequence" in result.to_html()


def test_one_list_of_names_is_for_sequences_of_one_length() -> None:
    found = explain(gru(), [ragged()[1]] * 2, labels=["a", "b"])
    assert [a.units.labels for a in found] == [("a", "b")] * 2
    refused("got 2 names for a sequence of 6 steps", gru(), ragged(), labels=["a", "b"])


def range_of(x: Tensor) -> Any:
    return range(len(x))


def test_the_times_of_a_single_sequence_have_no_batch() -> None:
    refused(r"must be 6 numbers.*\(1, 6\)", Last(), ragged()[0], times=torch.ones(1, 6))


# -- states -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (torch.ones(1, 3, 4), r"the state of this GRU is \(1, batch, 5\) \(got \(1, 3, 4\)\)"),
        (torch.ones(2, 3, 5), r"is \(1, batch, 5\) \(got \(2, 3, 5\)\)"),
        (torch.ones(1, 2, 5), r"\(layers x directions, 3, hidden\).*got shape \(1, 2, 5\).*expand"),
        ((torch.ones(1, 3, 5),) * 2, r"is \(1, batch, 5\) \(got \(1, 3, 5\) and \(1, 3, 5\)\)"),
        ([torch.ones(1, 3, 5)] * 3, "h0, or the pair.*got 3 tensors"),
        (torch.ones(1, 3, 5, dtype=torch.long), "floating-point numbers.*int64"),
        ("zero", "floating-point numbers.*got str"),
        (torch.ones(5), r"floating-point numbers.*got torch.float32 of shape \(5,\)"),
    ],
    ids=["hidden", "layers", "batch", "pair", "three", "int", "text", "1-d"],
)
def test_a_state_of_another_shape_is_refused(state: Any, told: str) -> None:
    refused(told, gru(), ragged(), state=state)


def test_an_lstm_wants_both_states() -> None:
    told = r"LSTM is \(1, batch, 5\) and \(1, batch, 5\) \(got \(1, 3, 5\)\)"
    refused(told, nn.LSTM(3, 5), ragged(), state=torch.ones(1, 3, 5))


def test_a_state_that_the_model_cannot_take_is_refused() -> None:
    state = torch.ones(1, 3, 5, dtype=F64)
    refused("no parameter for state.*x, lengths.*state_name=", Last(), ragged(), state=state)
    refused("no parameter 'foo'", Last(), ragged(), state=state, state_name="foo")


# -- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (5, r"step 5 is not in sequence 1, which has 2 steps \(expected -2 to 1\)"),
        (-3, "step -3 is not in sequence 1"),
        ([0, 2, 0], "step 2 is not in sequence 1"),
        ([1, 1], r"one number for each of 3 sequences \(got 2\)"),
        ([], r"one number for each of 3 sequences \(got 0\)"),
        ([1, 1, "a"], "a list with one for each sequence"),
        (2**70, "is not in sequence 0"),
        (1.5, r"'mean', a whole number.*got 1.5"),
        (True, "a whole number.*got True"),
        ("first", "'last', 'middle', 'mean'.*got 'first'"),
    ],
    ids=str,
)
def test_a_step_that_a_sequence_does_not_have_is_refused(step: Any, told: str) -> None:
    refused(told, gru(), ragged(), step=step)


# -- extra arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"per_example": {"z": [1, 2]}}, r"per_example\['z'\].*each of 3 sequences.*got 2"),
        ({"per_example": {"z": "abc"}}, "each of 3 sequences.*got str"),
        ({"per_example": {"z": 1}}, "each of 3 sequences.*got int"),
        ({"per_example": [1]}, "per_example is a mapping.*got list"),
        ({"per_example": {"y": [1, 2, 3]}}, "no parameter 'y' for per_example.*x, z"),
        ({"shared": {"y": 1}}, "no parameter 'y' for shared.*x, z"),
        ({"per_example": {"z": [1, 2, 3]}, "shared": {"z": 1}}, r"\['z'\] are both"),
    ],
    ids=["few", "text", "number", "list", "unknown", "unknown-shared", "both"],
)
def test_extra_arguments_are_checked_by_name(options: dict[str, Any], told: str) -> None:
    refused(told, weighed, ragged(), **options)


def test_a_number_for_each_sequence_goes_along() -> None:
    for x, z, result in zip(
        ragged(), (1, 2, 3), explain(weighed, ragged(), per_example={"z": [1, 2, 3]}), strict=True
    ):
        assert torch.allclose(result.values[:, 0], z * x[:, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("option", ["per_example", "shared"])
def test_lengths_go_to_the_model_by_themselves(option: str) -> None:
    refused("options of their own", Last(), ragged(), **{option: {"lengths": [1, 2, 3]}})


def test_a_padded_argument_is_refused_where_it_would_be_turned() -> None:
    told = r"per_example\['z'\] is padded to 9 steps.*a list of tensors"
    options = {"per_example": {"z": torch.ones(3, 9)}, "axes": "tnf", "lengths": LENGTHS}
    refused(told, weighed, padded().transpose(0, 1), **options)


def test_a_mask_that_the_model_does_not_have_is_refused() -> None:
    refused("no parameter 'm' for mask_name", weighed, ragged(), mask_name="m")
    refused("mask_name is the name of a parameter .got 3", weighed, ragged(), mask_name=3)
    options = {"mask_name": "z", "per_example": {"z": [1, 2, 3]}}
    refused(r"\['z'\] are options of their own", weighed, ragged(), **options)


# -- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "error", "told"),
    [
        (lambda h: None, ig.OutputError, "must give tensors.*NoneType"),
        (lambda h: h.tolist(), ig.OutputError, "output="),
        (lambda h: h.sum(), ig.OutputError, "one output per sequence, here"),
        (lambda h: h.sum(0), ig.OutputError, "one output per sequence, here"),
        (lambda h: {"a": h[:, -1], "b": h}, ig.OutputError, r"keys \['a', 'b'\].*output="),
        (lambda h: [h[:, -1], h], ig.OutputError, "list of 2.*output="),
        (lambda h: h[:, -1].argmax(1, keepdim=True), ig.NoGradientError, "int64.*no gradient"),
        (lambda h: h[:, -1].detach(), ig.NoGradientError, "argmax, detach or no_grad"),
        (lambda h: h[:, -1] * torch.nan, ig.NonFiniteError, "output is NaN"),
    ],
    ids=["none", "list", "scalar", "batch", "dict", "two", "argmax", "detach", "nan"],
)
def test_an_output_that_explains_nothing_is_refused(f: Any, error: type, told: str) -> None:
    refused(told, Of(f), ragged(), error)


def test_the_only_entry_of_a_dict_is_explained() -> None:
    plain = explain(Of(lambda h: h[:, -1]), ragged())
    for a, b in zip(explain(Of(lambda h: {"a": h[:, -1]}), ragged()), plain, strict=True):
        assert torch.equal(a.values, b.values)


def test_a_packed_sequence_for_a_model_that_reads_tensors_is_an_error_of_the_model() -> None:
    refused("the model raised", lambda x: x[:, -1], ragged(), ig.ForwardError, packed=True)


def test_a_model_that_raises_for_one_sequence_fails_that_one() -> None:
    class Picky(Last):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            if bool((lengths == 2).any()):
                raise ValueError("two is too short")
            return super().forward(x, lengths)

    with pytest.warns(ig.IGWarning, match="1 of 3 examples failed.*two is too short"):
        found = explain(Picky(), ragged())
    assert [a.status for a in found] == ["converged", "failed", "converged"]
    plain = explain(Last(), ragged())
    assert torch.allclose(found[2].values, plain[2].values, rtol=1e-3, atol=0)


# -- models that answer from padding, mix rows, or remember -------------------------------------


class Ignores(nn.Module):
    """Takes lengths, and reads padding all the same."""

    def __init__(self, packed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5, batch_first=True, bidirectional=True).double()
        self.packed = packed
        self.seen: list[int] = []

    def forward(self, x: Any, lengths: Tensor | None = None) -> Tensor:
        if self.packed:
            x = nn.utils.rnn.pad_packed_sequence(x, batch_first=True)[0]
        self.seen.append(x.shape[1])
        return self.rnn(x)[0]


NODES = {"rule": "gauss-legendre", "steps": 5}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("step", [0, "last", "mean"])
def test_a_model_that_ignores_its_lengths_is_run_by_length_and_says_so(
    step: Any, packed: bool
) -> None:
    options = {"step": step, "packed": packed, **NODES}
    found = explain(Ignores(packed), ragged(), **options)
    for x, result in zip(ragged(), found, strict=True):
        alone = explain(Ignores(packed), x, **options)
        assert torch.allclose(result.values, alone.values, rtol=0, atol=1e-15)
        assert "padding changed its answer: each length was run apart" in result.reason
        assert alone.reason == ""


def test_a_model_that_heeds_its_lengths_runs_once_more_and_then_all_at_once() -> None:
    class Heeds(Last):
        seen: list[tuple[int, int]] = []  # noqa: RUF012

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            self.seen.append((len(x), x.shape[1]))
            return super().forward(x, lengths)

    found = explain(Heeds(), ragged(), **NODES)
    assert all(a.reason == "" for a in found)
    # Both ends of all and a probe; the shortest alone; the engine's own probe; all nodes.
    assert Heeds.seen[:2] == [(7, 9), (3, 2)]
    assert Heeds.seen[-1] == (15, 9)


def test_rows_that_mix_are_run_one_by_one() -> None:
    model = Of(lambda h: h[:, -1] + h[:, -1].mean(0))
    found = explain(model, ragged(), **NODES)
    for x, result in zip(ragged(), found, strict=True):
        alone = explain(model, x, **NODES)
        assert torch.allclose(result.values, alone.values, rtol=0, atol=1e-15)
        assert "rows of this model do not share a batch" in result.reason


@pytest.mark.parametrize("raw", [torch.randn(6, 20, 3, dtype=F64), ragged(), ragged()[0]])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrence_that_goes_over_the_batch_is_refused(raw: Any, bidirectional: bool) -> None:
    model = Of(lambda h: h, batch_first=False, bidirectional=bidirectional)
    told = r"change each other's outputs: the model's GRU reads \(time, batch, features\).*'tnf'"
    refused(told + ".*batch_first=True", model, raw, step="last")
    with pytest.raises(ig.InputError, match=told):
        attribution_decay(model, raw, target=0, step="last")


def test_attention_over_the_batch_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(3, 1, 4).double()
    refused("MultiheadAttention reads.*axes='tnf'", layer, ragged(), step="last")
    right = nn.TransformerEncoderLayer(3, 1, 4, batch_first=True).double()
    [found] = explain(right, [ragged()[0]], step="last", baseline=ragged()[0].flip(0))
    assert found.status == "converged" and found.reason == ""


def test_a_time_first_part_that_gets_time_first_is_right() -> None:
    class Turns(Of):
        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x.transpose(0, 1))[0].transpose(0, 1)

    kinds = Turns(None, batch_first=False), Of(lambda h: h), Of(lambda h: h, batch_first=False)
    turned, plain = (
        explain(kinds[0], ragged(), step="last"),
        explain(kinds[1], ragged(), step="last"),
    )
    first = explain(kinds[2], ragged(), step="last", axes="tnf")
    for a, b, c in zip(turned, plain, first, strict=True):
        assert torch.allclose(a.values, b.values, rtol=0, atol=1e-14)
        assert torch.allclose(a.values, c.values, rtol=0, atol=1e-14)
        assert a.reason == ""


def test_a_model_that_gives_the_last_state_of_another_order_names_the_axes() -> None:
    told = r"one output per sequence, here \d+ sequences in a pass \(got shape \(20, 5\)\).*'tnf'"
    model = Of(lambda h: h[-1], batch_first=False)
    refused(told, model, torch.randn(6, 20, 3, dtype=F64), ig.OutputError)


class Stateful(nn.Module):
    """Begins with the state that the last pass left."""

    def __init__(self, keeps: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5, batch_first=True).double()
        self.keeps, self.h = keeps, None
        self.pair = (torch.ones(1, 1, 5, dtype=F64),) * 2
        self.register_buffer("b", torch.zeros(1, 1, 5, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        state = self.h
        if self.keeps in ("buffer", "pair"):
            state = self.b if self.keeps == "buffer" else self.pair[0]
            state = state.expand(1, len(x), 5).contiguous()
        out, state = self.rnn(x, state)
        if self.keeps == "graph":
            self.h = state
        elif self.keeps == "detached":
            self.h = state.detach()
        elif self.keeps == "buffer":
            self.b.copy_(state.detach()[:, :1])
        elif self.keeps == "pair":
            self.pair = (state.detach()[:, :1], state)
        return out[:, -1]


@pytest.mark.parametrize("keeps", ["graph", "detached", "buffer", "pair"])
def test_every_pass_of_a_stateful_model_begins_with_the_state_that_it_had(keeps: str) -> None:
    model, plain = Stateful(keeps), Stateful("pair-unchanged" if keeps == "pair" else "nothing")
    if keeps == "pair":
        plain.forward = lambda x: plain.rnn(x, torch.ones(1, len(x), 5, dtype=F64))[0][:, -1]
    before = model.pair
    results = explain(model, ragged(), **NODES), explain(plain, ragged(), **NODES)
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a.values, b.values, rtol=0, atol=1e-15)
        assert a.reason == ""
    assert model.h is None and model.pair is before and not bool(model.b.any())


def test_a_state_that_is_written_to_comes_back_in_its_own_tensor() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total, self.calls = torch.zeros(2), 0

        def forward(self, x: Tensor) -> Tensor:
            self.total += x.detach().sum()
            self.calls += 1
            return x * self.total[0]

    model = Counts()
    total = model.total
    with forgetful([model]) as forget:
        for _ in range(3):
            forget()
            assert float(model(torch.ones(2))[0]) == 2.0
    assert model.total is total and total.tolist() == [0.0, 0.0]
    assert model.calls == 3  # the model's own business


class Cached(nn.Module):
    """Begins with the state that it finds in a list, a dict or a pair in a list."""

    def __init__(self, keeps: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(3, 5, batch_first=True).double()
        self.keeps = keeps
        zero = torch.zeros(1, 1, 5, dtype=F64)
        self.cache: Any = {"dict": {"h": None}, "list": [], "pairs": [(zero, zero)]}[keeps]

    def forward(self, x: Tensor) -> Tensor:
        held = [*self.cache.values()] if self.keeps == "dict" else self.cache
        last = held[-1][0] if self.keeps == "pairs" else held[-1] if held else None
        state = None if last is None else last[:, :1].expand(1, len(x), 5).contiguous()
        out, state = self.rnn(x, state)
        if self.keeps == "dict":
            self.cache["h"] = state.detach()
        elif self.keeps == "list":
            self.cache.append(state.detach())
        else:
            self.cache[0] = (state.detach(), state.detach())
        return out[:, -1]


@pytest.mark.parametrize("keeps", ["dict", "list", "pairs"])
def test_a_state_in_a_list_or_dict_is_put_back_as_well(keeps: str) -> None:
    model, plain = Cached(keeps), Stateful("nothing")
    cache = model.cache
    held = repr(cache)
    results = explain(model, ragged(), **NODES), explain(plain, ragged(), **NODES)
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a.values, b.values, rtol=0, atol=1e-15)
        assert a.reason == ""
    assert model.cache is cache and repr(cache) == held


def test_tensors_in_a_list_that_grows_come_back_where_they_were() -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = [torch.zeros(2)]

        def forward(self, x: Tensor) -> Tensor:
            self.seen[0] += 1
            self.seen.append(x.detach())
            return x * len(self.seen) + self.seen[0]

    model = Grows()
    [first] = model.seen
    with forgetful([model]) as forget:
        for _ in range(3):
            forget()
            assert model(torch.ones(2)).tolist() == [3.0, 3.0]
    assert len(model.seen) == 1 and model.seen[0] is first and first.tolist() == [0.0, 0.0]


def test_a_shared_argument_that_the_model_changes_is_put_back() -> None:
    def halves(x: Tensor, z: Tensor) -> Tensor:
        return x.sum(1) * z.mul_(0.5)

    given = torch.ones(3, dtype=F64)
    for x, result in zip(ragged(), explain(halves, ragged(), shared={"z": given}), strict=True):
        assert torch.allclose(result.values[:, 0], 0.5 * x[:, 0], rtol=0, atol=1e-14)
    assert given.tolist() == [1.0, 1.0, 1.0]


# -- what a user forgets ------------------------------------------------------------------------


def test_a_forgotten_step_is_named() -> None:
    advice = r".*every step: step='last' with target=class.*target=\(step, class\)"
    model = Of(lambda h: h)
    for raw in (ragged()[0], torch.randn(2, 6, 3, dtype=F64)):
        told = r"one index per output dimension: 2 for output shape \(6, 5\) \(got 1\)"
        refused(told + advice, model, raw, ig.TargetError)
        refused("say which number" + advice, model, raw, ig.TargetError, target=None)


def test_a_step_of_a_model_that_has_one_answer_is_left_out() -> None:
    for f in (lambda h: h[:, -1], lambda h: h[:, -1, 0]):
        refused("leave step out where", Of(f), ragged()[0], ig.OutputError, step="last")


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_model_of_cells_is_one_of_sequences(kind: Any) -> None:
    class Walks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = kind(3, 5).double()

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for step in x.unbind(1):
                state = self.cell(step, state)
            return state[0] if isinstance(state, tuple) else state

    found = ig.attribute(Walks(), ragged(), target=0)
    assert [tuple(a.values.shape) for a in found] == [(6, 3), (2, 3), (9, 3)]
    assert found[0].units.kind == "step"


@pytest.mark.parametrize("name", ["tokens", "times", "hx"])
def test_an_argument_that_the_model_needs_is_named(name: str) -> None:
    model = eval(f"lambda x, *, {name}: x.sum(1)")
    own = {"times": "times=..., ", "hx": "state=..., "}.get(name, "")
    told = f"also needs '{name}': pass {own}per_example=.'{name}': .*shared=.'{name}': "
    refused(told, model, ragged())


def test_a_series_of_numbers_is_told_how_to_become_a_sequence() -> None:
    model = nn.GRU(1, 4, batch_first=True)
    with pytest.raises(ig.InputError, match=r"got shape \(9,\).*x\[:, None\]"):
        ig.attribute(model, torch.randn(9), target=0)
    told = r"GRU reads 1 features at every step \(got 9\).*x\[..., None\].*axes='nt'"
    with pytest.raises(ig.InputError, match=told):
        ig.attribute(model, torch.randn(4, 9), target=0)


def test_features_before_time_are_seen_by_the_width() -> None:
    told = r"GRU reads 3 features.*got 7.*x.transpose\(-1, -2\).*axes='nft'"
    refused(told, Of(lambda h: h[:, -1]), torch.randn(4, 3, 7, dtype=F64))


def test_lengths_in_a_list_of_floats_are_refused_with_advice_for_lists() -> None:
    told = r"\[int\(n\) for n in lengths\]"
    refused(told, Last(), torch.ones(2, 9, 3, dtype=F64), lengths=[9.0, 5.0])


def test_dates_are_told_how_to_become_times() -> None:
    dates = np.arange("2026-01-01", "2026-01-07", dtype="datetime64[D]")
    told = r"times are numbers \(got datetime64\[D\]\).*np.timedelta64\(1, 's'\)"
    refused(told, Last(), ragged()[0], times=dates)
    refused(told, Last(), [ragged()[0]], times=[dates])


@pytest.mark.parametrize(
    "given", [torch.arange(6.0), np.arange(6), [0, 1, 2, 3, 4, 5]], ids=["tensor", "array", "list"]
)
def test_one_axis_of_times_is_for_all_sequences_of_its_length(given: Any) -> None:
    for found in explain(Of(lambda h: h[:, -1]), torch.randn(6, 6, 3, dtype=F64), times=given):
        assert found.display["times"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    refused("one value for each of 3", Of(lambda h: h[:, -1]), ragged(), times=given)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_arrays_come_in_the_dtype_of_the_model(dtype: str) -> None:
    array = (np.arange(12) % 2).reshape(4, 3).astype(dtype)
    for model, own in ((gru(), F64), (gru().float(), torch.float32)):
        plain = explain(model, torch.from_numpy(array).to(own), **NODES)
        for found in (explain(model, array, **NODES), explain(model, [array], **NODES)[0]):
            assert torch.equal(found.values, plain.values)


def test_a_table_is_told_how_to_become_an_array() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(ragged()[0].numpy(), columns=["a", "b", "c"])
    told = r"got DataFrame\): pass its .to_numpy\(dtype='float32'\)"
    refused(told, gru(), table)
    refused(told, gru(), [table])
    refused(r"got Series\): pass its .to_numpy\(dtype='float32'\)\[:, None\]", gru(), table["a"])
    found = explain(gru(), table.to_numpy(), feature_names=table.columns)
    assert found.display["features"] == ["a", "b", "c"]


def test_a_baseline_of_one_step_stands_at_all_times() -> None:
    step = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    model = Of(lambda h: h[:, -1])
    for x, found in zip(ragged(), explain(model, ragged(), baseline=step, **NODES), strict=True):
        plain = explain(model, x, baseline=step.expand(len(x), 3), **NODES)
        assert torch.allclose(found.values, plain.values, rtol=0, atol=1e-14)
    refused("baseline", model, ragged(), ig.BaselineError, baseline=step[:2])
