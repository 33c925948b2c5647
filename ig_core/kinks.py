"""Kinks of a network: which operations have them, and where along a path they lie.

ReLU, max pooling and their kin are linear on either side of a kink. As long as what they are
given is piecewise linear along a path, every kink can be computed from the values at two points,
operation after operation, and between all kinks the gradient is constant (Sotoudeh and Thakur
2019, arXiv:1908.06214).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode

from ig_core.memory import MOST_NODES, arguments_of
from ig_core.quadrature import Structure


def _names(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


_AFFINE = _names(
    """
    AccumulateGrad AdaptiveAvgPool2D AdaptiveAvgPool3D Add Addbmm Addmm Addmv Alias AsStrided
    AvgPool2D AvgPool3D Baddbmm Bmm Cat Clone ConstantPadNd Convolution CopyBackwards CopySlices
    CudnnBatchNorm Cumsum Diagonal Div Dot Expand Flip Gather Index IndexAdd IndexPut IndexSelect
    Linear MaskedFill Mean MkldnnConvolution Mm Mul Mv NativeBatchNorm Neg Permute ReflectionPad1D
    ReflectionPad2D Repeat ReplicationPad1D ReplicationPad2D Reshape ReshapeAlias Roll Rsub
    Scatter ScatterAdd Select Slice SliceScatter Split SplitWithSizes Squeeze Stack Sub Sum T
    ToCopy Transpose Unbind Unfold UnsafeSplit UnsafeView Unsqueeze UpsampleBilinear2D
    UpsampleNearest1D UpsampleNearest2D View
    """
)
"""Operations that are affine in each of their arguments, by autograd's names for them."""

_PRODUCTS = _names(
    """
    Addbmm Addmm Addmv Baddbmm Bmm Convolution Dot Linear Mm Mul Mv
    """
)
"""Those of them that multiply their last arguments: affine only if one factor is constant."""

_KINKED = _names(
    """
    Abs Clamp ClampMax ClampMin Hardsigmoid Hardtanh LeakyRelu Max MaxPool2DWithIndices Maximum
    Minimum PreluKernel Relu Threshold
    """
)
"""Operations that are affine on either side of kinks which :class:`Tracer` finds."""

_BENT = _names(
    """
    AdaptiveMaxPool2D AdaptiveMaxPool3D Amax Amin Aminmax Angle Ceil Copysign CudnnGridSampler
    Cummax Cummin FakeQuantizeLearnablePerChannelAffine FakeQuantizeLearnablePerTensorAffine
    FakeQuantizePerChannelAffineCachemask FakeQuantizePerTensorAffineCachemask
    FakeQuantizePerTensorAffineCachemaskTensorQparams Floor Fmax Fmin Fmod Frac FractionalMaxPool2D
    FractionalMaxPool3D GridSampler2D GridSampler2DCpuFallback GridSampler3D Hardshrink Hardswish
    HuberLoss IndexReduce Kthvalue L1Loss MaxPool2D MaxPool3DWithIndices Median Min MkldnnMaxPool2D
    MkldnnMaxPool3D Mode MultiMarginLoss MultilabelMarginLoss Nanmedian Remainder Renorm Round
    RreluWithNoise ScatterReduce SegmentReduce Sgn Sign SmoothL1Loss Softshrink Sort Topk Trunc
    Where
    """
)
"""Operations with kinks or jumps that are not searched for."""

GUARD = 1e-4
"""A clamp from below at more than this is never taken for the guard of a denominator."""

CLEAR = 1e3
"""What a guard is given is larger than its bound this many times, so that its kink is not met."""


