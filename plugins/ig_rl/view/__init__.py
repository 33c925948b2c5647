"""What is shown of agents: the parts of one decision, of an episode, and of many states."""

from ig_rl.view.agreement import agreement, agreement_html
from ig_rl.view.decision import decision, decision_html, quantity, question, sides
from ig_rl.view.importance import importance, importance_html
from ig_rl.view.screens import overlay
from ig_rl.view.timeline import timeline, timeline_html
from ig_rl.view.video import pictures as video_pictures
from ig_rl.view.video import video

__all__ = [
    "agreement", "agreement_html", "decision", "decision_html", "importance", "importance_html",
    "overlay", "quantity", "question", "sides", "timeline", "timeline_html", "video",
    "video_pictures",
]  # fmt: skip
