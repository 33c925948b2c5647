"""SequenceDomain: models that read (time, features) step by step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import (
    Attribution,
    Domain,
    Example,
    InputError,
    OutputError,
    Pad,
    Rows,
    Selector,
    Target,
    Task,
    Units,
    pick,
)
from ig_sequences import paths, view

Labels = Callable[[Float[Tensor, "time features"]], Sequence[str]]


class SequenceDomain(Domain):
    """A recurrent (or any other) model of sequences that may differ in length.

    A tensor or array ``(time, features)`` is one sequence; ``(batch, time, features)`` or a list of
    sequences is a batch. The model gets ``(rows, time, features)``, padded with zeros at the end,
    and the true lengths (int64, on the CPU, as ``pack_padded_sequence`` wants them) if it has a
    parameter for them. If it has none, padding would change its answer: it then runs once per
    distinct length, on rows cut to that length.

    Args:
        lengths: true lengths of a padded ``(batch, time, features)`` tensor.
        lengths_name: the model's parameter for lengths, used if its ``forward`` has it.
        output: which part of a tuple or dict to explain: key, position or function.
        step: ``"last"`` for a model that answers ``(rows, time, ...)``: take every row's own last
            step.
        labels: names of the steps of one sequence; ``t=0`` (the oldest) and so on by default.
        feature_names: names of the features, for views.
    """

    name = "sequences"
    extra = "ig-core[sequences]"
    layouts = {"x": Pad(capacity=2**14)}  # noqa: RUF012

    def __init__(
        self,
        model: Any,
        *,
        lengths: Int[Tensor, " batch"] | Sequence[int] | None = None,
        lengths_name: str = "lengths",
        output: Selector = None,
        step: Literal["last"] | None = None,
        labels: Labels | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(model)
        self.batch: tuple[Tensor, ...] = ()
        """All sequences of the present call, each (time, features), for baselines made of them."""
        if step not in (None, "last"):
            raise InputError(f"step must be 'last' or None (got {step!r})")
        if isinstance(model, nn.RNNBase) and not model.batch_first:
            raise InputError(
                f"{type(model).__name__} reads (time, rows, features), but gets (rows, time, "
                "features): construct it with batch_first=True, or wrap it in a module that "
                "transposes"
            )
        takes_lengths = lengths_name in _parameters(model)
        if lengths_name != "lengths" and not takes_lengths:
            raise InputError(
                f"{type(model).__name__} has no parameter {lengths_name!r} "
                f"(its parameters: {', '.join(_parameters(model)) or 'unknown'})"
            )
        self.lengths = lengths
        self.lengths_name = lengths_name if takes_lengths else None
        self.output = output
        self.step = step
        self.labels = labels
        self.feature_names = feature_names

    @classmethod
    def accepts(cls, model: Any, raw: Any) -> bool:
        recurrent = isinstance(model, nn.Module) and bool(_recurrent([model]))
        if isinstance(raw, list):
            return recurrent and all(_floats(one) and one.ndim == 2 for one in raw)
        return recurrent and _floats(raw) and raw.ndim in (2, 3)

    def split(self, raw: Any) -> Sequence[Any] | None:
        found = self._sequences(raw)
        self.batch = tuple(map(_tensor, [raw] if found is None else found))
        return found

    def encode(self, raw: Any, target: Target = None) -> Example:
        raw = _tensor(raw)
        if not isinstance(raw, Tensor) or raw.dim() != 2:
            raise InputError(
                f"a sequence is a tensor (time, features) (got {_kind(raw)}); x[:, None] makes "
                "one of a series of numbers"
            )
        if raw.numel() == 0:
            raise InputError(
                f"a sequence needs at least one step and one feature (got {tuple(raw.shape)})"
            )
        time, features = raw.shape
        if self.feature_names is not None and len(self.feature_names) != features:
            raise InputError(
                f"expected {features} feature_names, one per feature (got "
                f"{len(self.feature_names)})"
            )
        labels = [f"t={t}" for t in range(time)] if self.labels is None else self.labels(raw)
        if len(labels) != time:
            raise InputError(f"labels must name {time} steps (got {len(labels)})")
        return Example(
            {"x": raw},
            target=target,
            units=Units(tuple(labels), {"x": torch.arange(time)}, kind="step"),
            display={"features": list(self.feature_names or ())},
        )

    def forward(self, rows: Rows) -> Float[Tensor, " rows"]:
        x, lengths = rows["x"], rows.sizes("x")
        run = self._by_length if self.lengths_name is None else self._outputs
        return rows.select(run(x, lengths))

    def finish(self, task: Task, results: Sequence[Attribution]) -> Sequence[Attribution]:
        """The results with what their path is complete for."""
        return paths.told(task, results)

    @classmethod
    def render(cls, attribution: Attribution, fmt: str = "text") -> str:
        return view.drawing(attribution) if fmt == "html" else super().render(attribution, fmt)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """As in the core; with widths checked, and what cuDNN wants to differentiate an RNN."""
        recurrent = _recurrent(self.modules())
        refused = [rnn for rnn in recurrent if _on_cuda(rnn)]
        with super().prepared(), widths_checked(recurrent), cudnn_differentiable(refused):
            yield

    def _sequences(self, raw: Any) -> Sequence[Any] | None:
        """What split gives back."""
        raw = _tensor(raw)
        batch = isinstance(raw, Tensor) and raw.dim() == 3
        if self.lengths is None:
            return raw.unbind(0) if batch else super().split(raw)
        lengths = torch.as_tensor(self.lengths).tolist()
        if not batch:
            raise InputError(
                "lengths belong to one padded (batch, time, features) tensor "
                f"(got {_kind(raw)}); a list of sequences carries its own"
            )
        if len(lengths) != len(raw) or not all(1 <= n <= raw.shape[1] for n in lengths):
            raise InputError(
                f"lengths must be {len(raw)} whole numbers from 1 to {raw.shape[1]} (got {lengths})"
            )
        return [x[:n] for x, n in zip(raw, lengths, strict=True)]

    def _outputs(
        self, x: Float[Tensor, "rows time features"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows ..."]:
        extra = {} if self.lengths_name is None else {self.lengths_name: lengths.cpu()}
        outputs = pick(self.model(x, **extra), self.output)
        if self.step is None:
            if outputs.dim() == 0 and len(x) == 1:
                return outputs.view(1)  # what a squeeze makes of a single row
            if outputs.dim() == 0 or len(outputs) != len(x):
                raise OutputError(
                    f"the model must give one output per sequence, here {len(x)} "
                    f"(got shape {tuple(outputs.shape)})"
                )
            return outputs
        if outputs.dim() < 2 or outputs.shape[:2] != x.shape[:2]:
            raise OutputError(
                f"step='last' needs an output (rows, time, ...), here {tuple(x.shape[:2])} "
                f"(got {tuple(outputs.shape)})"
            )
        return outputs[torch.arange(len(outputs), device=outputs.device), lengths - 1]

    def _by_length(
        self, x: Float[Tensor, "rows time features"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows ..."]:
        """One run per distinct length, on rows without padding; outputs in the rows' order."""
        distinct = lengths.unique().tolist()
        if len(distinct) == 1:
            return self._outputs(x, lengths)
        chosen = [(lengths == length).nonzero().view(-1) for length in distinct]
        parts = [
            self._outputs(x[rows, :length], lengths[rows])
            for rows, length in zip(chosen, distinct, strict=True)
        ]
        if len({part.shape[1:] for part in parts}) > 1:
            raise OutputError(
                "the shape of the model's output depends on the length "
                f"(got {[tuple(part.shape) for part in parts[:3]]}); pass step='last' to explain "
                "the answer at each sequence's last step"
            )
        return torch.cat(parts)[torch.cat(chosen).argsort()]


