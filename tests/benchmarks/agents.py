"""A thousand states of an agent: ours at a tolerance against Captum at the same true error.

``make perf`` prints it. The agent is the DQN of the case ``cartpole-dqn``, what is explained the
gap of its greedy action to the other one from the mean of the states that it visited. True errors
are those of the exact rule in float64, which a very fine sum checks. Captum gets the fewest nodes
of its better rule that keep them within the tolerance, and its best batch; times are of turns in
one run, in processor time of one thread.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float
from perf import ratios
from torch import Tensor, nn
from truth import relative

import ig_core as ig

COUNT = 1_000
TOL = 1e-3
MOST = 1 << 15
FINE, CHECKED = 200_000, 20
"""Nodes of the very fine sum, and states that it checks."""
RULES = ("riemann_middle", "gausslegendre")
BATCHES = (4_096, 32_768)
HARD = 200
"""States of the largest errors at few nodes, on which the number of nodes is searched."""
BAR = 5.0
TURNS = 3

Values = Float[Tensor, "states features"]


class Gap(nn.Module):
    """The difference of two Q-values, of which ``sign`` says the one that comes first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Float[Tensor, "rows features"], sign: Float[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        q = self.network(x)
        return sign * (q[:, 1] - q[:, 0])


class Captum:
    """Captum's attributions of the gaps of some states at any number of nodes."""

    def __init__(
        self, network: nn.Module, states: Values, start: Float[Tensor, " features"]
    ) -> None:
        with torch.no_grad():
            q = network(states)
        self.sign = (q[:, 1] - q[:, 0]).sign()
        self.states, self.start = states, start.expand(len(states), -1)
        self.peer = IntegratedGradients(Gap(network))

    def __call__(self, nodes: int, rule: str, batch: int = BATCHES[-1]) -> Values:
        return self.peer.attribute(
            self.states, self.start, n_steps=nodes, method=rule,
            additional_forward_args=(self.sign,), internal_batch_size=max(batch, len(self.states)),
        ).double()  # fmt: skip

    def fewest(self, rule: str, truth: Values, missed: int, first: int = 2) -> int | None:
        """The fewest nodes that leave so many states beyond the tolerance: doubled, then bisected.

        Captum refuses a single node.
        """

        def good(nodes: int) -> bool:
            return int((relative(self(nodes, rule), truth) > TOL).sum()) <= missed

        high = first
        while not good(high):
            high *= 2
            if high > MOST:
                return None
        low = high // 2 if high > first else high
        while high - low > max(1, high // 50):
            middle = (low + high) // 2
            low, high = (low, middle) if good(middle) else (middle, high)
        return high


def reference(double: Any, states: Values, options: dict[str, Any]) -> Values:
    """The exact rule in float64, and how far a very fine sum of some states is from it."""
    exact = stacked(ig.attribute(double, states.double(), rule="exact", tol=1e-9, **options))
    some = torch.linspace(0, len(states) - 1, CHECKED).long()
    fine = {"rule": "midpoint", "steps": FINE, "budget": 2 * FINE, "tol": 0.9}
    summed = stacked(ig.attribute(double, states[some].double(), **fine, **options))
    far = float(relative(exact[some], summed).max())
    print(f"  truth: the exact rule in float64; {FINE} midpoints of {CHECKED} states are", end=" ")
    print(f"{far:.0e} from it at most")
    return exact


def stacked(found: Sequence[ig.Attribution]) -> Values:
    return torch.stack([one.values.double() for one in found])


def told(name: str, errors: Float[Tensor, " states"]) -> None:
    q = torch.quantile(errors, torch.tensor([0.5, 0.99], dtype=errors.dtype)).tolist()
    print(f"  {name:<44} error {q[0]:.1e} median, {q[1]:.1e} 99 %, {float(errors.max()):.1e} worst")


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    from ig_core.bench.folder import case_folder
    from ig_rl.cases import cartpole_dqn

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with case_folder("cartpole-dqn") as folder:
        loaded = cartpole_dqn(folder)
    model, options = loaded.model, dict(loaded.options)
    visited = options["states"]
    states = visited[torch.linspace(0, len(visited) - 1, COUNT).long()]
    double = copy.deepcopy(model)
    double.policy.double()
    network, start = model.policy.q_net.q_net, visited.double().mean(0).float()
    print(f"CartPole, DQN, gaps of {COUNT} states, tol {TOL:g}")
    truth = reference(double, states, options)
    runs: dict[str, Callable[[], list[ig.Attribution]]] = {
        "ours, in float32": partial(ig.attribute, model, states, tol=TOL, **options),
        "ours, in float64": partial(ig.attribute, double, states.double(), tol=TOL, **options),
    }
    for name, run in runs.items():
        found = run()
        statuses = Counter(one.status for one in found)
        told(name, relative(stacked(found), truth))
        print("   ", ", ".join(f"{count} {status}" for status, count in statuses.items()))
    captum = Captum(network, states, start)
    hard = relative(captum(64, RULES[0]), truth).topk(HARD).indices
    few = Captum(network, states[hard], start)
    peers: dict[str, Callable[[], Values]] = {}
    for name, missed in (("99 % of states", COUNT // 100), ("every state", 0)):
        nodes = {rule: few.fewest(rule, truth[hard], missed) for rule in RULES}
        reached = {rule: n for rule, n in nodes.items() if n is not None}
        print(f"  Captum, {TOL:g} in {name}: ", end="")
        print(", ".join(f"{rule} {n or f'> {MOST}'}" for rule, n in nodes.items()))
        if reached:
            rule = min(reached, key=reached.__getitem__)
            n = reached[rule]
            while int((relative(captum(n, rule), truth) > TOL).sum()) > missed:
                n += max(1, n // 50)
            times = {size: seconds(partial(captum, n, rule, size)) for size in BATCHES}
            best = min(times, key=times.__getitem__)
            called = f"Captum, {n} nodes, {name}"
            peers[called] = partial(captum, n, rule, best)
            told(called, relative(peers[called](), truth))
    for name, run in runs.items():
        print(f"  {name}, {1000 * seconds(run):.0f} ms; Captum in float32")
        ratios(run, peers, TURNS)
    print(f"  wanted: ours / Captum in every state at most {1 / BAR:g}")


if __name__ == "__main__":
    main()
