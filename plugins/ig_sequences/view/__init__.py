"""What a sequence's attribution looks like, and how attribution fades with the lag."""

from ig_sequences.view.decay import profile
from ig_sequences.view.series import strip

__all__ = ["profile", "strip"]
