# `make help` lists the targets. Everything that they need is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := examples/out
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo logo test test-all test-browser check format bench bench-report bench-auto bench-memory train clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there; name a Python of 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## score the example's peaks and show the motifs that come out
	@mkdir -p $(OUT)
	$(BIN)/fastism run --model examples/demo.keras --bed examples/demo.bed --fasta examples/demo.fa --output $(OUT)/demo.ism.h5 --overwrite
	$(BIN)/python examples/show.py $(OUT)/demo.ism.h5 --motifs examples/demo_motifs.tsv

logo: demo  ## draw the README's picture anew from the demo's result
	$(BIN)/fastism plot $(OUT)/demo.ism.h5 --target ctcf --name peak_52 --output examples/ctcf.png --overwrite

test: $(VENV)/installed  ## the tests (under five minutes on two cores)
	$(BIN)/python -m pytest -q -n $(JOBS)

test-all: $(VENV)/installed  ## the tests with every variant of every toy model
	$(BIN)/python -m pytest -q -n $(JOBS) -m "exhaustive or not exhaustive"

test-browser: $(VENV)/installed  ## the report in headless Chromium, which is installed if it can be
	@PYTHON=$(BIN)/python sh tests/browser.sh

check: $(VENV)/installed  ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy fastism_cli
	$(MAKE) test

format: $(VENV)/installed  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed  ## speed against naive on the paper's three architectures
	$(BIN)/python -m benchmarks.bench --json benchmarks/results.json

bench-report: $(VENV)/installed  ## write the figures of the last `make bench` into the pages
	$(BIN)/python -m benchmarks.report

bench-auto: $(VENV)/installed  ## that `--engine auto` does not lose to naive
	$(BIN)/python -m benchmarks.auto

bench-memory: $(VENV)/installed  ## peak memory of `fastism run` for 10 and for 1,000 regions
	$(BIN)/python -m benchmarks.memory

train: $(VENV)/installed  ## make the example's genome, peaks and model anew
	$(BIN)/python examples/train.py

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) $(OUT) .pytest_cache .hypothesis .mypy_cache .ruff_cache
