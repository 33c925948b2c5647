"""Margins: how far an output lies above another, which says why this class and not that one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import ig_core as ig
from ig_core import InputError, TargetError
from ig_sequences import given
from ig_sequences.domain import SequenceDomain

Margin = Callable[[Float[Tensor, "rows outputs"]], Float[Tensor, " rows"]]

ENGINE = ("path", "tol", "budget", "rule", "steps", "device", "seed")
"""Options that :func:`ig_core.prepare` takes; all others are the domain's."""


@lru_cache(maxsize=1024)
def margin(first: int, second: int, name: str | None = None) -> Margin:
    """One output minus another, as a target of :func:`ig_core.attribute`; results show its name.

    A logit alone also moves with what moves all logits; a probability has no gradient where it is
    sure. Their difference says why this one and not the other.

    >>> outputs = torch.tensor([[3.0, 1.0], [0.0, 4.0]])
    >>> margin(0, 1)(outputs).tolist()
    [2.0, -4.0]
    """

    def difference(outputs: Float[Tensor, "rows outputs"]) -> Float[Tensor, " rows"]:
        return outputs[:, first] - outputs[:, second]

    difference.__name__ = name or f"output {first} minus output {second}"
    return difference


def margins(model: Any, x: Any, **options: Any) -> list[Margin] | None:
    """For each sequence of a batch the margin of the highest output over the runner-up.

    The answer is what ``target=`` of :func:`ig_core.attribute` takes for the same batch; None, as
    for a target, where the model gives a single number for each sequence.

    >>> model = lambda x: torch.stack([x.sum((1, 2)), x[:, -1, 0]], 1)
    >>> x = torch.tensor([[[1.0], [2.0]], [[-3.0], [2.0]]])
    >>> [one.__name__ for one in margins(model, x)]
    ['output 0 minus output 1', 'output 1 minus output 0']

    Args:
        x: several sequences, as :func:`ig_core.attribute` takes them.
        **options: of the domain, such as ``lengths``; and ``device``.

    Raises:
        InputError: ``x`` is a single sequence, or there is no such option.
        TargetError: the model gives more than one number for each of several steps.
    """
    domain, engine = domain_of(model, options)
    raws = batch_of(domain, x)
    with domain.prepared():
        return margins_of(domain, raws, engine)


def margins_of(
    domain: SequenceDomain, raws: Sequence[Any], engine: Mapping[str, Any]
) -> list[Margin] | None:
    """Margins of sequences that are split already; call it inside ``domain.prepared()``."""
    found = []
    for rank in (0, 1):
        task = ig.prepare(domain, raws, target=_at_rank(rank), **engine)
        points = [example.inputs for example in task.examples]
        found.append(task.values_of(task.examples, points).long().tolist())
    if -1 in found[0]:
        return None
    return [margin(first, second) for first, second in zip(*found, strict=True)]


def domain_of(model: Any, options: Mapping[str, Any]) -> tuple[SequenceDomain, dict[str, Any]]:
    """The domain of a sequence model, and those of the options that are not the domain's.

    Raises:
        InputError: there is no such option.
    """
    known = [*inspect.signature(SequenceDomain).parameters][1:]
    if unknown := sorted(options.keys() - {*known, *ENGINE}):
        raise InputError(f"no option {unknown[0]!r}; options: {', '.join([*known, *ENGINE])}")
    own = {name: value for name, value in options.items() if name in known}
    engine = {name: value for name, value in options.items() if name in ENGINE}
    return SequenceDomain(model, **own), engine


def batch_of(domain: SequenceDomain, x: Any) -> Sequence[Any]:
    """The sequences of a batch.

    Raises:
        InputError: it is a single sequence, or empty.
    """
    raws = domain.split(x)
    if not raws:
        raise InputError(
            "several sequences are needed: a list, or a tensor (batch, time, features); [x] is a "
            f"batch of one (got {given.kind(given.tensor(x))})"
        )
    return raws


@lru_cache(maxsize=2)
def _at_rank(rank: int) -> Margin:
    """The number of the highest output, or of the runner-up; -1 of a single one."""

    def place(outputs: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
        if outputs.dim() > 2:
            raise TargetError(
                f"the model gives outputs of shape {tuple(outputs.shape[1:])} per sequence; say "
                "which number to explain: target=, or step='last' for the last step's"
            )
        if outputs.dim() < 2 or outputs.shape[1] == 1:
            return torch.full((outputs.numel(),), -1.0, device=outputs.device)
        return outputs.topk(2).indices[:, rank].float()

    return place
