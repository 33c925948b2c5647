"""The loop: rows of many examples and many points of their paths, packed, differentiated, summed.

One round serves all unfinished examples: the rule names (leg, t) pairs, the loop packs them into
full chunks of rows, runs the model and one ``autograd.grad``, and adds the weighted gradients to
float64 sums. Nothing here runs once per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import (
    ForwardError,
    IGError,
    InputError,
    ModelError,
    NoGradientError,
    NonFiniteError,
    OutputError,
)
from ig_core.example import Example
from ig_core.layout import Layout, Selection
from ig_core.memory import Share, memory_of
from ig_core.paths import Inputs, Path
from ig_core.precision import coarsest, floored, gradient_rounding, half, remark
from ig_core.quadrature import (
    NOISE_ULPS,
    Found,
    Goal,
    Outcome,
    Process,
    Request,
    Rule,
    Search,
    Structure,
)
from ig_core.results import Integral, Results
from ig_core.rows import Batch, Rows, Space, checked
from ig_core.tracing import searched, traced

Forward = Callable[[Rows], Tensor]

WINDOW_ELEMENTS = 2**21
"""Input elements of examples that are worked on together; a stream is cut into such windows."""

MIXING_TOLERANCE = 1e-3
"""F of one row may change by this much, relative to its path's F, when others share its batch."""

ROUNDING_REACH = 50.0
"""A change up to this many tolerances may still be rounding: F can be a small difference."""

HELD_ELEMENTS = 2**26
"""Elements of gradients that wait on an accelerator until the CPU looks at their numbers."""

ENOUGH_POINTS = 9
"""A gradient of zero at fewer points than this may be a saturated function, not a cut one."""


@dataclass(frozen=True)
class Progress:
    """How far a call has come."""

    evaluations: int
    open: int
    total: int


def integrate(
    forward: Forward,
    problems: Iterable[tuple[Example, Sequence[Inputs]]],
    layouts: Mapping[str, Layout],
    path: Path,
    rule: Rule,
    *,
    tol: float,
    budget: int,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    total: int | None = None,
) -> Iterator[Integral]:
    """Integrate the gradient of ``forward`` along the paths of a stream of examples.

    Args:
        problems: examples with their starts; several starts are averaged.
        tol: relative; bounds both the estimated L1 error of the attributions and the residual.
        budget: gradient evaluations per example and start.
        total: how many examples there are, if that is known, for ``progress``.

    Yields:
        One integral per example, in order. A model that raises or gives NaN for one example
        fails that example only.
    """
    finished = evaluations = 0
    share = Share(memory_of(device))
    for window in _windows(problems):
        run = _Window(forward, window, layouts, path, device, share).run(rule, tol, budget)
        before, whole = (evaluations, finished), total or finished + len(window)
        for step in run:
            if isinstance(step, Integral):
                finished, evaluations = finished + 1, evaluations + step.evaluations
                yield step
            elif progress is not None:
                progress(Progress(before[0] + step[0], whole - before[1] - step[1], whole))


def _windows(
    problems: Iterable[tuple[Example, Sequence[Inputs]]],
) -> Iterator[list[tuple[Example, Sequence[Inputs]]]]:
    """The stream in pieces that are worked on together."""
    window: list[tuple[Example, Sequence[Inputs]]] = []
    room = WINDOW_ELEMENTS
    for example, starts in problems:
        if not starts:
            raise InputError("an example needs at least one start of its path (got none)")
        room -= len(starts) * sum(value.numel() for value in example.inputs.values())
        if window and room < 0:
            yield window
            window, room = [], WINDOW_ELEMENTS
        window.append((example, starts))
    if window:
        yield window


def evaluate(
    forward: Forward,
    example: Example,
    points: Mapping[str, Float[Tensor, "points ..."]],
    layouts: Mapping[str, Layout],
    device: torch.device,
) -> Float[Tensor, " points"]:
    """F at several points of one example's input space, without gradients."""
    batch = Batch([example], layouts, device)
    count = len(next(iter(points.values())))
    packs = batch.pack([{n: v[i] for n, v in points.items()} for i in range(count)])
    owner = torch.zeros(count, dtype=torch.long)
    result = torch.full((count,), torch.nan, dtype=torch.float64)
    for rows in batch.chunks(owner):
        gathered = {
            n: p.select(rows).gather(p.values, {}).to(batch.dtypes[n]) for n, p in packs.items()
        }
        try:
            with torch.no_grad():
                output = checked(forward(batch.rows(owner[rows], gathered)), len(rows))
        except IGError:
            raise
        except Exception as error:
            raise _forward_error(error, "a point between baseline and input") from error
        result[rows] = output.detach().to("cpu", torch.float64)
    return result


