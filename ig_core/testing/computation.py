"""What a domain computes: numbers and gradients of rows that share a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ig_core.baselines import check_start
from ig_core.domain import Domain
from ig_core.evaluation import evaluate
from ig_core.example import Example
from ig_core.layout import Pad
from ig_core.rows import Batch
from ig_core.testing.kit import ConformanceError, NotApplicable, Subject, encoded, expect
from ig_core.testing.probe import agreement, compare, modules_of, read, train

FLOAT64_AGREEMENT = 1e-3
"""F and gradients in float32 may be this far from float64, relatively."""


def one_number_per_row(subject: Subject) -> None:
    """forward gives a floating-point tensor of shape (rows,), and equal rows equal numbers."""
    with encoded(subject) as (domain, examples):
        several = [*examples, examples[0]]
        device = domain.device(None, examples[0])
        batch = Batch(several, domain.layouts, device)
        order = torch.arange(len(several))
        points = {n: p.select(order).gather(p.values, {}) for n, p in batch.inputs.items()}
        points = {n: v.to(batch.dtypes[n], copy=True) for n, v in points.items()}
        output: Any = domain.forward(batch.rows(order, points))
        expect(isinstance(output, Tensor), f"it gave a {type(output).__name__}")
        expect(
            tuple(output.shape) == (len(several),) and output.is_floating_point(),
            f"{len(several)} rows gave {output.dtype} of shape {tuple(output.shape)}",
        )
        first, last = float(output[0]), float(output[-1])
        expect(
            abs(first - last) <= agreement(examples) * max(abs(first), abs(last)),
            f"the same example gave {first:.7g} in the first row and {last:.7g} in the last",
        )


def gradients_reach_the_inputs(subject: Subject) -> None:
    """An input that moves the output has a gradient."""
    with encoded(subject) as (domain, examples):
        for position, example in enumerate(examples):
            reading = read(domain, [example])
            start = check_start(example, domain.baseline(example))
            for name, gradient in reading.gradients[0].items():
                if not bool(gradient.isnan().any()):
                    continue
                moved = replace(example, inputs={**example.inputs, name: start[name]})
                change = float(read(domain, [moved]).values[0] - reading.values[0])
                expect(
                    change == 0,
                    f"moving {name!r} of example {position} to its baseline changes F by "
                    f"{change:.4g}, while no gradient reaches it; detach, no_grad, round or a "
                    "tensor other than rows[name] cuts it",
                )


def rows_do_not_mix(subject: Subject) -> None:
    """Different examples packed together have the F and the gradient that each has alone."""
    with encoded(subject) as (domain, examples):
        alone = [read(domain, [example]) for example in examples]
        values = [float(reading.values[0]) for reading in alone]
        if len(set(values)) == 1:
            raise ConformanceError(
                f"all examples of the subject give {values[0]:.7g}, which would hide mixing; "
                "give it examples with different outputs"
            )
        for order in (range(len(examples)), range(len(examples))[::-1]):
            together = read(domain, [examples[i] for i in order])
            for row, i in enumerate(order):
                own = replace(
                    together,
                    values=together.values[row : row + 1],
                    gradients=together.gradients[row : row + 1],
                )
                compare(own, alone[i], agreement(examples), [f"example {i} between others"])


def gradients_do_not_mix(subject: Subject) -> None:
    """The output of one row has no gradient with respect to another row's inputs."""
    with encoded(subject) as (domain, examples):
        for row in range(len(examples)):
            found = read(domain, examples, only=row).gradients
            sizes = [_largest(own) for own in found]
            others = max(size for i, size in enumerate(sizes) if i != row)
            expect(
                others <= agreement(examples) * sizes[row],
                f"the output of example {row} has a gradient of {others:.3g} to another "
                f"example's inputs ({sizes[row]:.3g} to its own)",
            )


def padding_changes_nothing(subject: Subject) -> None:
    """A short example packed with a long one has the F and the gradient that it has alone."""
    with encoded(subject) as (domain, examples):
        padded = [n for n in examples[0].inputs if isinstance(domain.layouts.get(n), Pad)]
        if not padded:
            raise NotApplicable("no input has the layout Pad")
        order = sorted(examples, key=lambda example: len(example.inputs[padded[0]]))
        short, long = order[0], order[-1]
        sizes = [len(example.inputs[padded[0]]) for example in (short, long)]
        if sizes[0] == sizes[1]:
            raise NotApplicable("all examples of the subject have one length")
        together = read(domain, [short, long])
        own = replace(together, values=together.values[:1], gradients=together.gradients[:1])
        place = f"the example of length {sizes[0]} padded to {sizes[1]}"
        compare(own, read(domain, [short]), agreement(examples), [place])


def attributions_are_complete(subject: Subject) -> None:
    """The attributions sum to F(input) - F(baseline), within the tolerance that was asked for."""
    domain = subject.make()
    found = subject.attributed(domain, subject.examples)
    with domain.prepared():
        for position, (example, result) in enumerate(
            zip(subject.encoded(domain), found, strict=True)
        ):
            start = check_start(example, domain.baseline(example))
            ends = {n: torch.stack([v, start[n].to(v)]) for n, v in example.inputs.items()}
            device = domain.device(None, example)
            at = evaluate(domain.forward, example, ends, domain.layouts, device)
            delta = float(at[0] - at[1])
            total = sum(float(v.double().sum()) for v in result.tensors.values())
            size = sum(float(v.double().abs().sum()) for v in result.tensors.values())
            room = subject.tol * max(abs(delta), 0.01 * size)
            room += agreement(examples=[example]) * float(at.abs().max())
            expect(
                abs(total - delta) <= room,
                f"example {position} sums to {total:.7g}, F changes by {delta:.7g} "
                f"({result.evaluations} evaluations, {result.status} {result.reason})",
            )
            expect(
                result.converged,
                f"example {position} ended as {result.status} after {result.evaluations} "
                f"evaluations (estimated error {result.error:.1e})",
            )
            for name, value in example.inputs.items():
                expect(
                    result.tensors[name].shape == value.shape,
                    f"values of {name!r} have shape {tuple(result.tensors[name].shape)} "
                    f"for an input {tuple(value.shape)}",
                )


