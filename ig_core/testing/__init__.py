"""What proves a domain right: the conformance kit, and toys with known attributions."""

from ig_core.testing.toys import TOYS, Toy

__all__ = ["TOYS", "Toy"]
