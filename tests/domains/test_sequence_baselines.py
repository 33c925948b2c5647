"""Baselines of sequences: what each of them holds, of ragged data too, and what they refuse."""

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_sequences import baselines
from ig_sequences.baselines import (
    FeatureMean,
    ForwardFill,
    OtherSequences,
    TimeShuffled,
)
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.domain import SequenceDomain


def start(x: Tensor, baseline: ig.Baseline, batch: list[Tensor] | None = None) -> list[Tensor]:
    """The starts of one sequence among those of a call."""
    domain = SequenceDomain(lambda x: x.sum((1, 2)))
    raws = domain.split([x] if batch is None else batch)
    task = ig.prepare(domain, raws, baseline=baseline)
    return [one["x"] for one in task.starts[0]]


def ragged() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (4, 1, 7)]


# -- mean -----------------------------------------------------------------------------------------


def test_the_mean_is_that_of_all_steps_of_all_sequences_of_the_call() -> None:
    sequences = ragged()
    [found] = start(sequences[0], FeatureMean(), sequences)
    assert torch.allclose(found, torch.cat(sequences).mean(0).expand(4, 2), rtol=0, atol=1e-15)


def test_the_mean_of_a_call_is_taken_once_and_anew_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []
    mean, usual = baselines._mean, FeatureMean()

    def counted(sequences: list[Tensor]) -> Tensor:
        taken.append(len(sequences))
        return mean(sequences)

    monkeypatch.setattr(baselines, "_mean", counted)
    domain = SequenceDomain(LeakyIntegrator(0.5))
    for count in (3, 2):
        task = ig.prepare(domain, domain.split(ragged()[:count]), baseline=usual)
        expected = torch.cat(ragged()[:count]).mean(0)
        for [one] in task.starts:
            assert torch.allclose(one["x"], expected.expand_as(one["x"]), rtol=0, atol=1e-15)
    assert taken == [3, 2]


def test_the_mean_of_data_takes_lists_arrays_and_whole_numbers() -> None:
    x = torch.zeros(3, 1)
    whole = np.array([[[1], [2]], [[3], [4]]])
    for data in (whole, list(whole), torch.from_numpy(whole), [*torch.from_numpy(whole)]):
        assert start(x, FeatureMean(data))[0].tolist() == [[2.5]] * 3


def test_the_mean_of_a_single_sequence_is_its_own() -> None:
    x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    model = LeakyIntegrator(0.5)
    for baseline in ("mean", "time-mean"):
        result = ig.attribute(model, x, domain="sequences", baseline=baseline)
        assert result.scores.tolist() == [-0.5, -0.5, 3.0]
    assert result.provenance["baseline"] == "time-mean"
    assert SequenceDomain(model).batch == ()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "hold no sequence"),
        ([torch.zeros(3)], r"a sequence is a tensor \(time, features\) \(got shape \(3,\)\)"),
        ([torch.zeros(0, 2)], r"at least one step .* \(got \(0, 2\)\)"),
        ("data", "got str"),
        ([torch.zeros(3, 2), torch.zeros(3, 1)], r"as many features \(got \[1, 2\]\)"),
        ([torch.zeros(3, 2), torch.full((3, 2), torch.nan)], "sequence 1 holds NaN or infinity"),
    ],
)
@pytest.mark.parametrize("kind", [FeatureMean, OtherSequences])
def test_data_that_are_no_sequences_are_refused_by_name(
    kind: type, data: object, told: str
) -> None:
    with pytest.raises(ig.BaselineError, match=f"the data to take baselines from.*{told}"):
        start(torch.zeros(3, 2), kind(data))


