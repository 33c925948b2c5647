"""Baselines of sequences: what each of them holds, of ragged data too, and what they refuse."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_sequences.baselines import FeatureMean
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


@pytest.mark.parametrize("baseline", [FeatureMean])
def test_the_example_of_a_baseline_runs(baseline: type[ig.Baseline]) -> None:
    names = {"ig": ig, "torch": torch, "leaky": LeakyIntegrator(0.5), baseline.__name__: baseline}
    [example] = doctest.DocTestFinder(recurse=False).find(baseline, globs=names)
    assert example.examples
    told: list[str] = []
    doctest.DocTestRunner().run(example, out=told.append)
    assert not told, "".join(told)


# -- mean -----------------------------------------------------------------------------------------


def test_the_mean_is_that_of_all_steps_of_all_sequences_of_the_call() -> None:
    sequences = ragged()
    [found] = start(sequences[0], FeatureMean(), sequences)
    assert torch.allclose(found, torch.cat(sequences).mean(0).expand(4, 2), rtol=0, atol=1e-15)


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
        ([torch.zeros(3)], r"got shape \(3,\)"),
        ([torch.zeros(0, 2)], r"got shape \(0, 2\)"),
        ("data", "got str"),
        ([torch.zeros(3, 2), torch.zeros(3, 1)], r"as many features \(got \[1, 2\]\)"),
        ([torch.zeros(3, 2), torch.full((3, 2), torch.nan)], "sequence 1 of the data .* NaN"),
    ],
)
def test_data_that_are_no_sequences_are_refused_by_name(data: object, told: str) -> None:
    with pytest.raises(ig.BaselineError, match=told):
        FeatureMean(data)


def test_data_of_another_number_of_features_are_refused_by_name() -> None:
    with pytest.raises(ig.BaselineError, match=r"2 features at every step, the data .* from 3"):
        start(torch.zeros(4, 2), FeatureMean(torch.zeros(5, 3)))
