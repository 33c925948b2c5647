from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_core.layout import Layout

LONG, SHORT = torch.arange(8.0).view(4, 2), torch.tensor([[10.0, 11.0]])
EMPTY = torch.zeros(0, 2)
PICKED = torch.tensor([2, 0, 0, 1])
RAGGED = [LONG, SHORT, EMPTY]
NONE = {}


def equal(mine: Tensor, *theirs: Tensor) -> None:
    assert torch.equal(mine, torch.cat(theirs) if len(theirs) > 1 else theirs[0])


def test_stack_gathers_rows_by_example() -> None:
    pack = ig.Stack().pack([LONG, LONG + 1])
    assert torch.equal(
        pack.select(torch.tensor([1, 0, 1])).gather(pack.values, NONE),
        torch.stack([LONG + 1, LONG, LONG + 1]),
    )


def test_pad_gathers_no_more_than_the_longest_row_needs() -> None:
    pack = ig.Pad(fill=-1).pack(RAGGED)
    assert pack.select(PICKED).gather(pack.values, NONE).shape == (4, 4, 2)
    gathered = pack.select(torch.tensor([2, 1])).gather(pack.values, NONE)
    assert gathered.tolist() == [[[-1.0, -1.0]], [[10.0, 11.0]]]


def test_cat_joins_the_items_of_all_rows_in_order() -> None:
    pack = ig.Cat().pack(RAGGED)
    selection = pack.select(PICKED)
    equal(selection.gather(pack.values, NONE), EMPTY, LONG, LONG, SHORT)
    assert selection.owners().tolist() == [1] * 4 + [2] * 4 + [3]
    assert selection.sizes.tolist() == [0, 4, 4, 1]


def test_cat_gathers_examples_of_equal_sizes() -> None:
    pack = ig.Cat().pack([LONG, LONG + 1, LONG + 2])
    selection = pack.select(PICKED)
    equal(selection.gather(pack.values, NONE), LONG + 2, LONG, LONG, LONG + 1)
    assert selection.owners().tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    equal(selection.flat(LONG.repeat(4, 1)), LONG.reshape(1, -1).repeat(4, 1))


def test_packs_of_equal_sizes_find_rows_together_and_keep_their_own_dimension() -> None:
    values = ig.Cat().pack(RAGGED)
    turned = ig.Cat(dim=1).pack([value.t() for value in RAGGED]).among([values])
    other = ig.Cat().pack([SHORT, SHORT, LONG]).among([values, turned])
    for picked in (PICKED, PICKED.flip(0), PICKED):
        expected = torch.cat([RAGGED[i] for i in picked])
        equal(values.select(picked).gather(values.values, NONE), expected)
        equal(turned.select(picked).gather(turned.values, NONE), expected.t())
        equal(other.select(picked).owners(), values.select(picked).owners().new_tensor(
            [row for row, i in enumerate(picked) for _ in (SHORT, SHORT, LONG)[i]]
        ))  # fmt: skip
    assert values.select(PICKED).owners() is turned.select(PICKED).owners()


def test_cat_joins_along_another_dimension() -> None:
    pack = ig.Cat(dim=1).pack([LONG.T, SHORT.T])
    assert torch.equal(
        pack.select(torch.tensor([1, 0])).gather(pack.values, NONE), torch.cat([SHORT.T, LONG.T], 1)
    )
    assert torch.equal(pack.item(0), LONG.T)


def test_cat_shifts_positions_by_where_their_items_begin() -> None:
    edges = [torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0], [0]])]
    pack = ig.Cat(dim=1, into="node").pack(edges)
    shifts = {"node": torch.tensor([0, 3, 4])}
    gathered = pack.select(torch.tensor([0, 1, 0])).gather(pack.values, shifts)
    assert gathered.tolist() == [[0, 1, 3, 4, 5], [1, 2, 3, 5, 6]]


def test_cat_shifts_the_two_ends_of_an_edge_between_two_kinds_of_node() -> None:
    edges = [torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0], [0]])]
    pack = ig.Cat(dim=1, into=("user", "item")).pack(edges)
    shifts = {"user": torch.tensor([0, 10]), "item": torch.tensor([0, 100])}
    assert pack.select(torch.tensor([0, 1])).gather(pack.values, shifts).tolist() == [
        [0, 1, 10],
        [1, 2, 100],
    ]


def test_cat_shifts_a_flat_tensor_of_positions() -> None:
    pack = ig.Cat(into="node").pack([torch.tensor([2]), torch.tensor([0, 1])])
    assert pack.select(torch.tensor([1, 0])).gather(
        pack.values, {"node": torch.tensor([0, 2])}
    ).tolist() == [0, 1, 4]


@pytest.mark.parametrize("layout", [ig.Pad(), ig.Cat()])
def test_an_example_comes_back_as_it_went_in(layout: Layout) -> None:
    pack = layout.pack(RAGGED)
    for number, tensor in enumerate(RAGGED):
        assert torch.equal(pack.item(number), tensor)


@pytest.mark.parametrize("layout", [ig.Pad(), ig.Cat()])
def test_every_row_is_one_flat_vector_that_comes_back_as_its_example(layout: Layout) -> None:
    pack = layout.pack(RAGGED)
    selection = pack.select(PICKED)
    batch = selection.gather(pack.values, NONE)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    flat = selection.flat(batch * selection.spread(weight, batch))
    assert pack.width == LONG.numel()
    assert flat.sum(1).tolist() == [0, 2 * LONG.sum(), 3 * LONG.sum(), 4 * SHORT.sum()]
    back = pack.unflat(flat, PICKED.tolist())
    for tensor, one, example in zip(back, weight, PICKED.tolist(), strict=True):
        assert torch.equal(tensor, one * RAGGED[example])


def test_numbers_without_dimensions_are_stacked() -> None:
    pack = ig.Stack().pack([torch.tensor(1.0), torch.tensor(2.0)])
    selection = pack.select(torch.tensor([1, 1, 0]))
    assert selection.gather(pack.values, NONE).tolist() == [2, 2, 1]
    assert selection.flat(torch.tensor([5.0, 6.0, 7.0])).tolist() == [[5], [6], [7]]
    assert [one.shape for one in pack.unflat(torch.tensor([[5.0], [6.0]]), [0, 1])] == [(), ()]


@pytest.mark.parametrize(
    ("layout", "tensor", "load"),
    [
        (ig.Stack(), LONG, 1),
        (ig.Pad(), LONG, 4),
        (ig.Pad(), EMPTY, 1),
        (ig.Cat(), LONG, 4),
        (ig.Cat(dim=1), LONG, 2),
    ],
)
def test_a_row_takes_as_much_of_the_capacity_as_it_is_long(
    layout: Layout, tensor: Tensor, load: int
) -> None:
    assert layout.load(tensor) == load


def test_stack_refuses_other_shapes() -> None:
    with pytest.raises(ig.InputError, match=r"'w' must have one shape .* Pad or Cat"):
        ig.Stack().pack([LONG, SHORT], "w")


@pytest.mark.parametrize("layout", [ig.Pad(), ig.Cat(), ig.Cat(dim=2)])
@pytest.mark.parametrize(
    "tensors", [[LONG, torch.zeros(4, 3)], [torch.tensor(1.0), torch.tensor(2.0)]]
)
def test_ragged_layouts_refuse_what_differs_elsewhere(
    layout: Layout, tensors: list[Tensor]
) -> None:
    with pytest.raises(ig.InputError, match=r"only in its ragged dimension [02] .got shapes"):
        layout.pack(tensors, "x")
