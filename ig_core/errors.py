"""Every error and warning that ig_core raises on purpose.

::

    IGError
    ├── InputError (ValueError)         what was passed in cannot be attributed
    │   ├── BaselineError               the start of the path does not fit the input
    │   ├── TargetError                 the target does not pick one number per example
    │   └── UnknownNameError            no component is registered under that name
    ├── NonFiniteError (ValueError)     NaN or infinity in an input, an output or a gradient
    ├── ModelError (RuntimeError)       the model did something that a gradient path cannot follow
    │   ├── ForwardError                it raised
    │   ├── OutputError                 its output is not one number per row
    │   └── NoGradientError             its output changes, its gradient does not say so
    ├── NotConvergedError               ``strict=True`` and the tolerance was not reached
    ├── PluginError                     a plugin broke its side of the contract
    │   ├── NameClashError              two plugins registered one name
    │   └── MissingFrameworkError       the framework of a domain is not installed
    └── StorageError (OSError)          a file or folder could not be read or written

    IGWarning (UserWarning)
    ├── NotConvergedWarning             the result says by how much it missed its tolerance
    ├── ModelChangedWarning             the model wrote to its own parameters while it ran
    └── PluginWarning                   a plugin was left out; ``ig plugins`` says why
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IGError(Exception):
    """Base of all errors of ig_core."""


class InputError(IGError, ValueError):
    """What was passed in cannot be attributed."""


class BaselineError(InputError):
    """The start of the path does not fit the input."""


class TargetError(InputError):
    """The target does not pick one number per example."""


class UnknownNameError(InputError):
    """No component is registered under that name.

    >>> raise UnknownNameError("path", "strait", ["straight", "piecewise"])
    Traceback (most recent call last):
    ...
    ig_core.errors.UnknownNameError: no path is called 'strait'; did you mean 'straight'? \
Known: piecewise, straight
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"no {kind} is called {name!r}{hint} Known: {', '.join(known) or 'none'}")


class NonFiniteError(IGError, ValueError):
    """NaN or infinity in an input, an output or a gradient."""


class ModelError(IGError, RuntimeError):
    """The model did something that a gradient path cannot follow."""


class ForwardError(ModelError):
    """The model raised; the cause is chained."""


class OutputError(ModelError):
    """The model's output is not one number per row."""


class NoGradientError(ModelError):
    """The output changes along the path, but its gradient does not say so."""


class NotConvergedError(IGError):
    """``strict=True`` and the tolerance was not reached."""


class PluginError(IGError):
    """A plugin broke its side of the contract."""


class NameClashError(PluginError):
    """Two plugins registered one name."""


class MissingFrameworkError(PluginError):
    """The framework of a domain is not installed."""


class StorageError(IGError, OSError):
    """A file or folder could not be read or written."""


class IGWarning(UserWarning):
    """Base of all warnings of ig_core."""


class NotConvergedWarning(IGWarning):
    """The result says by how much it missed its tolerance."""


class ModelChangedWarning(IGWarning):
    """The model wrote to its own parameters while it ran; they are not restored."""


class PluginWarning(IGWarning):
    """A plugin was left out; ``ig plugins`` says why."""
