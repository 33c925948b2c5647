"""Names that others rely on, each with its documentation."""

import ast
import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path

import pytest

import ig_core
from ig_core import hookspecs

ROOT = Path(__file__).parents[2]
PLUGINS = ("ig_graphs", "ig_rl", "ig_sequences", "ig_text")

PUBLIC = [
    "Agreement", "Analysis", "Archive", "Attribution", "Baseline", "BaselineAgreement",
    "BaselineError", "BenchmarkCase", "Card", "Cat", "Constant", "Domain", "Example",
    "ForwardError", "Game", "Given", "IGError", "IGWarning", "InputError", "Integral", "Layout",
    "Loaded", "Mean", "Method", "Metric", "MissingFrameworkError", "ModelChangedWarning",
    "ModelError", "NameClashError", "NoGradientError", "NonFiniteError", "NotConvergedError",
    "NotConvergedWarning", "OutputError", "Pad", "Path", "Piecewise", "PluginError",
    "PluginManager", "PluginRecord", "PluginWarning", "Progress", "Rows", "Rule", "Samples",
    "Selector", "Site", "Stack", "StorageError", "Straight", "Table", "Target", "TargetError",
    "Task", "Units", "UnknownNameError", "Zeros", "attribute", "clean", "embedded_figure",
    "figure_words", "heat", "hookimpl", "load", "made_once", "new_figure", "page", "pick",
    "plain_number", "plain_numbers", "plugins", "prepare", "saved_figure", "shortened", "signed",
    "templates",
]  # fmt: skip

TESTING = ["TOYS", "Check", "ConformanceError", "NotApplicable", "Subject", "Toy", "checks"]

HOOKS = [
    "ig_analyses", "ig_baselines", "ig_benchmark_cases", "ig_domains", "ig_methods", "ig_metrics",
    "ig_paths",
]  # fmt: skip


def test_the_public_names_are_these():
    assert sorted(ig_core.__all__) == PUBLIC


def test_the_names_of_the_kit_are_these():
    assert importlib.import_module("ig_core.testing").__all__ == TESTING


def test_the_core_exports_nothing_else():
    """Whatever else the module holds is a module of its own, and named like one."""
    others = {name for name in vars(ig_core) if not name.startswith("_")} - {*PUBLIC}
    assert all(inspect.ismodule(getattr(ig_core, name)) for name in others)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_class_or_function_has_a_docstring(name):
    value = getattr(ig_core, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert (value.__doc__ or "").strip()
        assert not value.__doc__.startswith(f"{name}("), "that is what dataclass writes by itself"


def documented_assignments(path):
    """Names that are assigned in a module and followed by a docstring of their own."""
    body = ast.parse(path.read_text()).body
    for statement, following in itertools.pairwise(body):
        named = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield from (target.id for target in named if isinstance(target, ast.Name))


@pytest.mark.parametrize("name", [n for n in PUBLIC if n not in {"plugins"}])
def test_a_public_alias_has_a_docstring(name):
    value = getattr(ig_core, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        documented = {
            n for path in (ROOT / "ig_core").glob("*.py") for n in documented_assignments(path)
        }
        assert name in documented


@pytest.mark.parametrize("name", [n for n in PUBLIC if inspect.isclass(getattr(ig_core, n))])
def test_public_methods_have_docstrings(name):
    kind = getattr(ig_core, name)
    for method, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        plain = plain.fget if isinstance(plain, property) else plain
        if not method.startswith("_") and inspect.isfunction(plain):
            assert inspect.getdoc(getattr(kind, method)), f"{name}.{method}"


def test_the_hooks_are_these_and_all_have_a_kind():
    specified = [n for n in vars(hookspecs) if hasattr(getattr(hookspecs, n), "ig_core_spec")]
    assert sorted(specified) == HOOKS == sorted(hookspecs.KINDS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_and_takes_nothing(hook):
    function = getattr(hookspecs, hook)
    assert inspect.getdoc(function)
    assert not inspect.signature(function).parameters


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_tested(hook):
    tests = [p.read_text() for p in (ROOT / "tests" / "core").rglob("test_*.py")]
    assert any(hook in text for text in tests)


def modules():
    for package in ("ig_core", *PLUGINS):
        folder = ROOT / package if package == "ig_core" else ROOT / "plugins" / package
        for path in sorted(folder.rglob("*.py")):
            yield pytest.param(path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", list(modules()))
def test_a_module_opens_with_one_sentence(path):
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    assert first.rstrip().endswith((".", ":")), first


def test_every_module_of_the_core_imports():
    for module in pkgutil.walk_packages(ig_core.__path__, "ig_core."):
        importlib.import_module(module.name)
