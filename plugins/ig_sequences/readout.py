"""Readout: which of a model's outputs is explained, of every sequence at its own place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ig_core import InputError, OutputError, Rows, TargetError

Step = Literal["last", "middle", "mean"] | int | Sequence[int] | None
"""Which output in time: None where there is one per sequence."""

WORDS = ("last", "middle", "mean")


def checked_step(step: Any) -> Step:
    """A step as the readout knows it.

    Raises:
        InputError: it names no step.
    """
    found: Any = step.tolist() if isinstance(step, (Tensor, np.ndarray, np.integer)) else step
    if found is None or found in WORDS:
        return cast(Step, found)
    several = list(found) if isinstance(found, (list, tuple)) else [found]
    if all(isinstance(k, int) and not isinstance(k, bool) for k in several):
        return several if isinstance(found, (list, tuple)) else int(found)
    raise InputError(
        "step is None, 'last', 'middle', 'mean', a whole number, or a list with one for each "
        f"sequence (got {step!r})"
    )


def places(step: Step, lengths: Sequence[int]) -> list[int | None]:
    """The step of every sequence that is explained, counted from 0; None where it is no step.

    Raises:
        InputError: a sequence is too short, or the list is not one per sequence.
    """
    if step is None or step == "mean":
        return [None] * len(lengths)
    if step in ("last", "middle"):
        return [length - 1 if step == "last" else (length - 1) // 2 for length in lengths]
    if isinstance(step, int):
        asked = [step] * len(lengths)
    else:
        asked = [k for k in step if isinstance(k, int)]
        if len(asked) != len(lengths):
            raise InputError(
                f"step must be one number for each of {len(lengths)} sequences (got {len(asked)})"
            )
    for i, (k, length) in enumerate(zip(asked, lengths, strict=True)):
        if not -length <= k < length:
            raise InputError(
                f"step {k} is not in sequence {i}, which has {length} steps (expected {-length} "
                f"to {length - 1}); 'last' and numbers below 0 count from each sequence's own end"
            )
    return [k % length for k, length in zip(asked, lengths, strict=True)]


def words(step: Step, place: int | None, both_ends: bool = False) -> str:
    """What a view calls the explained output."""
    if step is None:
        return "whole sequence"
    if step == "last":
        return "last state of each direction" if both_ends else "last step"
    return "mean over steps" if step == "mean" else f"step {place}"


def answers(
    parts: Sequence[Float[Tensor, "some ..."]],
    order: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    time: int,
    axes: str,
    before: int | None = None,
) -> int:
    """How many dimensions outputs beside the rows have, the first of them being the steps.

    0 where it is not: some output has more or fewer places than its sequence has steps, with
    padding or without, now or in the pass ``before``.
    """
    dims = {part.dim() - 1 for part in parts}
    if before == 0 or len(dims) > 1 or min(dims) < 1 or "f" in axes[: axes.index("t")]:
        return 0
    places = torch.cat([torch.full((len(part),), part.shape[1]) for part in parts])[order.cpu()]
    whole = bool(((places == lengths.cpu()) | (places == time)).all())
    return dims.pop() if whole else 0


def named_step(target: Any, dims: int | None, length: int) -> int | None:
    """The step that a target such as (step, class) names; None where it names none for sure."""
    if not isinstance(target, (tuple, list)) or len(target) < 2 or len(target) != dims:
        return None
    first = target[0]
    whole = isinstance(first, int) and not isinstance(first, bool)
    return first if whole and 0 <= first < length else None


@dataclass(frozen=True)
class Readout:
    """Outputs in the model's order of dimensions, as one row per sequence.

    Outputs at every step have the dimensions that ``axes`` names: whatever else they have stands
    where the features stood, so that a model that reads ``"nft"`` gives (n, classes, t).
    """

    step: Step
    axes: str

    @property
    def time_first(self) -> bool:
        """Whether the model reads time before the batch."""
        return self.axes.index("t") < self.axes.index("n")

    def read(
        self,
        outputs: Float[Tensor, ...],
        lengths: Int[Tensor, " rows"],
        place: Int[Tensor, " rows"] | None,
        time: int,
    ) -> Float[Tensor, "rows ..."]:
        """The explained outputs; time is how many steps the model was given, with padding.

        Raises:
            OutputError: they have no such dimensions.
        """
        rows = len(lengths)
        if self.step is None:
            return self._whole(outputs, rows)
        found = self._rows_first(outputs)
        alike = int(lengths.min()) == time
        fewer = alike and outputs.dim() > 2  # what convolutions without padding leave
        if found is None or len(found) != rows or not (found.shape[1] == time or fewer):
            order = ", ".join({"n": str(rows), "t": str(time), "f": "..."}[a] for a in self.axes)
            if "f" not in self.axes:
                order += ", ..."
            raise OutputError(
                f"step={self.step!r} needs an output at every step, in the order of "
                f"axes={self.axes!r}, here ({order}) (got {tuple(outputs.shape)}); "
                + (
                    "leave step out where the model gives one answer per sequence"
                    if outputs.dim() in (1, 2) and len(outputs) == rows
                    else "output= may be a function that turns it"
                )
            )
        if self.step == "mean":
            if alike:
                return found.mean(1)
            inside = torch.arange(time, device=found.device) < lengths[:, None].to(found.device)
            inside = inside.view(*inside.shape, *(1,) * (found.dim() - 2))
            count = lengths.to(found).view(-1, *(1,) * (found.dim() - 2))
            return torch.where(inside, found, 0.0).sum(1) / count
        if found.shape[1] != time:
            if self.step != "last":
                raise OutputError(
                    f"the model answers at {found.shape[1]} places of a sequence of {time} steps, "
                    f"so step={self.step!r} names none of them; use step='last', 'mean', or no "
                    "step and target=(place, class)"
                )
            return found[:, -1]
        assert place is not None
        return found[torch.arange(rows, device=found.device), place.to(found.device)]

    def unclear(self, outputs: Tensor, rows: int) -> bool:
        """Whether either of two dimensions could be the rows; with one row more it shows."""
        several = self.step is None and self.time_first and outputs.dim() > 1
        return several and outputs.shape[:2] == (rows, rows)

    def _whole(self, outputs: Tensor, rows: int) -> Tensor:
        if outputs.dim() == 0 and rows == 1:
            return outputs.view(1)  # what a squeeze makes of a single row
        if self.time_first and outputs.dim() > 1 and len(outputs) != rows == outputs.shape[1]:
            return outputs.transpose(0, 1)
        if outputs.dim() == 0 or len(outputs) != rows:
            raise OutputError(
                f"the model must give one output per sequence, here {rows} sequences in a pass "
                f"(got shape {tuple(outputs.shape)}); it was read with axes={self.axes!r}: say "
                "axes='tnf' for a model that reads (time, batch, features), axes='nft' for "
                "(batch, features, time)"
            )
        return outputs

    def _rows_first(self, outputs: Tensor) -> Tensor | None:
        """(rows, time, ...)"""
        if outputs.dim() < 2:
            return None
        more = outputs.dim() - len(self.axes)  # dimensions beside one for the features, or none
        behind = "f" in self.axes[: self.axes.index("n")], "f" in self.axes[: self.axes.index("t")]
        n = self.axes.index("n") + more * behind[0]
        t = self.axes.index("t") + more * behind[1]
        return outputs.movedim((n, t), (0, 1))


def unpacked(outputs: Any, time_first: bool, time: int) -> Any:
    """The same with padded tensors in place of packed sequences."""

    def padded(one: Any) -> Any:
        if not isinstance(one, PackedSequence):
            return one
        return pad_packed_sequence(one, batch_first=not time_first, total_length=time)[0]

    if isinstance(outputs, PackedSequence):
        return padded(outputs)
    if isinstance(outputs, (tuple, list)) and any(isinstance(o, PackedSequence) for o in outputs):
        return tuple(map(padded, outputs))
    if isinstance(outputs, Mapping) and any(
        isinstance(one, PackedSequence) for one in outputs.values()
    ):
        return {name: padded(one) for name, one in outputs.items()}
    return outputs


def select(
    rows: Rows, parts: Sequence[Float[Tensor, "some ..."]], order: Int[Tensor, " rows"]
) -> Float[Tensor, " numbers"]:
    """The targets of rows whose outputs came in parts that may differ in shape.

    ``order`` says where in the joined parts each row is.

    Raises:
        OutputError: they differ in the number of dimensions, or the target is a function.
        TargetError: a target lies beyond the output of its own row.
    """
    shapes = [part.shape[1:] for part in parts]
    order = order.to(parts[0].device)
    if len(set(shapes)) == 1:
        return rows.select(torch.cat(list(parts))[order])
    if len({len(shape) for shape in shapes}) > 1 or not rows.parts:
        raise OutputError(
            "the shape of the model's output depends on the length "
            f"(got {[tuple(part.shape) for part in parts[:3]]}); pass step='last' to explain "
            "the answer at each sequence's last step, or target=(step, class)"
        )
    widest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    wide = []
    for part in parts:
        room = [n - size for n, size in zip(widest, part.shape[1:], strict=True)]
        wide.append(torch.nn.functional.pad(part, [k for n in room[::-1] for k in (0, n)]))
    joined = torch.cat(wide)[order]
    counts = torch.tensor([len(part) for part in parts])
    for d, sizes in enumerate(zip(*shapes, strict=True)):
        if len(set(sizes)) > 1:
            own = torch.repeat_interleave(torch.tensor(sizes), counts).to(order.device)[order]
            _check_inside(rows, joined.shape, d, own)
    return rows.select(joined)


def _check_inside(rows: Rows, shape: torch.Size, d: int, own: Int[Tensor, " rows"]) -> None:
    """Whether no target counts further in dimension d than its row's own output goes."""
    view = [1] * len(shape)
    view[d + 1] = shape[d + 1]
    place = rows.select(torch.arange(shape[d + 1], device=own.device).view(view).expand(shape))
    most = rows.select(own.view(-1, *[1] * (len(shape) - 1)).expand(shape))
    if bool((place >= most).any()):
        first = int((place >= most).nonzero()[0])
        raise TargetError(
            f"target {int(place[first])} is out of range for one of these sequences, whose output "
            f"has {int(most[first])} entries there (expected 0 to {int(most[first]) - 1}); "
            "step=-1 counts from each sequence's own end"
        )
