"""What a sequence's attribution looks like, and how attribution fades with the lag."""

from ig_sequences.view.decay import profile
from ig_sequences.view.heat import heat_map, picture
from ig_sequences.view.series import drawing, table

__all__ = ["drawing", "heat_map", "picture", "profile", "table"]
