from __future__ import annotations

import pytest
import torch

import ig_core as ig


def test_scores_are_signed_sums_over_the_elements_of_a_unit() -> None:
    units = ig.Units(
        ("a", "b"), {"x": torch.tensor([0, 1, 0]), "y": torch.tensor([[1, 1], [0, -1]])}
    )
    values = {
        "x": torch.tensor([[1.0, 2.0], [10.0, -20.0], [3.0, 4.0]]),
        "y": torch.tensor([[0.5, 0.25], [-1.0, 99.0]]),
    }
    assert units.reduce(values).tolist() == [1 + 2 + 3 + 4 - 1, 10 - 20 + 0.5 + 0.25]


def test_scores_are_summed_in_float64() -> None:
    units = ig.Units(("all",), {"x": torch.zeros(3, dtype=torch.long)})
    total = units.reduce({"x": torch.tensor([1e8, 1.0, -1e8])})
    assert total.dtype == torch.float64
    assert total.tolist() == [1.0]


def test_elements_without_a_unit_are_left_out() -> None:
    units = ig.Units(("a",), {"x": torch.tensor([-1, 0, -1])})
    assert units.reduce({"x": torch.tensor([5.0, 7.0, 11.0])}).tolist() == [7.0]
    mask = units.mask(torch.tensor([[True]]), {"x": torch.zeros(3)})["x"]
    assert mask.tolist() == [[False, True, False]]


def test_every_element_is_a_unit_by_default_and_is_labelled_by_its_place() -> None:
    inputs = {"x": torch.zeros(1, 2), "s": torch.tensor(1.0), "none": torch.zeros(0, 2)}
    units = ig.Example(inputs).parts
    assert list(units.labels) == ["x[0, 0]", "x[0, 1]", "s"]
    assert units.kind == "element"
    assert units.reduce(
        {"x": torch.tensor([[1.0, 2.0]]), "s": torch.tensor(3.0), "none": torch.zeros(0, 2)}
    ).tolist() == [1, 2, 3]


def test_a_mask_covers_all_elements_of_the_chosen_units_in_all_inputs() -> None:
    units = ig.Units(("a", "b"), {"x": torch.tensor([0, 1])})
    inputs = {"x": torch.zeros(2, 3), "other": torch.zeros(2)}
    masks = units.mask(torch.tensor([[True, False], [True, True], [False, False]]), inputs)
    assert (
        masks["x"].all(2).tolist()
        == masks["x"].any(2).tolist()
        == [[True, False], [True, True], [False, False]]
    )
    assert not masks["other"].any()


@pytest.mark.parametrize(("index", "got"), [([0, 2], "0 to 2"), ([-2, 0], "-2 to 0")])
def test_units_out_of_range_are_refused(index: list[int], got: str) -> None:
    with pytest.raises(ig.InputError, match=rf"'x' must lie in \[-1, 1\] \(got {got}\)"):
        ig.Units(("a", "b"), {"x": torch.tensor(index)})


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2), ()])
def test_an_index_has_the_shape_of_its_input_or_a_leading_part(shape: tuple[int, ...]) -> None:
    units = ig.Units(("a",), {"x": torch.zeros(shape, dtype=torch.long)})
    if shape in ((2, 3), ()):
        assert ig.Example({"x": torch.zeros(2, 3)}, units=units).parts is units
        assert units.reduce({"x": torch.ones(2, 3)}).tolist() == [6.0]
    else:
        with pytest.raises(ig.InputError, match="leading part"):
            ig.Example({"x": torch.zeros(2, 3)}, units=units)
