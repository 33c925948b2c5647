"""What a user installs: five packages, their templates and type markers, and four plugins."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"ig_core", "ig_graphs", "ig_rl", "ig_sequences", "ig_text"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="module")
def info(wheel):
    [folder] = {n.split("/")[0] for n in wheel.namelist() if ".dist-info/" in n}
    return folder


def test_the_wheel_holds_exactly_the_five_packages(wheel, info):
    assert {name.split("/")[0] for name in wheel.namelist()} == {*PACKAGES, info}


def test_every_source_file_of_a_package_is_in_the_wheel(wheel):
    folders = [ROOT / "ig_core", *(ROOT / "plugins").glob("ig_*")]
    expected = {
        f"{folder.name}/{path.relative_to(folder).as_posix()}"
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_is_typed(wheel, package):
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_templates_are_in_the_wheel(wheel):
    assert {"ig_core/report/templates/page.html", "ig_core/report/templates/heat.html"} <= set(
        wheel.namelist()
    )


def test_the_entry_points_list_four_plugins_and_one_command(wheel, info):
    points = configparser.ConfigParser()
    points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert dict(points["ig_core.plugins"]) == {
        "graphs": "ig_graphs",
        "rl": "ig_rl",
        "sequences": "ig_sequences",
        "text": "ig_text",
    }
    assert dict(points["console_scripts"]) == {"ig": "ig_core.cli:main"}


def test_the_licence_travels_along(wheel, info):
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in wheel.namelist())


def test_the_extras_are_the_promised_ones(wheel, info):
    metadata = wheel.read(f"{info}/METADATA").decode()
    extras = {line.split(": ")[1] for line in metadata.splitlines() if "Provides-Extra" in line}
    promised = "all bench docs graphs peers rl sequences test text viz"
    assert extras == set(promised.split())
