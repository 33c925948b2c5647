"""Methods of sequences that need no gradient: occlusion, and the controls recency and energy."""

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import methods
from ig_sequences.baselines import OtherSequences
from ig_sequences.cases.closed_forms import LeakyIntegrator
from ig_sequences.methods import Energy, Occlusion, Recency

NAMES = ("occlusion", "recency", "energy")


def ragged(lengths: tuple[int, ...] = (5, 1, 9)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in lengths]


def left_out(model: nn.Module, x: Tensor, start: Tensor, target: int) -> list[float]:
    """F(x) - F(x with one step at the start), by hand, step by step."""
    found = []
    for step in range(len(x)):
        point = x.clone()
        point[step] = start[step]
        found.append((model(x[None]) - model(point[None]))[0, target].item())
    return found


def test_occlusion_is_the_difference_that_each_step_makes(classifier: nn.Module) -> None:
    sequences = ragged()
    results = ig.attribute(classifier, sequences, target=1, baseline=0.5, method="occlusion")
    for x, result in zip(sequences, results, strict=True):
        expected = left_out(classifier, x, torch.full_like(x, 0.5), 1)
        assert result.scores.tolist() == pytest.approx(expected, abs=1e-12)
        assert result.residual == pytest.approx(sum(expected) - result.delta, abs=1e-12)
        assert (result.status, result.evaluations) == ("one_shot", len(x) + 2)


def test_the_steps_of_an_occluded_sequence_are_packed_into_one_pass(classifier: nn.Module) -> None:
    [x] = ragged((9,))
    ig.attribute(classifier, x, target=1, method="occlusion")
    assert classifier.rows == [2, 9]


def test_long_sequences_are_occluded_some_steps_at_a_time(
    classifier: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [x] = ragged((9,))
    whole = ig.attribute(classifier, x, target=1, method="occlusion")
    monkeypatch.setattr(methods, "POINTS", 4 * x.numel())
    classifier.rows.clear()
    parts = ig.attribute(classifier, x, target=1, method="occlusion")
    assert classifier.rows == [2, 4, 4, 1]
    assert torch.allclose(parts.scores, whole.scores, rtol=0, atol=1e-15)


def test_occlusion_of_several_baselines_is_averaged_with_its_spread(classifier: nn.Module) -> None:
    [x, one, other] = ragged((4, 4, 4))
    baseline = OtherSequences([one, other])
    result = ig.attribute(classifier, x, target=0, baseline=baseline, method="occlusion")
    both = torch.tensor(
        [left_out(classifier, x, start, 0) for start in (one, other)], dtype=torch.float64
    )
    assert torch.allclose(result.scores, both.mean(0), rtol=0, atol=1e-12)
    assert torch.allclose(result.spread, both.std(0), rtol=0, atol=1e-12)


def test_a_step_and_a_feature_that_do_not_move_get_exactly_0(classifier: nn.Module) -> None:
    [x] = ragged((4,))
    start = torch.zeros_like(x)
    start[1], start[2, 0] = x[1], x[2, 0]
    result = ig.attribute(classifier, x, target=0, baseline=start, method="occlusion")
    assert result.values[1].tolist() == [0.0, 0.0]
    assert result.values[2, 0] == 0 and result.values[2, 1] == result.scores[2] != 0
    assert result.evaluations == 3 + 2


def test_recency_rises_to_1_at_the_newest_step(classifier: nn.Module) -> None:
    for x, result in zip(
        ragged(), ig.attribute(classifier, ragged(), target=0, method="recency"), strict=True
    ):
        expected = [(t + 1) / len(x) for t in range(len(x))]
        assert result.scores.tolist() == pytest.approx(expected, abs=1e-15)


def test_energy_is_the_sum_of_magnitudes_of_a_step(classifier: nn.Module) -> None:
    for x, result in zip(
        ragged(), ig.attribute(classifier, ragged(), target=0, method="energy"), strict=True
    ):
        assert torch.equal(result.values, x.abs())


@pytest.mark.parametrize("method", NAMES)
def test_every_method_knows_F_at_both_ends_and_what_it_was_asked(method: str) -> None:
    model, [x] = LeakyIntegrator(0.5), ragged((4,))
    result = ig.attribute(model, x, domain="sequences", baseline=1.0, method=method)
    exact = ig.attribute(model, x, domain="sequences", baseline=1.0)
    assert result.at_input == pytest.approx(exact.at_input, abs=1e-12)
    assert result.at_baseline == pytest.approx(exact.at_baseline, abs=1e-12)
    assert result.provenance["method"] == method
    assert result.provenance["baseline"] == 1.0


@pytest.mark.parametrize("method", NAMES)
def test_a_sequence_at_which_the_model_has_no_number_fails_alone(method: str) -> None:
    def root(x: Tensor) -> Tensor:
        return x.sum((1, 2)).sqrt()

    sequences = [torch.ones(3, 1), -torch.ones(3, 1)]
    with pytest.warns(ig.IGWarning, match="1 of 2 examples failed"):
        good, bad = ig.attribute(root, sequences, domain="sequences", method=method)
    assert (good.status, bad.status) == ("one_shot", "failed")
    assert "NaN or infinite" in bad.reason and bad.scores.isnan().all()


@pytest.mark.parametrize("method", NAMES)
def test_a_call_that_is_wrong_is_refused_as_a_whole(classifier: nn.Module, method: str) -> None:
    with pytest.raises(ig.TargetError, match="target 7 is out of range"):
        ig.attribute(classifier, ragged(), target=7, method=method)


@pytest.mark.parametrize("method", [Occlusion, Recency, Energy])
def test_no_suite_runs_these_methods_unless_they_are_named(method: type[ig.Method]) -> None:
    assert method.fits == ("sequences",) and method.tags == ()
    assert ig.plugins().find("method", method.name, "sequences") is method
