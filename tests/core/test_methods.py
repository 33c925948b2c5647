from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ig_core as ig

X = torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 2.0]], dtype=torch.float64)


def cubic(x: Tensor) -> Tensor:
    return (x**3).sum(1)


def test_gradient_times_input_is_the_integrand_at_the_input() -> None:
    for result, row in zip(ig.attribute(cubic, X, method="gradient-x-input"), X, strict=True):
        torch.testing.assert_close(result.values, 3 * row**3)
        assert result.residual == pytest.approx(float(2 * (row**3).sum()))
        assert (result.status, result.evaluations) == ("one_shot", 1)
        assert result.provenance["method"] == "gradient-x-input"


def test_gradient_times_input_is_relative_to_the_baseline() -> None:
    [result] = ig.attribute(cubic, X[:1], baseline=1.0, method="gradient-x-input")
    assert result.values.tolist() == [0, 12, 0]


def test_gradient_times_input_never_warns_about_a_tolerance() -> None:
    assert all(
        r.status == "one_shot"
        for r in ig.attribute(torch.relu, X[:, 0], method="gradient-x-input", tol=1e-9)
    )


def test_negated_is_integrated_gradients_with_the_sign_turned() -> None:
    plain, negated = ig.attribute(cubic, X), ig.attribute(cubic, X, method="negated")
    for a, b in zip(plain, negated, strict=True):
        assert torch.equal(b.values, -a.values)
        assert b.residual == pytest.approx(-2 * a.delta)
        assert b.status == "one_shot" and b.error != b.error, "it converges to nothing"
        assert (a.delta, b.provenance["method"]) == (b.delta, "negated")


def test_random_is_drawn_from_the_seed_for_what_moves() -> None:
    first, second = ig.attribute(cubic, X, method="random", seed=1)
    again = ig.attribute(cubic, X, method="random", seed=1)
    other = ig.attribute(cubic, X, method="random", seed=2)
    assert torch.equal(first.values, again[0].values) and torch.equal(
        second.values, again[1].values
    )
    assert not torch.equal(first.values, other[0].values)
    assert first.values[2] == 0 and (first.values[:2] != 0).all(), "the third element does not move"
    assert first.delta == 9
    assert first.residual == pytest.approx(float(first.values.sum()) - 9)


def test_random_names_the_mean_of_several_baselines() -> None:
    [result] = ig.attribute(cubic, X[:1], method="random", baseline=[0.0, 1.0])
    assert result.at_baseline == 1.5


def test_a_method_of_one_s_own_gets_the_whole_task() -> None:
    class Occlusion(ig.Method):
        """Each element to the baseline, one at a time."""

        name = "occlusion"

        def attribute(self, task):
            results = []
            for example, starts in zip(task.examples, task.starts, strict=True):
                x, start = example.inputs["x"], starts[0]["x"]
                points = torch.where(torch.eye(len(x), dtype=torch.bool), start, x)
                at = task.values_at(example, {"x": torch.stack([x, start, *points])})
                values = at[0] - at[2:]
                result = ig.Attribution(
                    tensors={"x": values},
                    units=example.parts,
                    at_input=float(at[0]),
                    at_baseline=float(at[1]),
                    residual=float(values.sum() - at[0] + at[1]),
                    status="one_shot",
                )
                results.append(result)
            return results

    for result, row in zip(ig.attribute(cubic, X, method=Occlusion()), X, strict=True):
        torch.testing.assert_close(result.values, row**3)
        assert result.residual == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("target", "told"), [(0, 0), ((1,), (1,)), (torch.sum, "sum"), (None, None)]
)
def test_the_provenance_names_method_and_target(target: object, told: object) -> None:
    model = (lambda x: x) if target in (0, (1,)) else cubic
    if target is torch.sum:
        target = lambda o: o * 1  # noqa: E731
        told = "<lambda>"
    facts = ig.attribute(model, X, target=target, seed=5, tol=0.1)[0].provenance
    assert facts["target"] == told
    assert (facts["method"], facts["domain"], facts["path"], facts["rule"]) == (
        "ig",
        "tensor",
        "straight",
        "adaptive",
    )
    assert (facts["seed"], facts["tol"], facts["budget"], facts["torch"]) == (
        5,
        0.1,
        512,
        torch.__version__,
    )
