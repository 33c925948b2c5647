"""A Subject is a domain under test; a Check is one promise of it, ready to be called."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import SkipTest

from ig_core.api import attribute
from ig_core.attribution import Attribution
from ig_core.domain import Domain
from ig_core.errors import IGError, IGWarning, InputError
from ig_core.example import Example


class ConformanceError(IGError, AssertionError):
    """A domain does not keep a promise; the message says which, and what was seen instead."""


class NotApplicable(SkipTest):
    """The promise says nothing about this subject."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A domain under test: how it is made, and what it explains.

    Args:
        make: makes the domain around a small model. The checks put the model into training
            mode, so one with dropout or batch normalisation says more.
        examples: raw inputs, at least two, which differ in content and, where the domain allows
            it, in size.
        targets: one for all examples, or a list with one for each.
        smallest: the smallest raw input that the domain takes (one token, one node, one step).
        plugin: the module with the hooks, as its entry point names it.
        tol: of the checks that integrate; kinks, as of ReLU, may want 1e-2.
        budget: gradient evaluations per example of those.

    Raises:
        InputError: fewer than two examples, or another number of targets.
    """

    make: Callable[[], Domain]
    examples: Sequence[Any]
    targets: Any = None
    smallest: Any = None
    plugin: ModuleType | None = None
    tol: float = 1e-3
    budget: int = 4096

    def __post_init__(self) -> None:
        if len(self.examples) < 2:
            raise InputError(
                f"a subject needs at least two different examples (got {len(self.examples)})"
            )
        if isinstance(self.targets, list) and len(self.targets) != len(self.examples):
            raise InputError(
                f"expected one target for each of {len(self.examples)} examples "
                f"(got {len(self.targets)})"
            )

    @property
    def target_of(self) -> Sequence[Any]:
        """The target of each example."""
        one_each = isinstance(self.targets, list)
        return self.targets if one_each else [self.targets] * len(self.examples)

    def encoded(self, domain: Domain) -> list[Example]:
        """The examples as the domain encodes them; call it inside ``domain.prepared()``."""
        pairs = zip(self.examples, self.target_of, strict=True)
        return [domain.encode(raw, target) for raw, target in pairs]

    def attributed(self, domain: Domain, raws: Sequence[Any], **options: Any) -> list[Attribution]:
        """Attributions of some of the examples (or of others, under the first target)."""
        known = list(zip(self.examples, self.target_of, strict=True))
        targets = [next((t for e, t in known if e is raw), self.target_of[0]) for raw in raws]
        settings = {"tol": self.tol, "budget": self.budget} | options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IGWarning)
            found: Any = attribute(
                domain.model, list(raws), domain=domain, target=targets, **settings
            )
        if not isinstance(found, list):
            raise ConformanceError("Domain.split must take a list for a batch (got None for one)")
        return found


@dataclass(frozen=True, eq=False)
class Check:
    """One promise of one subject. Call it: it returns, raises, or is skipped.

    Raises:
        ConformanceError: the promise is broken.
        NotApplicable: it says nothing about this subject; known ahead as ``skip_reason`` where
            the subject alone shows it.
    """

    name: str
    promise: str
    run: Callable[[Subject], None]
    subject: Subject
    skip_reason: str = ""

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        if self.skip_reason:
            raise NotApplicable(self.skip_reason)
        try:
            self.run(self.subject)
        except NotApplicable:
            raise
        except ConformanceError as error:
            raise ConformanceError(f"{self.name}: {self.promise} But {error}") from error.__cause__
        except Exception as error:
            raise ConformanceError(
                f"{self.name}: {self.promise} But it raised {type(error).__name__}: {error}"
            ) from error


def expect(kept: bool, seen: str) -> None:
    """Nothing if the promise is kept.

    Raises:
        ConformanceError: it is broken; ``seen`` says what was there instead.
    """
    if not kept:
        raise ConformanceError(seen)


@contextmanager
def encoded(subject: Subject) -> Iterator[tuple[Domain, list[Example]]]:
    """A new domain, ready to run, with its encoded examples."""
    domain = subject.make()
    with domain.prepared():
        yield domain, subject.encoded(domain)
