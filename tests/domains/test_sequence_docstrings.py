"""The examples in the docstrings of decays, sweeps and curves run."""

import doctest
import importlib

import pytest

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", ["decay.measurement", "decay.finding", "decay.fits", "sweeps"])
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(f"ig_sequences.{name}")
    found = doctest.testmod(module, optionflags=OPTIONS)
    assert found.attempted > 0 and found.failed == 0
