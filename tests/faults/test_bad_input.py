"""What bad input gets: an error that names what was got and what to do, or a documented result."""

from __future__ import annotations

import functools
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import ig_core as ig
from ig_core.quadrature import gauss_legendre

X = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.5, -1.0]])
NAN, INF = float("nan"), float("inf")


def cubic(x: Tensor) -> Tensor:
    return (x**3).sum(1)


def net(*extra: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), *extra, nn.Linear(8, 4))


def refused(
    error: type[Exception], *told: str, model: object = cubic, x: object = X, **options: object
) -> Exception:
    """The call raises this class, which is ig_core's, and its message holds all of ``told``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ig.IGWarning)
        with pytest.raises(error) as caught:
            ig.attribute(model, x, **options)
    assert isinstance(caught.value, ig.IGError)
    for part in told:
        assert part in str(caught.value), f"{part!r} is missing in: {caught.value}"
    return caught.value


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integer_input_is_refused_and_embeddings_are_named(dtype: torch.dtype) -> None:
    refused(ig.InputError, "'x' of example 0", str(dtype), "embeddings", x=X.abs().to(dtype))


def test_complex_input_is_refused() -> None:
    refused(ig.InputError, "torch.complex64", x=X.to(torch.complex64))


@pytest.mark.parametrize("sparse", [Tensor.to_sparse, Tensor.to_sparse_csr])
def test_sparse_input_is_refused_and_to_dense_is_named(sparse: Callable[[Tensor], Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        x = [sparse(X)]
    refused(ig.InputError, "is sparse (torch.sparse", "to_dense()", x=x)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_input_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    x = X.clone()
    x[1, 2] = bad
    refused(ig.NonFiniteError, "'x' of example 1", "at [2]", x=x)


@pytest.mark.parametrize("x", [X.numpy(), (X.numpy(), X.numpy()), [X[0].numpy()]])
def test_arrays_are_refused_and_as_tensor_is_named(x: object) -> None:
    refused(ig.InputError, "got ndarray", "torch.as_tensor", x=x)


@pytest.mark.parametrize("x", ["a text", 3.0, [[1.0, 2.0]], None])
def test_what_no_domain_accepts_is_refused_with_the_domains(x: object) -> None:
    refused(ig.InputError, "cannot tell the domain", type(x).__name__, "tensor", x=x)


def test_a_model_that_cannot_be_called_is_refused() -> None:
    refused(ig.InputError, "cannot tell the domain of a int", model=5)


@pytest.mark.parametrize(
    "x", [[], torch.zeros(0, 3), [()][:0], (torch.zeros(0, 3), torch.zeros(0))]
)
def test_an_empty_batch_gives_an_empty_list(x: object) -> None:
    assert ig.attribute(cubic, x) == []


def test_an_empty_batch_does_not_excuse_a_wrong_name() -> None:
    refused(ig.UnknownNameError, "no method is called", x=[], method="ik")


@pytest.mark.parametrize("x", [(), {}])
def test_no_tensor_at_all_is_refused(x: object) -> None:
    refused(ig.InputError, "there is no input tensor", x=x)


def test_examples_without_elements_get_attributions_without_elements() -> None:
    results = ig.attribute(lambda x: x.sum(1) + 1, torch.zeros(2, 0))
    assert [r.values.shape for r in results] == [(0,), (0,)]
    assert [(r.delta, r.residual, r.status) for r in results] == [(0, 0, "converged")] * 2


def test_a_ragged_example_of_length_zero_shares_a_batch() -> None:
    model = lambda x: (x**2).sum((1, 2))  # noqa: E731
    ragged = [torch.ones(2, 3), torch.ones(0, 3)]
    full, empty = ig.attribute(model, ragged, layouts={"x": ig.Pad()})
    torch.testing.assert_close(full.values, torch.ones(2, 3))
    assert empty.values.shape == (0, 3)


def test_numbers_without_dimensions_are_examples() -> None:
    results = ig.attribute(lambda x: x**3, torch.tensor([2.0, 3.0]))
    assert [r.values.shape for r in results] == [(), ()]
    assert [r.values.item() for r in results] == pytest.approx([8, 27])


def test_a_tensor_without_a_batch_dimension_is_refused() -> None:
    refused(ig.InputError, "same first dimension, which counts examples", x=torch.tensor(1.0))


def test_inputs_of_different_batch_size_are_refused() -> None:
    refused(ig.InputError, "same first dimension", "(2, 3)", "(5, 3)", x=(X, torch.zeros(5, 3)))


def test_a_ragged_list_is_refused_and_the_ragged_layouts_are_named() -> None:
    x = [torch.zeros(2, 3), torch.zeros(4, 3)]
    refused(ig.InputError, "one shape in all examples", "[(2, 3), (4, 3)]", "Pad or Cat", x=x)


def test_examples_that_name_different_inputs_are_refused() -> None:
    x = [{"a": X[0]}, {"b": X[0]}]
    refused(ig.InputError, "example 1 has tensors ['b']", "['a']", model=lambda a: a.sum(1), x=x)


@pytest.mark.parametrize(
    "x",
    [X.T.contiguous().T, X[:1].expand(4, 3), torch.randn(2, 6)[:, ::2], X.flip(0)[1:]],
    ids=["transposed", "expanded", "strided", "sliced"],
)
def test_memory_layout_of_the_input_does_not_matter(x: Tensor) -> None:
    for result, row in zip(ig.attribute(cubic, x), x, strict=True):
        torch.testing.assert_close(result.values, row**3)


def test_an_input_that_requires_grad_is_left_alone() -> None:
    x = X.clone().requires_grad_()
    start = torch.zeros(3, requires_grad=True)
    result = ig.attribute(cubic, x, baseline=start)[0]
    assert not result.values.requires_grad
    assert x.grad is None and x.is_leaf and x.requires_grad
    assert start.grad is None
    assert torch.equal(x, X)


def test_an_input_with_a_history_is_left_alone() -> None:
    leaf = X.clone().requires_grad_()
    scale = torch.ones(2, 1, requires_grad=True)
    results = ig.attribute(
        lambda x, s: (x**3 * s).sum(1), leaf * 1.0, per_example={"s": scale * 1.0}, tol=1e-4
    )
    torch.testing.assert_close(torch.stack([r.values for r in results]), X**3)
    assert leaf.grad is None and scale.grad is None


def test_inference_mode_and_no_grad_around_the_call_change_nothing() -> None:
    model = net(nn.BatchNorm1d(8))
    expected = ig.attribute(model, X, target=0)[0].values
    with torch.no_grad():
        assert torch.equal(ig.attribute(model, X, target=0)[0].values, expected)
    with torch.inference_mode():
        inside = X.clone()
        [found, _] = ig.attribute(model, inside, target=0)
    assert torch.equal(found.values, expected)
    assert torch.equal(ig.attribute(model, inside, target=0)[0].values, expected)
    assert not found.values.is_inference()


def test_a_model_made_in_inference_mode_is_refused_with_torch_s_own_advice() -> None:
    with torch.inference_mode():
        model = net(nn.BatchNorm1d(8))
    refused(ig.ForwardError, "inference mode", "make a clone", model=model, target=0)


def test_half_precision_is_integrated_in_single() -> None:
    x = X.to(torch.bfloat16)
    for result, row in zip(ig.attribute(cubic, x, tol=0.1), x.float(), strict=True):
        assert result.values.dtype == torch.float32
        torch.testing.assert_close(result.values, row**3, rtol=0.03, atol=0.03)


def test_extra_arguments_need_a_row_per_example() -> None:
    refused(
        ig.InputError, "per_example['s'] needs one row for each of 2 examples", "(3,)", "shared",
        model=lambda x, s: x.sum(1) * s, per_example={"s": torch.ones(3)},
    )  # fmt: skip


def test_an_extra_argument_with_the_name_of_an_input_is_refused() -> None:
    """The single input is called x inside; it must not be confused with an argument x."""
    model = lambda a, x: (a * x).sum(1)  # noqa: E731
    refused(ig.InputError, "['x'] names both", "as a dict", model=model, per_example={"x": X})
    result = ig.attribute(model, {"a": X}, per_example={"x": X + 1})[0]
    torch.testing.assert_close(result.values, X[0] * (X[0] + 1))


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"x": torch.tensor([0, 1])}, "(3,) (got (2,))"),
        ({"y": torch.zeros(3).long()}, "the inputs are ['x']"),
    ],
)
def test_units_that_do_not_fit_the_input_are_refused(index: dict[str, Tensor], told: str) -> None:
    refused(ig.InputError, "units of", told, units=ig.Units("ab", index))


def test_an_unknown_option_is_refused() -> None:
    refused(ig.InputError, "domain 'tensor'", "no option 'targt'; did you mean 'target'", targt=0)


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    refused(ig.InputError, f"device='{device}' cannot be used", device=device)


def test_another_device_than_the_model_s_is_refused_and_to_is_named() -> None:
    refused(
        ig.InputError,
        "the model is on cpu",
        "model.to('meta')",
        model=net(),
        device="meta",
        target=0,
    )


# -- baseline -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 3), (5, 3), (1, 1, 3)])
def test_a_baseline_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    refused(ig.BaselineError, "of shape (3,)", f"of shape {shape}", baseline=torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_a_baseline_of_the_wrong_dtype_is_refused(dtype: torch.dtype) -> None:
    refused(
        ig.BaselineError, "must be torch.float32", f"got {dtype}", baseline=torch.zeros(3).to(dtype)
    )


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_baseline_that_is_not_finite_is_refused(bad: float) -> None:
    refused(ig.BaselineError, "'x' holds NaN or infinity", baseline=bad)
    refused(ig.BaselineError, "'x' holds NaN or infinity", baseline=torch.tensor([0, bad, 0]))


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        ([], "at least one (got none)"),
        ((X, X), "for each of ['x'] (got 2)"),
        ({"y": X[0]}, "must name the inputs ['x'] (got ['y'])"),
        ({"x": 0.0}, "must be a tensor (got 0.0)"),
        (lambda example: 0.5, "must name the inputs ['x'] (got float)"),
        (lambda example: {"x": 0.5}, "must be torch.float32 of shape (3,)"),
    ],
    ids=["empty list", "too many", "wrong name", "number in a mapping", "function", "mapping"],
)
def test_what_is_no_baseline_is_refused(baseline: object, told: str) -> None:
    refused(ig.BaselineError, told, baseline=baseline)


@pytest.mark.parametrize("baseline", [True, object(), ig.Zeros])
def test_what_cannot_be_a_baseline_at_all_is_refused(baseline: object) -> None:
    refused(ig.InputError, "a baseline is a name, a Baseline, a number", baseline=baseline)


def test_one_tensor_for_two_inputs_is_refused() -> None:
    refused(
        ig.BaselineError, "a mapping with the names ['x0', 'x1']",
        model=lambda a, b: (a * b).sum(1), x=(X, X), baseline=ig.Given(X[0]),
    )  # fmt: skip


def test_an_empty_data_set_gives_no_samples() -> None:
    refused(ig.BaselineError, "is empty", baseline=ig.Samples(torch.zeros(0, 3)))
    with pytest.raises(ig.BaselineError, match=r"at least 1 \(got 0\)"):
        ig.Samples(X, count=0)


# -- target ---------------------------------------------------------------------------------------


def test_a_missing_target_says_which_there_are() -> None:
    refused(ig.TargetError, "output of shape (4,)", "target=0 (0 to 3)", model=net())


@pytest.mark.parametrize("target", [-1, 1.0, True, "1", (0, -1), (), (1.5,), [0, -1], [0, None]])
def test_what_is_no_target_is_refused(target: object) -> None:
    refused(ig.TargetError, "an index of at least 0", "got", model=net(), target=target)


@pytest.mark.parametrize("target", [4, [0, 4], (17,)])
def test_a_target_beyond_the_output_is_refused(target: object) -> None:
    refused(
        ig.TargetError, "is out of range", "(4,)", "expected 0 to 3", model=net(), target=target
    )


@pytest.mark.parametrize(("target", "got"), [((0, 1), 2), ([(0, 1), (1, 1)], 2)])
def test_a_target_of_the_wrong_length_is_refused(target: object, got: int) -> None:
    refused(
        ig.TargetError,
        "one index per output dimension: 1",
        f"(got {got})",
        model=net(),
        target=target,
    )


@pytest.mark.parametrize("target", [[0], [0, 1, 2], torch.tensor([0, 1, 2]), []])
def test_a_list_of_targets_of_the_wrong_length_is_refused(target: object) -> None:
    refused(ig.TargetError, "each of 2 examples", f"got {len(target)}", model=net(), target=target)


def test_targets_of_several_kinds_are_refused() -> None:
    refused(ig.TargetError, "all None, or all functions", model=net(), target=[None, 0])


def test_a_target_for_a_model_with_single_numbers_is_refused() -> None:
    refused(ig.TargetError, "0 for output shape ()", target=0)


@pytest.mark.parametrize(
    "target", [np.int64(2), torch.tensor(2), np.array([2, 2]), torch.tensor([2, 2])]
)
def test_integers_of_numpy_and_torch_are_targets(target: object) -> None:
    plain, other = ig.attribute(net(), X, target=2), ig.attribute(net(), X, target=target)
    assert all(torch.equal(a.values, b.values) for a, b in zip(plain, other, strict=True))


# -- numbers and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, -1, 8, 100.0, "many", True])
def test_a_budget_below_nine_or_not_whole_is_refused(budget: object) -> None:
    refused(ig.InputError, "budget", "at least 11", repr(budget), budget=budget)


@pytest.mark.parametrize("steps", [0, -3, 2.0, True])
@pytest.mark.parametrize("rule", ["gauss-legendre", "midpoint", "trapezoid"])
def test_steps_below_one_or_not_whole_are_refused(rule: str, steps: object) -> None:
    refused(ig.InputError, "steps", "at least 1", repr(steps), rule=rule, steps=steps)


def test_steps_and_rules_that_do_not_go_together_are_refused() -> None:
    refused(ig.InputError, "chooses its own steps", "steps=50", "rule='gauss-legendre'", steps=50)
    refused(ig.InputError, "needs steps, e.g. steps=50", rule="midpoint")


@pytest.mark.parametrize("tol", [0, 1, -0.1, NAN, INF, "small", True, None])
def test_a_tolerance_outside_zero_and_one_is_refused(tol: object) -> None:
    refused(ig.InputError, "tol must lie between 0 and 1", repr(tol), tol=tol)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True, None])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    refused(ig.InputError, "seed must be a whole number", repr(seed), seed=seed)


@pytest.mark.parametrize(
    ("option", "typed", "meant"),
    [
        ("domain", "tensr", "tensor"),
        ("path", "strait", "straight"),
        ("baseline", "zero", "zeros"),
        ("method", "gradient", "gradient-x-input"),
        ("rule", "gauss-legender", "gauss-legendre"),
    ],
)
def test_an_unknown_name_gets_the_one_that_was_meant(option: str, typed: str, meant: str) -> None:
    refused(
        ig.UnknownNameError,
        f"no {option} is called {typed!r}",
        f"did you mean {meant!r}?",
        **{option: typed},
    )


@pytest.mark.parametrize("option", ["domain", "path", "baseline", "method", "rule"])
def test_a_name_like_no_other_gets_the_list(option: str) -> None:
    error = refused(ig.UnknownNameError, "Known: ", **{option: "qqq"})
    assert "did you mean" not in str(error)


@pytest.mark.parametrize("option", ["path", "method", "rule"])
def test_a_name_is_looked_up_before_any_input_is(option: str) -> None:
    refused(ig.UnknownNameError, f"no {option} is called", x=X * torch.nan, **{option: "qqq"})


@pytest.mark.parametrize("option", ["path", "method"])
def test_what_is_neither_a_name_nor_a_component_is_refused(option: str) -> None:
    refused(ig.InputError, f"{option} must be a name or a", "(got 3)", **{option: 3})


@pytest.mark.parametrize(
    ("option", "name", "cls"),
    [("path", "piecewise", "Piecewise"), ("baseline", "samples", "Samples")],
)
def test_a_component_that_needs_arguments_says_so(option: str, name: str, cls: str) -> None:
    refused(
        ig.InputError, f"{option} {name!r} needs arguments", f"instance of {cls}", **{option: name}
    )


def test_points_of_a_path_must_have_the_shape_of_the_input() -> None:
    refused(ig.InputError, "{'x': (3,)} (got {'x': (2,)})", path=ig.Piecewise([torch.zeros(2)]))


def test_a_component_for_another_domain_is_refused() -> None:
    class Elsewhere(ig.Straight):
        name, fits = "elsewhere", ("graph",)

    refused(ig.InputError, "the path 'elsewhere' is for graph, not for 'tensor'", path=Elsewhere())


# -- what models give -----------------------------------------------------------------------------


def test_one_number_for_a_whole_batch_is_refused() -> None:
    refused(
        ig.OutputError, "one output per row", "(got shape ())", "mean or sum over the batch",
        model=lambda x: x.sum(),
    )  # fmt: skip


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_output_of_another_number_of_rows_is_refused(rows: int) -> None:
    refused(
        ig.OutputError,
        "one output per row",
        "(got shape",
        model=lambda x: x.sum() * torch.ones(rows),
    )


def test_a_squeezed_output_is_understood_also_for_one_row() -> None:
    model = lambda x: (x**3).sum(1, keepdim=True).squeeze()  # noqa: E731
    for batch in (X, X[:1]):
        results = ig.attribute(model, batch, layouts={"x": ig.Stack(capacity=1)})
        torch.testing.assert_close(torch.stack([r.values for r in results]), batch**3)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (lambda x: None, "must give tensors (got NoneType)"),
        (lambda x: x.detach().numpy(), "must give tensors (got ndarray)"),
        (lambda x: (x, x), "tuple of 2 (Tensor, Tensor); say which part to explain with output="),
        (lambda x: {"a": x, "b": x}, "dict with keys ['a', 'b']; say which part"),
        (lambda x: {}, "say which part"),
    ],
)
def test_outputs_that_are_no_single_tensor_are_refused(outputs: object, told: str) -> None:
    refused(ig.OutputError, told, model=outputs)


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        ("b", "'b' is not in the model's dict with keys ['a']"),
        (1, "1 is not in"),
        (lambda o: 3, "must be a tensor (got int)"),
    ],
)
def test_a_selector_that_finds_no_tensor_is_refused(selector: object, told: str) -> None:
    refused(ig.OutputError, told, model=lambda x: {"a": x.sum(1)}, output=selector)


def test_a_target_function_that_mixes_the_rows_is_refused() -> None:
    refused(
        ig.OutputError, "one number per row", "(got ())", model=net(), target=lambda o: o.mean()
    )


def test_a_class_as_output_is_refused_and_a_logit_is_named() -> None:
    refused(ig.NoGradientError, "torch.int64", "logit", model=lambda x: x.argmax(1))


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.argmax(1).float(),
        lambda x: cubic(x.detach()),
        torch.no_grad()(cubic),
        lambda x: torch.from_numpy(x.detach().numpy()).sum(1),
    ],
    ids=["argmax", "detach", "no_grad", "numpy"],
)
def test_a_gradient_that_is_cut_is_refused_at_once(model: object) -> None:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return model(x)

    refused(
        ig.NoGradientError,
        "the output changes by",
        "no gradient reaches",
        "logit",
        model=counted,
        x=X[1:],
    )
    assert sum(calls) < 20, "more points cannot help"


@pytest.mark.parametrize(
    "model",
    [
        lambda x: cubic(x).round(),
        lambda x: cubic(x).sign(),
        lambda x: torch.where(x[:, 0] > 0.2, 1.0, 0.0) + 0 * x.sum(1),
    ],
)
def test_a_gradient_that_is_zero_where_the_output_changes_is_refused(model: object) -> None:
    refused(ig.NoGradientError, "the output changes by", "zero at all", "points", model=model)
    refused(ig.NoGradientError, "zero at all 50 points", model=model, rule="midpoint", steps=50)


def test_a_model_that_is_partly_cut_is_never_called_converged() -> None:
    with pytest.warns(ig.NotConvergedWarning, match="2 of 2 examples missed"):
        results = ig.attribute(lambda x: x.sum(1) + cubic(x.detach()), X)
    for result, row in zip(results, X, strict=True):
        assert result.status == "budget"
        assert result.residual == pytest.approx(-float((row**3).sum()), abs=1e-5)


def test_an_output_that_does_not_depend_on_the_input_gives_zeros_with_a_note() -> None:
    for model in (lambda x: torch.ones(len(x)), lambda x: 0 * x.sum(1) + 1):
        for result in ig.attribute(model, X):
            assert (result.values == 0).all()
            assert (result.delta, result.residual, result.status) == (0, 0, "converged")
            assert "does not depend on the input" in result.reason


def test_an_input_that_is_not_used_gets_zeros() -> None:
    for result, row in zip(ig.attribute(lambda a, b: cubic(a), (X, X)), X, strict=True):
        torch.testing.assert_close(result.tensors["x0"], row**3)
        assert (result.tensors["x1"] == 0).all()


def test_nan_in_the_weights_is_refused() -> None:
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = NAN
    refused(ig.NonFiniteError, "output is NaN or infinite at t = 0", model=model, target=0)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_at_some_t_says_where_and_costs_one_example(bad: float) -> None:
    model = lambda x: cubic(x) + torch.where(x[:, 0] == 0.5, bad, 0.0)  # noqa: E731
    with pytest.warns(ig.IGWarning, match="1 of 2 examples failed: .*output is NaN.* at t = 0.5 "):
        failed, fine = ig.attribute(model, X)
    assert failed.status == "failed" and not failed.converged
    assert isinstance(failed.cause, ig.NonFiniteError)
    assert failed.values.isnan().all() and failed.values.shape == (3,)
    torch.testing.assert_close(fine.values, X[1] ** 3)
    assert fine.status == "converged"


def test_a_gradient_that_is_not_finite_at_an_end_is_integrated_by_open_rules() -> None:
    length = lambda x: x[:, 1].sqrt()  # noqa: E731
    x = torch.tensor([[1.0, 4.0]])
    refused(
        ig.NonFiniteError, "gradient is NaN or infinite for element [1] of 'x' at t = 0 ",
        "rule='gauss-legendre'", model=length, x=x, rule="trapezoid", steps=8,
    )  # fmt: skip
    [result] = ig.attribute(length, x, rule="gauss-legendre", steps=200)
    assert result.values.tolist() == pytest.approx([0, 2], rel=1e-2)
    [result] = ig.attribute(length, x, tol=1e-4)
    assert result.values.tolist() == pytest.approx([0, 2], rel=1e-4)
    assert result.status == "converged"


def test_a_gradient_that_is_not_finite_inside_the_path_is_named() -> None:
    """sqrt of an input that stays at zero: 0 times infinity at every point."""
    roots = lambda x: x.sqrt().sum(1)  # noqa: E731
    x = torch.tensor([[1.0, 0.0]])
    refused(
        ig.NonFiniteError, "gradient is NaN or infinite for element [1] of 'x' at t = 0.",
        model=roots, x=x,
    )  # fmt: skip


def test_a_path_whose_sum_alone_misses_says_so() -> None:
    """dF = 0.009 is small beside values of 1 and -0.99, and a thousandth of F is detached."""
    cut = lambda x: x[:, 0] - 0.99 * x[:, 1] - 0.001 * x[:, 1].detach()  # noqa: E731
    with pytest.warns(ig.IGWarning):
        [result] = ig.attribute(cut, torch.ones(1, 2), budget=64, tol=1e-2)
    assert result.status == "budget"
    assert "only their sum misses" in result.reason


@pytest.mark.parametrize("method", ["ig", "gradient-x-input", "random", "negated"])
def test_every_method_fails_only_the_example_that_the_model_refuses(method: str) -> None:
    def picky(x: Tensor) -> Tensor:
        if bool((x[:, 0] == X[0, 0]).any()):
            raise ValueError("I do not like that one")
        return cubic(x)

    with pytest.warns(ig.IGWarning, match="the model raised ValueError"):
        failed, fine = ig.attribute(picky, X, method=method)
    assert failed.status == "failed" and isinstance(failed.cause, ig.ForwardError)
    assert fine.status in ("converged", "one_shot") and fine.delta == pytest.approx(
        float(cubic(X[1:]))
    )


@pytest.mark.parametrize("domain", [3, object(), ig.Domain])
def test_what_is_no_domain_is_refused(domain: object) -> None:
    refused(ig.InputError, "domain must be a name or a Domain", domain=domain)


def test_steps_beside_a_rule_that_has_its_own_are_refused() -> None:
    refused(ig.InputError, "steps=50 belongs to the name", rule=gauss_legendre(5), steps=50)


def test_targets_of_numpy_are_kept_as_plain_numbers(tmp_path: Path) -> None:
    for target in (np.int64(1), (np.int64(1),), [torch.tensor(1), np.int8(1)]):
        result = ig.attribute(net(), X[:2], target=target)[0]
        again = ig.Attribution.load(result.save(tmp_path / "result.safetensors"))
        assert again.provenance["target"] in (1, [1])


def test_a_leg_that_fails_is_named() -> None:
    model = lambda x: cubic(x) + torch.where(x[:, 0] == 2.5, NAN, 0.0)  # noqa: E731
    path = ig.Piecewise([torch.full((3,), 2.0), torch.full((3,), 3.0)])
    refused(ig.NonFiniteError, "at t = 0.5 of leg 2 of 3", model=model, path=path, x=X[:1])


def test_a_model_that_raises_for_one_example_costs_that_example() -> None:
    def picky(x: Tensor) -> Tensor:
        if bool(((x[:, 0] > 0.4) & (x[:, 0] < 0.6)).any()):
            raise ValueError("I do not like that one")
        return cubic(x)

    with pytest.warns(ig.IGWarning, match="1 of 2 examples failed: the model raised ValueError"):
        failed, fine = ig.attribute(picky, X)
    assert failed.status == "failed"
    assert re.search(r"at t = 0\.\d+ of the path: I do not like that one", failed.reason)
    assert isinstance(failed.cause, ig.ForwardError)
    assert isinstance(failed.cause.__cause__, ValueError)
    torch.testing.assert_close(fine.values, X[1] ** 3)
    error = refused(ig.ForwardError, "I do not like that one", model=picky, strict=True)
    assert isinstance(error.__cause__, ValueError)


def test_a_model_that_always_raises_is_an_error_with_its_cause() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError("weights")

    error = refused(
        ig.ForwardError, "raised KeyError at t = 0 of the path", "weights", model=broken
    )
    assert isinstance(error.__cause__, KeyError)


def test_a_model_that_takes_one_row_only_is_served_row_by_row() -> None:
    def single(x: Tensor) -> Tensor:
        assert len(x) == 1, "one at a time, please"
        return cubic(x)

    results = ig.attribute(single, X)
    torch.testing.assert_close(torch.stack([r.values for r in results]), X**3)


@pytest.mark.parametrize(
    "mixing",
    [lambda x: cubic(x / (1 + x.norm())), lambda x: cubic(x) / (1 + x.abs().amax())],
    ids=["norm", "maximum"],
)
def test_rows_that_mix_are_noted_and_evaluated_alone(mixing: Callable[[Tensor], Tensor]) -> None:
    def alone(x: Tensor) -> Tensor:
        return torch.cat([mixing(row[None]) for row in x])

    options = {"tol": 1e-4, "budget": 2048}
    pairs = zip(ig.attribute(mixing, X, **options), ig.attribute(alone, X, **options), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found.values, expected.values, rtol=1e-5, atol=1e-6)
        assert "do not share a batch" in found.reason
        assert expected.reason == ""


def test_padding_that_leaks_is_found_by_the_shortest_example() -> None:
    leaky = lambda x: (x**2).mean((1, 2))  # noqa: E731
    long, short = ig.attribute(leaky, [torch.ones(8, 1), torch.ones(2, 1)], layouts={"x": ig.Pad()})
    assert "do not share a batch" in short.reason
    torch.testing.assert_close(short.values, torch.full((2, 1), 0.5))
    torch.testing.assert_close(long.values, torch.full((8, 1), 0.125))


def test_a_model_that_is_random_is_told_from_one_that_mixes() -> None:
    with pytest.warns(ig.NotConvergedWarning):
        results = ig.attribute(lambda x: torch.dropout(x, 0.5, True).sum(1), X)
    assert all("another output for the same input" in r.reason for r in results)
    assert all(r.status == "budget" for r in results)


def test_a_model_that_works_in_place_sees_a_copy() -> None:
    def in_place(x: Tensor, s: Tensor) -> Tensor:
        s.mul_(2)
        x.add_(1)
        return (x**3 * s).sum(1)

    x, s = X.clone(), torch.ones(2, 3)
    results = ig.attribute(in_place, x, per_example={"s": s}, tol=1e-5)
    torch.testing.assert_close(torch.stack([r.values for r in results]), 2 * ((X + 1) ** 3 - 1))
    assert torch.equal(x, X) and torch.equal(s, torch.ones(2, 3))


# -- the tolerance --------------------------------------------------------------------------------


def kink(x: Tensor) -> Tensor:
    return torch.relu(x[:, 0] - 0.37) * 3 + torch.relu(x[:, 2] - 0.1)


def zigzag(x: Tensor) -> Tensor:
    """More kinks than any budget here can find."""
    return x.sum(1) + ((x * 997) % 1 - 0.5).abs().sum(1) / 997


def test_strict_raises_what_would_be_a_warning() -> None:
    refused(
        ig.NotConvergedError, "missed tol=0.0001", "raise budget", model=zigzag, tol=1e-4,
        strict=True,
    )  # fmt: skip
    with pytest.warns(ig.NotConvergedWarning, match="raise budget"):
        ig.attribute(zigzag, X, tol=1e-4)


def test_the_budget_is_never_exceeded_by_the_adaptive_rule() -> None:
    for budget in (11, 16, 17, 40, 512):
        with pytest.warns(ig.NotConvergedWarning):
            results = ig.attribute(zigzag, X[:1], tol=1e-6, budget=budget)
        assert budget - 4 < results[0].evaluations <= budget


def test_a_fixed_rule_that_misses_says_so_and_has_no_estimate() -> None:
    with pytest.warns(ig.NotConvergedWarning, match="steps of a fixed rule"):
        [result] = ig.attribute(kink, X[:1], rule="midpoint", steps=3)
    assert result.status == "budget" and np.isnan(result.error)


def test_rounding_ends_in_noise_floor_and_not_in_more_steps() -> None:
    model = lambda x: 1e4 + 1e-3 * torch.sin(x).sum(1)  # noqa: E731
    for result in ig.attribute(model, X, tol=1e-6):
        assert result.status in ("noise_floor", "converged")
        assert result.evaluations <= 65


# -- interruptions --------------------------------------------------------------------------------


class Noisy(nn.Module):
    """Draws random numbers, writes its buffers, hooks itself, and raises when it is told to."""

    def __init__(self, error: BaseException | None = None, after: int = 3) -> None:
        super().__init__()
        self.body = net(nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros(1))
        self.error, self.left = error, after

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3), np.random.rand(), random.random()
        self.calls += 1
        self.body[0].register_forward_hook(lambda *_: None)
        self.left -= 1
        if self.error is not None and self.left < 0:
            raise self.error
        return self.body(x)


@pytest.mark.parametrize("train", [True, False])
def test_a_model_in_any_mode_is_evaluated_without_dropout_and_left_as_found(
    left_as_found: Callable, train: bool
) -> None:
    model = Noisy().train(train)
    model.body[0].weight.requires_grad_(False)
    model.body[0].bias.grad = torch.ones(8)
    model.body[2].eval()
    with left_as_found(model):
        found = ig.attribute(model, X, target=1)
    plain = ig.attribute(model.body.eval(), X, target=1)
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a.values, b.values)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(3), SystemExit),
        (ValueError("no"), ig.ForwardError),
        (ig.TargetError("no"), ig.TargetError),
    ],
)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_call_leaves_the_model_as_found(
    left_as_found: Callable, error: BaseException, seen: type, after: int
) -> None:
    model = Noisy(error, after).train()
    with left_as_found(model), pytest.raises(seen):
        ig.attribute(model, X, target=1, tol=1e-8)


@pytest.mark.filterwarnings("ignore::ig_core.errors.NotConvergedWarning")
def test_a_module_inside_a_function_is_evaluated_and_left_as_found(left_as_found: Callable) -> None:
    model = net(nn.BatchNorm1d(8), nn.Dropout(0.5)).train()
    holder = {"model": model}

    class Wrapper:
        def __init__(self) -> None:
            self.inner = model

        def __call__(self, x: Tensor) -> Tensor:
            return self.inner(x)

    def helper(x: Tensor) -> Tensor:
        return model(x)

    expected = [r.values for r in ig.attribute(model, X, target=1)]
    for function in (
        lambda x: 1 * model(x),
        lambda x: 1 * holder["model"](x),
        lambda x: 1 * helper(x),
        functools.partial(helper),
        Wrapper(),
        model.forward,
        Wrapper().__call__,
    ):
        with left_as_found(model):
            found = ig.attribute(function, X, target=1)
        assert all(torch.equal(a.values, b) for a, b in zip(found, expected, strict=True))


def test_a_progress_function_that_raises_ends_the_call_and_restores(
    left_as_found: Callable,
) -> None:
    model = Noisy().train()

    def tell(progress: ig.Progress) -> None:
        raise RuntimeError("the window was closed")

    with left_as_found(model), pytest.raises(RuntimeError, match="window was closed"):
        ig.attribute(model, X, target=0, progress=tell)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("most", [1, 2, 7])
def test_out_of_memory_makes_chunks_smaller_and_is_remembered(error: Exception, most: int) -> None:
    chunks: list[int] = []

    def greedy(x: Tensor) -> Tensor:
        chunks.append(len(x))
        if len(x) > most:
            raise error
        return cubic(x)

    x = torch.randn(30, 3, dtype=torch.float64)
    results = ig.attribute(greedy, x)
    torch.testing.assert_close(torch.stack([r.values for r in results]), x**3, rtol=0, atol=1e-12)
    refusals = [size for size in chunks if size > most]
    assert len(refusals) <= 6, "a size that was refused is not tried again"
    served = [size for size in chunks if size <= most]
    assert max(served) > most / 2 - 1, "chunks shrink no further than they must"


def test_out_of_memory_for_a_single_row_fails_that_example() -> None:
    def greedy(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    refused(ig.ForwardError, "OutOfMemoryError", "CUDA out of memory", model=greedy)


# -- files ----------------------------------------------------------------------------------------


def test_saving_where_nothing_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    result = ig.attribute(cubic, X)[0]
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "a.safetensors", tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(ig.StorageError, match="cannot write") as caught:
            result.save(path)
        assert str(path) in str(caught.value)
        with pytest.raises(ig.StorageError, match="cannot write"):
            result.to_html(path if path.is_dir() else path.with_suffix(".html"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_loading_what_is_no_attribution_is_refused(tmp_path: Path) -> None:
    garbage, foreign, damaged = (tmp_path / n for n in ("garbage", "foreign", "damaged"))
    garbage.write_bytes(b"\x80\x04not safetensors")
    save_file({"a": torch.zeros(1)}, foreign)
    save_file(
        {"a": torch.zeros(1)}, damaged,
        metadata={"ig_core": '{"format": "ig_core.attribution/1", "names": ["x"]}'},
    )  # fmt: skip
    for path, told in (
        (garbage, "cannot read"), (tmp_path, "cannot read"), (tmp_path / "none", "cannot read"),
        (foreign, "holds no attribution"), (damaged, r"it is damaged \(without 'labels'\)"),
    ):  # fmt: skip
        with pytest.raises(ig.StorageError, match=told) as caught:
            ig.Attribution.load(path)
        assert str(path) in str(caught.value)


# -- the watch that every test here stands under ---------------------------------------------------


class Drifting(nn.Module):
    """Moves a weight at every call, in a way that torch does not count."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.body = net()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        if self.part == "gradient":
            self.body[0].weight.grad = torch.ones(8, 3)
        else:
            self.body[0].weight.data += 1e-3
        return self.body(x)


@pytest.mark.filterwarnings("ignore::ig_core.errors.IGWarning")
@pytest.mark.parametrize(("part", "told"), [("gradient", "weight.grad"), ("value", "weight.value")])
@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: lambda x: 1 * m(x)], ids=["module", "closure"]
)
def test_a_model_that_comes_back_changed_fails_its_test(
    every_model_is_left_as_found: list[int], wrap: Callable, part: str, told: str
) -> None:
    with pytest.raises(AssertionError, match=rf"the call changed .*{told}"):
        ig.attribute(wrap(Drifting(part)), X, target=0)
    assert every_model_is_left_as_found == [1]
