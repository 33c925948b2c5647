"""What proves a domain right: the conformance kit, and toys with known attributions."""

from ig_core.testing.checks import checks
from ig_core.testing.kit import Check, ConformanceError, NotApplicable, Subject
from ig_core.testing.toys import TOYS, Toy

__all__ = ["TOYS", "Check", "ConformanceError", "NotApplicable", "Subject", "Toy", "checks"]
