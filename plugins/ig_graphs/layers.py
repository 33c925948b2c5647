"""Layers: which modules of a model pass messages, found once for all passes of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ig_graphs.games import Way, way_of


@dataclass(frozen=True, eq=False)
class Layers:
    """The message passing layers of a model with what they are called, and what else it has.

    Scripted layers, and layers inside of compiled modules, are ``compiled``: their Python code may
    not run. ``pooling`` modules keep some nodes and say which.
    """

    names: Mapping[nn.Module, str]
    pooling: Sequence[nn.Module]
    compiled: Sequence[nn.Module]
    flows_back: bool
    """Whether messages of a layer go from the target of an edge to its source."""
    _ways: dict[nn.Module, Way] = field(default_factory=dict, init=False)

    def way(self, layer: nn.Module) -> Way:
        """How this layer is told which edges exist."""
        if layer not in self._ways:
            self._ways[layer] = way_of(layer)
        return self._ways[layer]


def layers_of(modules: Sequence[nn.Module]) -> Layers:
    """The layers of some modules, which may be parts of each other."""
    from torch_geometric.nn import MessagePassing, SAGPooling, TopKPooling

    named = {m: n for root in modules for n, m in root.named_modules(remove_duplicate=False)}
    names = {m: n for m, n in named.items() if isinstance(m, MessagePassing)}
    pooling = [m for m in named if isinstance(m, (SAGPooling, TopKPooling))]
    back = any(getattr(m, "flow", "") == "target_to_source" for m in named)
    return Layers(names, pooling, list(_compiled(named)), back)


def _compiled(modules: Mapping[nn.Module, str]) -> Iterator[nn.Module]:
    from torch_geometric.nn import MessagePassing

    for module in modules:
        if (
            type(module).__name__ == "OptimizedModule"
            or getattr(module, "_compiled_call_impl", None) is not None
            or isinstance(module, torch.jit.ScriptModule)
        ):
            yield from (m for m in module.modules() if isinstance(m, MessagePassing))
        if isinstance(module, torch.jit.ScriptModule) and "aggr_module" in module._modules:
            yield module  # a message passing layer before it was scripted or traced
