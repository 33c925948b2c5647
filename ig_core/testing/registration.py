"""How a plugin registers: light to import, every hook marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ig_core.errors import PluginError
from ig_core.manager import PluginManager
from ig_core.testing.kit import ConformanceError, Subject, expect


def import_light(subject: Subject) -> None:
    """Importing the plugin and calling its hooks loads no framework; domains load it in use."""
    assert subject.plugin is not None
    requires = list(type(subject.make()).requires)
    script = (
        "import importlib, json, sys\n"
        "import ig_core\n"
        "wanted = [m for m in json.loads(sys.argv[2]) if m not in sys.modules]\n"
        "plugin = importlib.import_module(sys.argv[1])\n"
        "ig_core.PluginManager().register(plugin, 'subject')\n"
        "print(json.dumps([m for m in wanted if m in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, subject.plugin.__name__, json.dumps(requires)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    expect(done.returncode == 0, f"the import failed: {done.stderr[-500:]}")
    loaded = json.loads(done.stdout.splitlines()[-1])
    expect(not loaded, f"{', '.join(loaded)} was loaded; import it inside functions")


def hooks_are_marked(subject: Subject) -> None:
    """Every hook of the plugin is known, marked, and registers this domain among what it gives."""
    assert subject.plugin is not None
    manager = PluginManager(strict=True)
    try:
        manager.register(subject.plugin, "subject")
    except PluginError as error:
        raise ConformanceError(str(error)) from error
    kind = type(subject.make())
    expect(kind in manager.all("domain"), f"{kind.__name__} is not among its domains")


PROMISES = (
    import_light,
    hooks_are_marked,
)
