# Set-up, calibration and tests. `make calibrate` and `make test` install what is missing first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BOARD ?= nucleo-f746zg
CALIBRATE_ARGS ?=

.PHONY: install system calibrate bench test test-fast faults lint clean

install: $(STAMP)

system:
	@ci/install-system.sh

$(STAMP): requirements.lock pyproject.toml | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

calibrate: install
	$(BIN)/munas-hil calibrate --board $(BOARD) $(CALIBRATE_ARGS)

bench: install
	$(BIN)/munas-hil bench --board $(BOARD)

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2

test-fast: install
	$(BIN)/pytest -n 2 -m "not slow"

faults: install
	$(BIN)/python -m tests.faults.table $(FAULTS_ARGS)

clean:
	rm -rf $(VENV) build runs
