"""Flips: whether the greedy action rests on the features that attributions name first.

``make perf`` prints it, for the trained agents of CartPole and Acrobot: the rates of 100 states of
20 episodes with their intervals, over states and over whole episodes, what a frozen feature costs,
and what becomes of the scores without weights. The seeds of the episodes are none that an agent was
trained or chosen with.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import torch

import ig_rl
from ig_core.bench.folder import case_folder
from ig_rl.cases import CASES
from ig_rl.checks import Flips

AGENTS = {"cartpole-dqn": "CartPole-v1", "acrobot-dqn": "Acrobot-v1"}
SEEDS = range(2000, 2020)
BARS = (("gap IG", "{} IG"), ("|gap IG|", "|{} IG|"), ("gap IG", "random"), ("|gap IG|", "random"))


def rates(found: Flips, symbol: str) -> None:
    """Every ranking's rate of the top feature, and the bars: the gap less another ranking."""
    for way in found.ways:
        print(f"  the top feature gets the values of: {way}")
        for name in found.rankings:
            print(f"    {name:20} {found.rate(name, way=way)}")
        for one, other in BARS:
            less = found.difference(one, other.format(symbol), way=way)
            met = "above" if less.low > 0 else "NOT told apart from" if less.high >= 0 else "BELOW"
            print(f"    {one} less {other.format(symbol)}: {less}  {met}")


def agent(name: str, environment: str, folder: Path) -> None:
    """One trained agent."""
    case = next((one for one in CASES if one.name == name), None)
    if case is None:
        print(f"{name}: there is no such case")
        return
    model = case.load(folder).model
    env = gymnasium.make(environment)
    begin = time.perf_counter()
    found = ig_rl.faithfulness(model, env, SEEDS)
    spent = time.perf_counter() - begin
    assert found.flips is not None and found.frozen is not None
    intact = found.frozen.intact.mean()
    print(f"{name}: mean return {intact:.1f}, {found.states} states, {spent:.0f} s")
    symbol = found.flips.rankings[1].removesuffix(" IG")
    for drawn, groups in (("states", None), ("whole episodes", found.flips.groups)):
        print(f"  95 % intervals by the bootstrap over {drawn}")
        rates(replace(found.flips, groups=groups), symbol)
    for check in ("deletion", "frozen", "planted", "randomised"):
        print(found.sections[check].table().to_text(), end="\n\n", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, environment in AGENTS.items():
        with case_folder(name) as folder:
            agent(name, environment, folder)
