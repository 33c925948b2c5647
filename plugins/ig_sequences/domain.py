"""SequenceDomain: models that read (time, features) step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ig_core import (
    Attribution,
    Domain,
    Example,
    IGWarning,
    InputError,
    Layout,
    Pad,
    Rows,
    Selector,
    Stack,
    Target,
    TargetError,
    Task,
    Units,
)
from ig_sequences import given, paths, view
from ig_sequences.call import (
    Call,
    Given,
    has,
    mask_parameter,
    refuse_missing,
    refuse_unknown,
    state_parameter,
)
from ig_sequences.readout import (
    Readout,
    Step,
    answers,
    checked_step,
    named_step,
    places,
    select,
    words,
)
from ig_sequences.recurrent import (
    cudnn_differentiable,
    faster_apart,
    on_cuda,
    recurrent_in,
    room_of,
    steps_in,
    time_first_in,
    unpacked_where_alike,
    widths_checked,
    without_cudnn,
)
from ig_sequences.states import forgetful

Labels = Callable[[Float[Tensor, "time features"]], Sequence[str]] | Sequence[str]

MOST_SHOWN = 2**16
"""Numbers of a sequence that a result keeps for its views, at most."""

X, PLACE, TIMES, STATE, EXTRA = "x", "place", "times", "state.", "extra."
"""Tensors of an example; extra arguments have a prefix, so that no name of theirs is taken."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One sequence (time, features) and what belongs to it."""

    x: Float[Tensor, "time features"]
    context: Mapping[str, Tensor]
    place: int | None


