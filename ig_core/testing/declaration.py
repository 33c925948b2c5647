"""What a domain declares: its name, layouts, examples, baselines and units."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import torch

from ig_core.baselines import check_start
from ig_core.layout import Layout, Pad
from ig_core.rows import Batch
from ig_core.testing.kit import NotApplicable, Subject, encoded, expect
from ig_core.testing.probe import same


def name_and_requires(subject: Subject) -> None:
    """name is a short lower-case word, requires a tuple of modules; both belong to the class."""
    kind = type(subject.make())
    name = getattr(kind, "name", None)
    expect(
        isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]*", name) is not None,
        f"name is {name!r}",
    )
    requires = kind.requires
    expect(
        isinstance(requires, tuple)
        and all(isinstance(m, str) and re.fullmatch(r"[A-Za-z_][\w.]*", m) for m in requires),
        f"requires is {requires!r}; it holds names to import, such as ('torch_geometric',)",
    )
    expect(isinstance(kind.extra, str), f"extra is {kind.extra!r}")


def accepts_answers(subject: Subject) -> None:
    """accepts says True or False about any model and input, and never raises."""
    domain = subject.make()
    for model, raw in ((domain.model, subject.examples[0]), (None, None), (object(), object())):
        answer = type(domain).accepts(model, raw)
        expect(
            isinstance(answer, bool),
            f"it gave {answer!r} for {type(model).__name__} and {type(raw).__name__}",
        )
    expect(not type(domain).accepts(object(), object()), "it accepts a bare object()")


def layouts_cover_all_tensors(subject: Subject) -> None:
    """Every tensor of an example has a layout, in which the tensors of all examples pack."""
    with encoded(subject) as (domain, examples):
        for example in examples:
            for name in (*example.inputs, *example.context):
                layout = domain.layouts.get(name)
                expect(
                    isinstance(layout, Layout),
                    f"the layout of {name!r} is {layout!r} (declared: {sorted(domain.layouts)})",
                )
        Batch(examples, domain.layouts, domain.device(None, examples[0]))


def inputs_are_unbatched_floats(subject: Subject) -> None:
    """The inputs of an example are finite floating-point tensors without a batch dimension."""
    with encoded(subject) as (domain, examples):
        for position, example in enumerate(examples):
            expect(bool(example.inputs), f"example {position} has no input")
            for name, value in example.inputs.items():
                expect(
                    value.is_floating_point(),
                    f"{name!r} of example {position} has dtype {value.dtype}",
                )
                expect(bool(torch.isfinite(value).all()), f"{name!r} of example {position} has NaN")
                expect(value.grad_fn is None, f"{name!r} of example {position} drags a graph along")
        for name in examples[0].inputs:
            shapes = [tuple(example.inputs[name].shape) for example in examples]
            expect(
                not isinstance(domain.layouts[name], Pad) or any(s[:1] != (1,) for s in shapes),
                f"{name!r} has the layout Pad and length 1 in every example (got {shapes[:3]}): "
                "that is a batch dimension, or else the subject needs longer examples",
            )


def encode_leaves_the_input(subject: Subject) -> None:
    """encode gives the same example each time and does not change what it is given."""
    with encoded(subject) as (domain, examples):
        for raw, target, first in zip(subject.examples, subject.target_of, examples, strict=True):
            before = _pickled(raw)
            again = domain.encode(raw, target)
            expect(before == _pickled(raw), f"{type(raw).__name__} was changed")
            for part in ("inputs", "context"):
                one, other = getattr(first, part), getattr(again, part)
                expect(list(one) == list(other), f"{part} changed from {list(one)}")
                for name in one:
                    expect(same(one[name], other[name]), f"{name!r} differs the second time")


def baseline_fits(subject: Subject) -> None:
    """The default baseline fits the inputs, is finite, and is called "zeros" only if it is zero."""
    with encoded(subject) as (domain, examples):
        for example in examples:
            start = domain.baseline(example)
            check_start(example, start)
            zero = not any(bool(value.any()) for value in start.values())
            expect(
                domain.baseline_name != "zeros" or zero,
                "baseline_name is 'zeros', but it is not zero; name it as results should",
            )


def units_fit(subject: Subject) -> None:
    """The units index elements of the inputs, and every label is text."""
    with encoded(subject) as (_, examples):
        for example in examples:
            units = example.parts
            expect(
                set(units.index) <= set(example.inputs),
                f"units index {sorted(units.index)}, inputs are {sorted(example.inputs)}",
            )
            expect(bool(units.index), "no input is indexed")
            for label in units.labels:
                expect(isinstance(label, str), f"a label is {label!r}")
            for name, index in units.index.items():
                shape, own = tuple(example.inputs[name].shape), tuple(index.shape)
                expect(
                    shape[: len(own)] == own and not index.is_floating_point(),
                    f"the index of {name!r} is {index.dtype} of shape {own} on an input {shape}",
                )
                reach = (int(index.min()), int(index.max())) if index.numel() else (0, -1)
                expect(reach[0] >= -1 and reach[1] < len(units), f"{name!r} has units {reach}")


def display_is_json(subject: Subject) -> None:
    """The display of an example holds JSON values only."""
    with encoded(subject) as (_, examples):
        for example in examples:
            json.dumps(dict(example.display), allow_nan=False)


def _pickled(raw: Any) -> bytes:
    try:
        return pickle.dumps(raw)
    except Exception as error:
        raise NotApplicable(f"the raw input cannot be compared: {error}") from error


PROMISES = (
    name_and_requires,
    accepts_answers,
    layouts_cover_all_tensors,
    inputs_are_unbatched_floats,
    encode_leaves_the_input,
    baseline_fits,
    units_fit,
    display_is_json,
)
