# The commands of the project. `make train` and `make test` need Python 3.11 or newer and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: train test test-browser check format bench tensorboard clean

## train: install, and train on the built-in digits
train: .venv/installed
	$(BIN)/tfpipe train --flagfile=experiments/digits.flags

## test: install what the tests need, and run them
test: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses=auto

## test-browser: a real TensorBoard in a real browser; needs Chromium and its driver
test-browser: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	TFPIPE_TEST_BROWSER=1 $(BIN)/python -m pytest tests/test_browser.py

## tensorboard: look at the last run in runs/
tensorboard: .venv/installed
	@last=$$(ls -dt runs/*/tensorboard 2>/dev/null | head -n 1); \
	test -n "$$last" || { echo "no run in runs/ has anything for TensorBoard: tfpipe train makes one" >&2; exit 1; }; \
	$(BIN)/tensorboard --logdir="$$last"

## check: format, lint and types
check: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## format: bring the code into form
format: .venv/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## bench: the tutorial's run against other libraries; needs MNIST's IDX files in TFPIPE_MNIST_DIR
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python experiments/benchmark_peers.py --publish

clean:
	rm -rf .venv build dist *.egg-info

.venv/installed: setup.py pyproject.toml tfpipe/version.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@
