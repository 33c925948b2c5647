"""The agreement of baselines: ranks and signs against scipy and by hand, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

import ig_core as ig
from ig_core import BaselineAgreement, InputError


def result(scores, labels=None, **fields):
    """An attribution with these unit scores."""
    values = torch.tensor(scores, dtype=torch.float64)
    labels = labels or [f"unit {i}" for i in range(len(scores))]
    units = ig.Units(tuple(labels), {"x": torch.arange(len(scores))})
    given = {"at_input": 1.0, "at_baseline": 0.0, "residual": 0.0, **fields}
    return ig.Attribution(tensors={"x": values}, units=units, **given)


def find(*scores, **options):
    return BaselineAgreement().find([result(one) for one in scores], **options)


def test_ranks_are_correlated_as_scipy_does_with_ties():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    rows = rng.integers(-3, 4, (4, 25)).astype(float)
    found = find(*rows.tolist())
    assert found.rank_correlation == pytest.approx(stats.spearmanr(rows.T).statistic, abs=1e-12)


def test_signs_mean_and_spread_by_hand():
    found = find([1.0, -2.0, 0.0, 4.0], [3.0, 2.0, 0.0, -4.0])
    assert found.sign_agreement.tolist() == [[1.0, 0.5], [0.5, 1.0]]
    assert found.mean.tolist() == [2.0, 0.0, 0.0, 0.0]
    assert found.spread == pytest.approx([2**0.5, 8**0.5, 0.0, 32**0.5])
    assert found.disputed(2) == [
        ("unit 3", 0.0, pytest.approx(32**0.5)),
        ("unit 1", 0.0, pytest.approx(8**0.5)),
    ]
    assert found.disputed(0) == []


def test_a_monotone_change_of_the_scores_keeps_the_ranks():
    scores = [0.3, -1.2, 2.5, 0.0, -0.1]
    found = find(scores, [x**3 for x in scores], [-x for x in scores])
    assert found.rank_correlation == pytest.approx(
        np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    )


def test_scores_that_are_all_equal_have_no_rank_correlation():
    found = find([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert np.isnan(found.rank_correlation[0]).all()
    assert found.rank_correlation[1, 1] == pytest.approx(1)
    assert "n/a" in found.to_text()


def test_the_spread_is_that_of_a_list_of_baselines():
    def model(x):
        return x[:, 0] * x[:, 1] + x[:, 2] ** 3

    x = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    baselines = [0.0, 0.5, -1.0]
    each = [ig.attribute(model, x, baseline=b, tol=1e-6)[0] for b in baselines]
    [together] = ig.attribute(model, x, baseline=baselines, tol=1e-6)
    found = ig.plugins().find("analysis", "baseline-agreement", "tensor")().find(each)
    assert found.mean == pytest.approx(together.scores.numpy(), abs=1e-9)
    assert found.spread == pytest.approx(together.spread.numpy(), abs=1e-9)
    assert found.names == ["0.0", "0.5", "-1.0"]


def test_baselines_of_one_name_are_numbered_and_lists_are_joined():
    given = ["pad", "given", "given", ["pad", "mask"]]
    results = [result([1.0, 2.0], provenance={"baseline": name}) for name in given]
    assert BaselineAgreement().find(results).names == ["pad", "given 1", "given 2", "pad + mask"]
    assert BaselineAgreement().find(results, names=list("abcd")).names == list("abcd")


def test_the_finding_is_told_as_text_and_html():
    results = [result([1.0, -2.0], ["<b>", "film"]), result([2.0, 2.0], ["<b>", "film"])]
    found = BaselineAgreement().find(results, names=["pad", "mask"])
    assert found.to_text(1).splitlines() == [
        "baselines   Spearman's rho  same sign",
        "pad / mask             n/a        0.5",
        "",
        "most disputed units  mean score  spread  pad  mask",
        "film                          0    2.83   -2     2",
    ]
    assert "&lt;b&gt;" in found.to_html() and "<b>" not in found.to_html()


@pytest.mark.parametrize(
    ("others", "options", "told"),
    [
        ([], {}, "at least two attributions"),
        ([result([1.0, 2.0], ["a", "c"])], {}, "attribution 1 has other units than attribution 0"),
        ([result([1.0, 2.0], ["a", "b"], display={"texts": ["b"]})], {}, "text or drawing differ"),
        ([result([1.0, 2.0], ["a", "b"], provenance={"target": 1})], {}, "target differ"),
        ([result([float("nan"), 1.0], ["a", "b"], reason="it broke")], {}, "compared: it broke"),
        ([result([1.0, 2.0], ["a", "b"])], {"names": ["pad"]}, "expected 2 names"),
        ([result([1.0, 2.0], ["a", "b"])], {"k": 3}, "has the option 'names'"),
    ],
)
def test_what_cannot_be_compared_is_refused(others, options, told):
    with pytest.raises(InputError, match=told):
        BaselineAgreement().find([result([1.0, 2.0], ["a", "b"]), *others], **options)


def test_the_same_labels_on_other_elements_are_other_units():
    one = result([1.0, 2.0])
    other = dataclasses.replace(
        one, units=ig.Units(one.units.labels, {"x": torch.tensor([1, 0])}, one.units.kind)
    )
    with pytest.raises(InputError, match="other units"):
        BaselineAgreement().find([one, other])


def test_results_without_units_are_refused():
    with pytest.raises(InputError, match="no units"):
        find([], [])


def test_a_result_that_was_read_from_a_file_is_compared_like_a_fresh_one(tmp_path):
    display = {"ends": (1, 2)}
    fresh = result([1.0, 2.0, 4.0], display=display, provenance={"target": (1, 0)})
    loaded = ig.Attribution.load(fresh.save(tmp_path / "one.safetensors"))
    found = BaselineAgreement().find([fresh, loaded])
    assert found.rank_correlation[0, 1] == pytest.approx(1)
    assert found.spread.tolist() == [0, 0, 0]
