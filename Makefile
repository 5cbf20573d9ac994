# `make help` lists the targets. Everything that they need is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := examples/out
JOBS ?= 2
FUZZ_SECONDS ?= 3600
FUZZ_SEED ?= 0
MODEL_SECONDS ?= 300
ATTACK_SECONDS ?= 300
ATTACK_SEED ?= 0
KILLS ?= 30
FIELD_SECONDS ?= 3600
FIELD_FIRST ?= 0
FIELD_SMALL ?=
TORCH ?= torch
TESTS ?= test
SHARE ?=

# Python keeps what it compiled, where the environment says not to, too: the tests start processes by the hundred, and
# pytest rewrites their assertions.
export PYTHONDONTWRITEBYTECODE :=

JAX_TESTS := $(patsubst %,tests/%.py,engine/test_fast engine/test_fastism engine/test_gpu_choices engine/test_live_positions engine/test_open_layers \
	engine/test_random_models engine/test_verify model/test_adapt model/test_own_reductions model/test_reductions model/test_sequence_inputs \
	model/test_without_tensorflow rules/test_every_layer rules/test_frames rules/test_register_rule rules/test_several_windows)
# Of these, as many as `make test` runs: with every case they take an hour there.
JAX_DRAWN := $(patsubst %,tests/%.py,engine/test_averaged engine/test_blocks engine/test_calls engine/test_inference_flags engine/test_late_part engine/test_own_functions \
	engine/test_scales rules/test_recurrent)

.DEFAULT_GOAL := help
.PHONY: help demo logo figures report-picture test test-all test-rest coverage mutants test-jax test-consumers test-browser fuzz test-attack test-field bench-field docs check format bench bench-gpu gpu-model bench-host bench-pairs bench-blocks peers bench-report bench-auto bench-sweeps bench-process bench-batch-size bench-memory bench-scale bench-export test-kill test-slurm test-snakemake test-nextflow site notebook test-notebook dist train clean

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

logo: $(VENV)/installed  ## draw the README's picture anew
	$(BIN)/fastism plot examples/figures/peak_52.ism.h5 --target ctcf --name peak_52 --output examples/ctcf.png --overwrite

figures: $(VENV)/installed  ## draw the pictures of examples/figures anew (ANEW=1: score what they show, too)
	ANEW=$(ANEW) $(BIN)/python examples/figures/draw.py

report-picture: demo  ## draw the README's picture of the report anew, with Chromium
	$(BIN)/fastism report $(OUT)/demo.ism.h5 --output $(OUT)/report.html --overwrite
	chromium --headless=new --no-sandbox --hide-scrollbars --window-size=1200,1000 --screenshot=$(abspath examples/report.png) file://$(abspath $(OUT)/report.html)

test: $(VENV)/installed  ## the tests (less than four minutes on two cores); of dear ones a share, by FASTISM_TEST_SEED=0
	$(BIN)/python -m pytest -q -n $(JOBS)

test-all: $(VENV)/installed  ## the tests with every variant of every toy model, and those that take long
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not consumers and not browser"

test-rest: $(VENV)/installed  ## what make test leaves out (SHARE=0/6: a sixth of it)
	FASTISM_SHARE=$(SHARE) $(BIN)/python -m pytest -q -n $(JOBS) -m "exhaustive and not consumers and not browser"

coverage: $(VENV)/installed  ## the tests, and which share of the package's lines and branches they run
	$(BIN)/python -m pytest -q -n $(JOBS) --cov --cov-report=term:skip-covered

mutants: $(VENV)/installed  ## a dozen rules broken on purpose, one at a time: each must make a test fail
	$(BIN)/python -m tests.slow.mutants

# On a JAX machine: all that the package needs but TensorFlow and tf-keras, which it then does without.
$(VENV)-jax/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-jax
	$(VENV)-jax/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-jax/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; o = p["optional-dependencies"]; print("\n".join(d for d in p["dependencies"] + o["jax"] + o["test"] if not d.startswith(("tensorflow", "tf-keras", "fastism-cli"))))' > $(VENV)-jax/needs.txt
	$(VENV)-jax/bin/python -m pip install --quiet --requirement $(VENV)-jax/needs.txt
	$(VENV)-jax/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

# Without optimisations XLA compiles the many small models in less than half of the time, and computes the same.
test-jax: $(VENV)-jax/installed  ## the exactness tests and a run of the demo on JAX, where there is no TensorFlow (SHARE=0/3: a third of them)
	FASTISM_SHARE=$(SHARE) FASTISM_TEST_SEED=all KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(VENV)-jax/bin/python -m pytest -q -n $(JOBS) $(JAX_TESTS)
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(VENV)-jax/bin/python -m pytest -q -n $(JOBS) $(JAX_DRAWN)

$(VENV)-consumers/installed: Makefile
	$(PYTHON) -m venv $(VENV)-consumers
	$(VENV)-consumers/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-consumers/bin/python -m pip install --quiet 'modisco-lite>=2.4' 'duckdb>=1.1'
	@touch $@

