# Every target works on a fresh clone with only Python 3.11: `make setup` is a prerequisite of all of them.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help setup demo test test-all check format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        curate, render, pretrain, fine-tune, evaluate; prints the report's path"
	@echo "make test        the default test suite (under 15 minutes on 2 cores)"
	@echo "make test-all    with the slow tests"
	@echo "make check       ruff, ruff format, mypy --strict"
	@echo "make format      let ruff fix and format"
	@echo "make bench NAME=x    run benchmarks/x.py"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "vitruvian needs Python 3.11 (bpy is built for it alone); set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@tools/system-libraries
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[render,cluster,dev]'
	@touch $(STAMP)

demo: setup
	@$(RUN) vitruvian run demo

test: setup
	@$(RUN) pytest -q -n 2 --dist loadfile  # a file is a unit: its fixtures are made once

test-all: setup
	@$(RUN) pytest -q -m ''

check: setup
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

format: setup
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: setup
	@test -n "$(NAME)" || { echo "which one? make bench NAME=x, with x in:"; ls benchmarks/*.py; exit 2; }
	@$(RUN) python -P benchmarks/$(NAME).py $(ARGS)  # -P: a benchmark may bear its package's name

clean:
	rm -rf outputs pipelines/*/out
