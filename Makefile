# `make quickstart`, `make test` and `make lint` set everything up themselves: they need Python 3.11 or later and make.
# pip's own settings (index, proxy, cache) are taken from the environment. PYTHON=... chooses the interpreter.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.mmflow-installed
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
SOURCES := mmflow plugins tests benchmarks examples docs/hook.py
# Test processes side by side: one for each core, two at most.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); test $$n -gt 2 && echo 2 || echo $$n)

.PHONY: help install quickstart test test-fast test-long lint format docs clean

help:
	@echo "make quickstart   train and evaluate specs/quickstart.yaml, print the metrics and the report's path"
	@echo "make test         run the tests"
	@echo "make test-fast    run those that answer in a moment, all in under two minutes"
	@echo "make test-long    run the long ones of tests/long (sweeps, kills, random specs)"
	@echo "make lint         ruff, pyright and the import contracts"
	@echo "make format       let ruff rewrite the layout and what it can fix"
	@echo "make docs         build the site into site/, with strict links"
	@echo "make clean        remove the virtual environment and caches; results under .mmflow stay"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	  for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      "$$python" -m venv $(VENV) && exit 0; \
	    fi; \
	  done; \
	  echo "no Python 3.11 or later was found; name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; \
	}
	@echo "installing into $(VENV); the first time this loads some gigabytes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

quickstart: $(STAMP)
	$(BIN)/mmflow run specs/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m fast $(PYTEST_ARGS)

test-long: $(STAMP)
	$(BIN)/python -m pytest tests/long -o norecursedirs= $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/pyright --threads $(JOBS)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
