"""What a user gives: sequences in any order of dimensions, and what belongs to each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ig_core import InputError

NAMES = {"n": "batch", "t": "time", "f": "features"}
"""What the letters of ``axes`` stand for."""

Steps = Float[Tensor, "time features"]


def checked_axes(axes: Any) -> str:
    """Letters of dimensions in the order in which a model reads them.

    Raises:
        InputError: n or t is missing, or a letter is unknown or comes again.
    """
    if not isinstance(axes, str) or sorted(axes) not in (["n", "t"], ["f", "n", "t"]):
        raise InputError(
            "axes are the letters n (batch), t (time) and, unless a step is a single number, f "
            f"(features), once each in the order in which the model reads, such as 'ntf' "
            f"(got {axes!r})"
        )
    return axes


def tensor(raw: Any) -> Any:
    """An array of numbers as a tensor of its own, anything else as it is."""
    numbers = isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf"
    return torch.from_numpy(raw.copy()) if numbers else raw


def refuse_table(raw: Any) -> None:
    """Refuse a table of pandas or the like.

    Raises:
        InputError: it is one.
    """
    if hasattr(raw, "to_numpy") and not isinstance(raw, (Tensor, np.ndarray)):
        column = "[:, None]" * (getattr(raw, "ndim", 2) == 1)
        raise InputError(
            f"a sequence is a tensor or an array (got {type(raw).__name__}): pass its "
            f".to_numpy(dtype='float32'){column}"
        )


def floats(one: Any) -> bool:
    """Whether something is a tensor or an array of floating-point numbers."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype.kind == "f")
    return isinstance(one, Tensor) and one.is_floating_point()


def kind(raw: Any) -> str:
    """What something is, for a message."""
    return f"shape {tuple(raw.shape)}" if isinstance(raw, Tensor) else type(raw).__name__


def sequences(raw: Any, axes: str, lengths: Any = None) -> tuple[list[Steps], bool]:
    """Every sequence as (time, features), and whether ``raw`` is a batch of them.

    Raises:
        InputError: that is no sequence, or the lengths do not belong to it.
    """
    raw = tensor(raw)
    if isinstance(raw, Tensor) and raw.is_nested:
        raw = list(raw.unbind())
    if isinstance(raw, PackedSequence):
        padded, own = pad_packed_sequence(raw, batch_first=True)
        _no_lengths(lengths, "a PackedSequence")
        return [x[:n] for x, n in zip(padded, own.tolist(), strict=True)], True
    if isinstance(raw, list):
        _no_lengths(lengths, "list")
        return _alike([_sequence(one, axes) for one in raw], axes), True
    if not isinstance(raw, Tensor) or raw.dim() != len(axes):
        _no_lengths(lengths, kind(raw))
        return [_sequence(raw, axes)], False
    each = [_filled(_steps(x, axes), raw) for x in raw.unbind(axes.index("n"))]
    if lengths is None:
        return each, True
    time = raw.shape[axes.index("t")]
    true = checked_lengths(lengths, len(each), time)
    return [x[:n] for x, n in zip(each, true, strict=True)], True


def padded_with_zeros(found: Sequence[Steps]) -> str:
    """What is to be said of sequences from one tensor that end in zeros, as padded ones do.

    Zeros that come in longer runs before the end are data, and so are those that all have.
    """
    ends, inner = [], 0
    for x in found:
        filled = (x != 0).any(1).nonzero().view(-1)
        if len(filled):  # else it would have no step at all
            ends.append(len(x) - 1 - int(filled[-1]))
            inner = max(inner, int(filled[0]), *(filled.diff() - 1).tolist())
    if len(set(ends)) < 2 or max(ends) <= inner:
        return ""
    return (
        f"{sum(map(bool, ends))} of {len(found)} sequences end in steps of nothing but zeros (up "
        f"to {max(ends)} of {len(found[0])}), which were read as data; if they are padding, pass "
        "the true lengths=[...]"
    )


