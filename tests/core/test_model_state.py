from __future__ import annotations

import functools
import gc
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ig_core import attribute
from ig_core.errors import ModelChangedWarning
from ig_core.model_state import _LOCKS, HOOKS, modules_in, prepared

GLOBAL = nn.Linear(2, 2)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))


def test_inside_the_model_is_evaluated_and_frozen() -> None:
    net = model().train()
    with prepared([net]):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        assert torch.is_grad_enabled()
        out = net(torch.ones(1, 2, requires_grad=True))
        assert out.requires_grad
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def test_a_block_inside_another_leaves_the_restoring_to_that(left_as_found: Callable) -> None:
    net = model()
    with left_as_found(net), prepared([net]):
        with torch.no_grad(), prepared([net[0]]):
            assert torch.is_grad_enabled()
            net[0].register_forward_hook(lambda *_: None)
        assert len(net[0]._forward_hooks) == 1
        assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("change", [nn.Module.train, nn.Module.requires_grad_])
def test_a_block_inside_another_prepares_again_what_was_changed(change: Callable) -> None:
    net = model().eval()
    with prepared([net]):
        change(net[0])
        with prepared([net]):
            assert not any(m.training for m in net.modules())
            assert not any(p.requires_grad for p in net.parameters())
        assert net[0].training or net[0].weight.requires_grad
    assert not net[0].training and net[0].weight.requires_grad


def test_a_block_inside_another_of_other_modules_restores_its_own() -> None:
    one, other = model(), model()
    with prepared([one]):
        with prepared([one, other]):
            assert not other.training
        assert other.training
    assert one.training


def test_gradients_are_on_inside_whatever_the_caller_does() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            with prepared([]):
                assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_is_restored_also_after_an_error(
    left_as_found: Callable, error: type[BaseException] | None
) -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    net[2].eval()
    caught = pytest.raises(error) if error else torch.enable_grad()
    with left_as_found(net), caught, prepared([net]):
        net[1].running_mean += 5
        net[1].running_var = torch.zeros(2)
        net[0].register_forward_hook(lambda *_: None)
        net[1].register_forward_pre_hook(lambda *_: None)
        net[2].train()
        net[0].bias.requires_grad_(True)
        torch.rand(5), np.random.rand(5), random.random()
        torch.set_default_dtype(torch.float64)
        if error:
            raise error
    assert net[1].running_mean.tolist() == [0, 0]
    assert net[1].running_var.tolist() == [1, 1]


def test_hooks_that_were_there_stay_and_in_their_order() -> None:
    net = nn.Linear(1, 1)
    called: list[str] = []
    first = net.register_forward_hook(lambda *_: called.append("first"))
    with prepared([net]):
        first.remove()
        net.register_forward_hook(lambda *_: called.append("new"))
    net(torch.zeros(1))
    assert called == ["first"]


def test_buffers_keep_their_identity_and_their_memory() -> None:
    net = model()
    mean = net[1].running_mean
    with prepared([net]):
        net[1].running_mean += 1
    assert net[1].running_mean is mean and mean.tolist() == [0, 0]


def test_buffers_made_in_inference_mode_are_restored_too() -> None:
    with torch.inference_mode():
        net = model()
    with prepared([net]), torch.inference_mode():
        net[1].running_mean += 1
    assert net[1].running_mean.tolist() == [0, 0]


def batch_norm_in_training(net: nn.Module) -> None:
    norm = net[1]
    x = torch.randn(8, 2) + 3
    nn.functional.batch_norm(x, norm.running_mean, norm.running_var, training=True)


