"""Who may import whom, and what an import may load."""

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ("ig_graphs", "ig_rl", "ig_sequences", "ig_text")
FRAMEWORKS = (
    "aeon", "captum", "g2p_en", "gymnasium", "imageio", "matplotlib", "networkx", "nltk", "onnx",
    "pandas", "pygame", "rdkit", "sb3_contrib", "scipy", "silero_vad", "sklearn",
    "stable_baselines3", "statsmodels", "torch_geometric", "transformers",
)  # fmt: skip


def loaded_by(script):
    """The modules that a fresh interpreter holds after this script."""
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport json, sys\nprint(json.dumps([*sys.modules]))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Contracts: [3-9] kept, 0 broken", done.stdout)


def test_importing_the_core_loads_no_framework_and_no_plugin():
    loaded = loaded_by("import ig_core")
    assert loaded.isdisjoint(
        [*FRAMEWORKS, *PLUGINS, "ig_core.cli", "ig_core.testing", "hypothesis"]
    )


def test_importing_the_plugins_loads_no_framework():
    loaded = loaded_by(f"import {', '.join(PLUGINS)}")
    assert loaded >= set(PLUGINS)
    assert loaded.isdisjoint(FRAMEWORKS)


def test_finding_the_plugins_loads_no_framework():
    loaded = loaded_by("import ig_core\nassert len(ig_core.plugins().records) >= 4")
    assert loaded >= set(PLUGINS)
    assert loaded.isdisjoint(FRAMEWORKS)


def test_attributing_a_tensor_loads_no_framework():
    loaded = loaded_by(
        "import torch, ig_core as ig\nig.attribute(lambda x: x.sum(1), torch.ones(2, 2))"
    )
    assert loaded.isdisjoint(FRAMEWORKS)


def test_importing_the_kit_loads_neither_pytest_nor_a_framework():
    loaded = loaded_by("import ig_core.testing")
    assert loaded.isdisjoint([*FRAMEWORKS, *PLUGINS, "pytest", "hypothesis"])


def sources(*folders):
    return [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


@pytest.mark.parametrize("path", sources("plugins"))
def test_a_plugin_uses_the_public_door_only(path):
    """``from ig_core import name`` and ``import ig_core``; no submodule, anywhere in the file."""
    own = path.relative_to(ROOT / "plugins").parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith("ig_core."), f"line {node.lineno} imports {name}"
            top = name.split(".")[0]
            assert top not in PLUGINS or top == own, f"line {node.lineno} imports {name}"


@pytest.mark.parametrize("path", sources("plugins"))
def test_a_plugin_uses_public_names_only(path):
    import ig_core

    tree = ast.parse(path.read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "ig_core"]
    names = {alias.name for node in found for alias in node.names}
    assert names <= {*ig_core.__all__}


@pytest.mark.parametrize("path", sources("plugins"))
def test_a_plugin_imports_its_framework_when_it_is_used(path):
    """At the top of a module stand the standard library and what ig_core itself depends on."""
    own = path.relative_to(ROOT / "plugins").parts[0]
    needed = {re.split(r"[^\w-]", one)[0] for one in requires("ig-core") if "extra" not in one}
    allowed = {*sys.stdlib_module_names, *needed, own, "ig_core", "markupsafe"}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            tops = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            assert {top.split(".")[0] for top in tops} <= allowed, f"line {node.lineno}"
