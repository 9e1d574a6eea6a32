# Everything a contributor does, from a fresh clone: python3.11 or newer, pip, make and git are enough.
# `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.headrace-setup

# Where the flights example writes, relative to its own folder (the workflow's `out_dir` parameter).
OUT    ?= build/flights
PYTEST_ARGS ?=
BENCH_ARGS ?=
# For `make soak`: how often to kill; for `make soak-cluster`: for how long, each kind of disturbance. And the seed of
# the times (default: a new one, printed).
KILLS  ?= 300
MINUTES ?= 10
# For `make soak-history`: calls of the one long run; each is one event or two.
CALLS  ?= 1000000
SEED   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak soak-cluster soak-history bench check format generate clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with Headrace and all its tools; repeated only when pyproject.toml or uv.lock change

# The stamp is touched last, so that an interrupted set-up is done again.
$(STAMP): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Headrace needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "  Say which one to use: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Could not create $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  rm -rf $(VENV); exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	@UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --quiet --frozen --python $(BIN)/python
	@touch $@

demo: $(STAMP)  ## run examples/flights on 336,776 real flights and say where the report is
	@$(BIN)/headrace run examples/flights/flights.yaml -p out_dir=$(OUT)
	@$(BIN)/python examples/flights/summary.py $(OUT)

test: $(STAMP)  ## run the tests and list what was skipped
	@$(BIN)/pytest -rs $(PYTEST_ARGS)

soak: $(STAMP)  ## kill the engine, and suspend simulated nodes, at random times for a long while (KILLS=300 SEED=now)
	@HEADRACE_KILLS=$(KILLS) HEADRACE_SEED=$(SEED) $(BIN)/pytest -s -m soak $(PYTEST_ARGS)

soak-cluster: $(STAMP)  ## disturb three nodes on one PostgreSQL for a long while, kind by kind (MINUTES=10 SEED=now)
	@HEADRACE_MINUTES=$(MINUTES) HEADRACE_SEED=$(SEED) $(BIN)/pytest -s -m soak tests/cluster $(PYTEST_ARGS)

soak-history: $(STAMP)  ## run, kill, take over and replay one run with a very long history (CALLS=1000000)
	@HEADRACE_CALLS=$(CALLS) $(BIN)/pytest -s -m soak tests/durable/test_long_history.py $(PYTEST_ARGS)

bench: $(STAMP)  ## measure the engine beside the raw limits of this machine; BENCH_ARGS="--workload W2 --json"
	@$(BIN)/headrace bench $(BENCH_ARGS)

check: $(STAMP)  ## format, lint, types, import floors and generated files: what CI checks besides the tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python docs/generate.py --check

format: $(STAMP)  ## format the sources and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

generate: $(STAMP)  ## rewrite what is generated from the code: state diagrams and configuration keys in the docs
	@$(BIN)/python docs/generate.py

clean:  ## remove what was built; .venv and the store in .headrace stay
	@rm -rf build dist examples/flights/build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
