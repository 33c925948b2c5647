"""Towers: the word embeddings of a model, whose outputs are the points of a text's path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import InputError, ModelError, Site

CHUNK = 4096
"""Ids of the vocabulary that are embedded together."""

PROBES = 256
"""Vectors by which a changed table is told from the one that its mean was taken of."""

_means: WeakKeyDictionary[nn.Module, tuple[Any, Tensor, Tensor]] = WeakKeyDictionary()
"""Mean vectors, with the state of the tables that they are of, and a few of their vectors."""


@dataclass(frozen=True)
class Tower:
    """A module that turns the ids of one input into vectors, at one of its calls.

    A tower with a ``first`` id reads the text one place later, behind that: what the decoder of an
    encoder-decoder classifier does with the text that its encoder reads.
    """

    site: Site
    first: int | None = None

    def embedded(self, ids: Int[Tensor, ...]) -> Float[Tensor, "... width"]:
        """The module's output for some ids."""
        vectors: Tensor = self.site.module(ids)
        return vectors

    def replaced(self, vectors: Float[Tensor, "rows tokens width"]) -> AbstractContextManager[None]:
        """Inside, the module gives these vectors."""
        if self.first is not None:
            with torch.no_grad():
                ids = torch.full((len(vectors), 1), self.first, device=vectors.device)
                first = self.embedded(ids)
            vectors = torch.cat([first, vectors[:, :-1]], dim=1)
        return self.site.replaced(vectors)


Towers = Mapping[str, Sequence[Tower]]
"""The towers that read each input, the first one being that whose vectors are its values."""


@contextmanager
def replaced(
    towers: Towers, points: Mapping[str, Float[Tensor, "rows tokens width"]]
) -> Iterator[None]:
    """Inside, every tower gives the points of its input instead of the vectors of its ids."""
    with ExitStack() as stack:
        for name, vectors in points.items():
            for tower in towers[name]:
                stack.enter_context(tower.replaced(vectors))
        yield


def found(
    model: nn.Module, call: Callable[[], Any], ids: Mapping[str, Int[Tensor, "1 tokens"]]
) -> dict[str, list[Tower]]:
    """The modules that turn these ids into vectors in one call of the model.

    Every module without children is watched: that whose only argument are the ids, and whose
    output has one vector for each, is the word embedding, whatever it is called.

    Raises:
        ModelError: no module does, or several or one several times do.
    """
    seen: list[tuple[nn.Module, int, Tensor]] = []
    calls: dict[nn.Module, int] = {}

    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        number = calls[module] = calls.get(module, -1) + 1
        whole = len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
        if whole and not inputs[0].is_floating_point() and output.shape[:-1] == inputs[0].shape:
            seen.append((module, number, inputs[0]))

    leaves = [one for one in model.modules() if next(one.children(), None) is None]
    handles = [one.register_forward_hook(watch) for one in leaves]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    towers = {name: _reading(seen, own) for name, own in ids.items()}
    for name, own in towers.items():
        if len(own) > 1:  # short ids can be positions
            words = words_of(model)
            own[:] = [t for t in own if t.site.module is words] or own
        if len(own) != 1:
            told = "none" if not own else ", ".join(type(t.site.module).__name__ for t in own)
            raise ModelError(
                f"{type(model).__name__} cannot be explained by its words: one module must turn "
                f"the ids into vectors, once (got {told} for {name!r}); name it with embedding=, "
                "or if the model is compiled, compile the layers behind it only (model.encoder, "
                "say)"
            )
    if len(ids) == 1 and isinstance(next(iter(towers.values()))[0].site.module, nn.Embedding):
        name, read = next(iter(ids.items()))
        known = size_of(towers[name][0])
        towers[name] += [
            Tower(Site(module, number), int(given[0, 0]))
            for module, number, given in seen
            if given.shape == read.shape and torch.equal(given[:, 1:], read[:, :-1])
            if not torch.equal(given, read) and getattr(module, "num_embeddings", 0) == known
        ]
    return towers


def _reading(seen: Sequence[tuple[nn.Module, int, Tensor]], ids: Tensor) -> list[Tower]:
    return [
        Tower(Site(module, number))
        for module, number, given in seen
        if given.shape == ids.shape and torch.equal(given, ids)
    ]


def words_of(model: nn.Module) -> nn.Module | None:
    """The word embedding that a model of transformers names, if it names one."""
    try:
        words = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # CANINE hashes characters
        return None
    return words if isinstance(words, nn.Module) else None


@torch.no_grad()
def vocabulary(tower: Tower, size: int, device: torch.device) -> Float[Tensor, "words width"]:
    """The vectors of all ids below ``size``."""
    ids = torch.arange(size, device=device)
    return torch.cat([tower.embedded(part[None])[0] for part in ids.split(CHUNK)])


@torch.no_grad()
def mean(tower: Tower, device: torch.device) -> Float[Tensor, " width"]:
    """The mean of the vectors of all ids; remembered until the table of vectors changes."""
    module = tower.site.module
    ids = torch.arange(size_of(tower), device=device)
    few = tower.embedded(ids[None, :: max(1, len(ids) // PROBES)])[0]  # .data counts no writes
    state = [(p.data_ptr(), p._version) for p in module.parameters()]
    known = _means.get(module)
    if known is None or known[0] != state or not _same(known[1], few):
        total = sum(tower.embedded(part[None])[0].double().sum(0) for part in ids.split(CHUNK))
        known = _means[module] = (state, few.clone(), total / len(ids))
    return known[2].to(few.dtype)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)


def size_of(tower: Tower) -> int:
    """How many ids a tower knows.

    Raises:
        InputError: its module has no table of vectors.
    """
    known = getattr(tower.site.module, "num_embeddings", None)
    if known is None:
        raise InputError(
            f"{type(tower.site.module).__name__} has no table of vectors to take baselines from; "
            "give the baseline as a tensor"
        )
    return int(known)
