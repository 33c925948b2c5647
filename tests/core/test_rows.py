from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import ig_core as ig
from ig_core.rows import Batch, Space, Targets

CPU = torch.device("cpu")
LAYOUTS = {"x": ig.Pad(capacity=8), "mask": ig.Pad(), "y": ig.Cat()}


def example(length: int, target: object = None) -> ig.Example:
    x = torch.full((length, 2), float(length))
    return ig.Example(
        {"x": x, "y": x[:, 0]}, {"mask": torch.ones(length, dtype=torch.bool)}, target
    )


def batch(*lengths: int) -> Batch:
    return Batch([example(n) for n in lengths], LAYOUTS, CPU)


def test_rows_hold_points_context_owners_and_sizes() -> None:
    packed = batch(3, 1)
    index = torch.tensor([1, 0])
    points = {n: p.select(index).gather(p.values, {}) for n, p in packed.inputs.items()}
    rows = packed.rows(index, points)
    assert len(rows) == 2
    assert rows["x"][..., 0].tolist() == [[1, 0, 0], [3, 3, 3]]
    assert rows["mask"].tolist() == [[True, False, False], [True, True, True]]
    assert rows["y"].tolist() == [1, 3, 3, 3]
    assert rows.owners("y").tolist() == [0, 1, 1, 1]
    assert rows.sizes("x").tolist() == [1, 3]
    assert "mask" in rows and "z" not in rows


def test_chunks_cover_every_row_once_and_fit_the_capacity() -> None:
    packed = batch(1, 4, 2, 8)
    wanted = torch.tensor([0, 1, 2, 3] * 5)
    chunks = list(packed.chunks(wanted))
    assert torch.cat(chunks).sort().values.tolist() == list(range(20))
    for chunk in chunks:
        longest = max([1, 4, 2, 8][i] for i in wanted[chunk].tolist())
        assert len(chunk) * longest <= 8


def test_chunks_put_rows_of_like_size_together() -> None:
    packed = batch(1, 4, 2, 8)
    sizes = [[[1, 4, 2, 8][i] for i in chunk.tolist()] for chunk in packed.chunks(torch.arange(4))]
    assert sizes == [[8], [4, 2], [1]]


def test_a_row_larger_than_the_capacity_is_alone() -> None:
    packed = batch(9, 9)
    assert [len(c) for c in packed.chunks(torch.tensor([0, 1, 0]))] == [1, 1, 1]


def test_a_share_of_half_halves_the_chunks_and_none_keeps_one_row() -> None:
    packed = batch(1)
    wanted = torch.zeros(8, dtype=torch.long)
    assert [len(c) for c in packed.chunks(wanted, Fraction(1, 2))] == [4, 4]
    assert [len(c) for c in packed.chunks(wanted, Fraction(0))] == [1] * 8


def test_every_row_gets_its_own_target() -> None:
    outputs = torch.arange(24.0).view(4, 2, 3)
    targets = Targets([(0, 2), (1, 0)])
    assert targets.select(outputs, torch.tensor([1, 0, 0, 1])).tolist() == [3, 8, 14, 21]


def test_a_function_as_target_sees_the_whole_output() -> None:
    gap = lambda o: o[:, 1] - o[:, 0]  # noqa: E731
    assert Targets([gap, gap]).select(
        torch.tensor([[1.0, 5.0]]), torch.zeros(1).long()
    ).tolist() == [4]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)])
def test_without_a_target_a_single_number_per_row_is_explained(shape: tuple[int, ...]) -> None:
    outputs = torch.arange(3.0).view(shape)
    assert Targets([None]).select(outputs, torch.zeros(3).long()).tolist() == [0, 1, 2]


def test_a_tensor_without_a_layout_is_refused() -> None:
    with pytest.raises(ig.InputError, match=r"no layout is declared for \['y'\] .*\['x'\]"):
        Batch([ig.Example({"x": torch.zeros(1), "y": torch.zeros(1)})], {"x": ig.Stack()}, CPU)


def test_inputs_of_a_row_are_one_vector_and_come_back_without_padding() -> None:
    packed = batch(2, 1)
    space = Space(packed.inputs, CPU)
    order = torch.tensor([1, 0])
    selections = {name: pack.select(order) for name, pack in packed.inputs.items()}
    terms = {n: s.gather(packed.inputs[n].values, {}) for n, s in selections.items()}
    vectors = space.flat(selections, terms)
    assert vectors.shape == (2, space.width) == space.zeros(2).shape
    parts = space.tensors(vectors, order.tolist())
    for part, example in zip(parts, order.tolist(), strict=True):
        for name, tensor in part.items():
            assert torch.equal(tensor, packed.inputs[name].item(example))
            assert tensor.untyped_storage().nbytes() == tensor.nbytes  # and of no other row


def test_half_precision_is_packed_in_single() -> None:
    packed = Batch([ig.Example({"x": torch.zeros(2, dtype=torch.float16)})], {"x": ig.Stack()}, CPU)
    assert packed.inputs["x"].values.dtype == torch.float32
    assert packed.dtypes == {"x": torch.float16}


@pytest.mark.parametrize("target", [10**30, 2**63, (0, 10**30)])
def test_a_target_beyond_all_tensors_is_refused(target: object) -> None:
    with pytest.raises(ig.TargetError, match=r"below 2\*\*63"):
        Targets([target])


def test_the_largest_index_is_out_of_range_like_any_other() -> None:
    with pytest.raises(ig.TargetError, match="out of range"):
        Targets([2**63 - 1]).select(torch.ones(1, 2), torch.tensor([0]))
