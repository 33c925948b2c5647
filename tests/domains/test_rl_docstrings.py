"""The examples in the docstrings of rl run, and every public name has one."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

import ig_core as ig
import ig_rl

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = ["ig_rl", *(found.name for found in pkgutil.walk_packages(ig_rl.__path__, "ig_rl."))]
SHOWN_BY = {
    "Faithfulness": "faithfulness", "Importance": "wrap",
    "StateAgreement": "wrap", "Timeline": "wrap", "Wrapped": "wrap",
}  # fmt: skip
"""What the examples of the functions that make it show."""


def leaning() -> DQN:
    """Linear: Q(right) - Q(left) = 10 pole angle + pole angular velocity."""
    kwargs = {"policy_kwargs": {"net_arch": []}, "buffer_size": 10, "seed": 0, "device": "cpu"}
    model = DQN("MlpPolicy", "CartPole-v1", **kwargs)
    with torch.no_grad():
        model.q_net.q_net[0].weight[:] = torch.tensor([[0.0] * 4, [0.0, 0.0, 10.0, 1.0]])
        model.q_net.q_net[0].bias.zero_()
    return model


NAMES = {
    "ig": ig, "ig_rl": ig_rl, "np": np, "model": leaning(), "env": gymnasium.make("CartPole-v1"),
    "x": np.float32([0, 0, 0.1, 1]), "states": np.float32([[1, 0, 0.2, 1], [-1, 0, -0.2, -1]]),
}  # fmt: skip

EXAMPLES = [
    pytest.param(example, id=example.name)
    for name in MODULES
    for example in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=NAMES)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=told.append, clear_globs=False)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", ig_rl.__all__)
def test_a_public_name_has_an_example(name: str) -> None:
    shown = getattr(ig_rl, SHOWN_BY.get(name, name))
    assert doctest.DocTestFinder(recurse=False).find(shown, name)[0].examples
