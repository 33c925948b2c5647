"""A plugin that breaks its side of the contract is left out with a record; the others work."""

import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest
import torch

import ig_core as ig
from ig_core import manager as managers
from ig_core.hookspecs import GROUP, KINDS, MARKER


class Good(ig.Domain):
    name = "good"
    layouts = {"x": ig.Stack()}  # noqa: RUF012

    def encode(self, raw, target=None):
        return ig.Example({"x": raw}, target=target)

    def forward(self, rows):
        return rows.select(self.model(rows["x"]))


def named(label, **attributes):
    """A domain of that name."""
    return type(f"Domain_{label.title()}", (Good,), {"name": label, **attributes})


class Half(ig.Domain):
    name = "half"
    layouts = {}  # noqa: RUF012

    def encode(self, raw, target=None):
        return ig.Example({"x": raw})


def plugin(name="a_plugin", **hooks):
    """A module whose hooks are these functions, marked."""
    module = types.ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, ig.hookimpl(function))
    return module


def domains(*found):
    return plugin(ig_domains=lambda: list(found))


def left_out(broken, match, *, name="broken", **options):
    """The record of a broken plugin; the good one before and after it must not suffer."""
    manager = ig.PluginManager()
    manager.register(domains(named("before")), "first")
    with pytest.warns(ig.PluginWarning, match=f"plugin {name!r} was left out: {match}"):
        manager.register(broken, name, **options)
    manager.register(domains(named("after")), "last")
    assert {"before", "after", "tensor"} == set(manager.names("domain"))
    [record] = [record for record in manager.records if record.name == name]
    assert record.status == "failed"
    assert record.components == ()
    assert [record.status for record in manager.records] == ["ok", "failed", "ok"]
    return record


# -- what works ---------------------------------------------------------------------------------


def test_a_good_plugin_is_recorded_with_its_components():
    manager = ig.PluginManager()
    manager.register(domains(Good), "mine", distribution="my-dist", version="1.2")
    assert manager.records == [
        ig.PluginRecord("mine", "my-dist", "1.2", "ok", "", ("domain:good",))
    ]
    assert manager.domain("good") is Good


def test_the_core_registers_through_the_same_hooks_and_has_no_record():
    manager = ig.PluginManager()
    assert manager.records == []
    assert manager.names("method") == ["gradient-x-input", "ig", "negated", "random"]
    assert manager.find("path", "straight") is ig.Straight


def test_an_object_can_be_a_plugin():
    class Plugin:
        @ig.hookimpl
        def ig_domains(self):
            return (Good,)

    manager = ig.PluginManager(strict=True)
    manager.register(Plugin(), "object")
    assert manager.domain("good") is Good


def test_a_hook_may_yield():
    def ig_domains():
        yield Good
        yield named("better")

    manager = ig.PluginManager(strict=True)
    manager.register(plugin(ig_domains=ig_domains), "generator")
    assert manager.names("domain") == ["better", "good", "tensor"]


def test_a_function_that_is_not_like_a_hook_may_be_called_what_it_likes():
    module = domains(Good)
    module.ig_colours = lambda: ["red"]
    manager = ig.PluginManager(strict=True)
    manager.register(module, "mine")
    assert manager.records[0].status == "ok"


