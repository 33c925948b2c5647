"""What is installed beside the core, and asked for when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ig_core import MissingFrameworkError


def scipy(part: str) -> Any:
    """A part of scipy, such as ``"optimize"``.

    Raises:
        MissingFrameworkError: scipy is not installed.
    """
    try:
        return import_module(f"scipy.{part}")
    except ImportError as error:
        raise MissingFrameworkError("this needs scipy: pip install 'ig-core[sequences]'") from error