WRITES = {
    "native batch norm": batch_norm_in_training,
    "a norm put into training mode": lambda net: net[1].train()(torch.randn(8, 2)),
    "in place": lambda net: net[1].running_mean.add_(1),
    "data in place": lambda net: net[1].running_mean.data.add_(1),
    "a view of numpy": lambda net: np.add((view := net[1].running_mean.numpy()), 1, out=view),
    "other data": lambda net: setattr(net[1].running_mean, "data", torch.ones(2)),
    "data of another shape": lambda net: setattr(net[1].running_mean, "data", torch.ones(3)),
    "data of another dtype": lambda net: setattr(
        net[1].running_mean, "data", torch.zeros(2).double()
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_buffers_are_restored_however_they_are_written_to(
    left_as_found: Callable, write: Callable[[nn.Module], Any]
) -> None:
    net = model()
    with left_as_found(net), prepared([net]):
        before = net[1].running_mean.clone()
        write(net)
        after = net[1].running_mean
        assert (after.dtype, after.tolist()) != (before.dtype, before.tolist())


def test_buffers_that_hold_nan_or_cannot_be_compared_are_restored() -> None:
    net = nn.Identity()
    net.register_buffer("nan", torch.tensor([torch.nan, 1.0]))
    net.register_buffer("sparse", torch.eye(2).to_sparse())
    net.register_buffer("meta", torch.empty(2, device="meta"))
    with prepared([net]):
        net.nan.data[1] = 7
        net.sparse.mul_(3)
    torch.testing.assert_close(net.nan, torch.tensor([torch.nan, 1.0]), equal_nan=True)
    assert net.sparse.to_dense().tolist() == [[1, 0], [0, 1]]


def test_a_graph_of_before_can_still_be_differentiated() -> None:
    net = model().eval()
    out = net(torch.ones(1, 2)).sum()
    with prepared([net]):
        net(torch.zeros(1, 2))
    out.backward()
    assert net[0].weight.grad is not None


TABLE_CHANGES = {
    "a buffer that was None": lambda net: setattr(net, "empty", torch.ones(1)),
    "a new buffer": lambda net: net.register_buffer("new", torch.ones(1)),
    "a replaced buffer": lambda net: setattr(net[1], "running_var", torch.ones(2)),
    "a deleted buffer": lambda net: delattr(net[1], "running_var"),
    "a new parameter": lambda net: net.register_parameter("new", nn.Parameter(torch.ones(1))),
    "a replaced parameter": lambda net: setattr(net[0], "bias", nn.Parameter(torch.ones(2))),
    "a parameter set to None": lambda net: setattr(net[0], "bias", None),
    "a new submodule": lambda net: net.append(nn.ReLU()),
    "a replaced submodule": lambda net: net.__setitem__(0, nn.Linear(2, 2)),
    "a deleted submodule": lambda net: net.__delitem__(0),
    "a hook with keywords": lambda net: net.register_forward_hook(print, with_kwargs=True),
    "a hook called always": lambda net: net.register_forward_hook(print, always_call=True),
    "a hook before, with keywords": lambda net: net[0].register_forward_pre_hook(
        print, with_kwargs=True
    ),
    "a backward hook": lambda net: net[0].register_full_backward_hook(print),
    "a backward hook before": lambda net: net[0].register_full_backward_pre_hook(print),
}


@pytest.mark.parametrize("change", TABLE_CHANGES.values(), ids=TABLE_CHANGES)
def test_what_a_module_holds_is_restored(
    left_as_found: Callable, change: Callable[[nn.Module], Any]
) -> None:
    net = model()
    net.register_buffer("empty", None)
    order = list(net.state_dict())
    with left_as_found(net), prepared([net]):
        change(net)
    assert list(net.state_dict()) == order
    assert not any(getattr(m, hooks) for m in net.modules() for hooks in HOOKS)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 1)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        return self.inner(x) + self.calls


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_module_is_restored_too() -> None:
    net = torch.jit.script(Counter())
    with prepared([net]):
        net(torch.ones(1, 1))
        assert net.calls.item() == 1 and not net.inner.training
    assert net.calls.item() == 0 and net.inner.training


def test_a_model_that_changes_its_parameters_is_told_of_by_name() -> None:
    net = model()
    with (
        pytest.warns(ModelChangedWarning, match=r"\(Sequential\.0\.weight\)"),
        prepared([net]),
        torch.no_grad(),
    ):
        net[0].weight.add_(1)
    assert net[0].weight.requires_grad and net.training
    with prepared([net]):
        net(torch.ones(1, 2, requires_grad=True)).sum().backward()


def test_cuda_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any) -> None:
        raise AssertionError("CUDA was asked for its random states")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", start)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", start)
    with prepared([]):
        pass


def test_random_states_of_a_started_cuda_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: "the states")
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    with prepared([]):
        assert restored == []
    assert restored == ["the states"]


def trained_classifier() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3)
    )
    net(torch.randn(32, 4))
    return net.train()


