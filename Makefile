# Every target makes and reuses its own virtual environment: the command is the whole set-up.
# A change of pyproject.toml, setup.py, constraints.txt or the kernel renews it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard agents/*/cpu/csrc/* agents/*/*/cpu/csrc/*)
GYMNASIUM_LOW := 1.2.2

.PHONY: help demo test test-slow test-gymnasium-low lint type format bench results clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

demo: $(VENV)/run.stamp  ## train plastic networks, memories and an ordinary network (three minutes); ARGS=--json
	$(BIN)/plastic demo $(ARGS)

test: $(VENV)/dev.stamp  ## run the tests (about five minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu" $(ARGS)

test-slow: $(VENV)/slow.stamp  ## run the tests that take longer
	$(BIN)/python -m pytest -n 2 -m "slow and not gpu" --timeout 3600 $(ARGS)

test-gymnasium-low: $(VENV)-low/dev.stamp  ## run the environment tests on an older Gymnasium
	$(VENV)-low/bin/python -m pytest -n 2 tests/plastic_envs $(ARGS)

results: $(VENV)/run.stamp  ## write docs/results.md and its figures, of the records in results/
	$(BIN)/plastic report --records results --docs docs

lint: $(VENV)/dev.stamp  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/dev.stamp  ## check types
	$(BIN)/mypy

format: $(VENV)/dev.stamp  ## rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp  ## measure parity and speed
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.env_speed
	$(BIN)/python -m benchmarks.step_speed --quick

clean:  ## remove the environments and what was built
	rm -rf $(VENV) $(VENV)-low build *.egg-info agents/*/cpu/_kernel_*.so agents/*/*/cpu/_kernel_*.so

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)" --editable .
	touch $@

$(VENV)/dev.stamp: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)" --editable ".[dev]"
	touch $@ $(VENV)/run.stamp

$(VENV)/slow.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "$(TORCH)" --editable ".[dev,bench,interop,ray]"
	touch $@

$(VENV)-low/dev.stamp: $(SOURCES)
	$(PYTHON) -m venv $(VENV)-low
	grep -v '^gymnasium==' constraints.txt > $(VENV)-low/constraints.txt
	$(VENV)-low/bin/python -m pip install --quiet --constraint $(VENV)-low/constraints.txt "$(TORCH)" \
		"gymnasium==$(GYMNASIUM_LOW)" --editable ".[dev]"
	touch $@