def test_every_hook_registers_its_kind():
    class Curve(ig.Straight):
        name = "curve"

    class Start(ig.Zeros):
        name = "start"

    class Way(ig.Method):
        name = "way"

        def attribute(self, task):
            return []

    class Measure(ig.Metric):
        name = "measure"
        higher_is_better = None

        def measure(self, attribution, game):
            return 0.0

    class Finding(ig.Analysis):
        name = "finding"

        def find(self, attributions, **options):
            return len(attributions)

    case = ig.BenchmarkCase("case", "good", lambda folder: None)
    given = {
        "ig_domains": Good,
        "ig_paths": Curve,
        "ig_baselines": Start,
        "ig_methods": Way,
        "ig_metrics": Measure,
        "ig_analyses": Finding,
        "ig_benchmark_cases": case,
    }
    assert set(given) == set(KINDS)
    manager = ig.PluginManager(strict=True)
    manager.register(
        plugin(**{hook: lambda value=value: [value] for hook, value in given.items()}), "all"
    )
    for hook, (kind, _) in KINDS.items():
        assert manager.find(kind, given[hook].name) is given[hook]


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import does_not_exist", "ModuleNotFoundError: No module named 'does_not_exist'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_does_not_import_costs_only_itself(tmp_path, monkeypatch, source, told):
    name = f"broken_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / f"good_{name}.py").write_text(
        "import ig_core\nfrom test_support import Good\n"
        "@ig_core.hookimpl\ndef ig_domains():\n    return [Good]\n"
    )
    monkeypatch.setitem(sys.modules, "test_support", types.SimpleNamespace(Good=Good))
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("a-broken", name, GROUP), EntryPoint("good", f"good_{name}", GROUP)]
    manager = ig.PluginManager()
    with pytest.warns(ig.PluginWarning, match="'a-broken' was left out: it does not import: "):
        manager.load_entry_points(points)
    broken, good = manager.records
    assert (broken.name, broken.status) == ("a-broken", "failed")
    assert told in broken.error
    assert (good.name, good.status) == ("good", "ok")
    assert manager.domain("good") is Good


def test_a_misspelt_hook_is_named_with_the_right_one():
    record = left_out(plugin(ig_domain=lambda: [Good]), "ig_domain is no hook")
    assert "did you mean ig_domains?" in record.error
    assert "ig_benchmark_cases" in record.error


def test_a_misspelt_hook_is_found_without_its_mark():
    module = types.ModuleType("a_plugin")
    module.ig_metrix = lambda: []
    left_out(module, r"ig_metrix is no hook; did you mean ig_metrics\?")


def test_a_marked_function_without_the_prefix_is_found():
    left_out(plugin(domains=lambda: [Good]), r"domains is no hook; did you mean ig_domains\?")


def test_an_unmarked_hook_is_found():
    module = types.ModuleType("a_plugin")
    module.ig_domains = lambda: [Good]
    left_out(module, "ig_domains is not marked: put @ig_core.hookimpl above it")


def test_a_hook_that_wants_arguments_is_found():
    record = left_out(plugin(ig_domains=lambda config: [Good]), "PluginValidationError")
    assert "config" in record.error


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, r"ig_domains must return an iterable \(got NoneType\)"),
        (Good, r"ig_domains must return an iterable \(got ABCMeta\)"),
        ("good", r"ig_domains must return an iterable \(got str\)"),
        ([Good(lambda x: x)], "ig_domains must return subclasses of Domain"),
        ([int], r"ig_domains must return subclasses of Domain \(got <class 'int'>\)"),
        ([ig.Straight], "ig_domains must return subclasses of Domain"),
        ([Half], "ig_domains: Half is still abstract: it lacks forward"),
        ([named("")], ".*needs a class attribute name, a non-empty string"),
        ([named("mine", name=3)], ".*needs a class attribute name, a non-empty string"),
        (
            [named("mine", requires="torch")],
            r".*'mine' needs a tuple of names as requires \(got 'torch'\)",
        ),
    ],
)
def test_a_component_of_the_wrong_type_is_refused(value, told):
    left_out(plugin(ig_domains=lambda: value), told)


def test_fits_that_is_one_text_is_refused():
    class Narrow(ig.Straight):
        name = "narrow"
        fits = "text"

    left_out(plugin(ig_paths=lambda: [Narrow]), r".*'narrow' needs a tuple of names as fits")


def test_a_case_must_be_a_case():
    left_out(
        plugin(ig_benchmark_cases=lambda: [Good]),
        r"ig_benchmark_cases must return BenchmarkCase objects \(got ABCMeta\)",
    )


