"""The colours that the figures of sequences share."""

from __future__ import annotations

RED, BLUE, PALE_BLUE, PURPLE = "#d6604d", "#2b6ca3", "#4393c3", "#7b5ea7"
GREY, INK = "#8a929b", "#1b1f24"
