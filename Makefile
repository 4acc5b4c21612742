# make demo: see it work, without Docker.   make test: everything, with all set-up.   make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Where bytecode may not be kept, each start of the program compiles its two hundred modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test check format e2e bench bench-quick bench-restore images clean

help:
	@sed -n 's/^## //p' Makefile

## make setup        a virtual environment with the locked dependencies, each file checked by its hash
setup: $(STAMP)

LOCK := constraints-build.txt constraints.txt constraints-dev.txt

$(STAMP): pyproject.toml $(LOCK)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes $(addprefix --requirement ,$(LOCK))
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

## make demo         a real backup of an embedded PostgreSQL, proven and restored; leaves nothing running
demo: setup
	@$(BIN)/python -m scripts.demo

## make test         every test; with a Docker engine those against real containers too
test: setup images
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15

## make e2e          only the run of the real compose stack
e2e: setup images
	@$(BIN)/python -m pytest tests/e2e

## make images       the images that the tests run on: pulled, or stand-ins built where they can't be
images:
	@if docker info >/dev/null 2>&1; then tests/images/build; \
	else echo "no Docker engine answers: the tests that need one are skipped"; fi

## make check        ruff, mypy --strict, import-linter, and that the documents name what the program has
check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit/test_docs.py

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

## make bench        speed, memory and growth against the goals: 15 minutes, bench/results.md; make bench-quick: 2
bench: setup images
	@$(BIN)/python -m bench

bench-quick: setup images
	@$(BIN)/python -m bench --quick

## make bench-restore  a restore beside psql and pg_restore: 20 minutes, bench/restores.md
bench-restore: setup images
	@$(BIN)/python -m bench --restore

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