def test_data_are_read_in_the_order_of_dimensions_that_the_model_reads() -> None:
    data = torch.arange(12.0).view(3, 2, 2)  # three steps of two sequences of two features
    x = torch.zeros(4, 2)
    for baseline in (FeatureMean(data), FeatureMean([data[:, 0], data[:, 1]])):
        domain = SequenceDomain(lambda x: x.sum((0, 2)), axes="tnf")
        [[found]] = ig.prepare(domain, domain.split([x]), baseline=baseline).starts
        assert found["x"].tolist() == data.mean((0, 1)).expand(4, 2).tolist()
    series = SequenceDomain(lambda x: x.sum(1), axes="nt")
    other = OtherSequences([torch.tensor([1, 2])], count=1)
    [[found]] = ig.prepare(series, series.split([torch.zeros(3)]), baseline=other).starts
    assert found["x"].tolist() == [[1.0], [1.0], [2.0]]


def test_data_of_another_number_of_features_are_refused_by_name() -> None:
    with pytest.raises(ig.BaselineError, match=r"2 features at every step, the data .* from 3"):
        start(torch.zeros(4, 2), FeatureMean(torch.zeros(5, 3)))


# -- forward fill ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "filled"), [(1, [1, 1, 1]), (2, [1, 2, 2]), (3, [1, 2, 6]), (-1, [1, 2, 2])]
)
def test_forward_fill_holds_the_value_before_its_first_step(begin: int, filled: list[int]) -> None:
    x = torch.tensor([[1.0], [2.0], [6.0]])
    assert start(x, ForwardFill(begin))[0].flatten().tolist() == filled


