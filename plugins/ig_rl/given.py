"""Given: what a user hands to ``wrap``, checked before anything is played."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import ig_core as ig
from ig_core import IGError, InputError
from ig_rl.agents import agent_of
from ig_rl.domain import AgentDomain
from ig_rl.episodes.matching import arranged

HERE = {"target": "action", "explain": "target"}
"""What wrapped agents call the domain's arguments."""


def check(model: Any, env: Any, states: Any) -> None:
    """That these are an agent, its environment, and states.

    Raises:
        InputError: one of them is something else, or the environment is another agent's.
    """
    if isinstance(model, (str, PathLike)):
        raise InputError(
            f"wrap takes a model, not its file (got {str(model)!r}): load it first, as in "
            "DQN.load(path), or with ig_rl.load(path, model), which runs no pickle"
        )
    if _is_environment(model):
        raise InputError(
            f"the agent comes first: wrap(model, env) (got {type(model).__name__}, an environment)"
        )
    agent = agent_of(model)
    if _is_environment(states):
        raise InputError(
            "states= takes a batch of observations (got an environment): say env= instead"
        )
    if env is None:
        return
    if isinstance(env, str):
        raise InputError(f"env must be an environment: say gymnasium.make({env!r}) (got its name)")
    if not _is_environment(env):
        raise InputError(
            "env must be a Gymnasium environment or a VecEnv of stable_baselines3 "
            f"(got {type(env).__name__}); observations go to states="
        )
    if agent.observation_space is not None and agent.action_space is not None:
        arranged(agent, env)


def known(options: Iterable[str], method: Callable[..., Any]) -> None:
    """That options are those of a method of wrapped agents, of the domain or of the engine.

    Raises:
        InputError: one of them is of none.
    """
    own = [n for n in inspect.signature(method).parameters if n not in ("self", "options")]
    asked = [*inspect.signature(AgentDomain).parameters][1:]
    engine = [*inspect.signature(ig.attribute).parameters][2:-1]
    for name in options:
        if name not in (*asked, *engine):
            close = difflib.get_close_matches(name, [*own, *asked, *engine], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InputError(
                f"{method.__name__} has no option {name!r}{hint} Its own: {', '.join(own)}; others "
                "are those of ig_core.attribute and ig_rl.AgentDomain"
            )


@contextmanager
def in_these_words() -> Iterator[None]:
    """Errors of the domain in the words of wrapped agents, where ``target=`` is ``action=``."""
    try:
        yield
    except IGError as error:
        told = re.sub(r"\b(target|explain)=", lambda m: f"{HERE[m[1]]}=", str(error))
        error.args = (told, *error.args[1:])
        raise


def quantity(target: Any) -> None:
    """That ``target`` of a wrapped agent is a quantity.

    Raises:
        InputError: it is an action.
    """
    if target is not None and not isinstance(target, str):
        raise InputError(
            f"target= names the quantity here, as in target='gap' (got {target!r}): say "
            f"action={target!r} for an action or a pair"
        )


def _is_environment(one: Any) -> bool:
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv

    return isinstance(one, (gymnasium.Env, VecEnv))