def structure_of(output: Float[Tensor, " rows"], inputs: Collection[Tensor]) -> Structure:
    """The structure of the graph that autograd recorded between ``inputs`` and ``output``.

    A function of a user and a compiled graph may be anything: a model with one of them is
    neither smooth nor linear. Factors that depend on the input but were detached from it, such as
    the mask in ``x * (x > 0)``, look like constants. A very deep graph is not looked at.
    """
    graph = _between(output, inputs)
    if graph is None:
        return Structure(curve=f"more than {MOST_NODES} operations between input and output")
    straight, kinked, bent, curved = set(), set(), "", ""
    for node, arguments in graph.items():
        name, known = _named(node)
        if known and name in _KINKED and not _guards(node):
            kinked.add(node)
        elif known and name in _AFFINE and _one_factor(name, arguments):
            straight.add(node)
        elif known and name not in _BENT and not _cornered(name, node):
            curved = name
        else:
            bent = name
    return Structure(
        smooth=bool(graph) and not kinked and not bent,
        linear=bool(graph) and not bent and not curved,
        traced=bool(kinked) and not bent and _below(kinked, graph) <= straight | kinked,
        curve=f"{bent or curved} between input and output" if bent or curved else "",
    )


def _guards(node: Node) -> bool:
    """Whether a clamp only keeps a denominator from zero, as in a norm; its kink is never met."""
    low, high = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    if not isinstance(low, float) or high is not None or not 0 < low <= GUARD:
        return False
    return float(node._saved_self.detach().min()) > CLEAR * low  # type: ignore[attr-defined]


def _named(node: Node) -> tuple[str, bool]:
    """The name of an operation, and whether it is torch's own."""
    name = node.name().removeprefix("torch::autograd::")
    known = name != node.name() or (
        name[-1].isdigit() and type(node).__module__ != "torch.autograd.function"
    )
    return re.sub(r"(Backward\d*)?$", "", name), known


def _cornered(name: str, node: Any) -> bool:
    """Whether its numbers make an operation kinked: ELU of unequal slopes, a norm of order 1."""
    if name == "Elu":
        return bool(node._saved_alpha * node._saved_input_scale != 1)
    if name in ("Cdist", "Dist", "LinalgVectorNorm", "Norm", "Pdist"):
        order = getattr(node, "_saved_ord", getattr(node, "_saved_p", None))
        return order is not None and not 1 < order < float("inf")
    return False


_Graph = Mapping[Node, Sequence[Node | None]]


def _between(output: Tensor, inputs: Collection[Tensor]) -> _Graph | None:
    """The nodes through which ``output`` depends on ``inputs``, each with its arguments that do.

    None if there are too many.
    """
    leaves = {id(tensor) for tensor in inputs}
    graph: dict[Node, Sequence[Node | None]] = {}
    seen: set[Node] = set()
    stack = [(output.grad_fn, False)]
    while stack:
        node, arguments_known = stack.pop()
        if node is None or (node in seen and not arguments_known):
            continue
        seen.add(node)
        if len(seen) > MOST_NODES:
            return None
        if (arguments := arguments_of(node)) is None:
            return None
        if not arguments_known:
            stack += [(node, True), *((argument, False) for argument in arguments)]
            continue
        depends = [argument if argument in graph else None for argument in arguments]
        if any(depends) or id(getattr(node, "variable", None)) in leaves:
            graph[node] = depends
    return graph


def _one_factor(name: str, arguments: Sequence[Node | None]) -> bool:
    if name == "Div":
        return len(arguments) < 2 or arguments[1] is None
    return name not in _PRODUCTS or None in arguments[-2:] or len(arguments) < 2


def _below(nodes: Collection[Node], graph: _Graph) -> set[Node]:
    """These nodes and all that they depend on."""
    found: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [argument for argument in graph[node] if argument is not None]
    return found


class Kinks(ABC):
    """What decides, row by row, on which side of its kinks an operation is."""

    @abstractmethod
    def between(
        self, first: Int[Tensor, " pairs"], second: Int[Tensor, " pairs"]
    ) -> tuple[Int[Tensor, " kinks"], Float[Tensor, " kinks"]]:
        """The kinks between pairs of rows: which pair, and the fraction of the way to it."""


