"""How a model of sequences is called: order of dimensions, padding, packing, and what goes in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from ig_core import InputError, OutputError, Selector, pick
from ig_sequences.readout import Readout, unpacked

STATES = ("hx", "h0", "h_0", "hidden", "state", "initial_state")
"""Parameters that take the first hidden state, if ``state_name`` says nothing else."""

PAIRS = (("h0", "c0"), ("h_0", "c_0"))
"""Those of models that take the two states of an LSTM apart."""

MASKS = ("src_key_padding_mask", "key_padding_mask", "padding_mask", "attention_mask")
"""Parameters that take a mask of padding, if ``mask_name`` says nothing else."""

AT_STEPS = ("attention_mask",)
"""Those of them that are True at steps, and not at padding."""

LOOKED_AT = 4
"""So many of the shortest rows are run without padding, to see whether it changed their answer."""


@dataclass(frozen=True, eq=False)
class Given:
    """What one pass gives to the model, rows first, and the true lengths of what is ragged."""

    x: Float[Tensor, "rows time features"]
    lengths: Int[Tensor, " rows"]
    place: Int[Tensor, " rows"] | None = None
    times: Float[Tensor, "rows time"] | None = None
    state: Sequence[Float[Tensor, "rows layers hidden"]] = ()
    extras: Mapping[str, Tensor] | None = None
    sizes: Mapping[str, Int[Tensor, " rows"]] | None = None

    def part(self, rows: Int[Tensor, " some"]) -> Given:
        """Some of the rows, cut to the longest of them."""
        lengths, where = self.lengths[rows], rows.to(self.x.device)
        time, sizes = int(lengths.max()), {n: s[rows] for n, s in (self.sizes or {}).items()}
        extras = {n: v[where] for n, v in (self.extras or {}).items()}
        for name, size in sizes.items():
            extras[name] = extras[name][:, : int(size.max())]
        return Given(
            x=self.x[where, :time],
            lengths=lengths,
            place=None if self.place is None else self.place[where],
            times=None if self.times is None else self.times[where, :time],
            state=[one[where] for one in self.state],
            extras=extras,
            sizes=sizes,
        )


class Call:
    """A model with the names of its parameters and the order of its dimensions.

    ``by_length`` says whether rows of several lengths have to run apart: where the model is not
    told lengths, or where it was seen to answer from its padding all the same.
    """

    def __init__(
        self,
        model: Any,
        readout: Readout,
        *,
        lengths_name: str | None,
        times_name: str | None,
        state_name: str | tuple[str, str] | None,
        packed: bool,
        output: Selector,
        shared: Mapping[str, Any],
        mask_name: str | None = None,
        doubted: Collection[str] = (),
    ) -> None:
        self.model = model
        self.readout = readout
        self.lengths_name = lengths_name
        self.mask_name = mask_name
        self.times_name = times_name
        self.state_name = state_name
        self.packed = packed
        self.output = output
        self.shared = dict(shared)
        self.begin: Callable[[], object] = lambda: None
        """What is done before every pass."""
        self.bare = isinstance(model, nn.RNNBase)
        self.by_length = lengths_name is None and mask_name is None and not packed
        self.looked = self.apart = False
        self.doubted = sorted(set(doubted))
        """Parts that read time first, in a model of which nobody said that it does."""
        self.mixes: bool | None = None

    def look_again(self, apart: bool) -> None:
        """In the next pass with several lengths, see once more what padding does.

        With ``apart`` there is none, because that costs less.
        """
        self.looked, self.apart, self.mixes = False, apart, None

    def __call__(self, given: Given) -> tuple[list[Tensor], Int[Tensor, " rows"]]:
        """The explained outputs in parts, and where in the joined parts each row is."""
        self._refuse_mixed(given)
        order = torch.arange(len(given.lengths))
        alike = bool((given.lengths == given.lengths[0]).all())
        if not (self.looked or alike or self.by_length or self.apart or self.bare):
            self.looked, outputs = True, self._run(given)
            self.by_length = self._padding_shows(given, outputs)
            if not (self.by_length or given.sizes):
                return [outputs], order
        apart = (self.by_length or self.apart) and not alike
        ragged = [*(given.sizes or {}).values(), *[given.lengths] * apart]
        ragged = [size for size in ragged if not bool((size == size[0]).all())]
        if not ragged:
            return [self._run(given)], order
        groups = torch.unique(torch.stack(ragged, dim=1), dim=0, return_inverse=True)[1]
        chosen = [(groups == g).nonzero().view(-1) for g in range(int(groups.max()) + 1)]
        return [self._run(given.part(rows)) for rows in chosen], torch.cat(chosen).argsort()

    @property
    def ignores_lengths(self) -> bool:
        """Whether the model was told lengths, and answered from its padding all the same."""
        told = self.lengths_name is not None or self.mask_name is not None
        return self.by_length and (told or self.packed)

    def _refuse_mixed(self, given: Given) -> None:
        """Refuse a model that goes over the batch as if that were time, in every pass of a call.

        Raises:
            InputError: a part reads time first, and a row changes with what stands before it.
        """
        if self.mixes is None:
            self.mixes = bool(self.doubted) and self._before_shows(given)
        if self.mixes:
            parts = " and ".join(self.doubted)
            raise InputError(
                f"the sequences of a batch change each other's outputs: the model's {parts} "
                f"{'reads' if len(self.doubted) == 1 else 'read'} (time, batch, features), as "
                "batch_first=False has it, and gets (batch, time, features). Say axes='tnf' if the "
                "whole model reads time first, or make it with batch_first=True; axes='ntf' says "
                "that it is right as it is"
            )

    @torch.no_grad()
    def _before_shows(self, given: Given) -> bool:
        """Whether the last row gives something else alone than behind another one."""
        last = len(given.lengths) - 1
        two = given.part(torch.tensor([last, last]))
        other = torch.stack([two.x[0] + 1, two.x[1]])
        mask, self.mask_name = self.mask_name, None  # in another order it would not fit
        try:
            alone = self._run(given.part(torch.tensor([last])))[0]
            behind = self._run(replace(two, x=other))[1]
        except OutputError:
            raise  # it may be read in the wrong order as well, and says so
        except Exception:
            return False  # a model that raises is judged where it is asked for its answer
        finally:
            self.mask_name = mask
        if alone.shape != behind.shape or not alone.is_floating_point() or not alone.numel():
            return False
        most = max(torch.finfo(v.dtype).eps for v in (given.x, alone)) ** (2 / 3)
        return bool((alone - behind).abs().max() > most * alone.abs().max())

    def _run(self, given: Given) -> Float[Tensor, "rows ..."]:
        """One pass of the model over all rows."""
        rows, time = given.x.shape[:2]
        self.begin()
        outputs = self.model(self._input(given), **self._named(given))
        if self.bare and self.output is None and self.readout.step == "last":
            return self._last_states(outputs)
        outputs = unpacked(outputs, self.readout.time_first, time)
        chosen = pick(outputs, 0 if self.bare and self.output is None else self.output)
        if self.bare and self.output in (1, -1):
            return chosen.transpose(0, 1)  # the states, whose first dimension are layers
        if self.readout.unclear(chosen, rows):
            return self._run(given.part(torch.arange(rows + 1).clamp(max=rows - 1)))[:rows]
        return self.readout.read(chosen, given.lengths, given.place, time)

    def _last_states(self, outputs: Any) -> Float[Tensor, "rows hidden"]:
        """What the last layer of a bare RNN ends with, in each of its directions."""
        hidden: Tensor = outputs[1][0] if isinstance(outputs[1], tuple) else outputs[1]
        return hidden[-2 if self.model.bidirectional else -1 :].transpose(0, 1).flatten(1)

    def _input(self, given: Given) -> Any:
        x, axes = given.x, self.readout.axes
        time = x.shape[1]
        if self.packed and not (self.bare and int(given.lengths.min()) == time):
            return pack_padded_sequence(x, given.lengths, True, enforce_sorted=False)
        if "f" not in axes:
            return x[..., 0].permute(*("nt".index(a) for a in axes))
        return x if axes == "ntf" else x.permute(*("ntf".index(a) for a in axes))

    def _named(self, given: Given) -> dict[str, Any]:
        turned = self.readout.time_first
        named: dict[str, Any] = {**self.shared}
        for name, value in (given.extras or {}).items():
            ragged = given.sizes is not None and name in given.sizes
            named[name] = value.transpose(0, 1) if ragged and turned else value
        if self.lengths_name is not None:
            named[self.lengths_name] = given.lengths
        if self.mask_name is not None:
            steps = torch.arange(given.x.shape[1]) < given.lengths[:, None]
            mask = steps if self.mask_name in AT_STEPS else ~steps
            named[self.mask_name] = mask.to(given.x.device)
        if self.times_name is not None and given.times is not None:
            named[self.times_name] = given.times.t() if turned else given.times
        if given.state and self.state_name is not None:
            states = tuple(
                one.transpose(0, 1).to(given.x.dtype).contiguous() for one in given.state
            )
            if isinstance(self.state_name, tuple):
                named |= dict(zip(self.state_name, states, strict=True))
            else:
                named[self.state_name] = states if len(states) > 1 else states[0]
        return named

    @torch.no_grad()
    def _padding_shows(self, given: Given, outputs: Float[Tensor, "rows ..."]) -> bool:
        """Whether the shortest rows give something else alone than they gave with padding."""
        shortest = int(given.lengths.min())
        rows = (given.lengths == shortest).nonzero().view(-1)[-LOOKED_AT:]
        try:
            alone = self._run(given.part(rows))
        except Exception:
            return False  # a model that raises is judged where it is asked for its answer
        padded = outputs.detach()[rows.to(outputs.device)]
        if alone.dim() != padded.dim() or not alone.is_floating_point():
            return False
        both = tuple(slice(min(a, b)) for a, b in zip(alone.shape, padded.shape, strict=True))
        gap = (alone[both] - padded[both]).abs().max() if alone[both].numel() else 0.0
        most = max(torch.finfo(v.dtype).eps for v in (given.x, alone)) ** (2 / 3)
        return bool(gap > most * padded.abs().max())


def parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters that a model says it has."""
    # A scripted nn.GRU has no forward of its own.
    called: Any = getattr(model, "forward", None) if isinstance(model, nn.Module) else model
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):  # built in or compiled: it does not say
        return {}