def test_threads_that_explain_one_model_get_what_one_thread_gets(left_as_found: Callable) -> None:
    net = trained_classifier()
    inputs = [torch.randn(3, 4) for _ in range(12)]

    def explained(x: torch.Tensor) -> list[list[float]]:
        return [result.values.tolist() for result in attribute(net, x, target=1)]

    expected = [explained(x) for x in inputs]
    with left_as_found(net), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(explained, inputs)) == expected
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def started(work: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """A thread that does not keep a failing test from ending."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def ends(*threads: threading.Thread) -> bool:
    for thread in threads:
        thread.join(timeout=30)
    return not any(thread.is_alive() for thread in threads)


def test_threads_take_turns_with_what_their_models_share() -> None:
    shared = model()
    found: list[bool] = []

    def enter(root: nn.Module) -> None:
        with prepared([root]):
            found.append(shared.training)

    with prepared([nn.Sequential(shared, nn.Softmax(-1))]):
        waiting = started(enter, nn.Sequential(shared))
        assert ends(started(enter, nn.Linear(2, 2)))
        waiting.join(timeout=0.1)
        assert waiting.is_alive() and found == [False]
    assert ends(waiting) and found == [False, False] and shared.training


def test_threads_that_name_modules_in_opposite_orders_do_not_wait_for_ever() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)

    def work(modules: list[nn.Module]) -> None:
        for _ in range(200):
            with prepared(modules):
                pass

    assert ends(started(work, [one, two]), started(work, [two, one]))


class ExplainsItself(nn.Module):
    """Weighs its inputs by an attribution of the module within it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        [weights] = attribute(self.inner, torch.ones(1, 2))
        return (self.inner(x) * weights.values.float().sum()).squeeze(-1)


def test_a_model_may_explain_a_part_of_itself_while_it_runs(left_as_found: Callable) -> None:
    net = ExplainsItself()
    factor = net.inner.weight.sum().item()
    found: list[Any] = []
    with left_as_found(net):
        assert ends(started(lambda: found.extend(attribute(net, torch.ones(1, 2)))))
    expected = (factor * net.inner.weight.detach()[0]).tolist()
    assert found[0].values.tolist() == pytest.approx(expected, rel=1e-5)


def test_an_error_inside_lets_the_next_thread_in() -> None:
    net = model()
    with pytest.raises(ValueError), prepared([net]):
        raise ValueError

    def enter() -> None:
        with prepared([net]):
            pass

    assert ends(started(enter))


def test_locks_keep_no_model_alive() -> None:
    net = model()
    with prepared([net]):
        pass
    part = net[0]
    assert part in _LOCKS
    before = len(_LOCKS)
    del net, part
    gc.collect()
    assert len(_LOCKS) <= before - 4


def test_shared_modules_are_restored_once() -> None:
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    with prepared([net, shared]):
        assert not shared.training
    assert shared.training and shared.weight.requires_grad


class Holder:
    def __init__(self, net: nn.Module) -> None:
        self.net, self.label = net, "holder"

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def calls_global(x: torch.Tensor) -> torch.Tensor:
    return GLOBAL(x)


def test_the_modules_behind_a_callable_are_found() -> None:
    net = model()
    many = [net, GLOBAL]
    holder = Holder(net)

    def closed(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    for callable_, expected in (
        (net, [net]),
        (net.forward, [net]),
        (closed, [net]),
        (lambda x: closed(x) + 1, [net]),
        (calls_global, [GLOBAL]),
        (lambda x: calls_global(x) + 1, [GLOBAL]),
        (torch.no_grad()(closed), [net]),
        (functools.partial(closed), [net]),
        (functools.partial(lambda m, x: m(x), net), [net]),
        (holder, [net]),
        (holder.predict, [net]),
        (lambda x: sum(m(x) for m in many), [net, GLOBAL]),
        (torch.relu, []),
        (nn.functional.relu, []),
        (lambda x: x.sum(1), []),
        (nn.Linear, []),
    ):
        assert modules_in(callable_) == expected


def test_a_function_that_calls_itself_or_a_name_not_yet_bound_is_no_trap() -> None:
    def recursive(x: int) -> int:
        return later(recursive(x - 1)) if x else 0

    assert modules_in(recursive) == []
    later = GLOBAL
    assert modules_in(recursive) == [GLOBAL]


def test_a_name_not_yet_bound_hides_no_other_module() -> None:
    net = model()

    def calls(x: torch.Tensor) -> torch.Tensor:
        return later(net(GLOBAL(x)))

    assert modules_in(calls) == [net, GLOBAL]
    later = nn.Identity()
    assert modules_in(calls) == [later, net, GLOBAL]


class NeverRead(list):
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("a large collection was read")


class NeverReadDict(dict):
    def values(self) -> Any:
        raise AssertionError("a large collection was read")


def test_large_collections_are_not_read_and_small_ones_are() -> None:
    net = model()
    rows = NeverRead([0.0] * 65)
    table = NeverReadDict({i: [] for i in range(65)})
    many = [GLOBAL, *range(63)]
    within = [[net]]
    holder = Holder(net)
    holder.rows, holder.table = rows, table
    assert modules_in(lambda x: (rows, table, net(x))) == [net]
    assert modules_in(holder) == [net]
    assert modules_in(functools.partial(lambda rows, x: net(x), rows)) == [net]
    assert modules_in(lambda x: many[0](x) + 1) == [GLOBAL]
    many.append(64)
    assert modules_in(lambda x: many[0](x) + 1) == []
    assert modules_in(lambda x: within[0][0](x) + 1) == []


class Slotted:
    __slots__ = ("__net", "unset")

    def __init__(self, net: nn.Module) -> None:
        self.__net = net

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.__net(x)


def test_modules_in_slots_defaults_and_comprehensions_are_found() -> None:
    net = model()
    assert modules_in(Slotted(net)) == [net]
    assert modules_in(lambda x, m=net: m(x)) == [net]
    assert modules_in(lambda x, *, m=net: m(x)) == [net]
    assert modules_in(lambda x: torch.stack([GLOBAL(row) for row in x])) == [GLOBAL]