def checked_lengths(lengths: Any, count: int, time: int) -> list[int]:
    """The true lengths of padded sequences.

    Raises:
        InputError: no whole numbers, too few or too many, or longer than the padded ones.
    """
    found = lengths.tolist() if isinstance(lengths, (Tensor, np.ndarray)) else lengths
    whole = isinstance(found, (list, tuple)) and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in found
    )
    if not whole or len(found) != count or not all(1 <= n <= time for n in found):
        listed = isinstance(lengths, (list, tuple))
        whole_ones = "[int(n) for n in lengths]" if listed else "lengths.long()"
        advice = f"; {whole_ones} makes whole numbers" if _of_floats(lengths) else ""
        raise InputError(
            f"lengths must be {count} whole numbers from 1 to {time}, one per padded sequence "
            f"(got {_short(found)}){advice}"
        )
    return [int(n) for n in found]


def own_parts(name: str, value: Any, count: int, batch: bool) -> list[Shaped[Tensor, " ..."]]:
    """A value for every sequence: the items of a list or the rows of a tensor.

    A single sequence has its own value without a batch dimension.

    Raises:
        InputError: no tensors or numbers, or not as many as there are sequences.
    """
    if not batch:
        return [_numbers(name, value)]
    value = tensor(value)
    several = isinstance(value, (list, tuple)) or (isinstance(value, Tensor) and value.dim() > 0)
    if not several or len(value) != count:
        got = len(value) if several else kind(value)
        raise InputError(
            f"{name} needs one value for each of {count} sequences, as a list or along the first "
            f"dimension of a tensor (got {got})"
        )
    return [_numbers(name, one) for one in value]


def own_times(
    times: Any, axes: str, lengths: Sequence[int], batch: bool
) -> list[Float[Tensor, " time"]]:
    """The time of every step of every sequence, without padding.

    Raises:
        InputError: too few or too many, not finite, or going back in time.
    """
    times = tensor(times)
    _refuse_dates(times)
    if batch and _one_axis(times) and all(len(times) == length for length in lengths):
        times = [times] * len(lengths)
    turned = axes.index("t") < axes.index("n") and isinstance(times, Tensor) and times.dim() == 2
    found = own_parts("times", times.t() if turned else times, len(lengths), batch)
    longest = max(lengths, default=0)
    checked = []
    for i, (one, length) in enumerate(zip(found, lengths, strict=True)):
        padded = isinstance(times, Tensor) and batch and len(one) == longest if one.dim() else False
        if one.dim() != 1 or not (len(one) == length or (padded and len(one) >= length)):
            raise InputError(
                f"times of sequence {i} must be {length} numbers, one per step "
                f"(got shape {tuple(one.shape)})"
            )
        own = one[:length] if one.is_floating_point() else _exact(one[:length], i)
        if not bool(torch.isfinite(own).all()):
            raise InputError(f"times of sequence {i} hold NaN or infinity")
        back = (own.diff() < 0).nonzero().view(-1).tolist()
        if back:
            raise InputError(
                f"times of sequence {i} must not decrease (got {float(own[back[0]]):g} before "
                f"{float(own[back[0] + 1]):g} at step {back[0] + 1}); sort its steps by time"
            )
        checked.append(own)
    return checked


def _one_axis(times: Any) -> bool:
    """Whether these are the times of one sequence."""
    if isinstance(times, (list, tuple)):
        return bool(times) and all(isinstance(t, (int, float, np.number)) for t in times)
    return isinstance(times, Tensor) and times.dim() == 1


def _refuse_dates(times: Any) -> None:
    """Refuse dates, from whose beginning times are counted.

    Raises:
        InputError: they are dates or spans of numpy or pandas.
    """
    for one in times if isinstance(times, (list, tuple)) else [times]:
        if getattr(getattr(one, "dtype", None), "kind", None) in ("m", "M"):
            raise InputError(
                f"times are numbers (got {one.dtype}): (times - times[0]) / "
                "np.timedelta64(1, 's') makes seconds of them"
            )


def _exact(times: Tensor, number: int) -> Float[Tensor, " time"]:
    """Whole numbers as float64.

    Raises:
        InputError: they are no numbers, or so large that some would become one.
    """
    if times.is_complex() or times.dtype == torch.bool:
        raise InputError(f"times must be numbers (got {times.dtype} for sequence {number})")
    if bool((times.double().abs() > 2**53).any()):
        raise InputError(
            f"times of sequence {number} are beyond 2**53, where float64 cannot tell neighbours "
            "apart; subtract the first of them"
        )
    return times.double()


def state_shapes(state: Any) -> list[tuple[int, ...]]:
    """The shape of every tensor of a first hidden state; none where none is given.

    Raises:
        InputError: that is neither one state nor a pair.
    """
    parts = [] if state is None else _states(state)
    return [tuple(part.shape) if isinstance(part, Tensor) else () for part in parts]