def has(model: Any, name: str) -> bool:
    """Whether a model names this parameter as one that can be given by name."""
    known = parameters(model).get(name)
    return known is not None and known.kind in (known.POSITIONAL_OR_KEYWORD, known.KEYWORD_ONLY)


def refuse_unknown(model: Any, option: str, names: Collection[str]) -> None:
    """Refuse arguments that the model does not have.

    Raises:
        InputError: its parameters are known, and this is none of them.
    """
    known = parameters(model)
    if not known or any(p.kind == p.VAR_KEYWORD for p in known.values()):
        return  # it does not say
    for name in names:
        if not has(model, name):
            raise InputError(
                f"{type(model).__name__} has no parameter {name!r} for {option} (its parameters: "
                f"{', '.join(known)})"
            )


def refuse_missing(model: Any, given: Collection[str], times_name: str) -> None:
    """Refuse a model that needs more than what is given.

    Raises:
        InputError: it has parameters without a default of which nothing is said.
    """
    known = list(parameters(model).values())[1:]
    by_name = [p for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in given]
    if missing:
        first = missing[0]
        own = "times" if first == times_name else "state" if first in STATES else ""
        told = f"{own}=..., " if own else ""
        raise InputError(
            f"{type(model).__name__} also needs {', '.join(map(repr, missing))}: pass {told}"
            f"per_example={{{first!r}: [...]}} with one for each sequence, or "
            f"shared={{{first!r}: ...}} with one for all"
        )