def test_steps_before_a_forward_fill_get_exactly_zero() -> None:
    for sequence in ragged()[::2]:
        baseline = ForwardFill(begin=-2)
        model = LeakyIntegrator(0.5)
        result = ig.attribute(model, sequence, domain="sequences", baseline=baseline)
        assert result.scores[:-2].tolist() == [0.0] * (len(sequence) - 2)
        held = sequence[-3].sum()
        expected = (sequence[-2:].sum(1) - held) * torch.tensor([0.5, 1.0])
        assert torch.allclose(result.scores[-2:], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("begin", [4, -3])
def test_a_forward_fill_beyond_the_sequence_is_refused_by_name(begin: int) -> None:
    with pytest.raises(ig.BaselineError, match=f"begin={begin} is out of range .* of 3 steps"):
        start(torch.zeros(3, 1), ForwardFill(begin))


@pytest.mark.parametrize("begin", [0, True, 1.0])
def test_a_forward_fill_begins_at_a_whole_number_other_than_0(begin: object) -> None:
    with pytest.raises(ig.BaselineError, match="begin is a whole number from 1"):
        ForwardFill(begin)


# -- shuffled in time -----------------------------------------------------------------------------


def test_shuffled_steps_are_those_of_the_sequence_and_stay_whole() -> None:
    x = ragged()[2]
    found = start(x, TimeShuffled(count=5))
    assert len(found) == 5
    for one in found:
        assert sorted(one.tolist()) == sorted(x.tolist())
    assert len({str(one.tolist()) for one in found}) == 5  # of 5,040 orders


def test_a_shuffle_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    model, x = LeakyIntegrator(0.5), ragged()[2]
    options = {"domain": "sequences", "baseline": TimeShuffled(count=2)}
    first, again, other = (ig.attribute(model, x, seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(first.scores, again.scores)
    assert not torch.equal(first.scores, other.scores)


# -- other sequences ------------------------------------------------------------------------------


def test_other_sequences_are_aligned_at_the_end_and_never_the_sequence_itself() -> None:
    four, one, seven = ragged()
    found = start(four, OtherSequences(), [four, one, seven])
    expected = [one.expand(4, 2), seven[3:]]
    assert sorted(x.tolist() for x in found) == sorted(x.tolist() for x in expected)


def test_the_oldest_value_is_held_before_a_shorter_sequence_begins() -> None:
    short = torch.tensor([[4], [5]])  # whole numbers, as sequences may be
    [found] = start(torch.zeros(4, 1), OtherSequences([short], count=1))
    assert found.flatten().tolist() == [4.0, 4.0, 4.0, 5.0]


def test_another_sequence_differs_from_each_of_the_call() -> None:
    sequences = [torch.full((3, 1), float(value)) for value in range(6)]
    options = {"domain": "sequences", "baseline": OtherSequences(count=1)}
    results = ig.attribute(LeakyIntegrator(0.5), sequences, **options)
    assert all(abs(result.delta) >= 1.75 for result in results)  # a difference of 1, leaking


def test_a_single_sequence_has_no_others() -> None:
    model = LeakyIntegrator(0.5)
    with pytest.raises(ig.BaselineError, match=r"no other sequence among 1: explain several"):
        ig.attribute(model, torch.ones(3, 1), domain="sequences", baseline="other-sequences")
    same = [torch.ones(3, 1), torch.ones(3, 1)]
    with pytest.raises(ig.BaselineError, match="no other sequence among 2"):
        ig.attribute(model, same, domain="sequences", baseline="other-sequences")


def test_other_sequences_of_another_number_of_features_are_refused_by_name() -> None:
    with pytest.raises(ig.BaselineError, match=r"2 features at every step, the data .* from 3"):
        start(torch.zeros(4, 2), OtherSequences(torch.zeros(5, 3)))


@pytest.mark.parametrize("kind", [TimeShuffled, OtherSequences])
@pytest.mark.parametrize("count", [0, True, 2.0])
def test_a_count_below_one_is_refused_by_name(kind: type, count: object) -> None:
    with pytest.raises(ig.BaselineError, match="count must be a whole number of at least 1"):
        kind(count=count)


# -- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "baseline", ["mean", "time-mean", "forward-fill", "time-shuffled", "other-sequences"]
)
def test_every_baseline_of_ragged_sequences_leaves_an_attribution_complete(baseline: str) -> None:
    model = LeakyIntegrator(0.5)
    for result in ig.attribute(model, ragged(), domain="sequences", baseline=baseline):
        assert abs(result.residual) < 1e-12
        assert result.provenance["baseline"] == baseline


@pytest.mark.parametrize("metric", ["removal-area", "completeness"])
@pytest.mark.parametrize(
    "baseline", ["mean", "time-mean", "forward-fill", "time-shuffled", "other-sequences"]
)
def test_the_metrics_of_the_core_remove_steps_by_these_baselines(
    baseline: str, metric: str
) -> None:
    model, sequences = LeakyIntegrator(0.5), ragged()
    domain = SequenceDomain(model)
    results = ig.attribute(model, sequences, domain=domain, baseline=baseline)
    task = ig.prepare(domain, domain.split(sequences), baseline=baseline)
    for i, result in enumerate(results):
        game = ig.Game(task, i)
        steps = len(result.units)
        ends = game.value(torch.stack([torch.zeros(steps), torch.ones(steps)]).bool())
        x, start = sequences[i], task.starts[i][0]["x"]
        weights = 0.5 ** torch.arange(steps - 1, -1, -1)
        assert ends == pytest.approx([float((v.sum(1) * weights).sum()) for v in (x, start)])
        for step in range(steps):
            one = torch.arange(steps)[None] == step
            [left] = game.value(one)
            moved = float((x - start)[step].sum() * weights[step])
            assert ends[0] - left == pytest.approx(moved, abs=1e-12)
        [measure] = [m for m in ig.plugins().all("metric", "sequences") if m.name == metric]
        value = measure().measure(result, game)
        if metric == "completeness":
            assert value < 1e-9 or abs(result.delta) < 1e-9
        elif len(task.starts[i]) == 1 and result.scores.abs().max() > 1e-9:
            assert value >= 0  # the order by exact contributions is the best one


def test_baselines_of_a_sequence_can_be_compared():
    model = torch.nn.GRU(2, 3, batch_first=True)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    found = [ig.attribute(model, x, target=1, baseline=one) for one in ("zeros", "time-mean")]
    agreement = ig.BaselineAgreement().find(found)
    assert list(agreement.names) == ["zeros", "time-mean"]
    assert agreement.rank_correlation.shape == (2, 2)