@pytest.mark.parametrize("error", [RuntimeError("no disk"), SystemExit("no disk")])
def test_a_hook_that_raises_is_told(error):
    def ig_domains():
        raise error

    record = left_out(plugin(ig_domains=ig_domains), "ig_domains raised")
    assert record.error == f"ig_domains raised {type(error).__name__}: no disk"


def test_a_generator_that_raises_late_registers_nothing():
    def ig_domains():
        yield Good
        raise RuntimeError("too late")

    left_out(plugin(ig_domains=ig_domains), "ig_domains raised RuntimeError: too late")


def test_one_raising_hook_leaves_out_the_whole_plugin():
    def ig_paths():
        raise RuntimeError("no")

    left_out(plugin(ig_domains=lambda: [Good], ig_paths=ig_paths), "ig_paths raised")


def test_a_taken_name_names_both_plugins():
    record = left_out(domains(Good, named("before")), "the domain name 'before'")
    assert record.error == "the domain name 'before' is registered by both 'first' and 'broken'"


def test_a_name_of_the_core_is_taken():
    left_out(domains(named("tensor")), "the domain name 'tensor' is registered by both 'core'")


def test_one_plugin_cannot_use_a_name_twice():
    left_out(domains(named("twin"), named("twin")), "the domain name 'twin' is registered by both")


def test_of_two_plugins_with_one_name_the_first_stays():
    manager = ig.PluginManager()
    manager.register(domains(Good), "same", distribution="first-dist")
    with pytest.warns(ig.PluginWarning, match="the plugin name 'same' is taken by first-dist"):
        manager.register(domains(named("other")), "same", distribution="second-dist")
    first, second = manager.records
    assert (first.name, first.status, first.distribution) == ("same", "ok", "first-dist")
    assert (second.name, second.status) == ("same (second-dist)", "failed")
    assert "again in second-dist" in second.error
    assert manager.names("domain") == ["good", "tensor"]


def test_one_module_under_two_names_stays_under_the_first():
    manager = ig.PluginManager()
    module = domains(Good)
    manager.register(module, "one")
    with pytest.warns(ig.PluginWarning, match="it is registered as 'one' already"):
        manager.register(module, "two")
    assert [record.status for record in manager.records] == ["ok", "failed"]
    assert manager.domain("good") is Good


def test_a_plugin_can_come_back_after_a_failed_try():
    manager = ig.PluginManager()
    answers = [[int], [Good]]
    module = plugin(ig_domains=lambda: answers.pop(0))
    with pytest.warns(ig.PluginWarning):
        manager.register(module, "mine")
    manager.register(module, "mine-again")
    assert manager.domain("good") is Good


# -- frameworks ---------------------------------------------------------------------------------


def test_a_missing_framework_is_told_when_the_domain_is_used():
    manager = ig.PluginManager(strict=True)
    lacking = named("lacking", requires=("no_such_framework",), extra="mine[all]")
    manager.register(domains(lacking, Good), "mine")
    [record] = manager.records
    told = "domain 'lacking' needs no_such_framework: pip install 'mine[all]'"
    assert (record.status, record.error) == ("missing", told)
    with pytest.raises(ig.MissingFrameworkError) as caught:
        manager.domain("lacking")
    assert str(caught.value) == told
    assert manager.domain("good") is Good


def test_a_framework_that_breaks_on_import_is_missing(tmp_path, monkeypatch):
    package = tmp_path / "broken_framework"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libbroken.so not found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    manager = ig.PluginManager(strict=True)
    manager.register(domains(named("lacking", requires=("broken_framework.nn",))), "mine")
    assert manager.records[0].status == "missing"


