"""Options of the domain that belong to some agents only."""

from __future__ import annotations

from typing import Any

import torch

from ig_core import InputError, UnknownNameError
from ig_rl.agents import Agent

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def check(
    agent: Agent, explain: str, *, action: Any, state: Any, unrolled: bool, stacked: bool
) -> None:
    """That what was given is for this agent and quantity.

    Raises:
        InputError: it is not.
    """
    whose = f"{type(agent).__name__} with explain={explain!r}"
    if action is not None and not agent.needs_action(explain):
        raise InputError(f"action= belongs to values of a given action; {whose} takes none")
    if unrolled and not agent.recurrent:
        raise InputError(f"unrolled= belongs to recurrent policies (got {whose})")
    if unrolled and state is not None:
        raise InputError("an unrolled episode starts with an empty memory: leave state= out")
    if unrolled and stacked:
        raise InputError("unrolled= and stacked frames do not go together")


def converted(agent: Agent, dtype: Any) -> Agent:
    """The agent, or one with a copy of its networks that computes in another dtype.

    Raises:
        InputError: there is no such dtype.
    """
    if dtype is None:
        return agent
    wanted = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(wanted, torch.dtype) or wanted not in DTYPES.values():
        raise InputError(f"dtype is one of {', '.join(DTYPES)} (got {dtype!r})")
    return agent.converted(wanted)


def explained(explain: Any, agent: Agent, model: Any) -> str:
    """The quantity that is meant, the agent's default for None.

    Raises:
        UnknownNameError: the agent has no such quantity.
    """
    wanted = agent.default if explain is None else explain
    if not isinstance(wanted, str) or not agent.knows(wanted):
        raise UnknownNameError(f"quantity of {type(model).__name__}", str(wanted), agent.explains)
    return wanted
