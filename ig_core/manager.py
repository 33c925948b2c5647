"""The PluginManager finds plugins, checks what they register, and keeps their faults apart."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, cast

import pluggy

from ig_core import builtin, hookspecs
from ig_core.domain import Domain
from ig_core.errors import (
    InputError,
    MissingFrameworkError,
    NameClashError,
    PluginError,
    PluginWarning,
    UnknownNameError,
)

FALLBACK = "tensor"
"""The domain that is guessed only when no other accepts a model."""

PluginStatus = Literal["ok", "missing", "disabled", "failed"]


@dataclass(frozen=True)
class PluginRecord:
    """One plugin as ``ig plugins`` shows it.

    ``missing`` means that it works, but that the framework of a domain of it is not installed.
    """

    name: str
    distribution: str = ""
    version: str = ""
    status: PluginStatus = "ok"
    error: str = ""
    components: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Component:
    kind: str
    name: str
    value: Any
    plugin: str
    fits: tuple[str, ...]

    def clashes(self, other: _Component) -> bool:
        """Whether one name would mean two things; a limited component may hide a general one."""
        if (self.kind, self.name) != (other.kind, other.name):
            return False
        if self.fits and other.fits:
            return not set(self.fits).isdisjoint(other.fits)
        return not self.fits and not other.fits


class PluginManager:
    """Components by kind and name, from the core and from every plugin that keeps its contract.

    A plugin that breaks it (does not import, raises, registers the wrong thing or a name that is
    taken) is left out whole, with a warning and a record; with ``strict`` it raises PluginError.
    """

    def __init__(self, *, disable: Iterable[str] = (), strict: bool = False) -> None:
        self.strict = strict
        self._disabled = set(disable)
        self._pluggy = pluggy.PluginManager(hookspecs.MARKER)
        self._pluggy.add_hookspecs(hookspecs)
        self._records: dict[str, PluginRecord] = {}
        self._components: list[_Component] = []
        self.register(builtin, "core", distribution="ig-core")

    @property
    def records(self) -> Sequence[PluginRecord]:
        """All plugins but the core itself, in the order in which they were found."""
        return [record for name, record in self._records.items() if name != "core"]

    def load_entry_points(self, found: Iterable[EntryPoint] | None = None) -> None:
        """Register every plugin of the group ``ig_core.plugins``."""
        points = entry_points(group=hookspecs.GROUP) if found is None else found
        for point in sorted(points, key=lambda p: (p.name, p.value)):
            distribution = getattr(point.dist, "name", "") or ""
            version = getattr(point.dist, "version", "") or ""
            record = PluginRecord(point.name, distribution, version)
            if point.name in self._disabled:
                self._records[point.name] = replace(record, status="disabled")
                continue
            try:
                plugin = point.load()
            except (Exception, SystemExit) as error:
                self._leave_out(record, PluginError(f"it does not import: {_told(error)}"), error)
                continue
            self.register(plugin, point.name, distribution=distribution, version=version)

    def register(
        self, plugin: Any, name: str, *, distribution: str = "", version: str = ""
    ) -> None:
        """Add one plugin: a module or object with marked ``ig_*`` functions."""
        record = PluginRecord(name, distribution, version)
        try:
            if name in self._records:
                other = self._records[name].distribution or "another plugin"
                raise NameClashError(
                    f"the plugin name {name!r} is taken by {other} (again in {distribution or '?'})"
                )
            if known := self._pluggy.get_name(plugin):
                raise NameClashError(f"it is registered as {known!r} already")
            _check_marks(plugin)
            self._pluggy.register(plugin, name)
            components = list(self._collect(name))
            self._check_names(components)
        except Exception as error:
            if self._pluggy.has_plugin(name) and self._pluggy.get_plugin(name) is plugin:
                self._pluggy.unregister(plugin, name)
            self._leave_out(record, error, error)
            return
        self._components += components
        missing = _missing([c.value for c in components if c.kind == "domain"])
        self._records[name] = replace(
            record,
            status="missing" if missing else "ok",
            error=missing,
            components=tuple(f"{c.kind}:{c.name}" for c in components),
        )

    def names(self, kind: str, domain: str | None = None) -> list[str]:
        """The names of all components of a kind, or of those that fit a domain."""
        return sorted({c.name for c in self._all(kind, domain)})

    def find(self, kind: str, name: str, domain: str | None = None) -> Any:
        """The component of that kind and name.

        Raises:
            UnknownNameError: there is none that fits the domain.
        """
        for component in self._all(kind, domain):
            if component.name == name:
                return component.value
        raise UnknownNameError(kind, name, self.names(kind, domain))

    def all(self, kind: str, domain: str | None = None) -> list[Any]:
        """All components of a kind, or those that fit a domain, in order of registration."""
        return [component.value for component in self._all(kind, domain)]

    def domain(self, name: str) -> type[Domain]:
        """The domain of that name.

        Raises:
            UnknownNameError: there is none.
            MissingFrameworkError: its framework is not installed.
        """
        found = cast(type[Domain], self.find("domain", name))
        if missing := _missing([found]):
            raise MissingFrameworkError(missing)
        return found

    def guess(self, model: Any, raw: Any) -> type[Domain]:
        """The domain that accepts a model and input.

        Raises:
            InputError: none or several do.
        """
        accepted = [
            domain
            for domain in self.all("domain")
            if all(module in sys.modules for module in domain.requires)
            and _accepts(domain, model, raw)
        ]
        special = [domain for domain in accepted if domain.name != FALLBACK] or accepted
        if len(special) != 1:
            which = [domain.name for domain in special]
            raise InputError(
                f"cannot tell the domain of a {type(model).__name__} on a {type(raw).__name__}: "
                f"{'accepted by ' + ', '.join(which) if which else 'none accepts it'}; pass "
                f"domain=, one of {', '.join(self.names('domain'))}"
            )
        return cast(type[Domain], special[0])

    def _all(self, kind: str, domain: str | None) -> Iterator[_Component]:
        """Components of a kind; one made for the domain hides its namesake made for all."""
        of_kind = [c for c in self._components if c.kind == kind]
        own = {c.name for c in of_kind if domain in c.fits}
        for component in of_kind:
            general = not component.fits and component.name not in own
            if domain is None or general or domain in component.fits:
                yield component

    def _collect(self, plugin: str) -> Iterator[_Component]:
        """Call each hook of one plugin on its own: one that raises must not cost the others."""
        for hook, (kind, base) in hookspecs.KINDS.items():
            for implementation in getattr(self._pluggy.hook, hook).get_hookimpls():
                if implementation.plugin_name == plugin:
                    for value in list(_called(hook, implementation.function)):
                        yield _component(hook, kind, base, value, plugin)

    def _check_names(self, components: Sequence[_Component]) -> None:
        for position, component in enumerate(components):
            for other in (*self._components, *components[:position]):
                if component.clashes(other):
                    raise NameClashError(
                        f"the {component.kind} name {component.name!r} is registered by both "
                        f"{other.plugin!r} and {component.plugin!r}"
                    )

    def _leave_out(self, record: PluginRecord, error: Exception, cause: BaseException) -> None:
        told = str(error) if isinstance(error, PluginError) else _told(error)
        if self.strict or record.name == "core":
            kind = type(error) if isinstance(error, PluginError) else PluginError
            raise kind(f"plugin {record.name!r}: {told}") from cause
        if record.name in self._records:
            record = replace(record, name=f"{record.name} ({record.distribution or 'again'})")
        self._records[record.name] = replace(record, status="failed", error=told)
        warnings.warn(f"plugin {record.name!r} was left out: {told}", PluginWarning, stacklevel=2)


@cache
def plugins() -> PluginManager:
    """The manager of this process, loaded at first use.

    ``IG_DISABLE_PLUGINS=a,b`` leaves plugins out; ``IG_STRICT_PLUGINS=1`` raises their faults.
    """
    disabled = os.environ.get("IG_DISABLE_PLUGINS", "")
    manager = PluginManager(
        disable=filter(None, (name.strip() for name in disabled.split(","))),
        strict=os.environ.get("IG_STRICT_PLUGINS", "") not in ("", "0"),
    )
    manager.load_entry_points()
    return manager


def _check_marks(plugin: Any) -> None:
    """What is named like a hook is marked, and the reverse; pluggy would stay silent."""
    for name in dir(plugin):
        value = getattr(plugin, name)
        if not inspect.isroutine(value):
            continue
        marked = hasattr(value, f"{hookspecs.MARKER}_impl")
        if not (marked or name.startswith("ig_")):
            continue
        close = get_close_matches(name, hookspecs.KINDS, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        if name in hookspecs.KINDS and not marked:
            raise PluginError(f"{name} is not marked: put @ig_core.hookimpl above it")
        if name not in hookspecs.KINDS and (marked or close):
            raise PluginError(f"{name} is no hook{hint} (hooks: {', '.join(hookspecs.KINDS)})")


def _called(hook: str, function: Any) -> Iterator[Any]:
    try:
        result = function()
        if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
            raise PluginError(f"{hook} must return an iterable (got {type(result).__name__})")
        yield from result
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{hook} raised {_told(error)}") from error


def _component(hook: str, kind: str, base: type, value: Any, plugin: str) -> _Component:
    if kind == "case":
        if not isinstance(value, base):
            raise PluginError(
                f"{hook} must return {base.__name__} objects (got {type(value).__name__})"
            )
    else:
        if not (isinstance(value, type) and issubclass(value, base)):
            raise PluginError(f"{hook} must return subclasses of {base.__name__} (got {value!r})")
        if inspect.isabstract(value):
            left = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
            raise PluginError(f"{hook}: {value.__name__} is still abstract: it lacks {left}")
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not name:
        raise PluginError(f"{hook}: {value!r} needs a class attribute name, a non-empty string")
    for several in ("fits", "requires"):
        given = getattr(value, several, ())
        if not isinstance(given, (tuple, list)) or not all(isinstance(one, str) for one in given):
            raise PluginError(
                f"{hook}: {name!r} needs a tuple of names as {several} (got {given!r})"
            )
    return _Component(kind, name, value, plugin, tuple(getattr(value, "fits", ())))


def _accepts(domain: type[Domain], model: Any, raw: Any) -> bool:
    try:
        return bool(domain.accepts(model, raw))
    except Exception as error:
        warnings.warn(
            f"domain {domain.name!r} could not be asked whether it accepts the model: "
            f"{_told(error)}",
            PluginWarning,
            stacklevel=4,
        )
        return False


def _missing(domains: Iterable[type[Domain]]) -> str:
    """What to install for domains whose framework is absent; empty if nothing."""
    told = []
    for domain in domains:
        absent = [m for m in domain.requires if m not in sys.modules and not importable(m)]
        if absent:
            how = f"pip install '{domain.extra}'" if domain.extra else f"install {absent[0]}"
            told.append(f"domain {domain.name!r} needs {', '.join(absent)}: {how}")
    return "; ".join(told)


def importable(module: str) -> bool:
    """Whether a package is installed; nothing is imported but the parents of a dotted name."""
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # a dotted name imports its parent, which may fail in any way
        return False


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
