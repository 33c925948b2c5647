"""An Analysis turns many attributions into one finding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from ig_core.attribution import Attribution


class Analysis(ABC):
    """Many attributions in, one finding out: the half-life of a memory, the top words of a class.

    A finding is a dataclass of the plugin's own; the benchmark and the views only pass it on.
    """

    name: ClassVar[str]
    fits: ClassVar[tuple[str, ...]] = ()
    """Domains that the analysis is limited to; empty for all."""

    @abstractmethod
    def find(self, attributions: Sequence[Attribution], **options: Any) -> Any:
        """The finding.

        Raises:
            InputError: there are too few attributions, or they cannot be compared.
        """
