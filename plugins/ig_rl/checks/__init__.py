"""Checks of what attributions say of an agent."""

from __future__ import annotations

from ig_rl.checks.deletion import Deletion, deletion
from ig_rl.checks.faithfulness import CHECKS, Faithfulness, faithfulness
from ig_rl.checks.flips import Flips, flips
from ig_rl.checks.freezing import Freezing, frozen
from ig_rl.checks.interval import Estimate
from ig_rl.checks.judged import Judged, judged
from ig_rl.checks.planting import Planted, planted
from ig_rl.checks.randomisation import Randomised, randomised

__all__ = [
    "CHECKS", "Deletion", "Estimate", "Faithfulness", "Flips", "Freezing", "Judged", "Planted",
    "Randomised", "deletion", "faithfulness", "flips", "frozen", "judged", "planted", "randomised",
]  # fmt: skip
