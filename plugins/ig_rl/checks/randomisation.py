"""Randomised: whether attributions change when the weights of the network are lost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

import ig_core as ig
from ig_core import InputError, Table, plain_numbers
from ig_rl.checks.copies import Layer, copied, layers
from ig_rl.checks.interval import Estimate, estimate
from ig_rl.checks.judged import asked, batch_of, explained, scores_of
from ig_rl.checks.watch import QUIET, Watch
from ig_rl.counts import counted

ALIKE = 0.5
"""The rank correlation from which a verdict calls scores alike."""

TWIN = re.compile(r"^((?:.*\.)?qf)\d+(?=\.|$)")
"""A critic of several, whose number ends what the group catches."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Randomised:
    """Rank correlations with the attributions of copies whose weights are drawn anew.

    ``signed[l, c, i]`` is Spearman's rho of the scores of state i with those of copy c that lost
    the layers up to ``layers[l]``, counted from the output; ``magnitude`` that of the abs(scores).
    NaN where all scores of one are equal.
    """

    layers: Sequence[str]
    signed: Float[np.ndarray, "layers copies states"]
    magnitude: Float[np.ndarray, "layers copies states"]
    quantity: str

    def correlation(self, layer: int, *, magnitude: bool = False) -> Estimate:
        """The mean correlation once that layer is lost; the interval is over copies.

        Copies, not states, are drawn: all states of one copy share its weights.
        """
        rho = (self.magnitude if magnitude else self.signed)[layer]
        return estimate(_mean(rho))

    @property
    def verdict(self) -> str:
        """Whether scores still look alike when all weights are lost."""
        rho = self.correlation(len(self.layers) - 1)
        told = f"rho {rho.mean:.2f}"
        if not math.isfinite(rho.mean):
            return "Whether scores look alike without the weights cannot be told: no ranks differ."
        if rho.known:
            told += f", 95 % interval {rho.low:.2f} to {rho.high:.2f}"
        low, high = (rho.low, rho.high) if rho.known else (rho.mean, rho.mean)
        if high < ALIKE:
            return f"Scores no longer look alike when weights are lost ({told})."
        if low >= ALIKE:
            return (
                f"Scores STILL look alike when all weights are lost ({told}): little in them was "
                "learnt."
            )
        return f"Whether scores still look alike when weights are lost cannot be told ({told})."

    def table(self) -> Table:
        """One layer a row, from the output to the input."""
        rows: list[list[str | float]] = []
        for place, name in enumerate(self.layers):
            signed = self.correlation(place)
            size = self.correlation(place, magnitude=True)
            told = [signed.mean, signed.low, signed.high, size.mean, size.low, size.high]
            rows.append([name, *told])
        _, copies, states = self.signed.shape
        notes = [
            f"Spearman's rho of the scores ({self.quantity}) with those of {copies} copies that "
            f"lost the weights from the output up to the layer; mean of {states} states",
            "near 1 in the last row: the scores do not depend on what was learnt; magnitudes keep "
            "the distance of every feature from the baseline, which no weights change",
            "95 % intervals by the bootstrap over copies",
        ]
        ends = ["95 % low", "95 % high"]
        columns = ["weights lost up to", "rho", *ends, "rho of |score|", *ends]
        return Table(columns, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """The correlations, as JSON values."""
        return {
            "quantity": self.quantity,
            "layers": list(self.layers),
            "signed": plain_numbers(self.signed),
            "magnitude": plain_numbers(self.magnitude),
        }


def randomised(
    model: Any,
    states: Any,
    *,
    visited: Any = None,
    copies: int = 5,
    watch: Watch = QUIET,
    **options: Any,
) -> Randomised:
    """Whether attributions follow the weights: Adebayo et al. (2018), arXiv:1810.03292.

    On copies of the policy the layers that compute the explained number are initialised anew, from
    the output down to the input, one more at a time; of several critics the same layer of all, as
    what is explained is the smallest of them and the others would take its place. What is explained
    stays that of the agent: the same actions, from the same start. The model itself is never
    changed.

    >>> randomised(model, states, copies=1).layers
    ['q_net.q_net.0']

    Args:
        states: the states to explain.
        visited: states that the agent visited; ``states`` if not given.
        copies: so many copies, each with a seed of its own.
        watch: who is told how far this is.
        **options: ``explain``, others of :class:`ig_rl.AgentDomain`, and those of
            :func:`ig_core.attribute`.

    Raises:
        InputError: ``copies`` is no whole number of at least 1, or a layer cannot be
            initialised anew.
    """
    counted("copies", copies)
    ask, engine = asked(states, visited, options)
    domain = ask(model)
    raws = batch_of(domain, states)
    found = explained(model, states, domain, **engine)
    own = scores_of(found)
    targets = [a.provenance["target"] for a in found]
    target = None if targets[0] is None else targets
    with domain.prepared():
        names = [name for name, _ in _steps(layers(ig.prepare(domain, raws[:1])))]
    signed, magnitude = [], []
    seed = engine.get("seed", 0)
    for copy in watch.each(range(copies), "randomised"):
        other = copied(model)
        lost = ask(other)
        with lost.prepared():
            steps = _steps(layers(ig.prepare(lost, raws[:1])))
        rows = []
        number = 0
        for name, modules in steps:
            for module in modules:
                _initialise(module, name, seed * 1_000_003 + copy * 1_009 + number)
                number += 1
            rows.append(scores_of(explained(other, states, lost, target=target, **engine)))
        signed.append([rank_correlation(own, row) for row in rows])
        magnitude.append([rank_correlation(np.abs(own), np.abs(row)) for row in rows])
    return Randomised(
        layers=names,
        signed=np.stack(signed, 1),
        magnitude=np.stack(magnitude, 1),
        quantity=domain.explain,
    )


def _steps(found: Sequence[Layer]) -> list[tuple[str, list[nn.Module]]]:
    """The layers from the output to the input; the same layer of several critics together."""
    steps: dict[str, list[Layer]] = {}
    for layer in reversed(found):
        steps.setdefault(TWIN.sub(r"\1*", layer.name), []).append(layer)
    return [
        (name if len(own) > 1 else own[0].name, [layer.module for layer in own])
        for name, own in steps.items()
    ]


def rank_correlation(
    one: Float[np.ndarray, "states units"], other: Float[np.ndarray, "states units"]
) -> Float[np.ndarray, " states"]:
    """Spearman's rho row by row; equal values share the mean of their ranks.

    >>> rank_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, 9.0]])).tolist()
    [1.0]
    """
    ranks = [np.stack([_ranks(row) for row in rows]) for rows in (one, other)]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def _ranks(values: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
    """Ranks from the smallest; NaN of every unit where one is NaN."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (count.cumsum() - (count - 1) / 2)[place]
    return np.where(np.isnan(values).any(), np.nan, ranks)


def _initialise(module: nn.Module, name: str, seed: int) -> None:
    """The weights of one layer drawn anew, as when it was made."""
    reset = getattr(module, "reset_parameters", None)
    if reset is None:
        raise InputError(
            f"the layer {name!r} ({type(module).__name__}) cannot be initialised anew: it has no "
            "reset_parameters()"
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        reset()


def _mean(rho: Float[np.ndarray, "copies states"]) -> Float[np.ndarray, " copies"]:
    """Over states whose correlation is defined; NaN of a copy without any."""
    known = np.isfinite(rho)
    with np.errstate(invalid="ignore"):
        return np.where(known, rho, 0.0).sum(1) / known.sum(1)
