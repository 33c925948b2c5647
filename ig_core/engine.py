"""The loop: rows of many examples and many points of their paths, packed, differentiated, summed.

One round serves all unfinished examples: the rule names (leg, t) pairs, the loop packs them into
full chunks of rows, runs the model and one ``autograd.grad``, and adds the weighted gradients to
float64 sums. Nothing here runs once per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ig_core.errors import (
    IGError,
    InputError,
    NoGradientError,
    NonFiniteError,
    OutputError,
)
from ig_core.evaluation import Forward, forward_error
from ig_core.exact import Part
from ig_core.example import Example
from ig_core.layout import Cat, Layout, Selection
from ig_core.memory import Share, held_on, memory_of, out_of_memory
from ig_core.paths import Inputs, Leg, Path
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
from ig_core.rows import Batch, Space, Wanted, checked
from ig_core.tracing import searched, structures
from ig_core.twins import Chunk, Shared, by_kind, collected, gradients_of, twins_of

WINDOW_ELEMENTS = 2**21
"""Input elements of examples that are worked on together; a stream is cut into such windows."""

MIXING_TOLERANCE = 1e-3
"""F of one row may change by this much, relative to its path's F, when others share its batch."""

UNION_TOLERANCE = 1e-5
"""The same in a disjoint union, where rows share not even padding and differ by rounding only."""