test-consumers: $(VENV)/installed $(VENV)-consumers/installed  ## exports in the hands of TF-MoDISco, bcftools, DuckDB, pandas
	@command -v bcftools >/dev/null || (apt-get -qq update && apt-get -qq install -y bcftools) >/dev/null 2>&1 || echo "bcftools cannot be installed here: its part is not run" >&2
	PATH="$(abspath $(BIN)):$$PATH" FASTISM_CONSUMERS=$(abspath $(VENV)-consumers)/bin $(BIN)/python -m pytest -q -rs -m consumers tests/export/test_consumers.py

fuzz: $(VENV)/installed  ## random models from FUZZ_SEED on against plain Keras until FUZZ_SECONDS are over; prints how many
	$(BIN)/python -m tests.slow.fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) --model-seconds $(MODEL_SECONDS)

test-attack: $(VENV)/installed  ## damaged files of every kind for ATTACK_SECONDS: none read wrong, no raw error; counts (ATTACK_SEED=0)
	$(BIN)/python -m tests.slow.attack --seconds $(ATTACK_SECONDS) --seed $(ATTACK_SEED)

docs: $(VENV)/installed  ## write docs/layers.md from the rule table
	$(BIN)/python -m tests.helpers.layers_page

# The packages alone, without what they need besides Keras. FIELD_FIRST: which model is the first.
test-field: $(VENV)/installed  ## models that CREsted, ChromBPNet and BPReveal build: load, inspect, exactness (FIELD_SECONDS=3600, FIELD_SMALL=--small)
	$(BIN)/python -m tests.slow.field $(VENV)-field --seconds $(FIELD_SECONDS) --first $(FIELD_FIRST) $(FIELD_SMALL)

bench-field: $(VENV)/installed  ## the same with the speed of each, into benchmarks/field.json and docs/models-tried.md (two hours)
	$(BIN)/python -m tests.slow.field $(VENV)-field --seconds $(FIELD_SECONDS) --first $(FIELD_FIRST) --measure \
	  --figures benchmarks/field.json --page docs/models-tried.md

test-browser: $(VENV)/installed  ## the report in headless Chromium, which is installed if it can be
	@PYTHON=$(BIN)/python sh tests/report/browser.sh

check: $(VENV)/installed  ## format, lint, spelling, types, tests (TESTS=test-all: all of them)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy fastism_cli
	$(MAKE) $(TESTS)

format: $(VENV)/installed  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed  ## speed against naive on the paper's three architectures, and against what `make peers` installed
	$(BIN)/python -m benchmarks.bench --json benchmarks/results.json $(addprefix --peers ,$(wildcard $(VENV)-peers/bin/python))

bench-gpu:  ## speed and error on the GPU at hand, with the backend of KERAS_BACKEND and the Python of BENCH_PYTHON
	$(or $(BENCH_PYTHON),$(BIN)/python) -m benchmarks.gpu --json benchmarks/gpu.json

# JAX's plugin compiles for a GPU that is not there: no driver, and none of CUDA's own libraries.
$(VENV)-gpu-model/installed: $(VENV)-jax/installed
	$(PYTHON) -m venv $(VENV)-gpu-model
	$(VENV)-gpu-model/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-gpu-model/bin/python -m pip install --quiet --requirement $(VENV)-jax/needs.txt
	$(VENV)-gpu-model/bin/python -m pip install --quiet --no-deps jax-cuda13-plugin==$$($(VENV)-gpu-model/bin/python -c 'import jax; print(jax.__version__)') jax-cuda13-pjrt==$$($(VENV)-gpu-model/bin/python -c 'import jax; print(jax.__version__)')
	$(VENV)-gpu-model/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

gpu-model: $(VENV)-gpu-model/installed  ## what an H100 would do, from XLA's compilation for it: no GPU, no measurement
	$(VENV)-gpu-model/bin/python -m benchmarks.gpu_model

bench-host: $(VENV)-jax/installed  ## how busy `fastism run` would keep a GPU: a device that only keeps time stands in for it
	$(VENV)-jax/bin/python -m benchmarks.host --json benchmarks/host.json

peers: $(VENV)/installed $(VENV)-peers/installed  ## other programs side by side with this one, in an environment of their own: equal answers (TORCH=torch==...)
	$(BIN)/python -m benchmarks.side_by_side $(VENV)-peers/bin/python

$(VENV)-peers/installed: Makefile
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-peers/bin/python -m pip install --quiet $(TORCH)
	$(VENV)-peers/bin/python -m pip install --quiet 'fastism==0.5.1' pydot tf-keras 'tensorflow>=2.21' yuzu-ism 'tangermeme==1.6.0'
	@touch $@

bench-pairs: $(VENV)/installed  ## all pairs of substitutions within 20 against naive (MODEL= FASTA= BED= for files of your own)
	$(BIN)/python -m benchmarks.pairs $(if $(MODEL),--model $(MODEL)) $(if $(FASTA),--fasta $(FASTA)) $(if $(BED),--bed $(BED))

bench-blocks: $(VENV)/installed  ## blocks replaced with N against naive, and the mean of five models against five engines
	$(BIN)/python -m benchmarks.blocks --json benchmarks/blocks.json

