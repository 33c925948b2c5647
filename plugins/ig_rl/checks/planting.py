"""Planted: features that the network provably ignores must get exactly zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import ig_core as ig
from ig_core import Example, InputError, Table, plain_numbers
from ig_rl.checks.copies import Layer, copied, layers
from ig_rl.checks.judged import asked, batch_of, explained, scores_of, unit_names
from ig_rl.checks.watch import QUIET, Watch

READING = ("weight", "weight_ih_l0", "weight_ih_l0_reverse")
"""Weights by which a linear layer reads what it receives, and a recurrent one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """What features get that were cut off from the network, one at a time.

    ``dead[j]`` is the largest abs(score) of feature ``names[j]`` over all states when its weights
    are zero; ``alive[j]`` is the largest of all the others then. NaN counts as not zero.
    """

    names: Sequence[str]
    dead: Float[np.ndarray, " features"]
    alive: Float[np.ndarray, " features"]
    states: int
    quantity: str

    @property
    def exact(self) -> bool:
        """Whether every dead feature got exactly zero."""
        return bool((self.dead == 0).all())

    @property
    def verdict(self) -> str:
        """Whether dead features get exactly zero."""
        if self.exact:
            return "Dead features get exactly 0."
        worst = int(np.argmax(np.nan_to_num(self.dead, nan=np.inf)))
        told = f"{self.names[worst]} gets {self.dead[worst]:.2g}"
        return f"NOT every dead feature gets exactly 0: {told}."

    def table(self) -> Table:
        """One feature a row."""
        rows: list[list[str | float]] = [
            [name, float(dead), float(alive)]
            for name, dead, alive in zip(self.names, self.dead, self.alive, strict=True)
        ]
        said = "every dead feature got" if self.exact else "NOT every dead feature got"
        notes = [
            f"largest |score| ({self.quantity}) over {self.states} states when all weights of the "
            f"feature are zero: {said} exactly 0"
        ]
        return Table(["cut off", "|score| of it", "largest of the others"], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """The scores, as JSON values."""
        return {
            "quantity": self.quantity,
            "states": self.states,
            "exact": self.exact,
            "names": list(self.names),
            "dead": plain_numbers(self.dead),
            "alive": plain_numbers(self.alive),
        }


def planted(
    model: Any,
    states: Any,
    *,
    visited: Any = None,
    features: Sequence[int] | None = None,
    watch: Watch = QUIET,
    **options: Any,
) -> Planted:
    """Whether features that cannot matter get exactly zero (the axiom of dummies).

    On a copy of the policy the weights that read a feature are set to zero, and the states are
    explained; one feature after the other. The model itself is never changed.

    >>> planted(model, states).dead.tolist()
    [0.0, 0.0, 0.0, 0.0]

    Args:
        states: the states to explain.
        visited: states that the agent visited; ``states`` if not given.
        features: numbers of the features to cut off; all by default.
        watch: who is told how far this is.
        **options: ``explain``, others of :class:`ig_rl.AgentDomain`, and those of
            :func:`ig_core.attribute`.

    Raises:
        InputError: no linear or recurrent layer reads the observation as it is (pixels), or there
            is no such feature.
    """
    ask, engine = asked(states, visited, options)
    domain = ask(model)
    raws = batch_of(domain, states)
    with domain.prepared():
        task = ig.prepare(domain, raws[:1])
    names = unit_names(task.examples[0])
    chosen = range(len(names)) if features is None else features
    if wrong := [j for j in chosen if j not in range(len(names))]:
        raise InputError(f"features are numbers from 0 to {len(names) - 1} (got {wrong[0]!r})")
    dead, alive = [], []
    for feature in watch.each(chosen, "planted"):
        other = copied(model)
        without = ask(other)
        with without.prepared():
            first = ig.prepare(without, raws[:1])
            reads = layers(first)
        _cut(first.examples[0], reads, feature)
        sizes = np.abs(scores_of(explained(other, states, without, **engine)))
        dead.append(sizes[:, feature].max())
        alive.append(np.delete(sizes, feature, axis=1).max(initial=0.0))
    return Planted(
        names=[names[j] for j in chosen],
        dead=np.array(dead),
        alive=np.array(alive),
        states=len(raws),
        quantity=domain.explain,
    )


def _cut(example: Example, reads: Sequence[Layer], feature: int) -> None:
    """Zero the weights by which layers read the elements of one feature."""
    places = [(layer, _columns(example, layer, feature)) for layer in reads]
    if all(columns is None for _, columns in places):
        raise InputError(
            "planted features need a linear or recurrent layer that reads the observation as it "
            "is; here something else comes first, such as a convolution"
        )
    with torch.no_grad():
        for layer, columns in places:
            for name, weight in layer.module.named_parameters():
                if columns is not None and name in READING:
                    weight[:, columns] = 0


def _columns(example: Example, layer: Layer, feature: int) -> Tensor | None:
    """The columns of a layer's weights that read a feature; None if it does not read the inputs.

    A layer reads them if what it received begins with their elements, in their order.
    """
    if not isinstance(layer.module, (nn.Linear, nn.RNNBase)):
        return None
    flat = torch.cat([value.flatten() for value in example.inputs.values()])
    own = torch.zeros(len(example.parts), dtype=torch.bool)
    own[feature] = True
    masks = example.parts.mask(own[None], example.inputs)
    mask = torch.cat([masks[name][0].flatten() for name in example.inputs]).to(flat.device)
    received = layer.received.reshape(-1)
    seen = next(
        (
            end
            for end in _ends(example)
            if layer.received.shape[-1] >= end and received[:end].equal(flat[:end].to(received))
        ),
        0,
    )
    return mask[:seen].nonzero()[:, 0] if seen else None


def _ends(example: Example) -> list[int]:
    """How many elements the first inputs have together, from all of them to the first alone."""
    return np.cumsum([value.numel() for value in example.inputs.values()]).tolist()[::-1]
