"""Faithfulness: every check of what attributions say of an agent, in one finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ig_core import InputError, Table, UnknownNameError, page
from ig_rl.checks.deletion import Deletion, deletion_of
from ig_rl.checks.flips import PART, Flips, flips_of
from ig_rl.checks.freezing import STILL, Freezing, frozen
from ig_rl.checks.interval import Estimate
from ig_rl.checks.judged import RANDOM, asked, explained, judged, scores_of
from ig_rl.checks.planting import Planted, planted
from ig_rl.checks.randomisation import Randomised, randomised
from ig_rl.checks.watch import watching
from ig_rl.counts import counted
from ig_rl.episodes import States, play, seeds_of, visited

CHECKS = ("flips", "deletion", "frozen", "planted", "randomised")

RANKING = ("flips", "deletion", "randomised")
"""Those that say nothing of a single feature."""

TITLES = {
    "flips": "Does the greedy action change without the features that are named first?",
    "deletion": "How fast does the gap fall when features are removed?",
    "frozen": "What does the return cost when the agent sees a feature frozen?",
    "planted": "Does a feature that cannot matter get exactly zero?",
    "randomised": "Do the scores change when the weights are lost?",
}

FEW = 16
"""States that planted features are looked for at, and copies explained at."""

COPIES = 5

FEW_IMAGES, IMAGE_COPIES = 4, 3
"""The same of images, each of which costs as much as thousands of short observations."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Faithfulness:
    """What attributions of one agent are worth; a check that could not be made is None.

    ``notes`` say why it could not, and what the states are.
    """

    agent: str
    states: int
    flips: Flips | None = None
    deletion: Deletion | None = None
    frozen: Freezing | None = None
    planted: Planted | None = None
    randomised: Randomised | None = None
    notes: Sequence[str] = ()

    @property
    def sections(self) -> dict[str, Flips | Deletion | Freezing | Planted | Randomised]:
        """The checks that were made, by name."""
        found = {name: getattr(self, name) for name in CHECKS}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def verdicts(self) -> dict[str, str]:
        """What every check says, in one sentence each."""
        return {name: one.verdict for name, one in self.sections.items()}

    def table(self) -> Table:
        """The headline of every check, one number a row."""
        rows: list[list[str | float]] = [
            [check, what, one.mean, one.low, one.high]
            for check, what, one in (
                *self._flips(), *self._deletion(), *self._frozen(), *self._others()
            )
        ]  # fmt: skip
        notes = [f"{self.agent}, {self.states} states", *self.notes]
        return Table(["check", "what", "mean", "95 % low", "95 % high"], rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """All checks, as JSON values; NaN becomes None."""
        made = {name: one.to_dict() for name, one in self.sections.items()}
        return {
            "agent": self.agent,
            "states": self.states,
            "notes": list(self.notes),
            "verdicts": self.verdicts,
            **made,
        }

    def to_text(self) -> str:
        """What the checks say, the headlines, and the table of every check, as plain text."""
        said = "\n".join(f"* {verdict}" for verdict in self.verdicts.values())
        parts = [f"{TITLES[name]}\n{one.table().to_text()}" for name, one in self.sections.items()]
        return "\n\n".join([*([said] if said else []), self.table().to_text(), *parts])

    def to_csv(self) -> str:
        """The headlines as comma-separated values, the numbers in full."""
        return self.table().to_csv()

    def to_html(self, path: str | Path | None = None) -> str:
        """Plots and tables as a self-contained page; also written to ``path`` if given.

        Raises:
            StorageError: the file cannot be written.
        """
        from ig_rl.view import checks

        return page("Faithfulness", checks.faithfulness_html(self), path=path)

    def plot(self) -> Any:
        """A matplotlib figure: a panel for every check but the planted features.

        Raises:
            InputError: no check was made that could be drawn.
            MissingFrameworkError: matplotlib is not installed.
        """
        from ig_rl.view import checks

        return checks.faithfulness(self)

    def _flips(self) -> list[tuple[str, str, Estimate]]:
        if (found := self.flips) is None:
            return []
        names = [*found.rankings[:2], f"|{found.rankings[0]}|", f"|{found.rankings[1]}|", RANDOM]
        rows = [("flips", f"top of {name}", found.rate(name)) for name in names]
        for one, other in ((names[0], names[1]), (names[2], names[3]), (names[0], RANDOM)):
            rows.append(("flips", f"{one} less {other}", found.difference(one, other)))
        return rows

    def _deletion(self) -> list[tuple[str, str, Estimate]]:
        if (found := self.deletion) is None:
            return []
        return [("deletion", f"area of {name}", found.area(name)) for name in found.rankings[:2]]

    def _frozen(self) -> list[tuple[str, str, Estimate]]:
        if (found := self.frozen) is None:
            return []
        rows = [
            ("frozen", f"change of return, first of {name}: {found.names[j]}", found.change(j))
            for name in found.importance
            for j in [found.first(name)]
        ]
        rows = [
            (check, f"{what} ({STILL})" if found.still(found.first(name)) else what, change)
            for (check, what, change), name in zip(rows, found.importance, strict=True)
        ]
        if (worst := found.worst) is None:
            return rows
        told = f"change of return, most costly: {found.names[worst]}"
        return [*rows, ("frozen", told, found.change(worst))]

    def _others(self) -> list[tuple[str, str, Estimate]]:
        rows = []
        if self.planted is not None:
            worst = float(self.planted.dead.max())
            rows.append(("planted", "largest |score| of a dead feature", _exact(worst)))
        if self.randomised is not None:
            last = len(self.randomised.layers) - 1
            rho = self.randomised.correlation(last)
            rows.append(("randomised", "rank correlation without any weights", rho))
        return rows


def faithfulness(
    model: Any,
    env: Any,
    seeds: Iterable[int] = range(20),
    *,
    states: Any = None,
    count: int = 100,
    k: int | None = None,
    copies: int | None = None,
    checks: Sequence[str] = CHECKS,
    progress: bool | None = None,
    **options: Any,
) -> Faithfulness:
    """Check what attributions say of an agent: flips, deletion, freezing, planted, randomised.

    Every check is a function of its own as well: :func:`flips`, :func:`deletion`, :func:`frozen`,
    :func:`planted`, :func:`randomised`. Flips and deletion are of discrete actions only. Model and
    environment are left as they are: the checks use copies.

    >>> found = faithfulness(model, env, [0], checks=["planted"])
    >>> found.states, float(found.planted.dead.max())
    (100, 0.0)

    Args:
        env: as for :func:`ig_rl.episodes.play`: a Gymnasium environment or a ``VecEnv``.
        seeds: of the episodes that are played, for visited states and with features frozen.
        states: states that the agent visited; those of the episodes by default, whose states are
            then not taken to be independent: intervals draw whole episodes.
        count: so many of the states are judged, drawn at random.
        k: so many features are replaced together; 1 by default, and 5 % of the units of an image.
        copies: copies whose weights are lost; 5 by default, and 3 where observations are images.
        checks: the names of those to make; all by default.
        progress: True for a bar, False for none; by default one where there is a terminal.
        **options: of :class:`ig_rl.AgentDomain`, ``baseline``, and ``tol``, ``budget``, ``path``,
            ``rule``, ``steps``, ``device`` and ``seed`` of :func:`ig_core.attribute`.

    Raises:
        InputError: there is no seed or state, or no option of that name.
        UnknownNameError: there is no such check.
    """
    for name in checks:
        if name not in CHECKS:
            raise UnknownNameError("check", str(name), CHECKS)
    counted("count", count)
    _known(options)
    options = {"surroundings": env, **options}
    chosen = seeds_of(seeds)
    pool, episodes, played = states, None, None
    if states is None:
        with asked(None, None, options)[0](model).prepared():
            played = play(model, env, chosen, vecnormalize=options.get("vecnormalize") or None)
        pool = played.states
        episodes = np.repeat(np.arange(len(chosen)), [len(one) for one in played.episodes])
    domain = asked(None, pool, options)[0](model)
    image = any(part.grid.kind == "pixel" for part in domain.observations.parts.values())
    some, drawn = _drawn(pool, count, options.get("seed", 0))
    groups = None if episodes is None else episodes[drawn].tolist()
    given = {**options, "visited": pool}
    few = visited.spread(some, FEW_IMAGES if image else FEW)
    copies = (IMAGE_COPIES if image else COPIES) if copies is None else copies
    notes = [] if groups is None else [f"states are of {len(set(groups))} episodes"]
    if image:
        notes.append(
            f"pixels decide together: {100 * PART:.0f} % of them are replaced at once unless k= "
            f"says how many; lost weights are of {len(few)} states"
        )
    wanted = [name for name in CHECKS if name in checks]
    if len(domain.feature_names) == 1 and (left := [n for n in RANKING if n in wanted]):
        wanted = [name for name in wanted if name not in left]
        notes.append(
            f"one feature only: nothing to rank, so {', '.join(left)} are left out; by('element') "
            "of a result parts its score among the elements"
        )
    discrete = domain.agent.count and "gap" in domain.agent.explains
    if not discrete and {"flips", "deletion"} & {*wanted}:
        wanted = [name for name in wanted if name not in ("flips", "deletion")]
        notes.append("flips and deletion are of single discrete actions only")
    with watching(progress) as watch:
        found = None
        importance: Mapping[str, Any] = {}
        if discrete and {"flips", "deletion", "frozen"} & {*wanted}:
            found = judged(model, some, watch=watch, **given)
            importance = {name: found.scores[name] for name in [*found.scores][:2]}
        elif "frozen" in wanted:
            importance = _importance(model, some, given)
        makers: dict[str, Callable[[], Any]] = {
            "planted": lambda: planted(model, few, watch=watch, **given),
            "randomised": lambda: randomised(model, few, copies=copies, watch=watch, **given),
            "frozen": lambda: frozen(
                model, env, chosen, states=pool, importance=importance, intact=played,
                watch=watch, **options,
            ),
        }  # fmt: skip
        if found is not None:
            makers["flips"] = lambda: flips_of(found, k=k, groups=groups, watch=watch)
            makers["deletion"] = lambda: deletion_of(found, groups=groups, watch=watch)
        made = {name: _made(name, makers[name], notes) for name in wanted}
    return Faithfulness(agent=type(model).__name__, states=len(some), notes=notes, **made)


def _drawn(pool: States, count: int, seed: int) -> tuple[list[Any], Int[np.ndarray, " drawn"]]:
    """At most so many of the states, drawn without replacement, and their places among all."""
    each = visited.each(pool)
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(len(each), min(count, len(each)), replace=False))
    return [each[i] for i in places], places


def _known(options: Mapping[str, Any]) -> None:
    """Refuse options of neither the checks, the domain nor the engine."""
    try:
        asked(None, None, options)
    except InputError as error:
        own = "states, count, k, copies, checks, progress"
        raise InputError(f"{error}; of faithfulness: {own}") from error


def _made(name: str, make: Callable[[], Any], notes: list[str]) -> Any:
    """The finding of a check; a note, and None, where it does not suit the agent."""
    try:
        return make()
    except InputError as error:
        notes.append(f"{name} left out: {error}")
        return None


def _importance(
    model: Any, states: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Float[np.ndarray, "states units"]]:
    """The scores of what an agent with continuous actions explains by itself."""
    own = {name: value for name, value in options.items() if name != "visited"}
    ask, engine = asked(None, options["visited"], own)
    domain = ask(model)
    return {f"{domain.explain} IG": scores_of(explained(model, states, domain, **engine))}


def _exact(value: float) -> Estimate:
    """A number that was not estimated."""
    return Estimate(value, value, value)