def test_a_domain_whose_framework_is_not_loaded_is_not_asked():
    def accepts(cls, model, raw):
        raise AssertionError("asked")

    manager = ig.PluginManager()
    silent = named("silent", requires=("no_such_framework",), accepts=classmethod(accepts))
    manager.register(domains(silent), "mine")
    assert manager.guess(lambda x: x, torch.zeros(2, 2)).name == "tensor"


def test_accepts_that_raises_counts_as_no():
    def accepts(cls, model, raw):
        raise AttributeError("no config")

    manager = ig.PluginManager()
    manager.register(domains(named("touchy", accepts=classmethod(accepts))), "mine")
    with pytest.warns(ig.PluginWarning, match="'touchy' could not be asked .* no config"):
        assert manager.guess(lambda x: x, torch.zeros(2, 2)).name == "tensor"


def test_two_domains_that_accept_are_both_named():
    yes = classmethod(lambda cls, model, raw: True)
    manager = ig.PluginManager()
    manager.register(domains(named("one", accepts=yes), named("two", accepts=yes)), "mine")
    with pytest.raises(ig.InputError, match="accepted by one, two; pass domain=, one of one"):
        manager.guess(lambda x: x, torch.zeros(2, 2))


def test_no_domain_that_accepts_is_told():
    with pytest.raises(ig.InputError, match="of a str on a NoneType: none accepts it"):
        ig.PluginManager().guess("model", None)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ig.UnknownNameError, match="did you mean 'tensor'"):
        ig.PluginManager().domain("tensors")


# -- switches -----------------------------------------------------------------------------------


def test_strict_raises_the_fault_and_names_the_plugin():
    manager = ig.PluginManager(strict=True)
    with pytest.raises(ig.PluginError, match="plugin 'broken': ig_domains must return"):
        manager.register(plugin(ig_domains=lambda: None), "broken")


def test_a_disabled_plugin_is_not_imported():
    manager = ig.PluginManager(disable=["off"], strict=True)
    manager.load_entry_points([EntryPoint("off", "does_not_exist", GROUP)])
    assert manager.records == [ig.PluginRecord("off", status="disabled")]


@pytest.fixture
def fresh():
    """The manager of the process, as at first use, before and after."""
    managers.plugins.cache_clear()
    yield managers.plugins
    managers.plugins.cache_clear()


def test_the_environment_disables_plugins(fresh, monkeypatch):
    monkeypatch.setenv("IG_DISABLE_PLUGINS", " text, rl ,")
    assert {r.name: r.status for r in fresh().records if r.status == "disabled"} == {
        "text": "disabled",
        "rl": "disabled",
    }
    assert "text" not in fresh().names("domain")


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("0", False), ("", False)])
def test_the_environment_makes_faults_raise(fresh, monkeypatch, value, strict):
    monkeypatch.setenv("IG_STRICT_PLUGINS", value)
    monkeypatch.setattr(managers, "entry_points", lambda group: [])
    assert fresh().strict is strict


def test_a_broken_plugin_does_not_stop_attribution(tmp_path):
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('broken on purpose')")
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nbroken = broken_plugin\n")
    script = (
        "import torch, ig_core as ig\n"
        "print(ig.attribute(lambda x: x.sum(1), torch.ones(1, 2), domain='tensor')[0].delta)\n"
        "print(*[(r.name, r.version, r.status) for r in ig.plugins().records if r.error])\n"
    )

    def run(strict):
        environment = {"PYTHONPATH": str(tmp_path), "IG_STRICT_PLUGINS": strict}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run(strict="")
    assert done.stdout.splitlines()[0] == "2.0", done.stderr
    assert "('broken', '1.0', 'failed')" in done.stdout
    assert "RuntimeError: broken on purpose" in done.stderr
    done = run(strict="1")
    assert done.returncode == 1
    assert "PluginError: plugin 'broken': it does not import" in done.stderr


def test_hooks_carry_the_marker_of_the_project():
    assert hasattr(ig.hookimpl(lambda: []), f"{MARKER}_impl")