ROUNDING_REACH = 50.0
"""A change up to this many tolerances may still be rounding: F can be a small difference."""

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
    targets: int = 1,
) -> Iterator[Integral]:
    """Integrate the gradient of ``forward`` along the paths of a stream of examples.

    Args:
        problems: examples with their starts; several starts are averaged.
        tol: relative; bounds both the estimated L1 error of the attributions and the residual.
        budget: gradient evaluations per example and start.
        total: how many examples there are, if that is known, for ``progress``.
        targets: so many examples in a row are one raw input, each with another target.

    Yields:
        One integral per example, in order. A model that raises or gives NaN for one example
        fails that example only.
    """
    finished = evaluations = 0
    share = Share(memory_of(device))
    for window in _windows(problems, targets, path):
        found: dict[int, Integral] = {}
        whole = total or finished + len(window)
        for part in by_kind([example.target for example, _ in window], targets):
            chosen = [window[i] for i in part]
            inputs = [i // targets for i in part]
            run = _Window(forward, chosen, inputs, layouts, path, device, share)
            before, numbers = (evaluations, finished), iter(part)
            for step in run.run(rule, tol, budget):
                if isinstance(step, Integral):
                    finished, evaluations = finished + 1, evaluations + step.evaluations
                    found[next(numbers)] = step
                elif progress is not None:
                    progress(Progress(before[0] + step[0], whole - before[1] - step[1], whole))
        yield from (found[i] for i in range(len(window)))


def _windows(
    problems: Iterable[tuple[Example, Sequence[Inputs]]], targets: int, path: Path
) -> Iterator[list[tuple[Example, Sequence[Inputs]]]]:
    """The stream in pieces that are worked on together; targets of one input are not separated."""
    window: list[tuple[Example, Sequence[Inputs]]] = []
    room = WINDOW_ELEMENTS
    for example, starts in problems:
        if not starts:
            raise InputError("an example needs at least one start of its path (got none)")
        legs = [leg for start in starts for leg in path.legs(example, start)]
        room -= sum(value.numel() for _, end in legs for value in end.values())
        if window and room < 0 and len(window) % targets == 0:
            yield window
            window, room = [], WINDOW_ELEMENTS
        window.append((example, starts))
    if window:
        yield window


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
        inputs_of: Sequence[int],
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
        legs: list[Leg] = []
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
        examples = [example for example, _ in problems]
        self.twins = twins_of(inputs_of, examples, legs, torch.bincount(self.leg_example))
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
        goal = Goal(self.owner, delta, noise.nan_to_num(), rounding, tol, budget)
        results = Results(self.space, len(delta))
        for process in self._processes(rule, goal):
            for ready in self._integrated(process, goal, results):
                yield int(self.spent.sum()), ready
        yield from results.integrals(
            at_start, at_end, self.path_example, self.spent, self.failures, self.batch.dtypes,
            "; ".join(filter(None, (self.note, remark(self.dtype)))), tol,
        )  # fmt: skip

    def _processes(self, rule: Rule, goal: Goal) -> list[Process]:
        """One for every structure that the model has; functions as targets are part of it."""
        unknown = Structure(curve="rows that do not share a batch" if self.alone else "")
        found = [(unknown, torch.ones(len(self.batch.room), dtype=torch.bool))]
        if rule.looks and not self.alone:
            curve = "" if self.path.straight else "a curved path"
            curve = "numbers of half precision" if half(self.dtype) else curve
            found = structures(self._run, self.batch, self.leg_example, curve)
        if len(found) == 1:
            return [rule.begin(replace(goal, structure=found[0][0]), self.space)]
        return [
            Part(replace(goal, structure=s), self.space, own[self.path_example], rule.begin)
            for s, own in found
        ]

    def _integrated(self, process: Process, goal: Goal, results: Results) -> Iterator[int]:
        """How many examples are finished after every round."""
        self.reached, self.open_ends = False, process.open_ends
        self._drop_failed(process)
        while (request := process.request()) is not None:
            if isinstance(request, Search):
                example = self.leg_example[request.leg]
                for kinks in searched(
                    self._run, request, self.batch, example, self.share.value, self.twins
                ):
                    process.meet(kinks)
                process.settle()
                continue
            for rows, piece in self._evaluate(request):
                found = (piece.value, piece.slope, piece.vectors, piece.endless)
                process.receive(Found(rows, *found))
            if not self.reached:  # more points would not help
                asked = torch.isin(torch.arange(len(goal.delta)), self.owner[request.leg])
                for path in (asked & (goal.delta.abs() > goal.noise)).nonzero().view(-1).tolist():
                    why = "no gradient reaches the input: argmax, detach or no_grad cut it"
                    self._blame_gradient(path, goal, why)
            self._drop_failed(process)
            self._collect(floored(process.settle(), self.dtype, goal.tol), goal, results)
            ready = torch.ones(len(self.batch.room), dtype=torch.bool)
            ready[self.path_example[~results.done]] = False
            ready[self.path_example[list(self.failures)]] = True
            yield int(ready.sum())

    # -- evaluation -----------------------------------------------------------------------------

    def _ends(self) -> tuple[Tensor, Tensor]:
        """F at the two ends of every path, without gradients; finds out whether rows mix."""
        first = torch.searchsorted(self.owner, torch.arange(len(self.example_of)))
        last = torch.cat([first[1:], torch.tensor([len(self.owner)])]) - 1
        count = len(first)
        shortest = int(self.batch.room[self.leg_example[first]].argmax())
        # A point between the ends of the shortest input is what maxima, norms and padding change;
        # not half way, where a row is the mean of the others.
        probe = self.twins.of(first[shortest])
        leg = torch.cat([first, last, probe])
        t = torch.tensor([0.0] * count + [1.0] * count + [0.375] * len(probe), dtype=torch.float64)
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
        """Do two rows of a real chunk give alone what they gave among the others?

        One row will do where there is one leg: then no row is padded for another's sake. In a union
        one more is asked, since what a mean over the graph does to a row may be next to nothing.
        """
        chunk = self._chunks(request, torch.arange(len(request.leg)))[-1].rows
        union = all(isinstance(self.batch.layouts[n], Cat) for n in self.batch.input_names)
        least = UNION_TOLERANCE if union else MIXING_TOLERANCE
        places = [0] * union + [-1 if self.twins.one else len(chunk) // 2]
        for row in {*chunk[places].tolist(), len(request.t) - 1}:
            own = self.owner[request.leg] == self.owner[request.leg[row]]
            scale = float(value[own].abs().max())
            try:
                alone = float(self._alone(request, row, 1))
                relative = max(least, NOISE_ULPS * torch.finfo(self.dtype).eps)
                close, gap = relative * max(scale, abs(alone)), abs(float(value[row]) - alone)
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
        output = self._run(request.leg[rows], request.t[rows], True)[0]
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
        chunks = self._chunks(request, torch.arange(len(request.leg)))
        waiting: list[tuple[Tensor, _Piece]] = []
        while chunks or waiting:
            if not chunks or sum(p.vectors.numel() for _, p in waiting) > self.held:
                rows, piece, again = self._finite(request, waiting, gradients)
                yield rows, piece
                waiting = []
                if len(again):
                    left = torch.cat([again, *(c.rows for c in chunks[::-1])])
                    chunks = self._chunks(request, left)
                continue
            rows, shared = (chunk := chunks.pop()).rows, chunk.shared
            if self.failures:
                rows = rows[self._whole(request, rows)]
            if not len(rows):
                continue
            leg, t = request.leg[rows], request.t[rows]
            room = int(self.batch.room[self.leg_example[leg]].min())
            group = self.twins.shared(leg, t) if shared else None
            count = len(rows if group is None else group.chosen)
            try:
                if gradients:
                    self.share.begin()
                piece = self._pass(leg, t, gradients, group, int(room * self.share.value) // count)
            except Exception as error:
                if out_of_memory(error) and count > 1:  # remember it, also for later chunks
                    self.share.halve(count, room)
                elif shared:  # without its twins it will show whether that was its own fault
                    self.twins.part(leg)
                elif isinstance(error, (InputError, OutputError, NoGradientError)):
                    raise  # the call is wrong, not one example of it
                elif count > 1:
                    half = count // 2
                    chunks += [Chunk(rows[half:], False), Chunk(rows[:half], False)]
                    continue
                else:
                    self._fail(request, rows, forward_error(error, self._place(request, rows)))
                    continue
                chunks = self._chunks(request, torch.cat([rows, *(c.rows for c in chunks[::-1])]))
                continue
            if gradients and self.share.measured(count, room) and chunks:
                chunks = self._chunks(request, torch.cat([c.rows for c in chunks[::-1]]))
            waiting.append((rows, piece))

    def _chunks(self, request: Request, rows: Int[Tensor, " numbers"]) -> list[Chunk]:
        """The numbers at these rows of a request in chunks, the first one last."""
        share = Fraction(0) if self.alone else self.share.value
        return self.twins.chunks(self.batch, self.leg_example, request, rows, share)

    def _finite(
        self, request: Request, pieces: Sequence[tuple[Tensor, _Piece]], gradients: bool
    ) -> tuple[Tensor, _Piece, Tensor]:
        """Pieces as one, with numbers on the CPU, without rows whose example has failed.

        Also left out, and given back, are rows that have to be evaluated again without their
        twins, whose NaN they may have got.
        """
        rows = torch.cat([rows for rows, _ in pieces])
        both = [torch.stack([p.value.double(), p.slope.double()]) for _, p in pieces]
        value, slope = torch.cat(both, dim=1).cpu()
        some = [piece.vectors for _, piece in pieces]
        vectors = torch.cat(some) if some[1:] else some[0]
        finite = value.isfinite() & slope.isfinite()
        doubted = ~finite & self.twins.among(request.leg[rows])
        again = rows[doubted]
        self.twins.part(request.leg[again])
        t = request.t[rows]
        endless = value.isfinite() & ~finite & ((t == 0) | (t == 1)) & self.open_ends
        if bool(endless.any()):
            slope[endless], vectors[endless.to(vectors.device)] = 0.0, 0.0
        for position in (~finite & ~endless & ~doubted).nonzero().view(-1).tolist():
            if int(self.owner[request.leg[rows[position]]]) not in self.failures:
                what = "gradient" if bool(value[position].isfinite()) else "output"
                self._fail(
                    request, rows[[position]], self._not_finite(request, rows[[position]], what)
                )
        if self.failures or len(again):
            kept = (self._whole(request, rows) & ~doubted).nonzero().view(-1)
            rows, value, slope, endless = (x[kept] for x in (rows, value, slope, endless))
            vectors = vectors[kept.to(vectors.device)]
        if gradients:
            paths = self.owner[request.leg[rows]]
            self.spent += torch.bincount(paths, minlength=len(self.spent))
        return rows, _Piece(value, slope, vectors, endless), again

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

    def _run(
        self,
        leg: Int[Tensor, " numbers"],
        t: Float[Tensor, " numbers"],
        grad: bool,
        shared: Shared | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], dict[str, Selection]]:
        """F at points of legs; the points (with a graph if ``grad``), velocities, and packing."""
        wanted = None
        if shared is not None and len(shared.row) > len(shared.chosen):
            wanted = Wanted(shared.row, self.leg_example[leg])
            leg, t = leg[shared.chosen], t[shared.chosen]
        numbers = len(leg if wanted is None else wanted.row)
        points, velocities, selections = self._points(leg, t)
        points = {n: p.detach().requires_grad_(grad) for n, p in points.items()}
        with torch.set_grad_enabled(grad):
            # The model gets a copy: it may work in place, in another dtype.
            received = {n: p.to(self.batch.dtypes[n], copy=True) for n, p in points.items()}
            output = self.forward(self.batch.rows(self.leg_example[leg], received, wanted))
            return checked(output, numbers), points, velocities, selections

    def _pass(
        self,
        leg: Int[Tensor, " numbers"],
        t: Float[Tensor, " numbers"],
        grad: bool,
        shared: Shared | None = None,
        together: int = 1,
    ) -> _Piece:
        """One forward pass over packed rows, and one backward pass for each of their numbers."""
        output, points, velocities, selections = self._run(leg, t, grad, shared)
        self._notice(output.dtype)
        if not grad:
            return _Piece(output.detach(), output.detach(), output.detach())

        def flat(gradients: Sequence[Tensor | None]) -> Tensor:
            self.reached = self.reached or any(g is not None for g in gradients)
            terms = {
                name: torch.zeros_like(velocities[name]) if g is None else g * velocities[name]
                for name, g in zip(points, gradients, strict=True)
            }
            return self.space.flat(selections, terms)

        found = gradients_of(output, list(points.values()), shared, together)
        vectors = collected(map(flat, found), shared)
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
        which = f" of leg {legs.index(leg) + 1} of {len(legs)}" if len(legs) > 1 else " of the path"
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
                told = f"its gradient is zero at all {points} points of the path"
                why = f"{told}: round or sign cut it"
                self._blame_gradient(path, goal, why)
            results.note[path] = _FLAT[changes]


_FLAT = {
    False: "the output does not depend on the input along this path",
    True: "the gradient is zero at every point that was evaluated, yet F changes",
}