def a_batch_gives_what_single_calls_give(subject: Subject) -> None:
    """Examples attributed in one call have the values that each has in a call of its own."""
    fixed = {"rule": "gauss-legendre", "steps": 4}
    domain = subject.make()
    together = subject.attributed(domain, subject.examples, **fixed)
    with domain.prepared():
        tol = agreement(subject.encoded(domain))
    for position, (raw, one) in enumerate(zip(subject.examples, together, strict=True)):
        [alone] = subject.attributed(domain, [raw], **fixed)
        size = sum(float(v.double().abs().sum()) for v in alone.tensors.values())
        for name, value in alone.tensors.items():
            off = _reach(value.double() - one.tensors[name].double())
            expect(
                off <= tol * size,
                f"{name!r} of example {position} is off by {off:.3g} (all values: {size:.3g})",
            )
        expect(not one.reason, f"example {position} has the note: {one.reason}")


def two_calls_give_the_same(subject: Subject) -> None:
    """Two calls give bitwise the same values, whatever the state of the random generators."""
    domain = subject.make()
    found = []
    for seed in (1, 2):
        train(modules_of(domain))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(subject.attributed(domain, subject.examples))
    for position, (one, other) in enumerate(zip(*found, strict=True)):
        expect(
            one.at_input == other.at_input,
            f"F of example {position} is {one.at_input!r}, then {other.at_input!r}",
        )
        for name, value in one.tensors.items():
            expect(
                torch.equal(value, other.tensors[name]),
                f"{name!r} of example {position} differs between two calls; is every module "
                "named by Domain.modules, so that dropout is off?",
            )


def agrees_with_float64(subject: Subject) -> None:
    """A model and inputs converted to float64 give the same F and gradients."""
    with encoded(subject) as (domain, examples):
        wide = _copied(domain)
        for module in modules_of(wide):
            module.double()
        here = read(domain, examples)
        there = read(wide, [_double(example) for example in examples])
        expect(
            there.values.dtype == torch.float64, f"float64 inputs gave an F of {there.values.dtype}"
        )
        places = [f"example {i} in its own dtype" for i in range(len(examples))]
        compare(here, there, max(FLOAT64_AGREEMENT, agreement(examples)), places)


def computes_on_cuda(subject: Subject) -> None:
    """A model on a CUDA device gives what it gives on the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicable("no CUDA device")
    here = subject.attributed(subject.make(), subject.examples)
    moved = _copied(subject.make())
    for module in modules_of(moved):
        module.to("cuda")
    there = subject.attributed(moved, subject.examples)
    for position, (one, other) in enumerate(zip(here, there, strict=True)):
        size = sum(float(v.double().abs().sum()) for v in one.tensors.values())
        for name, value in one.tensors.items():
            off = _reach(value.double() - other.tensors[name].double())
            expect(
                off <= max(subject.tol, FLOAT64_AGREEMENT) * size,
                f"{name!r} of example {position} is off by {off:.3g} (all values: {size:.3g})",
            )


def smallest_example(subject: Subject) -> None:
    """The smallest input can be explained, alone and packed with another."""
    domain = subject.make()
    [alone] = subject.attributed(domain, [subject.smallest])
    expect(alone.converged, f"it ended as {alone.status} {alone.reason}")
    _, packed = subject.attributed(domain, [subject.examples[0], subject.smallest])
    off = abs(alone.at_input - packed.at_input)
    expect(off <= 2e-5 * abs(alone.at_input) + 1e-9, f"F differs by {off:.3g} when packed")


def empty_batch(subject: Subject) -> None:
    """An empty list of examples gives an empty list."""
    found = subject.attributed(subject.make(), [])
    expect(found == [], f"it gave {found!r}")


def _largest(gradients: Mapping[str, Tensor]) -> float:
    return max(float(g.nan_to_num().abs().max()) for g in gradients.values() if g.numel())


def _copied(domain: Domain) -> Domain:
    """Another domain around another model, which may be converted or moved."""
    own = modules_of(domain)
    if not own:
        raise NotApplicable("the domain holds no module")
    try:
        other = copy.deepcopy(domain)
    except Exception as error:
        raise NotApplicable(f"the domain cannot be copied: {error}") from error
    if {id(module) for module in own} & {id(module) for module in modules_of(other)}:
        raise NotApplicable("the model is a function around its module and cannot be copied")
    return other


def _double(example: Example) -> Example:
    def wide(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: v.double() if v.is_floating_point() else v for n, v in tensors.items()}

    return replace(example, inputs=wide(example.inputs), context=wide(example.context))


PROMISES = (
    one_number_per_row,
    gradients_reach_the_inputs,
    rows_do_not_mix,
    gradients_do_not_mix,
    padding_changes_nothing,
    attributions_are_complete,
    a_batch_gives_what_single_calls_give,
    two_calls_give_the_same,
    agrees_with_float64,
    computes_on_cuda,
    smallest_example,
    empty_batch,
)


def _reach(value: Tensor) -> float:
    """The largest magnitude; an input may be empty, such as a graph's edges."""
    return float(value.abs().max()) if value.numel() else 0.0
