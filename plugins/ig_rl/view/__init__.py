"""What is shown of agents: the parts of one decision."""

from __future__ import annotations

from ig_rl.view.decision import around, quantity

__all__ = ["around", "quantity"]
