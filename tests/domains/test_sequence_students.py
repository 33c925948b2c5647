"""Networks that have learned a memory of known length show it: those of the examples."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ig_sequences import attribution_decay

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


@pytest.mark.parametrize("keep", [0.8, 0.95])
def test_a_student_of_a_moving_average_has_its_half_life(keep: float) -> None:
    taught = example("sequences")
    student = taught.student_of(keep)
    torch.manual_seed(1)
    x = torch.randn(32, taught.LENGTH, 1)
    found = attribution_decay(student, x, 0, step="last", jacobian=False)
    assert found.half_life == pytest.approx(taught.half_life(keep), rel=0.1)
    assert found.status == "exponential"


def test_a_network_that_learned_a_delay_echoes_at_it() -> None:
    taught = example("delayed_copy")
    found = taught.memory(taught.copyist(steps=300))
    assert (found.status, found.peak_lag) == ("echo", taught.DELAY)
    assert found.profile.max() > 0.5 * found.profile.sum()
