"""Functions: Q-networks and policies of plain PyTorch, as two callables."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ig_core import InputError, OutputError
from ig_rl.agents.agent import Agent, Observation, Point, received

QUANTITIES = {
    "Q": ("gap", "q", "advantage", "value"),
    "logit": ("gap", "logit", "log-prob"),
}
"""What follows from scores that are Q-values, and from those that are logits."""


class Functions(Agent):
    """An agent of plain PyTorch: one callable scores its discrete actions, another values states.

    Either receives a batch of observations as the networks take them, a tensor or a dictionary of
    them, and must treat each on its own.

    >>> net = nn.Linear(4, 2)
    >>> agent = Functions(net, observation_space=(4,), actions=2)
    >>> agent.explains
    ('gap', 'q', 'advantage', 'value')

    Args:
        scores: gives one number per observation and action; the greedy action has the largest.
        value: gives one number per observation; max Q if there are only Q-values.
        observation_space: where observations lie: ``env.observation_space``, or the shape of one.
        actions: how many there are.
        symbol: what a score is: ``"Q"``, ``"logit"`` (of which log-probabilities follow), or any
            other name.
        preprocess: what the networks are given of a batch of raw observations. By default
            whole categories are one-hot and everything else stays as it is: images are not
            divided by 255.
        modules: the networks, where the callables are functions that hold them out of sight.

    Raises:
        InputError: there is no callable, or it is not said where observations lie or how many
            actions there are.
    """

    def __init__(
        self,
        scores: Callable[..., Tensor] | None = None,
        value: Callable[..., Tensor] | None = None,
        *,
        observation_space: Any = None,
        actions: int | None = None,
        symbol: str = "Q",
        preprocess: Callable[[Any], Any] | None = None,
        modules: Sequence[nn.Module] | None = None,
    ) -> None:
        if not callable(scores) and not callable(value):
            raise InputError(
                f"Functions needs scores= or value=, a callable (got {type(scores).__name__} and "
                f"{type(value).__name__})"
            )
        self.policy = None
        self._scores, self._value, self._preprocess = scores, value, preprocess
        self._space, self.symbol = _space(observation_space), symbol
        self.count, self.size = _count(scores, actions), 0
        valued = ("value",) if value is not None else ()
        known = QUANTITIES.get(symbol, ("gap", "score")) if scores is not None else ()
        self.explains = tuple(dict.fromkeys((*known, *valued)))
        found = (_networks(one) for one in (scores, value))
        self._modules = list(dict.fromkeys(modules or (one for each in found for one in each)))
        self._dtype: torch.dtype | None = None

    @property
    def observation_space(self) -> Any:
        return self._space

    @property
    def action_space(self) -> Any:
        from gymnasium.spaces import Discrete

        return Discrete(self.count) if self.count else None

    @property
    def dtype(self) -> torch.dtype:
        floats = (p.dtype for m in self._modules for p in m.parameters() if p.is_floating_point())
        return self._dtype or next(floats, torch.float32)

    @property
    def device(self) -> torch.device:
        each = (p.device for m in self._modules for p in m.parameters())
        return next(each, torch.device("cpu"))

    def modules(self) -> Sequence[nn.Module]:
        return self._modules

    def converted(self, dtype: torch.dtype) -> Functions:
        changed = copy.deepcopy(self)
        for module in changed._modules:
            module.to(dtype)
        changed._dtype = dtype
        return changed

    def __deepcopy__(self, memo: dict[int, Any]) -> Functions:
        for one in (self._scores, self._value):
            if self._modules and one is not None and not _travels(one):
                raise InputError(
                    f"the networks inside of {one!r} cannot be copied, which other precisions and "
                    "checks that change weights need; give the network itself, or a method of it"
                )
        changed = copy.copy(self)
        memo[id(self)] = changed
        for name in ("_scores", "_value", "_modules"):
            setattr(changed, name, copy.deepcopy(getattr(self, name), memo))
        return changed

    def preprocessed(self, observations: Observation) -> Observation:
        if self._preprocess is None:
            return received(observations, self._space, self, images=False)
        z = self._preprocess(observations)
        if isinstance(z, dict):
            return {key: one.to(self.device, self.dtype) for key, one in z.items()}
        if not isinstance(z, Tensor):
            raise OutputError(f"preprocess= must give tensors (got {type(z).__name__})")
        return z.to(self.device, self.dtype)

    def knows(self, explain: str) -> bool:
        return explain in self.explains

    def called(self, explain: str) -> str:
        own = {"advantage": "A", "log-prob": "log-prob", "value": "V"}
        if explain == "value" and self._value is None:
            return "max Q"
        return own.get(explain, self.symbol)

    def numbers(
        self, explain: str, point: Point
    ) -> Float[Tensor, " rows"] | Float[Tensor, "rows actions"]:
        if explain == "value" and self._value is not None:
            rows, value = point.rows, _tensor("value", self._value(point.seen))
            if tuple(value.shape) not in ((rows,), (rows, 1)):
                raise _unlike("value", "one number per observation", [(rows,), (rows, 1)], value)
            return value.reshape(rows)
        scores = self.scores(point)
        if explain == "value":
            return scores.max(1).values
        if explain == "log-prob":
            return scores.log_softmax(1)
        return scores - scores.mean(1, keepdim=True) if explain == "advantage" else scores

    def scores(self, point: Point) -> Float[Tensor, "rows actions"]:
        if self._scores is None:
            return super().scores(point)
        scores = _tensor("scores", self._scores(point.seen))
        wanted = (point.rows, self.count)
        if tuple(scores.shape) != wanted:
            raise _unlike("scores", "one number per observation and action", [wanted], scores)
        return scores

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, None]:
        """The greedy action of one observation or of a batch, as Stable-Baselines3 gives it."""
        arrays = observation if isinstance(observation, dict) else {"": observation}
        spaces = self._space.spaces if isinstance(observation, dict) else {"": self._space}
        tensors = {key: torch.as_tensor(np.asarray(one)) for key, one in arrays.items()}
        single = all(tuple(one.shape) == spaces[key].shape for key, one in tensors.items())
        if single:
            tensors = {key: one[None] for key, one in tensors.items()}
        batch = tensors if isinstance(observation, dict) else tensors[""]
        with torch.no_grad(), _evaluated(self._modules):
            best = self.scores(Point(self.preprocessed(batch))).argmax(1).cpu().numpy()
        return (best[0] if single else best), None


def _space(given: Any) -> Any:
    """A Gymnasium space; that of any numbers for a shape."""
    from gymnasium.spaces import Box, Space

    if isinstance(given, Space):
        return given
    shape = (given,) if isinstance(given, int) and not isinstance(given, bool) else given
    if isinstance(shape, (tuple, list)) and all(type(n) is int and n > 0 for n in shape):
        return Box(-np.inf, np.inf, tuple(shape), np.float32)
    raise InputError(
        "Functions needs to know where observations lie: observation_space=env.observation_space, "
        f"or the shape of one, as in observation_space=(4,) (got {given!r})"
    )


def _count(scores: Any, actions: Any) -> int:
    if scores is None:
        return 0
    if type(actions) is not int or actions < 1:
        raise InputError(
            f"Functions needs to know how many actions scores= has numbers of, as in actions=2 "
            f"(got {actions!r})"
        )
    return actions


def _networks(thing: Any) -> list[nn.Module]:
    """The modules that a callable runs: itself, or what it is bound to or closes over."""
    if isinstance(thing, nn.Module):
        return [thing]
    if inspect.ismethod(thing):
        return _networks(thing.__self__)
    if isinstance(thing, functools.partial):
        return [m for one in (thing.func, *thing.args) for m in _networks(one)]
    if inspect.isfunction(thing):
        used = inspect.getclosurevars(thing)
        inside = (*used.nonlocals.values(), *used.globals.values())
        return [one for one in inside if isinstance(one, nn.Module)]
    return [one for one in getattr(thing, "__dict__", {}).values() if isinstance(one, nn.Module)]


def _travels(thing: Any) -> bool:
    """Whether a deep copy of a callable holds copies of its networks."""
    return not inspect.isfunction(thing) and not isinstance(thing, functools.partial)


def _tensor(name: str, found: Any) -> Tensor:
    if not isinstance(found, Tensor):
        raise OutputError(f"{name}= must give a tensor (got {type(found).__name__})")
    return found


def _unlike(name: str, what: str, wanted: list[tuple[int, ...]], found: Tensor) -> OutputError:
    return OutputError(
        f"{name}= must give {what}: expected shape {' or '.join(map(str, wanted))} (got "
        f"{tuple(found.shape)})"
    )


@contextmanager
def _evaluated(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the networks are in evaluation mode."""
    parts = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in parts:
            part.training = training