class SequenceDomain(Domain):
    """A recurrent (or any other) model of sequences that may differ in length.

    A tensor or array ``(time, features)`` is one sequence; ``(batch, time, features)``, a list of
    sequences, a nested tensor or a ``PackedSequence`` is a batch. ``axes`` says in which order
    tensors and model have these dimensions. Values are always ``(time, features)``, and baselines
    are given like that. An array is converted to the dtype of the model's parameters, also one of
    whole numbers; a tensor is left as it is.

    No answer ever comes from padding of which the call knows: ``lengths`` says what is padding in
    a tensor. One whose sequences end in unlike numbers of zero steps is read as it is, and its
    results say so in ``reason``. The model gets ``(rows, time, features)``, padded with zeros
    at the end, and the true lengths (int64, on the CPU, as ``pack_padded_sequence`` wants them) or
    a mask of the padding if it has a parameter for them; a bare ``nn.RNN``, ``nn.LSTM`` or
    ``nn.GRU`` gets a ``PackedSequence``. Any other model runs once per distinct length, on rows
    cut to that length; so does one that is given lengths but is seen to answer from its padding
    (short rows are run alone to compare), and its results say so in ``reason``. LSTMs in float32 on
    the CPU run so too, because that is faster.

    >>> words = [torch.randn(5, 3), torch.randn(9, 3)]
    >>> results = ig.attribute(torch.nn.LSTM(3, 4, batch_first=True), words, target=1)
    >>> [tuple(one.values.shape) for one in results]
    [(5, 3), (9, 3)]

    A bare ``nn.RNNBase`` is read at its last step unless told otherwise. If it is bidirectional,
    that is the last state of each direction (forward at the end, backward at the beginning), as
    ``h_n`` has them; ``step=-1`` reads its output at the end, where the way back has only begun.

    Tensors that modules keep in attributes or buffers, or in lists and dicts there, such as the
    hidden state of a stateful model, are put back before every pass, and so are those of
    ``shared``: each begins with those that the call found.

    Args:
        axes: the letters n (batch), t (time) and f (features) in the order in which the model
            reads them: ``"ntf"`` for batch-first, ``"tnf"`` for time-first, ``"nft"`` for
            convolutions, ``"nt"`` or ``"tn"`` if a step is a single number. Sequences are given in
            this order too, single ones without n. Found from ``batch_first`` of a bare RNN, and
            ``"ntf"`` for other models; one that then goes over the batch as if that were time, as
            parts with ``batch_first=False`` do, is noticed and refused.
        lengths: ``(batch,)`` true lengths of a padded tensor.
        lengths_name: the model's parameter for lengths, used if its ``forward`` has it.
        mask_name: the model's parameter for a boolean mask ``(rows, time)``, made from the lengths:
            True at padding, or True at steps if it is called ``attention_mask``. Found among
            src_key_padding_mask, key_padding_mask, padding_mask and attention_mask, unless
            ``per_example`` or ``shared`` has one.
        times: ``(batch, time)`` (in the order of ``axes``), or a list of ``(time,)``: when each
            step was, never going back. It goes to the model if that has a parameter for it,
            padded with each sequence's last time, and is kept in the results either way.
        times_name: the model's parameter for times.
        state: the first hidden state as torch has it: ``(layers x directions, batch, hidden)``, or
            a pair ``(h0, c0)`` for an LSTM. It does not move along the path.
        state_name: the model's parameter for it, two for a pair that is taken apart; found among
            hx, h0, h_0, hidden, state, initial_state, or as h0 and c0.
        per_example: extra arguments by name, one per sequence: the rows of a tensor
            ``(batch, ...)``, which the model gets rows first, or the items of a list, whose first
            dimension may be ragged (the inputs of a decoder, say), which it gets in the order of
            ``axes``; of unlike lengths they are never padded, but run apart. With ``lengths``,
            a tensor ``(batch, time, ...)`` as wide as the padded sequences is cut like them (pass
            a list if its second dimension is not time). A single sequence has
            its own value without a batch dimension.
        shared: extra arguments by name, the same for all.
        packed: whether the model reads a ``PackedSequence``; found for a bare RNN.
        output: which part of a tuple or dict to explain: key, position or function. A part that is
            a ``PackedSequence`` is padded first.
        step: which output in time to explain, for a model that answers at every step (in the order
            of ``axes``, whatever stands for f): ``"last"``, ``"middle"``, ``"mean"``, a whole
            number (below 0 from each sequence's own end) or a list with one for each sequence.
            None for one answer per sequence, or for a target such as ``(step, class)``.
        labels: names of the steps of one sequence, a function of its ``(time, features)``, or a
            list of them for sequences of one length; ``t=0`` (the oldest) and so on by default.
        feature_names: names of the features, for views: a list, or the columns of a table.

    A ``baseline`` may also be one step ``(features,)``, the same at all times.
    """

    name = "sequences"
    extra = "ig-core[sequences]"

    def __init__(
        self,
        model: Any,
        *,
        axes: str | None = None,
        lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
        lengths_name: str = "lengths",
        mask_name: str | None = None,
        times: Any = None,
        times_name: str = "times",
        state: Any = None,
        state_name: str | tuple[str, str] | None = None,
        per_example: Mapping[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        packed: bool | None = None,
        output: Selector = None,
        step: Step = None,
        labels: Labels | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(model)
        self.batch: tuple[Tensor, ...] = ()
        """All sequences of the present call, each (time, features), for baselines made of them."""
        self.doubt = ""
        """What is to be said of how the present call's sequences were given."""
        self._of_batch: dict[Callable[[Sequence[Tensor]], Tensor], Tensor] = {}
        bare = isinstance(model, nn.RNNBase)
        self.axes = _axes(model, axes)
        self.lengths, self.times, self.state = lengths, times, state
        self.per_example = given.mapping("per_example", per_example)
        self.shared = given.mapping("shared", shared)
        if clash := sorted(self.per_example.keys() & self.shared.keys()):
            raise InputError(f"{clash} are both in per_example and in shared; leave them in one")
        refuse_unknown(model, "per_example", self.per_example)
        refuse_unknown(model, "shared", self.shared)
        self.packed = bare if packed is None else packed
        if self.packed and self.axes not in ("ntf", "tnf"):
            raise InputError(f"packed sequences have features last (got axes={self.axes!r})")
        self.step = checked_step("last" if bare and step is None and output is None else step)
        self.labels = labels
        self.feature_names = None if feature_names is None else given.names(feature_names)
        shapes = given.state_shapes(state)
        self.states = len(shapes)
        self.call = Call(
            model,
            Readout(self.step, self.axes),
            lengths_name=_named(model, lengths_name, "lengths"),
            times_name=_named(model, times_name, "times"),
            mask_name=mask_parameter(
                model, mask_name, self.per_example.keys() | self.shared.keys()
            ),
            state_name=state_parameter(model, state_name, shapes) if self.states else None,
            packed=self.packed,
            output=output,
            shared=self.shared,
            doubted=time_first_in(self.modules()) if axes is None and not bare else (),
        )
        self._answers: int | None = None
        own = {*_names(self.call.lengths_name), *_names(self.call.state_name)}
        own |= {*_names(self.call.mask_name)}
        timed = {*_names(self.call.times_name)}
        extras = {*self.per_example, *self.shared}
        refuse_missing(model, own | extras | (set() if times is None else timed), times_name)
        self.both_ends = self.step == "last" and bare and output is None and model.bidirectional
        room = room_of(self.modules())
        self.layouts: dict[str, Layout] = {X: Pad(capacity=room), PLACE: Stack()}
        self.layouts |= {TIMES: Pad(capacity=room), STATE + "0": Stack(), STATE + "1": Stack()}
        self.cut = {
            name
            for name, value in self.per_example.items()
            if lengths is not None and getattr(value, "ndim", 0) > 1
        }
        """Extra arguments that are cut to the lengths, if they are as wide as the sequences."""
        for name, value in self.per_example.items():
            self.layouts[EXTRA + name] = Pad(capacity=room) if _ragged(value) else Stack()
        if clash := sorted((own | timed) & extras):
            raise InputError(
                f"{clash} are options of their own: lengths=, times= and state= (and a mask made "
                "of the lengths) go to the model by themselves, so leave them out of per_example "
                "and shared"
            )

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        if not isinstance(model, nn.Module) or not steps_in(model):
            return False
        if isinstance(raw, list):
            return all(given.floats(one) and one.ndim in (1, 2) for one in raw)
        packed = isinstance(raw, PackedSequence)
        return packed or (given.floats(raw) and raw.ndim in (1, 2, 3))  # 1 is told how to go on

    def split(self, raw: Any) -> Sequence[Any] | None:
        parts, batch = self._parts(raw)
        self.batch, self._of_batch = tuple(part.x for part in parts), {}
        self._answers = None
        self.call.look_again(apart=faster_apart(self.modules()))
        self.doubt = given.padded_with_zeros(self.batch) if self._padded(raw) else ""
        reader = self.call.lengths_name or self.call.mask_name
        if self.doubt and reader is not None:
            told = f"{self.doubt}: this model has a parameter {reader!r} for them"
            warnings.warn(told, IGWarning, stacklevel=3)
        return parts if batch else None

    def encode(self, raw: Any, target: Target = None) -> Example:
        part = raw if isinstance(raw, _Part) else self._parts(raw, alone=True)[0][0]
        time, features = part.x.shape
        if self.feature_names is not None and len(self.feature_names) != features:
            raise InputError(
                f"expected {features} feature_names, one per feature (got "
                f"{len(self.feature_names)})"
            )
        labels = [f"t={t}" for t in range(time)] if self.labels is None else self._named(part.x)
        if len(labels) != time:
            raise InputError(f"labels must name {time} steps (got {len(labels)})")
        display: dict[str, Any] = {
            "features": list(self.feature_names or ()),
            "output": words(self.step, part.place, self.both_ends),
        }
        if part.place is not None and self.step != "last" and part.place != time - 1:
            display["step"] = part.place
        if any(rnn.bidirectional for rnn in recurrent_in(self.modules())):
            display["bidirectional"] = True
        if TIMES in part.context:
            display["times"] = part.context[TIMES].tolist()
        return Example(
            {X: part.x},
            part.context,
            target,
            Units(tuple(labels), {X: torch.arange(time)}, kind="step"),
            display,
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        lengths = rows.sizes(X).cpu()
        extras = {name: rows[EXTRA + name] for name in self.per_example}
        ragged = [n for n in extras if isinstance(self.layouts[EXTRA + n], Pad)]
        parts, order = self.call(
            Given(
                x=rows[X],
                lengths=lengths,
                place=_optional(rows, PLACE),
                times=_held(_optional(rows, TIMES), lengths),
                state=[rows[f"{STATE}{i}"] for i in range(self.states)],
                extras=extras,
                sizes={n: rows.sizes(EXTRA + n).cpu() for n in ragged},
            )
        )
        if self.step is None:
            self._answers = answers(
                parts, order, lengths, rows[X].shape[1], self.axes, self._answers
            )
        try:
            return rows.select(parts[0]) if len(parts) == 1 else select(rows, parts, order)
        except TargetError as error:
            every = self.step is None and int(lengths.max()) in parts[0].shape[1:]
            if every and "out of range" not in str(error):
                raise TargetError(
                    f"{error}; this model answers at every step: step='last' with target=class "
                    "explains its last answer, target=(step, class) one in between"
                ) from error
            raise

    def finish(self, task: Task, results: Sequence[Attribution]) -> Sequence[Attribution]:
        """The results, with what views show of the input, and notes on padding that was read."""
        told = (
            "the model is given lengths, yet padding changed its answer: each length was run apart"
            if self.call.ignores_lengths
            else ""
        )
        done = []
        for example, starts, result in zip(
            task.examples, task.starts, paths.told(task, results), strict=True
        ):
            x = example.inputs[X].detach().double().cpu()
            display = dict(result.display)
            place = named_step(example.target, self._answers, len(x))
            if place is not None:
                display["output"] = f"{words(place, place)}, by the target"
                display |= {"step": place} if place != len(x) - 1 else {}
            moved = [(x - start[X].double().cpu()).abs().sum(1) for start in starts]
            display["start"] = {"moved": torch.stack(moved).mean(0).tolist()}
            if x.numel() <= MOST_SHOWN:
                display["series"] = x.tolist()
            if self.doubt:
                display["doubt"] = self.doubt
            reason = "; ".join(filter(None, (result.reason, told, self.doubt)))
            done.append(replace(result, display=display, reason=reason))
        return done

    def start(self, example: Example, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A start that the user gave, as (time, features).

        One row may be a series without its dimension of features, or one step for all times.
        """
        x, value = example.inputs[X], given.get(X)
        if not isinstance(value, Tensor) or value.dim() != 1:
            return given
        if "f" not in self.axes:
            return {**given, X: value[:, None]}
        return {**given, X: value.expand_as(x)} if len(value) == x.shape[1] else given

    def of_batch(self, find: Callable[[Sequence[Tensor]], Tensor]) -> Tensor:
        """What a function finds in all sequences of the present call, computed once for all."""
        if find not in self._of_batch:
            self._of_batch[find] = find(self.batch)
        return self._of_batch[find]

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        return view.drawing(attribution) if fmt == "html" else super().render(attribution, fmt)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """As in the core; with widths checked, and what cuDNN wants to differentiate an RNN.

        Modules begin every pass with the hidden state that they have now.
        """
        recurrent, before = recurrent_in(self.modules()), self.call.begin
        refused = [rnn for rnn in recurrent if on_cuda(rnn)]
        with (
            super().prepared(),
            unpacked_where_alike([rnn for rnn in recurrent if not on_cuda(rnn)]),
            widths_checked(recurrent),
            cudnn_differentiable(refused),
            without_cudnn(self.modules()),
            forgetful(self.modules(), self.call.shared) as self.call.begin,
        ):
            try:
                yield
            finally:
                self.call.begin = before

    def _named(self, x: Float[Tensor, "time features"]) -> list[str]:
        """What the user calls the steps.

        Raises:
            InputError: the function raised, or gave no names; or a list has not one for each step.
        """
        if not callable(self.labels):
            return self._listed(len(x))
        try:
            return [str(name) for name in self.labels(x)]
        except Exception as error:  # the user's own code may raise anything
            told = f"{type(error).__name__}: {error}"
            raise InputError(f"labels must give the names of the steps ({told})") from error

    def _cut(self, name: str, each: list[Tensor], lengths: Sequence[int], raw: Any) -> list[Tensor]:
        """The rows of a padded tensor (batch, time, ...) without their padding.

        Raises:
            InputError: the model reads time first, and these would be turned.
        """
        time = raw.shape[self.axes.index("t")] if self._several(raw) else None
        padded = all(one.shape[0] == time for one in each) and any(n != time for n in lengths)
        if padded and self.call.readout.time_first:
            raise InputError(
                f"per_example[{name!r}] is padded to {time} steps, as the sequences are; pass a "
                "list of tensors (time, ...) of their own lengths"
            )
        self.layouts[EXTRA + name] = Pad(capacity=self.layouts[X].capacity) if padded else Stack()
        return [one[:n] for one, n in zip(each, lengths, strict=True)] if padded else each

    def _read(self, raw: Any) -> Any:
        """Arrays in the model's dtype; a tensor has the dtype that the user gave it.

        Raises:
            InputError: it is a table.
        """
        if isinstance(raw, list):
            return [self._read(one) for one in raw]
        given.refuse_table(raw)
        if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "iuf":
            return raw
        parts = [part for root in self.modules() for part in root.modules()]
        own = [p.dtype for part in parts for p in part.parameters() if p.is_floating_point()]
        if raw.dtype.kind != "f" and any(isinstance(part, nn.Embedding) for part in parts):
            return raw  # these are indices
        found = given.tensor(raw)
        usual = found.dtype if raw.dtype.kind == "f" else torch.get_default_dtype()
        return found.to(own[0] if own else usual)

    def _padded(self, raw: Any) -> bool:
        """Whether sequences came as one tensor, and nobody said how long they are."""
        return self._several(raw) and self.lengths is None

    def _several(self, raw: Any) -> bool:
        """Whether sequences came as one tensor."""
        raw = given.tensor(raw)
        return isinstance(raw, Tensor) and not raw.is_nested and raw.dim() == len(self.axes)

    def _listed(self, time: int) -> list[str]:
        listed = isinstance(self.labels, Iterable) and not isinstance(self.labels, (str, Tensor))
        names: list[Any] = list(self.labels) if listed else []  # type: ignore[arg-type]
        if not listed or len(names) != time:
            got = f"{len(names)} names" if listed else type(self.labels).__name__
            raise InputError(
                "labels is a list with a name for each step, the same for all sequences, or a "
                "function of a sequence (time, features) that gives them "
                f"(got {got} for a sequence of {time} steps)"
            )
        return [str(name) for name in names]

    def _parts(self, raw: Any, alone: bool = False) -> tuple[list[_Part], bool]:
        """Every sequence with what belongs to it, and whether they are a batch."""
        found, batch = given.sequences(self._read(raw), self.axes, self.lengths)
        if alone and batch:
            raise InputError(
                f"one sequence has {len(self.axes) - 1} dimensions (got {given.kind(raw)})"
            )
        lengths = [len(x) for x in found]
        contexts: list[dict[str, Tensor]] = [{} for _ in found]
        for name, value in self.per_example.items():
            each = given.own_parts(f"per_example[{name!r}]", value, len(found), batch)
            if name in self.cut:
                each = self._cut(name, each, lengths, raw)
            for context, one in zip(contexts, each, strict=True):
                context[EXTRA + name] = one
        if self.times is not None:
            own = given.own_times(self.times, self.axes, lengths, batch)
            for context, one in zip(contexts, own, strict=True):
                context[TIMES] = one
        if self.states:
            states = given.own_states(self.state, len(found), batch)
            for context, several in zip(contexts, states, strict=True):
                context |= {f"{STATE}{i}": one for i, one in enumerate(several)}
        chosen = places(self.step, lengths)
        for context, place in zip(contexts, chosen, strict=True):
            if place is not None:
                context[PLACE] = torch.tensor(place)
        return [_Part(*each) for each in zip(found, contexts, chosen, strict=True)], batch


def _axes(model: Any, axes: str | None) -> str:
    """The order of dimensions, which a bare RNN knows itself."""
    if not isinstance(model, nn.RNNBase):
        return "ntf" if axes is None else given.checked_axes(axes)
    own = "ntf" if model.batch_first else "tnf"
    if axes is not None and given.checked_axes(axes) != own:
        raise InputError(
            f"{type(model).__name__}(batch_first={model.batch_first}) reads axes {own!r} (got "
            f"{axes!r}); leave axes out, and give sequences in that order or as a list"
        )
    return own


def _named(model: Any, name: str, usual: str) -> str | None:
    """A parameter that goes along if the model has it, or that it must have if the user says so."""
    if not isinstance(name, str):
        raise InputError(f"{usual}_name is the name of a parameter (got {name!r})")
    if name != usual:
        refuse_unknown(model, f"{usual}_name", [name])
        return name
    return name if has(model, name) else None


def _names(given: str | tuple[str, str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else given


def _optional(rows: Rows, name: str) -> Tensor | None:
    return rows[name] if name in rows else None  # noqa: SIM401 (Rows are no mapping)


def _held(
    times: Float[Tensor, "rows time"] | None, lengths: Int[Tensor, " rows"]
) -> Float[Tensor, "rows time"] | None:
    """Times that stand still in the padding, so that no model divides by a step back."""
    if times is None:
        return None
    last = lengths[:, None].to(times.device) - 1
    inside = torch.arange(times.shape[1], device=times.device) <= last
    return torch.where(inside, times, times.gather(1, last))


def _ragged(value: Any) -> bool:
    """Whether extra arguments are the items of a list, with a dimension to differ in."""
    return isinstance(value, (list, tuple)) and any(getattr(one, "ndim", 0) for one in value)
