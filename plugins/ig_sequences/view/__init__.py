"""What a sequence's attribution looks like, and how attribution fades with the lag."""

from ig_sequences.view.decay import decay_html, profile
from ig_sequences.view.faithfulness import faithfulness, faithfulness_html
from ig_sequences.view.heat import heat_map, picture
from ig_sequences.view.series import drawing, table
from ig_sequences.view.sweep import sweep, sweep_html

__all__ = [
    "decay_html", "drawing", "faithfulness", "faithfulness_html", "heat_map", "picture",
    "profile", "sweep", "sweep_html", "table",
]  # fmt: skip
