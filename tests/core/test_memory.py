"""The size of a chunk follows from what a device has and what the first pass took."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import Tensor

import ig_core as ig
from ig_core import engine
from ig_core.kinks import structure_of
from ig_core.memory import LARGEST, Cuda, Share, memory_of
from ig_core.precision import coarsest


class Fake:
    """A device of ``size`` bytes, on which every pass takes ``took``."""

    def __init__(self, size: int, took: int) -> None:
        self.size = size
        self.took = took
        self.watched = 0

    def total(self) -> int:
        return self.size

    def begin(self) -> None:
        self.watched += 1

    def taken(self) -> int:
        return self.took


def measured(memory: Fake, rows: int, room: int) -> Fraction:
    share = Share(memory)
    share.begin()
    share.measured(rows, room)
    return share.value


def test_a_full_chunk_grows_to_a_quarter_of_the_device_in_powers_of_two() -> None:
    assert measured(Fake(4000, 100), 8, 8) == 8  # 10 chunks fit a quarter
    assert measured(Fake(4000, 100), 4, 8) == 4  # the pass was over half a chunk
    assert measured(Fake(4000, 2000), 8, 8) == 1  # never less than the layouts say
    assert measured(Fake(4000, 0), 8, 8) == LARGEST


def test_the_first_pass_alone_is_measured() -> None:
    memory = Fake(4000, 100)
    share = Share(memory)
    share.begin()
    assert share.measured(8, 8)
    share.begin()
    assert not share.measured(8, 8)
    assert (share.value, memory.watched) == (8, 1)


def test_what_did_not_fit_is_halved_and_not_measured_again() -> None:
    share = Share(Fake(4000, 100))
    share.begin()
    share.halve(rows=64, room=8)
    assert not share.measured(32, 8)
    assert share.value == 4


def test_the_cpu_keeps_the_chunks_of_the_layouts() -> None:
    assert memory_of(torch.device("cpu")) is None
    assert not Share(None).measured(8, 8)


class Counting:
    """x^3 summed, and how many rows it was called with; NaN beyond ``limit``."""

    def __init__(self, limit: float = 9.0) -> None:
        self.rows: list[int] = []
        self.limit = limit

    def __call__(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return torch.where(x[:, 0] > self.limit, torch.nan, x.pow(3).sum(1))


X = torch.linspace(-1, 2, 60, dtype=torch.float64).view(20, 3)
SMALL = {"x": ig.Stack(capacity=16)}


def explained(model: Counting) -> list[ig.Attribution]:
    domain = ig.plugins().domain("tensor")(model, layouts=SMALL)
    return ig.attribute(model, X, domain=domain, rule="gauss-legendre", steps=8)


def test_chunks_grow_after_the_first_and_results_do_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, grown = Counting(), Counting()
    expected = explained(plain)
    monkeypatch.setattr(engine, "memory_of", lambda device: Fake(16_000, 1_000))
    found = explained(grown)
    assert max(plain.rows) == 16
    assert [n for n in grown.rows if n > 16] == [64, 64]
    assert sum(n for n in grown.rows if n >= 8) == sum(n for n in plain.rows if n >= 8)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.*examples failed")
@pytest.mark.parametrize("rule", [{}, {"rule": "gauss-legendre", "steps": 8}])
@pytest.mark.parametrize("held", [100, 2**26])
def test_pieces_that_wait_give_the_same_results_and_failures(
    monkeypatch: pytest.MonkeyPatch, held: int, rule: dict[str, object]
) -> None:
    def results() -> Iterator[ig.Attribution]:
        model = Counting(limit=1.0)
        domain = ig.plugins().domain("tensor")(model, layouts=SMALL)
        return iter(ig.attribute(model, X, domain=domain, **rule))

    expected = list(results())
    monkeypatch.setattr(engine, "held_on", lambda device: held)
    found = list(results())
    assert {a.status for a in found} > {"failed"}
    for one, other in zip(found, expected, strict=True):
        assert (one.status, one.reason, one.evaluations) == (
            other.status,
            other.reason,
            other.evaluations,
        )
        torch.testing.assert_close(one.values, other.values, equal_nan=True, rtol=0, atol=1e-14)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_pass_on_cuda_takes_what_it_allocates() -> None:
    memory = Cuda(torch.device("cuda"))
    memory.begin()
    kept = torch.zeros(2**20, device="cuda")
    assert memory.taken() == kept.nbytes
    assert memory.total() > kept.nbytes


def test_a_stack_of_very_many_steps_is_not_looked_into() -> None:
    """Torch would free what Python has seen of it by recursion, and end the process."""
    x = torch.ones(3, requires_grad=True)
    states = [x]
    for _ in range(20_000):
        states.append(states[-1] + x)
    for joined in (torch.stack(states, -1), torch.cat(states)):
        assert coarsest(joined) == torch.float32
        assert "operations between" in structure_of(joined.sum()[None], [x]).curve
    few = torch.stack([x.bfloat16(), x.bfloat16()], -1)
    assert coarsest(few.float()) == torch.bfloat16