bench-report: $(VENV)/installed  ## write the figures of the last `make bench` into the pages
	$(BIN)/python -m benchmarks.report

bench-auto: $(VENV)/installed  ## that `--engine auto` does not lose to naive
	$(BIN)/python -m benchmarks.auto

bench-sweeps: $(VENV)/installed  ## how the time depends on targets, kernel size, depth and length (half an hour)
	$(BIN)/python -m benchmarks.sweeps

bench-process: $(VENV)/installed  ## the whole command against its engine, start-up, compile cache
	$(BIN)/python -m benchmarks.process

bench-batch-size: $(VENV)/installed  ## that `--batch-size auto` is within 10 % of the best fixed size
	$(BIN)/python -m benchmarks.batch_size

bench-memory: $(VENV)/installed  ## peak memory of `fastism run` for 10 and for 1,000 regions
	$(BIN)/python -m benchmarks.memory

bench-scale: $(VENV)/installed  ## 100,000 regions: engine busy, memory flat (20 minutes or so; REGIONS=5000 for a try)
	$(BIN)/python -m benchmarks.scale --regions $(or $(REGIONS),100000)

test-kill: $(VENV)/installed  ## random SIGKILLs over resumed runs of one job, then compare (KILLS=30)
	$(BIN)/python -m tests.slow.kill --kills $(KILLS)

test-slurm: $(VENV)/installed  ## the example array job on a real SLURM of one node (Debian, root)
	$(BIN)/python -m tests.clusters.slurm

$(VENV)-snakemake/installed:
	$(PYTHON) -m venv $(VENV)-snakemake
	$(VENV)-snakemake/bin/python -m pip install --quiet snakemake snakemake-executor-plugin-slurm
	@touch $@

test-snakemake: $(VENV)/installed $(VENV)-snakemake/installed  ## the example workflow by a real Snakemake, then on a real SLURM
	$(BIN)/python -m tests.clusters.snakemake $(abspath $(VENV)-snakemake/bin/snakemake)
	$(BIN)/python -m tests.clusters.snakemake $(abspath $(VENV)-snakemake/bin/snakemake) --slurm
	$(BIN)/python -m tests.clusters.snakemake $(abspath $(VENV)-snakemake/bin/snakemake) --wrapper

test-nextflow: $(VENV)/installed  ## the commands of the example modules; the workflow, where Nextflow is installed
	@$(BIN)/python -m tests.clusters.nextflow

bench-export: $(VENV)/installed  ## time and memory of an export of 10,000 regions, against reading the file
	$(BIN)/python -m benchmarks.export

# Its own environment: it needs neither Keras nor the tests.
$(VENV)-site/installed: Makefile
	$(PYTHON) -m venv $(VENV)-site
	$(VENV)-site/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-site/bin/python -m pip install --quiet "mkdocs-material>=9.6" "mkdocs-click>=0.8" "mkdocstrings[python]>=0.27" "click>=8.2"
	@touch $@

site: $(VENV)-site/installed  ## the documentation as a web site in build/site: strict, nothing from elsewhere
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(VENV)-site/bin/python -m mkdocs build --strict --quiet
	$(VENV)-site/bin/python -m tests.helpers.site_check build/site

$(VENV)-notebook/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-notebook
	$(VENV)-notebook/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-notebook/bin/python -m pip install --quiet --editable ".[plot,export,frames]" "nbmake>=1.5" ipykernel ipywidgets "modisco-lite>=2.4"
	@touch $@

test-notebook: $(VENV)-notebook/installed  ## the tutorial from its first cell to its last
	PATH="$(abspath $(VENV)-notebook)/bin:$$PATH" $(VENV)-notebook/bin/python -m pytest -q -p no:cacheprovider -c /dev/null --rootdir examples --nbmake --nbmake-timeout=280 examples/tutorial.ipynb

notebook: $(VENV)-notebook/installed  ## the same, and keep the outputs in examples/tutorial.ipynb
	PATH="$(abspath $(VENV)-notebook)/bin:$$PATH" $(VENV)-notebook/bin/python -m pytest -q -p no:cacheprovider -c /dev/null --rootdir examples --nbmake --overwrite --nbmake-timeout=280 examples/tutorial.ipynb

$(VENV)-dist/installed:
	$(PYTHON) -m venv $(VENV)-dist
	$(VENV)-dist/bin/python -m pip install --quiet --upgrade pip build twine
	@touch $@

dist: $(VENV)-dist/installed  ## wheel and sdist in dist/: checked, installed in an empty environment, and run there
	rm -rf dist
	$(VENV)-dist/bin/python -m build --outdir dist .
	$(VENV)-dist/bin/python -m twine check --strict dist/*
	PYTHON=$(PYTHON) sh packaging/try_wheel.sh dist

train: $(VENV)/installed  ## make the example's genome, peaks and model anew
	$(BIN)/python examples/train.py

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) $(VENV)-jax $(VENV)-gpu-model $(VENV)-snakemake $(VENV)-consumers $(VENV)-peers $(VENV)-field $(VENV)-site $(VENV)-notebook $(VENV)-dist build dist $(OUT) .pytest_cache .hypothesis .mypy_cache .ruff_cache
