"""Timeline: what every state feature did at every step of an episode, for one pair of actions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from ig_core import InputError, Table, page, plain_number, plain_numbers
from ig_rl import view

MOST_FEATURES = 8
"""Features that a text names; the tables hold all of them."""

MOST_STEPS = 8
"""Steps that a text shows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Timeline:
    """One attribution per step of an episode, all of the same number.

    ``scores[t]`` are the attributions of ``names`` at step t, ``values[t]`` what the features were
    then, in the environment's own numbers, ``outputs[t]`` the explained number there and
    ``base[t]`` at the start of the path, so that up to ``residuals[t]`` ::

        scores[t].sum() == outputs[t] - base[t]

    ``actions[t]`` is what the agent did at that state, and ``rewards[t]`` what it was paid for it.
    ``pair`` are the actions in ``quantity``, the same at all steps; it is empty where there are
    none, or where each step has its own, which ``notes`` then say. ``ties`` name steps at which
    the greedy action was tied. ``frames[t]`` is the environment's picture of the state.
    """

    scores: Float[np.ndarray, "steps features"]
    values: Float[np.ndarray, "steps features"]
    names: Sequence[str]
    actions: Int[np.ndarray, " steps"] | Float[np.ndarray, "steps size"]
    action_names: Sequence[str]
    rewards: Float[np.ndarray, " steps"]
    outputs: Float[np.ndarray, " steps"]
    base: Float[np.ndarray, " steps"]
    residuals: Float[np.ndarray, " steps"]
    statuses: Sequence[str]
    pair: tuple[int, ...]
    explain: str
    quantity: str
    baseline: str
    agent: str = ""
    seed: int | None = None
    ties: Sequence[str] = ()
    image: Sequence[int] = ()
    """Of pixels as features: how many frames, rows and columns they are."""
    frames: UInt8[np.ndarray, "steps height width 3"] | None = None
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def total(self) -> float:
        """The episode's return, without a discount."""
        return float(self.rewards.sum())

    @property
    def residual(self) -> float:
        """The worst step's distance from completeness; NaN if a step failed."""
        return float(np.abs(self.residuals).max())

    @property
    def strength(self) -> Float[np.ndarray, " features"]:
        """Mean over steps of abs(score), leaving out steps that failed."""
        known = self.scores[np.isfinite(self.scores).all(1)]
        return np.abs(known).mean(0) if len(known) else np.full(len(self.names), math.nan)

    @property
    def sign_flips(self) -> float:
        """Share of steps whose strongest feature has the opposite sign one step later.

        Where the pair of actions is fixed these are the agent's own; against the runner-up, which
        changes, some are of the question. In five episodes of a DQN that lands LunarLander none
        flip, and 34 % against the runner-up; of one on CartPole, which pushes to and fro, 57 % do.
        NaN of a single step.
        """
        here, later = self.scores[:-1], self.scores[1:]
        known = np.isfinite(here).all(1) & np.isfinite(later).all(1)
        here, later = here[known], later[known]
        if not len(here):
            return math.nan
        top = np.abs(here).argmax(1, keepdims=True)
        both = np.take_along_axis(here, top, 1) * np.take_along_axis(later, top, 1)
        return float((both < 0).mean())

    def action(self, step: int) -> str:
        """What the agent did at a step, by name or as numbers."""
        done = self.actions[step]
        if done.ndim:
            return f"[{', '.join(f'{part:+.3g}' for part in done.flatten().tolist())}]"
        return self.action_names[int(done)]

    def strongest(self, k: int = MOST_FEATURES) -> list[int]:
        """The features of largest :attr:`strength`, the first of them the largest."""
        return np.argsort(-self.strength, kind="stable")[: max(k, 0)].tolist()

    def table(self, features: Sequence[int] | None = None) -> Table:
        """One row a step: what was done and paid, the explained number, and every score.

        With ``features`` only theirs, by number, as :meth:`strongest` gives them.
        """
        some = range(len(self.names)) if features is None else features
        scores = self.scores[:, list(some)].tolist()
        return Table(
            ["step", "action", "reward", "F", *(self.names[i] for i in some)],
            [[*self._happened(t), *scores[t]] for t in range(len(self))],
            self._facts(),
        )

    def to_csv(self) -> str:
        """Time by features, scores and then values, all numbers in full."""
        columns = ["step", "action", "reward", "F", "F(baseline)", "residual", "status"]
        columns += [*self.names, *(f"value of {name}" for name in self.names)]
        rows: list[list[str | int | float]] = [
            [
                *self._happened(t),
                float(self.base[t]),
                float(self.residuals[t]),
                self.statuses[t],
                *self.scores[t].tolist(),
                *self.values[t].tolist(),
            ]
            for t in range(len(self))
        ]
        return Table(columns, rows).to_csv()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the frames, as JSON values; NaN and infinity become None."""
        arrays = (
            "scores", "values", "actions", "rewards", "outputs", "base", "residuals", "strength",
        )  # fmt: skip
        lists = ("names", "action_names", "statuses", "pair", "ties", "image", "notes")
        words = ("explain", "quantity", "baseline", "agent", "seed")
        return {
            **{name: plain_numbers(getattr(self, name)) for name in arrays},
            **{name: list(getattr(self, name)) for name in lists},
            **{name: getattr(self, name) for name in words},
            **{n: plain_number(getattr(self, n)) for n in ("total", "residual", "sign_flips")},
        }

    def to_text(self) -> str:
        """What was explained, the strongest features, and some steps, as plain text."""
        order = self.strongest()
        means = np.nanmean(self.scores, 0) if np.isfinite(self.scores).any() else self.strength
        strongest = Table(
            ["feature", "mean |score|", "mean score"],
            [[self.names[i], float(self.strength[i]), float(means[i])] for i in order],
            [f"and {more} more"] if (more := len(self.names) - len(order)) else [],
        )
        shown = np.unique(np.linspace(0, len(self) - 1, MOST_STEPS).round().astype(int)).tolist()
        steps = Table(
            ["step", "action", "reward", "F", *(self.names[i] for i in order)],
            [[*self._happened(t), *self.scores[t, order].tolist()] for t in shown],
        )
        facts = Table(self._facts()[:1], [], self._facts()[1:])
        return "\n\n".join(one.to_text() for one in (facts, strongest, steps))

    def to_html(self, path: str | Path | None = None) -> str:
        """Plot and table as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        return page(f"Timeline of {self.quantity}", view.timeline_html(self), path=path)

    def plot(self) -> Any:
        """A matplotlib figure: scores over time, with what was done and paid.

        Raises:
            MissingFrameworkError: matplotlib is not installed.
        """
        return view.timeline(self)

    def video(self, path: str | Path, *, fps: float = 20.0) -> Path:
        """The episode's frames with what speaks for each action, as ``.mp4`` or ``.gif``.

        Raises:
            InputError: there are no frames and the observations are no images.
            MissingFrameworkError: imageio is not installed.
            StorageError: the file cannot be written.
        """
        if self.frames is None and not self.image:
            raise InputError(
                "this timeline has no frames: make the environment with render_mode='rgb_array' "
                "and call explain_episode with render=True"
            )
        return view.video(self, path, fps)

    def __repr__(self) -> str:
        return (
            f"Timeline({self.quantity}, {len(self)} steps, return {self.total:.4g}, strongest: "
            f"{', '.join(self.names[i] for i in self.strongest(3))})"
        )

    def _happened(self, t: int) -> list[str | int | float]:
        return [t, self.action(t), float(self.rewards[t]), float(self.outputs[t])]

    def _facts(self) -> list[str]:
        """Target, baseline and completeness, and what there is to beware of."""
        seed = "" if self.seed is None else f" with seed {self.seed}"
        base = self.base[np.isfinite(self.base)]
        low, high = (float(base.min()), float(base.max())) if len(base) else (math.nan, math.nan)
        there = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        counts = Counter(self.statuses)
        ties = f"; {more} more" if (more := len(self.ties) - 3) > 0 else ""
        return [
            f"{self.quantity} of {self.agent or 'the agent'}: {len(self)} steps{seed}, "
            f"return {self.total:.6g}",
            f"baseline: {self.baseline}, where F is {there}",
            f"completeness of {self.quantity}: worst residual {self.residual:.1e}; "
            + ", ".join(f"{count} {status}" for status, count in counts.items()),
            *([f"ties: {'; '.join(self.ties[:3])}{ties}"] if self.ties else []),
            *self.notes,
        ]