def own_states(
    state: Any, count: int, batch: bool
) -> list[tuple[Float[Tensor, "layers hidden"], ...]]:
    """The first hidden state of every sequence: one tensor, or two for an LSTM.

    Raises:
        InputError: that is not (layers, batch, hidden) for these sequences.
    """
    parts = _states(state)
    for part in parts:
        if not (part.dim() == 3 and part.shape[1] == count) and (batch or part.dim() == 3):
            raise InputError(
                f"state needs the shape (layers x directions, {count}, hidden) for {count} "
                f"sequences (got {kind(part)}); state.expand(-1, {count}, -1) repeats one state "
                "for all of them"
            )
    wide = [part[:, None] if part.dim() == 2 else part for part in parts]
    return [tuple(part[:, i] for part in wide) for i in range(count)]


def mapping(name: str, given: Any) -> dict[str, Any]:
    """Extra arguments by the names of the model's parameters.

    Raises:
        InputError: that is no mapping of names.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{name} is a mapping from names of arguments (got {kind(given)})")
    return dict(given)


def names(given: Any) -> list[str]:
    """Names of features.

    Raises:
        InputError: that is no list of them.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(
            f"feature_names is a list with a name for each feature (got {given!r:.80})"
        )
    return [str(name) for name in given]


def _states(state: Any) -> list[Any]:
    parts = [tensor(one) for one in (state if isinstance(state, (tuple, list)) else (state,))]
    if len(parts) not in (1, 2):
        raise InputError(f"state is h0, or the pair (h0, c0) (got {len(parts)} tensors)")
    for part in parts:
        if not floats(part) or part.dim() not in (2, 3):
            raise InputError(
                "state must be floating-point numbers (layers x directions, batch, hidden), or a "
                f"pair of them (h0, c0) (got {_described(part)})"
            )
    return parts


def _described(part: Any) -> str:
    return f"{part.dtype} of {kind(part)}" if isinstance(part, Tensor) else kind(part)


def _alike(found: list[Steps], axes: str) -> list[Steps]:
    """The sequences, if they have one number of features.

    Raises:
        InputError: they have several.
    """
    wide = sorted({x.shape[1] for x in found})
    if len(wide) > 1:
        raise InputError(
            f"sequences must have as many features (got {wide[:5]}); read with axes={axes!r}, they "
            "may differ in time, their ragged dimension, alone"
        )
    return found


def _sequence(raw: Any, axes: str) -> Steps:
    raw = tensor(raw)
    letters = axes.replace("n", "")
    if not isinstance(raw, Tensor) or raw.dim() != len(letters):
        order = ", ".join(NAMES[letter] for letter in letters)
        one = f"({order}{',' if len(letters) == 1 else ''})"
        series = "f" in axes and isinstance(raw, Tensor) and raw.dim() == 1
        advice = "; axes='nt' is for models that read series of numbers, " * series
        advice += f"x[{':, None' if letters[0] == 't' else 'None'}] makes a feature" * series
        raise InputError(f"a sequence is a tensor {one} (got {kind(raw)}){advice}")
    return _filled(_steps(raw, axes), raw)


def _filled(steps: Steps, raw: Tensor) -> Steps:
    if steps.numel() == 0:
        raise InputError(
            f"a sequence needs at least one step and one feature (got {tuple(raw.shape)})"
        )
    return steps


def _steps(one: Tensor, axes: str) -> Steps:
    """(time, features), whatever the order."""
    letters = axes.replace("n", "")
    if letters == "t":
        return one[:, None]
    return one.t() if letters == "ft" else one


def _no_lengths(lengths: Any, got: str) -> None:
    if lengths is not None:
        raise InputError(
            f"lengths belong to one padded (batch, time, features) tensor (got {got}); a list of "
            "sequences carries its own"
        )


def _numbers(name: str, value: Any) -> Tensor:
    value = tensor(value)
    try:
        found = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be tensors or numbers (got {kind(value)})") from error
    return found


def _of_floats(lengths: Any) -> bool:
    if isinstance(lengths, (list, tuple)):
        return any(isinstance(n, float) for n in lengths)
    return floats(lengths)


def _short(found: Any) -> str:
    told = repr(found)
    return told if len(told) <= 100 else f"{told[:97]}..."