@dataclass(frozen=True, eq=False)
class Levels(Kinks):
    """Numbers that change sign at a kink, such as what a ReLU is given."""

    values: Float[Tensor, "rows numbers"]

    def between(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        pair, number = ((self.values > 0)[first] != (self.values > 0)[second]).nonzero().unbind(1)
        before = self.values[first[pair], number].double()
        after = self.values[second[pair], number].double()
        return pair, before / (before - after)


@dataclass(frozen=True, eq=False)
class Choices(Kinks):
    """Which of several numbers an operation takes, such as the largest ones.

    Between two rows there may be more switches than the one this finds: from the choice of the
    first row to that of the second. It may lie beyond others; searching again finds those.
    """

    values: Float[Tensor, "rows numbers"]
    chosen: Int[Tensor, "rows choices"]

    def between(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        pair, place = (self.chosen[first] != self.chosen[second]).nonzero().unbind(1)
        one, other = first[pair], second[pair]
        old, new = self.chosen[one, place], self.chosen[other, place]
        values = self.values.double()
        before = values[one, old] - values[one, new]
        after = values[other, old] - values[other, new]
        return pair, before / (before - after)


def _levels_of_clamp(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [bound for bound in (low, high) if bound is not None]
    return torch.stack([x - bound for bound in bounds], dim=-1)


_LEVELS: Mapping[str, Callable[..., Tensor]] = {
    "_prelu_kernel": lambda x, weight: x,
    "abs": lambda x: x,
    "clamp": lambda x, min=None, max=None: _levels_of_clamp(x, min, max),
    "clamp_max": lambda x, max: x - max,
    "clamp_min": lambda x, min: x - min,
    "hardsigmoid": lambda x: _levels_of_clamp(x, -3.0, 3.0),
    "hardtanh": lambda x, min_val=-1, max_val=1: _levels_of_clamp(x, min_val, max_val),
    "leaky_relu": lambda x, negative_slope=0.01: x,
    "maximum": lambda x, other: x - other,
    "minimum": lambda x, other: x - other,
    "relu": lambda x: x,
    "threshold": lambda x, threshold, value: x - threshold,
}
"""What changes sign at the kinks of an operation, by torch's name for it; its arguments."""


def _max_pool(rows: int, found: Any, x: Tensor, *window: Any) -> Kinks:
    size = x.shape[-1] * x.shape[-2]
    places = x.numel() // (rows * size)
    offset = size * torch.arange(places, device=x.device)[:, None]
    chosen = found[1].reshape(rows, places, -1) + offset
    return Choices(x.reshape(rows, -1), chosen.reshape(rows, -1))


def _max(rows: int, found: Any, x: Tensor, dim: Any = None, keepdim: bool = False) -> Kinks | None:
    if isinstance(dim, Tensor):  # max(x, y)
        return Levels((x - dim).reshape(rows, -1))
    if dim is None or dim % x.dim() == 0:
        return None
    values = x.movedim(dim, -1).reshape(rows, -1)
    chosen = found[1].reshape(rows, -1)
    offset = x.shape[dim] * torch.arange(chosen.shape[1], device=x.device)
    return Choices(values, chosen + offset)


_CHOICES: Mapping[str, Callable[..., Kinks | None]] = {
    "max": _max,
    "max_pool2d_with_indices": _max_pool,
}
"""Operations that choose, and what they chose from; rows, result, arguments."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, operations with kinks are counted, and the kinks of one of them are kept.

    ``kinks`` stays None if that operation does not work on rows along its first dimension.
    """

    def __init__(self, rows: int, operation: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = rows
        self.operation = operation
        self.count = 0
        self.kinks: Kinks | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        name = name.removesuffix("_") if name not in _LEVELS else name
        if name not in _LEVELS and name not in _CHOICES:
            return func(*args, **kwargs)
        self.count += 1
        if self.count - 1 != self.operation or not args[0].dim() or len(args[0]) % self.rows:
            return func(*args, **kwargs)
        if name in _LEVELS:
            levels = _LEVELS[name](*args, **kwargs)
            levels = levels.clone() if levels is args[0] else levels  # it may be changed in place
            self.kinks = Levels(levels.reshape(self.rows, -1))
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        self.kinks = _CHOICES[name](self.rows, result, *args, **kwargs)
        return result
