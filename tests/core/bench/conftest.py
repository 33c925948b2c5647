"""The command ``ig`` with planted components, in this process and in one of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import ig_core as ig
from ig_core import api, cli
from ig_core.bench import runner

SCRIPT = Path(__file__).with_name("planted.py")


def _planted_module():
    spec = importlib.util.spec_from_file_location("planted_components", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def planted():
    """The module with the planted components."""
    return _planted_module()


@pytest.fixture
def manager(planted, monkeypatch, tmp_path):
    """A manager that knows the core and the planted plugin, in place of the process's own."""
    made = ig.PluginManager(strict=True)
    made.register(planted.plugin(), "planted")
    for module in (cli, runner, api):
        monkeypatch.setattr(module, "plugins", lambda: made)
    monkeypatch.setenv("IG_CACHE_DIR", str(tmp_path / "cache"))
    return made


@pytest.fixture
def bench(manager):
    """Run ``ig bench ...`` in this process."""

    def call(*args):
        return CliRunner().invoke(cli.main, ["bench", *map(str, args)])

    return call


@pytest.fixture
def environment(tmp_path):
    """The environment of a process of its own."""
    lives = tmp_path / "lives"
    lives.write_text("0")
    return {
        **os.environ,
        "IG_DISABLE_PLUGINS": "text,graphs,sequences,rl",
        "IG_CACHE_DIR": str(tmp_path / "cache"),
        "LIVES": str(lives),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def own_process(environment):
    """Run ``ig bench ...`` in a process of its own."""

    def call(*args):
        return subprocess.run(
            [sys.executable, SCRIPT, "bench", *map(str, args)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return call