@contextmanager
def widths_checked(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, an input of another width than a module's is refused before torch reads it.

    Torch does not look at the width of packed sequences: it reads beyond them, and crashes.

    Raises:
        InputError: the last dimension of what a module gets is not its ``input_size``.
    """

    def check(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = inputs[0] if inputs else named.get("input")
        values = given.data if isinstance(given, nn.utils.rnn.PackedSequence) else given
        if not isinstance(values, Tensor) or values.dim() == 0:
            return  # torch says so itself
        if values.shape[-1] != module.input_size:
            raise InputError(
                f"{type(module).__name__} reads {module.input_size} features at every step "
                f"(got {values.shape[-1]}); the features are the last dimension of a sequence"
            )

    handles = [m.register_forward_pre_hook(check, with_kwargs=True) for m in recurrent]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def cudnn_differentiable(recurrent: Iterable[nn.RNNBase]) -> Iterator[None]:
    """Inside, cuDNN agrees to differentiate these modules, and they compute what they did.

    cuDNN refuses the backward pass of an RNN in evaluation mode. Training mode with dropout 0
    gives the same numbers; ``model.train()`` would also change dropout and batch norms elsewhere.
    """
    found = [(rnn, rnn.training, rnn.dropout) for rnn in recurrent]
    try:
        for rnn, _, _ in found:
            rnn.training, rnn.dropout = True, 0.0
        yield
    finally:
        for rnn, training, dropout in found:
            rnn.training, rnn.dropout = training, dropout


def _recurrent(modules: Iterable[nn.Module]) -> list[nn.RNNBase]:
    return [m for root in modules for m in root.modules() if isinstance(m, nn.RNNBase)]


def _on_cuda(rnn: nn.RNNBase) -> bool:
    return any(p.is_cuda for p in rnn.parameters())


def _parameters(model: Any) -> Iterable[str]:
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):  # built in or compiled: it does not say
        return ()


def _tensor(raw: Any) -> Any:
    """An array of numbers as a tensor of its own, anything else as it is."""
    numbers = isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf"
    return torch.from_numpy(raw.copy()) if numbers else raw


def _floats(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype.kind == "f"
    return isinstance(one, Tensor) and one.is_floating_point()


def _kind(raw: Any) -> str:
    return f"shape {tuple(raw.shape)}" if isinstance(raw, Tensor) else type(raw).__name__
