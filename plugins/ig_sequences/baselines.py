"""Baselines of sequences: what stands for steps at which nothing happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Baseline, BaselineError, Domain, Example, InputError
from ig_sequences import given
from ig_sequences.domain import SequenceDomain

Steps = Float[Tensor, "time features"]


class FeatureMean(Baseline):
    """Every step at the mean of each feature: a level that is usual, and no event.

    Use it where zero is no usual value, such as unscaled sensors. It says nothing of how the
    features change in time: :class:`TimeShuffled` and :class:`OtherSequences` have that.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> ig.attribute(leaky, x, domain="sequences", baseline="mean").scores.tolist()
    [-0.5, -0.5, 3.0]

    Args:
        data: sequences to take the mean of, such as those of training, given as those to explain
            are. All sequences of the call by default; a call for one sequence then has that
            sequence's own mean, as ``"time-mean"`` does. Every step counts once, hence long
            sequences count more.

    Raises:
        BaselineError: when it is used, the data are no sequences, hold NaN, or have another number
            of features.
    """

    name = "mean"
    fits = ("sequences",)

    def __init__(self, data: Any = None) -> None:
        self.data = None if data is None else _Data(data)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        sequences = cast(SequenceDomain, domain)
        if self.data is not None:
            mean = self.data.mean(sequences)
        elif sequences.batch:
            mean = sequences.of_batch(_mean)
        else:
            mean = _mean([*example.inputs.values()])
        return [{n: _fitting(mean, x).expand_as(x).clone() for n, x in example.inputs.items()}]


class TimeMean(Baseline):
    """Every step at the sequence's own mean over time: what it says beyond its level is explained.

    Use it where each sequence has a level of its own that should not count, such as the usual load
    of a household. A sequence that never changes gets zero everywhere.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> ig.attribute(leaky, x, domain="sequences", baseline="time-mean").scores.tolist()
    [-0.5, -0.5, 3.0]
    """

    name = "time-mean"
    fits = ("sequences",)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        return [{n: x.mean(0, keepdim=True).expand_as(x) for n, x in example.inputs.items()}]


class ForwardFill(Baseline):
    """From step ``begin`` on nothing new arrives: the value before it is held.

    What is explained is what the model learned after that moment; steps before it do not move and
    get exactly 0. Use it for "what did the news of the last hour change", where the past is given.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> options = {"domain": "sequences", "baseline": ForwardFill(begin=2)}
    >>> ig.attribute(leaky, x, **options).scores.tolist()
    [0.0, 0.0, 4.0]

    Args:
        begin: the first step that is filled, counted from 1 like the steps before it, or the
            number of last steps that are filled, negative: -3 fills the last three, however long
            a sequence is. By default all steps hold the first one.

    Raises:
        BaselineError: no whole number, or 0, before which there is no step to hold; when it is
            used, more steps than the sequence has.
    """

    name = "forward-fill"
    fits = ("sequences",)

    def __init__(self, begin: int = 1) -> None:
        if isinstance(begin, bool) or not isinstance(begin, int) or begin == 0:
            raise BaselineError(
                "begin is a whole number from 1, the steps that are kept, or a negative one, the "
                f"last steps that are filled (got {begin!r})"
            )
        self.begin = begin

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        return [{n: self._filled(x) for n, x in example.inputs.items()}]

    def _filled(self, x: Steps) -> Steps:
        kept = self.begin if self.begin > 0 else len(x) + self.begin
        if not 1 <= kept <= len(x):
            raise BaselineError(
                f"begin={self.begin} is out of range for a sequence of {len(x)} steps: from 1 to "
                f"{len(x)}, or from {1 - len(x)} to -1 counted from its end"
            )
        filled = x.clone()
        filled[kept:] = x[kept - 1]
        return filled


class TimeShuffled(Baseline):
    """The sequence's own steps in other orders: what their order says is explained.

    Level, spread and the features' relations stay those of the sequence. Use it to ask whether
    order matters at all: a model that only sums over time gets a total of 0. The results of
    ``count`` orders are averaged, their spread is reported. A sequence of one step has no other
    order and gets 0.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> shuffled = TimeShuffled(count=4)
    >>> result = ig.attribute(lambda x: x.sum((1, 2)), x, domain="sequences", baseline=shuffled)
    >>> abs(result.delta) < 1e-12
    True

    Raises:
        BaselineError: ``count`` is no whole number from 1.
    """

    name = "time-shuffled"
    fits = ("sequences",)

    def __init__(self, count: int = 8) -> None:
        self.count = _count(count)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        time = len(next(iter(example.inputs.values())))
        orders = [torch.randperm(time, generator=generator) for _ in range(self.count)]
        return [{n: x[order.to(x.device)] for n, x in example.inputs.items()} for order in orders]


class OtherSequences(Baseline):
    """Other real sequences: what sets this one apart from its like is explained.

    The start that leaves no distribution that the model knows, also where a normalising layer
    makes zeros meaningless. As Expected Gradients do (Erion et al. 2021, arXiv:1906.10670), the
    results of ``count`` of them, drawn without putting back, are averaged; ``count=1`` is "another
    sequence". Never the sequence itself, nor one that equals it. Where there are fewer, all are
    taken.

    Lengths may differ. Sequences are aligned at their ends, as memory is: of a longer one the
    oldest steps are left out, of a shorter one the oldest value is held before it begins.

    >>> x = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    >>> other = OtherSequences([torch.tensor([[4.0], [5.0]])], count=1)
    >>> ig.attribute(leaky, x, domain="sequences", baseline=other).scores.tolist()
    [-0.75, -1.0, 1.0]

    Args:
        data: the sequences to draw from, given as those to explain are; those of the call by
            default.

    Raises:
        BaselineError: ``count`` is no whole number from 1; when it is used, there is no other
            sequence, or the data are no sequences, hold NaN, or have another number of features.
    """

    name = "other-sequences"
    fits = ("sequences",)

    def __init__(self, data: Any = None, count: int = 8) -> None:
        self.data = None if data is None else _Data(data)
        self.count = _count(count)

    def starts(
        self, example: Example, domain: Domain, generator: torch.Generator
    ) -> Sequence[Mapping[str, Steps]]:
        sequences = cast(SequenceDomain, domain)
        pool = sequences.batch if self.data is None else self.data.sequences(sequences)
        [(name, x)] = example.inputs.items()
        found: list[Mapping[str, Steps]] = []
        order = torch.randperm(len(pool), generator=generator).numpy()
        for place in range(len(pool)):  # of a large pool only the first are looked at
            other = _fitting(pool[order[place]], x)
            if not _equal(other, x):
                found.append({name: _aligned(other, len(x))})
            if len(found) == self.count:
                break
        if not found:
            raise BaselineError(
                f"the baseline {self.name!r} found no other sequence among {len(pool)}: explain "
                "several at once, or pass OtherSequences(data) with some"
            )
        return found


def _equal(one: Steps, other: Steps) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))


def _aligned(x: Steps, time: int) -> Steps:
    """A sequence in so many steps that end with its own: cut, or its oldest value held before."""
    held = x[:1].expand(max(0, time - len(x)), -1)
    return torch.cat([held, x[max(0, len(x) - time) :]])


def _count(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BaselineError(f"count must be a whole number of at least 1 (got {count!r})")
    return count


class _Data:
    """Sequences that a user gave, read as the domain reads those to explain."""

    def __init__(self, data: Any) -> None:
        self.given = list(data) if isinstance(data, tuple) else data
        self._read: dict[str, list[Steps]] = {}
        self._means: dict[str, Float[Tensor, " features"]] = {}

    def sequences(self, domain: SequenceDomain) -> list[Steps]:
        """Each as (time, features), in float64.

        Raises:
            BaselineError: they are no sequences, of several widths, or hold NaN or infinity.
        """
        if domain.axes not in self._read:
            self._read[domain.axes] = self._checked(domain.axes)
        return self._read[domain.axes]

    def mean(self, domain: SequenceDomain) -> Float[Tensor, " features"]:
        """Of all their steps."""
        if domain.axes not in self._means:
            self._means[domain.axes] = _mean(self.sequences(domain))
        return self._means[domain.axes]

    def _checked(self, axes: str) -> list[Steps]:
        told = "the data to take baselines from"
        try:
            found, _ = given.sequences(self.given, axes)
        except InputError as error:
            raise BaselineError(f"{told}: {error}") from error
        if not found:
            raise BaselineError(f"{told} hold no sequence (got an empty list)")
        wide = [x.detach().to("cpu", torch.float64) for x in found]
        if bad := [i for i, x in enumerate(wide) if not bool(x.isfinite().all())]:
            raise BaselineError(
                f"{told}: sequence {bad[0]} holds NaN or infinity; fill the gaps, or leave it out"
            )
        return wide


def _mean(sequences: Sequence[Steps]) -> Float[Tensor, " features"]:
    sums = torch.stack([x.detach().to("cpu", torch.float64).sum(0) for x in sequences])
    return sums.sum(0) / sum(len(x) for x in sequences)


def _fitting(values: Float[Tensor, "... features"], x: Steps) -> Float[Tensor, "... features"]:
    """Values for the features of a sequence, in its dtype and on its device.

    Raises:
        BaselineError: there are more or fewer features.
    """
    if values.shape[-1] != x.shape[-1]:
        raise BaselineError(
            f"the sequence has {x.shape[-1]} features at every step, the data to take baselines "
            f"from {values.shape[-1]}"
        )
    return values.to(x)
