"""Every example script runs offline and leaves something to look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs_and_leaves_a_picture(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env=environment,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    pictures = [p for p in tmp_path.iterdir() if p.suffix in (".html", ".png", ".svg")]
    assert pictures
    assert all(picture.stat().st_size > 1000 for picture in pictures)