@dataclass(frozen=True, eq=False)
class _Piece:
    """What one forward and backward pass found."""

    value: Float[Tensor, " rows"]
    slope: Float[Tensor, " rows"]
    vectors: Float[Tensor, "rows width"]
    endless: Bool[Tensor, " rows"] | None = None


class _Window:
    """The examples of one window, packed once.

    A *path* here is one (example, start) pair; a *leg* is one smooth piece of a path.
    """

    def __init__(
        self,
        forward: Forward,
        problems: Sequence[tuple[Example, Sequence[Inputs]]],
        layouts: Mapping[str, Layout],
        path: Path,
        device: torch.device,
        share: Share,
    ) -> None:
        self.forward = forward
        self.path = path
        self.batch = Batch([example for example, _ in problems], layouts, device)
        self.example_of: list[int] = []
        owner: list[int] = []
        legs: list[tuple[Inputs, Inputs]] = []
        for number, (example, starts) in enumerate(problems):
            for start in starts:
                pieces = path.legs(example, start)
                owner += [len(self.example_of)] * len(pieces)
                legs += pieces
                self.example_of.append(number)
        self.owner = torch.tensor(owner)
        self.path_example = torch.tensor(self.example_of)
        self.leg_example = self.path_example[self.owner]
        self.starts = self.batch.pack([start for start, _ in legs])
        self.ends = self.batch.pack([end for _, end in legs])
        inputs = [problems[i][0].inputs for i in self.example_of]
        self.space = Space(self.batch.pack(inputs), device)
        self.share = share
        self.alone = False  # are rows evaluated one by one?
        self.held = held_on(device)
        self.note = ""
        self.dtype = torch.float64  # the coarsest in which the model computes
        self.spent = torch.zeros(len(self.example_of), dtype=torch.long)
        self.failures: dict[int, Exception] = {}
        self.reached = False  # has any gradient come back to any input?
        self.open_ends = False  # may the gradient be infinite at the ends of a leg?

    def run(self, rule: Rule, tol: float, budget: int) -> Iterator[Integral | tuple[int, int]]:
        """Evaluations and finished examples after every round; then one integral per example."""
        at_start, at_end = self._ends()
        ulps = NOISE_ULPS * torch.finfo(self.dtype).eps
        noise = ulps * torch.maximum(at_start.abs(), at_end.abs())
        delta = at_end - at_start
        rounding = gradient_rounding(self.dtype)
        structure = self._structure() if rule.looks else Structure()
        goal = Goal(self.owner, delta, noise.nan_to_num(), rounding, tol, budget, structure)
        process = rule.begin(goal, self.space)
        self.open_ends = process.open_ends
        results = Results(self.space, len(delta))
        self._drop_failed(process)
        while (request := process.request()) is not None:
            if isinstance(request, Search):
                example = self.leg_example[request.leg]
                for kinks in searched(self._output, request, self.batch, example, self.share.value):
                    process.meet(kinks)
                process.settle()
                continue
            for rows, piece in self._evaluate(request):
                found = (piece.value, piece.slope, piece.vectors, piece.endless)
                process.receive(Found(rows, *found))
            if not self.reached:  # more points would not help
                for path in (goal.delta.abs() > goal.noise).nonzero().view(-1).tolist():
                    why = "no gradient reaches the input: argmax, detach or no_grad cut it"
                    self._blame_gradient(path, goal, why)
            self._drop_failed(process)
            self._collect(floored(process.settle(), self.dtype, tol), goal, results)
            ready = torch.ones(len(self.batch.room), dtype=torch.bool)
            ready[self.path_example[~results.done]] = False
            ready[self.path_example[list(self.failures)]] = True
            yield int(self.spent.sum()), int(ready.sum())
        yield from results.integrals(
            at_start, at_end, self.path_example, self.spent, self.failures, self.batch.dtypes,
            "; ".join(filter(None, (self.note, remark(self.dtype)))), tol,
        )  # fmt: skip

    def _structure(self) -> Structure:
        """What is between the inputs and F, if kinks can be searched for at all."""
        if self.alone:
            return Structure(curve="rows that do not share a batch")
        if half(self.dtype):
            return Structure(curve="numbers of half precision")
        shortest = int(self.batch.room[self.leg_example].argmax())
        return traced(self._output, shortest, self.path.straight)

    # -- evaluation -----------------------------------------------------------------------------

    def _ends(self) -> tuple[Tensor, Tensor]:
        """F at the two ends of every path, without gradients; finds out whether rows mix."""
        first = torch.searchsorted(self.owner, torch.arange(len(self.example_of)))
        last = torch.cat([first[1:], torch.tensor([len(self.owner)])]) - 1
        count = len(first)
        shortest = int(self.batch.room[self.leg_example[first]].argmax())
        # A point between the ends of the shortest input is what maxima, norms and padding change.
        leg = torch.cat([first, last, first[[shortest]]])
        t = torch.tensor([0.0] * count + [1.0] * count + [0.5], dtype=torch.float64)
        request = Request(leg, t)
        value = torch.full((len(t),), torch.nan, dtype=torch.float64)
        for rows, piece in self._evaluate(request, gradients=False):
            value[rows] = piece.value
        if not self.alone and self._rows_mix(request, value):
            self.alone = True
            self.note = "rows of this model do not share a batch; each was evaluated alone"
            return self._ends()
        return value[:count], value[count : 2 * count]

    def _rows_mix(self, request: Request, value: Float[Tensor, " rows"]) -> bool:
        """Do two rows of a real chunk give alone what they gave among the others?"""
        chunk = self._chunks(self.leg_example[request.leg], torch.arange(len(request.leg)))[-1]
        for row in {int(chunk[len(chunk) // 2]), len(request.t) - 1}:
            own = self.owner[request.leg] == self.owner[request.leg[row]]
            among, scale = float(value[row]), float(value[own].abs().max())
            try:
                alone = float(self._alone(request, row, 1))
                relative = max(MIXING_TOLERANCE, NOISE_ULPS * torch.finfo(self.dtype).eps)
                close = relative * max(scale, abs(alone))
                gap = abs(among - alone)
                if not gap > close:
                    continue
                if abs(float(self._alone(request, row, 1)) - alone) > close:
                    self.note = "the model gives another output for the same input every time"
                    return False
                # Rounding in a batch of another size shows between equal rows as well.
                twice = abs(float(self._alone(request, row, 2)) - alone)
                if gap > ROUNDING_REACH * close or twice < gap / 10:
                    return True
            except Exception:
                continue  # a model that raises is asked again in the rounds, and judged there
        return False

    def _alone(self, request: Request, row: int, copies: int) -> Tensor:
        rows = torch.full((copies,), row)
        output = self._output(request.leg[rows], request.t[rows], True)[0]
        self._notice(coarsest(output))
        return output.detach()[0]

    def _notice(self, dtype: torch.dtype) -> None:
        """The coarsest dtype that was seen is what the model computes in."""
        if torch.finfo(dtype).eps > torch.finfo(self.dtype).eps:
            self.dtype = dtype

    def _evaluate(
        self, request: Request, gradients: bool = True
    ) -> Iterator[tuple[Tensor, _Piece]]:
        """The request in chunks; failing rows are isolated, noted and left out.

        Pieces are held until there are many or all: each time costs a synchronisation.
        """
        example = self.leg_example[request.leg]
        chunks = self._chunks(example, torch.arange(len(example)))
        waiting: list[tuple[Tensor, _Piece]] = []
        while chunks:
            rows = chunks.pop()
            if self.failures:
                rows = rows[self._whole(request, rows)]
            if not len(rows):
                continue
            room = int(self.batch.room[example[rows]].min())
            try:
                if gradients:
                    self.share.begin()
                piece = self._pass(request.leg[rows], request.t[rows], gradients)
            except (InputError, OutputError, NoGradientError):
                raise  # the call is wrong, not one example of it
            except Exception as error:
                if len(rows) > 1:
                    half = len(rows) // 2
                    chunks += [rows[half:], rows[:half]]
                    if _out_of_memory(error):  # remember it, also for the chunks to come
                        self.share.halve(len(rows), room)
                        chunks = self._chunks(example, torch.cat(chunks[::-1]))
                    continue
                self._fail(request, rows, _forward_error(error, self._place(request, rows)))
                continue
            if gradients and self.share.measured(len(rows), room) and chunks:
                chunks = self._chunks(example, torch.cat(chunks[::-1]))
            waiting.append((rows, piece))
            if sum(p.vectors.numel() for _, p in waiting) > self.held:
                yield self._finite(request, waiting, gradients)
                waiting = []
        if waiting:
            yield self._finite(request, waiting, gradients)

    def _chunks(self, example: Tensor, rows: Int[Tensor, " rows"]) -> list[Tensor]:
        """The rows in chunks, the first one last."""
        share = Fraction(0) if self.alone else self.share.value
        found = self.batch.chunks(example[rows], share)
        return [rows[chunk] for chunk in found][::-1]

    def _finite(
        self, request: Request, pieces: Sequence[tuple[Tensor, _Piece]], gradients: bool
    ) -> tuple[Tensor, _Piece]:
        """Pieces as one, with numbers on the CPU, without rows whose example has failed."""
        rows = torch.cat([rows for rows, _ in pieces])
        both = [torch.stack([p.value.double(), p.slope.double()]) for _, p in pieces]
        value, slope = torch.cat(both, dim=1).cpu()
        some = [piece.vectors for _, piece in pieces]
        vectors = torch.cat(some) if some[1:] else some[0]
        finite = value.isfinite() & slope.isfinite()
        t = request.t[rows]
        endless = value.isfinite() & ~finite & ((t == 0) | (t == 1)) & self.open_ends
        if bool(endless.any()):
            slope[endless], vectors[endless.to(vectors.device)] = 0.0, 0.0
        for position in (~finite & ~endless).nonzero().view(-1).tolist():
            if int(self.owner[request.leg[rows[position]]]) not in self.failures:
                what = "gradient" if bool(value[position].isfinite()) else "output"
                self._fail(
                    request, rows[[position]], self._not_finite(request, rows[[position]], what)
                )
        if self.failures:
            kept = self._whole(request, rows).nonzero().view(-1)
            rows, value, slope, endless = (x[kept] for x in (rows, value, slope, endless))
            vectors = vectors[kept.to(vectors.device)]
        if gradients:
            paths = self.owner[request.leg[rows]]
            self.spent += torch.bincount(paths, minlength=len(self.spent))
        return rows, _Piece(value, slope, vectors, endless)

    def _points(
        self, leg: Int[Tensor, " rows"], t: Float[Tensor, " rows"]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Selection]]:
        """Packed points of legs, their velocities, and how both are packed."""
        points, velocities, selections = {}, {}, {}
        t = t.to(self.batch.device)
        for name, starts in self.starts.items():
            ends = self.ends[name]
            selection = selections[name] = starts.select(leg)
            start = selection.gather(starts.values, {})
            end = selection.gather(ends.values, {})
            points[name], velocities[name] = self.path.at(start, end, selection.spread(t, end))
        return points, velocities, selections

    def _forward(self, leg: Int[Tensor, " rows"], points: Mapping[str, Tensor]) -> Tensor:
        """F at packed points; the model gets a copy: it may work in place, in another dtype."""
        received = {n: p.to(self.batch.dtypes[n], copy=True) for n, p in points.items()}
        output = self.forward(self.batch.rows(self.leg_example[leg], received))
        return checked(output, len(leg))

    def _output(
        self, leg: Int[Tensor, " rows"], t: Float[Tensor, " rows"], grad: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """F at points of legs, and the points, from which there is a graph if that is wanted."""
        points = {n: p.detach().requires_grad_(grad) for n, p in self._points(leg, t)[0].items()}
        with torch.set_grad_enabled(grad):
            return self._forward(leg, points), list(points.values())

    def _pass(self, leg: Int[Tensor, " rows"], t: Float[Tensor, " rows"], grad: bool) -> _Piece:
        """One forward pass over packed rows, and one backward pass for all of them."""
        points, velocities, selections = self._points(leg, t)
        points = {n: p.detach().requires_grad_(grad) for n, p in points.items()}
        with torch.set_grad_enabled(grad):
            output = self._forward(leg, points)
        self._notice(output.dtype)
        if not grad:
            return _Piece(output.detach(), output.detach(), output.detach())
        gradients: Sequence[Tensor | None] = [None] * len(points)
        if output.requires_grad:
            gradients = torch.autograd.grad(output.sum(), list(points.values()), allow_unused=True)
        self.reached = self.reached or any(g is not None for g in gradients)
        terms = {
            name: torch.zeros_like(velocities[name]) if g is None else g * velocities[name]
            for name, g in zip(points, gradients, strict=True)
        }
        vectors = self.space.flat(selections, terms)
        return _Piece(output.detach(), vectors.sum(1, dtype=torch.float64), vectors)

    # -- failures -------------------------------------------------------------------------------

    def _not_finite(self, request: Request, row: Int[Tensor, " 1"], what: str) -> NonFiniteError:
        where = self._first_not_finite(request, row) if what == "gradient" else ""
        advice = "; rule='gauss-legendre' leaves the ends of a path out"
        at_end = what == "gradient" and float(request.t[row]) in (0.0, 1.0)
        return NonFiniteError(
            f"the model's {what} is NaN or infinite{where} at {self._place(request, row)} "
            "(t = 0 is the baseline, t = 1 the input)" + advice * at_end
        )

    def _fail(self, request: Request, row: Int[Tensor, " 1"], failure: IGError) -> None:
        """Note why the example of this row cannot be explained."""
        example = self.leg_example[request.leg[row]]
        for path in (self.path_example == example).nonzero().view(-1).tolist():
            self.failures.setdefault(path, failure)

    def _place(self, request: Request, row: Int[Tensor, " 1"]) -> str:
        leg = int(request.leg[row])
        legs = (self.owner == self.owner[leg]).nonzero().view(-1).tolist()
        which = f" of leg {legs.index(leg) + 1} of {len(legs)}" if len(legs) > 1 else ""
        return f"t = {float(request.t[row]):.4g}{which}"

    def _blame_gradient(self, path: int, goal: Goal, why: str) -> None:
        told = f"the output changes by {float(goal.delta[path]):.4g} from the baseline to the input"
        advice = "explain a logit or a probability before that"
        self.failures.setdefault(path, NoGradientError(f"{told}, but {why}; {advice}"))

    def _first_not_finite(self, request: Request, row: Tensor) -> str:
        alone = self._pass(request.leg[row], request.t[row], True)
        path = int(self.owner[request.leg[row]])
        for name, term in self.space.tensors(alone.vectors, [path])[0].items():
            bad = (~torch.isfinite(term)).nonzero()
            if len(bad):
                return f" for element {bad[0].tolist()} of {name!r}"
        return ""

    def _whole(self, request: Request, rows: Int[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Which rows belong to examples that have not failed."""
        failed = torch.tensor(sorted(self.failures), dtype=torch.long)
        return ~torch.isin(self.owner[request.leg[rows]], failed)

    def _drop_failed(self, process: Process) -> None:
        if self.failures:
            process.drop(torch.tensor(sorted(self.failures)))

    # -- results --------------------------------------------------------------------------------

    def _collect(self, outcome: Outcome, goal: Goal, results: Results) -> None:
        results.receive(outcome)
        flat = outcome.done[(outcome.integral.abs().sum(1) == 0).cpu()]
        for path in flat.tolist():
            changes = abs(float(goal.delta[path])) > float(goal.noise[path])
            if changes and (points := int(self.spent[path])) >= ENOUGH_POINTS:
                why = (
                    f"its gradient is zero at all {points} points of the path: round or sign cut it"
                )
                self._blame_gradient(path, goal, why)
            results.note[path] = _FLAT[changes]


_FLAT = {
    False: "the output does not depend on the input along this path",
    True: "the gradient is zero at every point that was evaluated, yet F changes",
}


def held_on(device: torch.device) -> int:
    """How many elements of gradients may wait: none on the CPU, where nothing is gained."""
    return 0 if device.type == "cpu" else HELD_ELEMENTS


def _forward_error(error: Exception, place: str) -> IGError:
    kind = "" if isinstance(error, ModelError) else f" {type(error).__name__}"
    failure = ForwardError(f"the model raised{kind} at {place}: {error}")
    failure.__cause__ = error
    return failure


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        any(told in str(error).lower() for told in ("out of memory", "can't allocate memory"))
    )
