# The commands of the project. They need Python 3.11 or newer and nothing else. All of them take
#   PYTHON=python3.12 VENV=.venv-3.12   another Python, in a virtual environment of its own
# and those that test take
#   ISA=AVX2                            XLA uses no newer instructions than these, as on an older processor

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=loadscope
export TFPIPE_TEST_ISA ?= $(ISA)

.PHONY: train test test-all test-avx2 test-one-core test-loaded test-browser check format bench bench-quick tensorboard clean

## train: install, and train on the built-in digits
train: $(VENV)/installed
	$(BIN)/tfpipe train --flagfile=experiments/digits.flags

## test: install what the tests need, and run them but for the exhaustive ones
test: $(VENV)/installed-test
	$(PYTEST)

## test-all: all tests: every byte, every kill-point, fuzzing, kills by the dozen
test-all: $(VENV)/installed-test
	$(PYTEST) -m ""

## test-avx2: all tests, as on a processor without AVX-512 and AMX
test-avx2:
	$(MAKE) test-all ISA=AVX2

## test-one-core: all tests, as on a machine with one core
test-one-core:
	taskset --cpu-list 0 $(MAKE) test-all

## test-loaded: all tests beside four busy loops, which end with the shell that starts them, however it ends
test-loaded: $(VENV)/installed-test
	for loop in 1 2 3 4; do while kill -0 $$$$ 2>/dev/null; do :; done & done; $(PYTEST) -m ""

## test-browser: a real TensorBoard in a real browser; needs Chromium and its driver
test-browser: $(VENV)/installed-test
	$(PIP_INSTALL) --editable '.[browser]'
	TFPIPE_TEST_BROWSER=1 $(BIN)/python -m pytest tests/test_browser.py

## tensorboard: look at the last run in runs/
tensorboard: $(VENV)/installed
	@last=$$(ls -dt runs/*/tensorboard 2>/dev/null | head -n 1); \
	test -n "$$last" || { echo "no run in runs/ has anything for TensorBoard: tfpipe train makes one" >&2; exit 1; }; \
	$(BIN)/tensorboard --logdir="$$last"

## check: format, lint and types
check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## format: bring the code into form
format: $(VENV)/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## bench: tfpipe and other libraries, at most 20 minutes; needs MNIST's IDX files in TFPIPE_MNIST_DIR
bench: $(VENV)/installed
	$(PIP_INSTALL) --editable '.[bench]'
	$(BIN)/python experiments/bench.py

## bench-quick: a few of these, at most three minutes, to be read; other libraries where they are installed
bench-quick: $(VENV)/installed
	$(BIN)/python experiments/bench.py --quick

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py pyproject.toml tfpipe/version.py | $(BIN)/python
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/installed-test: setup.py pyproject.toml tfpipe/version.py | $(BIN)/python
	$(PIP_INSTALL) --editable '.[test]'
	touch $(VENV)/installed $@
