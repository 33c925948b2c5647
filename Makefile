# Everything happens in a virtual environment of this folder; only Python, make and a compiler
# are needed. On a CUDA machine: make bench TORCH=torch
PYTHON ?= python3
TORCH ?= torch==2.13.0
SUITE ?= smoke
OUT ?= runs/$(SUITE)
WORKERS ?= auto

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: bench test lint perf picture dist clean

bench: .venv/bench.ready
	$(BIN)/ig bench --suite $(SUITE) --out $(OUT)

test: .venv/test.ready
	OMP_NUM_THREADS=1 IG_STRICT_PLUGINS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: .venv/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

perf: .venv/test.ready
	$(BIN)/python tests/benchmarks/perf.py
	$(BIN)/python tests/benchmarks/suite.py
	$(BIN)/python tests/benchmarks/text.py
	$(BIN)/python tests/benchmarks/graphs.py
	$(BIN)/python tests/benchmarks/sequences.py
	$(BIN)/python tests/benchmarks/agents.py
	$(BIN)/python tests/benchmarks/flips.py

picture: .venv/bench.ready
	$(BIN)/python examples/four_domains.py docs

dist: .venv/test.ready
	$(BIN)/python -m build

clean:
	rm -rf .venv dist runs

.venv/base.ready:
	$(PYTHON) -m venv .venv
	$(PIP) "$(TORCH)"
	touch $@

.venv/bench.ready: .venv/base.ready pyproject.toml
	$(PIP) -e ".[bench]"
	touch $@

.venv/test.ready: .venv/base.ready pyproject.toml
	$(PIP) -e ".[test]"
	touch $@