def mask_parameter(model: Any, mask_name: str | None, taken: Set[str]) -> str | None:
    """The parameter that takes a mask of padding; none where the user gives it.

    Raises:
        InputError: the model has no such parameter.
    """
    if mask_name is not None:
        if not isinstance(mask_name, str):
            raise InputError(f"mask_name is the name of a parameter (got {mask_name!r})")
        refuse_unknown(model, "mask_name", [mask_name])
        return mask_name
    if taken & set(MASKS):
        return None
    return next((name for name in MASKS if has(model, name)), None)


def state_parameter(
    model: Any, state_name: str | tuple[str, str] | None, shapes: Sequence[tuple[int, ...]]
) -> str | tuple[str, str]:
    """The parameter that takes a first hidden state of these shapes; two if they are taken apart.

    Raises:
        InputError: the model has none, or not one for each state; or a bare RNN has other states.
    """
    known, states = parameters(model), len(shapes)
    if isinstance(model, nn.RNNBase):
        _check_states(model, shapes)
    if state_name is not None:
        several = (state_name,) if isinstance(state_name, str) else tuple(state_name)
        refuse_unknown(model, "state_name", several)
        if len(several) not in (1, states):
            raise InputError(f"state_name names {len(several)} parameters for {states} states")
        return several[0] if len(several) == 1 else (several[0], several[1])
    for pair in PAIRS:
        if states == 2 and all(name in known for name in pair):
            return pair
    found = next((name for name in STATES if name in known), None)
    if found is None:
        raise InputError(
            f"{type(model).__name__} has no parameter for state among {', '.join(STATES)} (its "
            f"parameters: {', '.join(known) or 'unknown'}); name it with state_name="
        )
    return found


def _check_states(rnn: nn.RNNBase, shapes: Sequence[tuple[int, ...]]) -> None:
    layers = rnn.num_layers * (1 + rnn.bidirectional)
    wide = [(layers, rnn.proj_size or rnn.hidden_size), (layers, rnn.hidden_size)]
    wide = wide[: 2 if isinstance(rnn, nn.LSTM) else 1]
    if len(shapes) != len(wide) or any(
        (*shape[:1], *shape[-1:]) != own for shape, own in zip(shapes, wide, strict=True)
    ):
        told = " and ".join(f"({first}, batch, {last})" for first, last in wide)
        raise InputError(
            f"the state of this {type(rnn).__name__} is {told} (got "
            f"{' and '.join(str(tuple(shape)) for shape in shapes)})"
        )
