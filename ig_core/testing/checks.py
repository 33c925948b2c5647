"""The conformance kit: every promise of a domain as a named check."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ig_core.testing import computation, declaration, registration, restoration, view
from ig_core.testing.kit import Check, Subject

PROMISES = (
    *declaration.PROMISES,
    *computation.PROMISES,
    *restoration.PROMISES,
    *view.PROMISES,
    *registration.PROMISES,
)
"""Functions of a subject; the docstring of each is the promise, its name that of the check."""

_NEEDS: dict[Callable[[Subject], None], str] = {
    registration.import_light: "plugin",
    registration.hooks_are_marked: "plugin",
    computation.smallest_example: "smallest",
}


def checks(subject: Subject) -> list[Check]:
    """Every promise of a domain, as a named check of this subject.

    A whole test file of a plugin, with pytest::

        import pytest
        from ig_core.testing import Subject, checks
        from my_plugin.domain import MyDomain

        SUBJECT = Subject(make=lambda: MyDomain(tiny_model()), examples=["a", "a longer one"])

        @pytest.mark.parametrize("check", checks(SUBJECT), ids=str)
        def test_my_domain(check):
            check()
    """
    return [_check(function, subject) for function in PROMISES]


def _check(function: Callable[[Subject], None], subject: Subject) -> Check:
    needs = _NEEDS.get(function, "")
    lacks = bool(needs) and getattr(subject, needs) is None
    return Check(
        name=function.__name__.replace("_", "-"),
        promise=" ".join((inspect.getdoc(function) or "").split()),
        run=function,
        subject=subject,
        skip_reason=f"the subject has no {needs}" if lacks else "",
    )
