# Set-up, calibration, search and tests. Every target installs what it needs and is missing first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEARCH_STAMP := $(VENV)/.installed-search
PROBES_STAMP := $(VENV)/.installed-probes
TFLM_STAMP := $(VENV)/.installed-tflm
BOARD ?= nucleo-f746zg
CALIBRATE_ARGS ?=
# A first search, after a calibration: 5 minutes, and a network of at least 95 % with less than 8 KB of weights.
SEARCH_ARGS ?= --dataset digits --minutes 4 --max-weights 8K --population 20 --sample 8

.PHONY: install install-search install-ray install-probes install-tflm strangers system calibrate search bench bench-kernels test test-fast faults edges lint docs dist clean

install: $(STAMP)

system:
	@ci/install-system.sh

$(STAMP): requirements.lock pyproject.toml | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install-search: $(SEARCH_STAMP)

$(SEARCH_STAMP): requirements-search.lock $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-search.lock
	@touch $@

# What reaches the probe of a board: gdb-multiarch, OpenOCD, pyOCD. The tests run them as far as they go without one.
install-probes: $(PROBES_STAMP)

$(PROBES_STAMP): requirements-probes.lock $(STAMP)
	@ci/install-system.sh --probes
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-probes.lock
	@touch $@

# TFLM's own build for x86: the judge of LSTMs with --runtime tflm, and what tests hold its forecasts against.
install-tflm: $(TFLM_STAMP)

$(TFLM_STAMP): requirements-tflm.lock $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-tflm.lock
	@touch $@

# `--cluster`: jobs on a Ray cluster. The tests of it run where it is installed.
install-ray: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-ray.lock

calibrate: install
	$(BIN)/munas-hil calibrate --board $(BOARD) $(CALIBRATE_ARGS)

search: install-search calibrate
	$(BIN)/munas-hil search --board $(BOARD) $(SEARCH_ARGS)

bench: install
	$(BIN)/munas-hil bench --board $(BOARD)

bench-kernels: install
	$(BIN)/python -m tests.firmware.bench_kernels $(BENCH_ARGS)

lint: install-search
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# A site in site/; what does not resolve is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test: lint docs install-probes install-tflm
	$(BIN)/pytest -n 2

test-fast: install-search
	$(BIN)/pytest -n 2 -m "not slow"

# Holds `estimate` to networks that calibration did not draw, after a calibration; PUBLIC=FOLDER adds files of others.
estimate-check: calibrate
	$(BIN)/python -m tests.estimates.check --board $(BOARD) $(if $(PUBLIC),--public $(PUBLIC)) $(ESTIMATE_ARGS)

# 500 random Keras networks, 200 of them with other scales, against LiteRT: takes hours.
strangers: install-search
	$(BIN)/python -W ignore -m tests.training.random_keras

faults: install
	$(BIN)/python -m tests.faults.table $(FAULTS_ARGS)

edges: install
	$(BIN)/python -m tests.faults.edges $(EDGES_ARGS)

# The wheel is built of the sdist, so that neither holds what the other lacks.
dist: install
	rm -rf dist
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

clean:
	rm -rf $(VENV) build dist runs site
