"""Episodes: environments that an agent plays, what it did there, and where it has been."""

from ig_rl.episodes.episode import MOST_STEPS, Episode, Episodes, States, play, seeds_of

__all__ = ["MOST_STEPS", "Episode", "Episodes", "States", "play", "seeds_of"]
