"""The command `ig`: one clean line for an error, text of strangers as text, exit codes as told."""

import json
import types

import pytest
from click.testing import CliRunner

import ig_core as ig
from ig_core import cli

CASE = "saturated-gate"


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("IG_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *args: CliRunner().invoke(cli.main, [str(a) for a in args])


@pytest.fixture
def strangers(monkeypatch):
    """A manager with one plugin that works and one that is left out with an ugly error."""
    manager = ig.PluginManager()
    manager.register(types.ModuleType("fine"), "fine", distribution="fine-dist", version="1.2")
    with pytest.warns(ig.PluginWarning):
        manager.register(_ugly(), "ugly")
    monkeypatch.setattr(cli, "plugins", lambda: manager)


def _ugly():
    def ig_domains():
        raise RuntimeError("\x1b[31m[red]boom[/red]\nsecond line")

    module = types.ModuleType("ugly")
    module.ig_domains = ig.hookimpl(ig_domains)
    return module


def test_the_version_is_that_of_the_package(command):
    assert ig.__version__ in command("--version").output


def test_plugins_are_listed_with_their_faults_as_text(command, strangers):
    shown = command("plugins").output
    assert "fine-dist" in shown and "1.2" in shown and "failed" in shown
    assert "[red]boom[/red]" in shown and "\x1b" not in shown
    assert len(shown.splitlines()) == 3


def test_plugins_as_json_hold_every_field(command, strangers):
    records = json.loads(command("plugins", "--json").output)
    assert [r["name"] for r in records] == ["fine", "ugly"]
    assert set(records[0]) == {
        "name", "distribution", "version", "status", "error", "components",
    }  # fmt: skip


def test_attribute_prints_the_view_of_one_example(command):
    done = command("attribute", CASE, "--example", 3)
    assert done.exit_code == 0
    assert "x[0]" in done.output and "F(input)" in done.output


def test_attribute_agrees_with_the_library(command):
    from ig_core.cases import saturated

    loaded = next(c for c in ig.plugins().all("case") if c.name == CASE).load(None)
    result = ig.attribute(saturated, loaded.inputs)[3]
    assert f"{result.delta:.5g}" in command("attribute", CASE, "--example", 3).output


def test_attribute_writes_a_page(command, tmp_path):
    file = tmp_path / "page.html"
    assert command("attribute", CASE, "--html", file).exit_code == 0
    assert "default-src 'none'" in file.read_text()


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("attribute", "saturated-gat"), 2, "did you mean 'saturated-gate'?"),
        (("attribute", CASE, "--method", "gi"), 2, "no method is called 'gi'"),
        (("attribute", CASE, "--example", "99"), 2, "has the examples 0 to 31 (got 99)"),
        (("attribute", CASE, "--example", "-1"), 2, "(got -1)"),
        (("attribute", CASE, "--tol", "2"), 2, "tol must lie between 0 and 1"),
        (("attribute", CASE, "--tol", "-1"), 2, "tol must lie between 0 and 1"),
        (("attribute", CASE, "--budget", "0"), 2, "budget must be at least 11 (got 0)"),
        (("attribute", CASE, "--device", "moon"), 2, "device 'moon' cannot be used"),
        (("attribute", CASE, "--device", "cuda:99"), 2, "device 'cuda:99' cannot be used"),
        (("attribute", CASE, "--html", "no/such/folder/x.html"), 5, "cannot write"),
    ],
)
def test_an_error_is_one_clean_line_on_stderr(command, args, code, told):
    done = command(*args)
    assert done.exit_code == code
    [line] = [one for one in done.stderr.splitlines() if not one.startswith("preparing ")]
    assert line.startswith("ig: ") and told in line


def test_a_case_that_may_train_is_announced_apart_from_the_result(command):
    done = command("attribute", CASE)
    assert done.stderr == f"preparing {CASE} (the first time it may train: about a minute)\n"
    assert "preparing" not in done.stdout


def test_a_call_that_click_refuses_ends_with_two(command):
    assert command("attribute").exit_code == 2
    assert command("nothing").exit_code == 2
