"""Sequences: time and memory against their length, and Captum one by one, in turns in one run.

``make perf`` prints it. Every length is measured in a process of its own, with a fixed rule, so
that each takes as many evaluations; memory is what the peak of the process rose by. The lines of
the comparison give the median of the ratios of the turns, in processor time of one thread, and
what went through the model: rows of forward and of backward passes.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients
from function import seeded
from text import in_turns
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ig_core as ig

STEPS = 16
NODES = {"rule": "gauss-legendre", "steps": STEPS}
LENGTHS = (1_250, 2_500, 5_000, 10_000)
KINDS = (nn.RNN, nn.GRU, nn.LSTM)
COUNT = 32


class Net(nn.Module):
    """The last state of a packed recurrent layer, and two classes."""

    def __init__(self, kind: type[nn.RNNBase], features: int = 3, width: int = 16) -> None:
        super().__init__()
        self.rnn = kind(features, width, batch_first=True)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        last = self.rnn(packed)[1]
        return self.head((last[0] if isinstance(last, tuple) else last)[-1])


def made(kind: type[nn.RNNBase]) -> Net:
    with seeded(0):
        return Net(kind).eval()


def one_length(kind: type[nn.RNNBase], length: int) -> tuple[float, float]:
    """Seconds of processor time and MiB for one sequence of this length."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = made(kind)
    ig.attribute(model, torch.randn(10, 3), target=1, **NODES)
    x = torch.randn(length, 3, generator=torch.Generator().manual_seed(1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    ig.attribute(model, x, target=1, **NODES)
    spent = time.process_time() - begin
    return spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024


def lengths() -> None:
    """Twice the length should cost twice as much, and no more memory than that."""
    for kind in KINDS:
        print(f"{kind.__name__} of width 16, one sequence, {STEPS} nodes")
        before = (0.0, 0.0)
        for length in LENGTHS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                spent, peak = pool.apply(one_length, (kind, length))
            told = f"  {length:6} steps  {spent:6.2f} s  {peak:6.0f} MiB"
            if before[0]:
                told += f"  / half the steps: time {spent / before[0]:.2f},"
                told += f" memory {peak / before[1]:.2f}"
            print(told, flush=True)
            before = spent, peak


def ragged() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(20, 121, (COUNT,), generator=generator).tolist()
    return [torch.randn(n, 3, generator=generator) for n in sizes]


def captum(model: Net) -> Callable[[list[Tensor]], list[Tensor]]:
    """Captum's attributions of each sequence alone, as its users do with lengths that differ."""
    peer = IntegratedGradients(model)

    def run(sequences: list[Tensor]) -> list[Tensor]:
        return [
            peer.attribute(
                x[None], target=1, n_steps=STEPS, method="gausslegendre",
                additional_forward_args=(torch.tensor([len(x)]),),
            )[0]
            for x in sequences
        ]  # fmt: skip

    return run


def peers() -> None:
    """32 sequences of 20 to 120 steps, at equal steps."""
    sequences = ragged()
    for kind in KINDS:
        model = made(kind)
        theirs = captum(model)
        domain = ig.plugins().domain("sequences")(model)

        def ours(domain: ig.Domain = domain, **rule: object) -> list[Tensor]:
            found = ig.attribute(domain.model, sequences, domain=domain, target=1, **rule)
            return [one.values for one in found]

        gap = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(ours(**NODES), theirs(sequences), strict=True)
        )
        print(f"{kind.__name__} of width 16, {COUNT} ragged sequences, {STEPS} nodes; ", end="")
        print(f"values agree to {gap:.1e} of the largest")
        runs = {
            "ours, one call": lambda run=ours: run(**NODES),
            "Captum, one by one": lambda run=theirs: run(sequences),
            "ours, adaptive, by default": ours,
        }
        in_turns(runs, model, turns=9)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lengths()
    peers()


if __name__ == "__main__":
    main()
