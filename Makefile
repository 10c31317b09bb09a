# What a contributor runs; `make` alone lists it. Needs Python 3.11 to 3.13, make and a compiler.

# The first Python that starts, is recent enough and can make environments with pip; `make PYTHON=...` names another.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
    $$candidate -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        2>/dev/null && echo $$candidate && break; done)
JOBS ?= 2

VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
comma := ,

# Where .venv is, it measures; else the machine's own Python, with the wheels that `make wheels` packed elsewhere.
MINUTES ?= 9
OUT ?= build/gpu-$(shell date +%Y%m%d-%H%M%S)
WHEELS := build/wheels
PLATFORMS := $(addsuffix _x86_64,manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux_2_5 manylinux1)
MEASURED_BY = $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
PACKED = $(if $(wildcard $(BIN)/python),,$(if $(wildcard $(WHEELS)/*.whl),--wheels $(WHEELS)))

.PHONY: help install quickstart test lint format types tests docs figures gpu wheels clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

install: $(INSTALLED) ## make .venv and install ctkit into it with all that training needs, to be edited in place

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@$(BIN)/python -c '' 2>/dev/null || { test -n "$(PYTHON)" && $(PYTHON) -m venv --clear $(VENV); } \
	    || { echo "ctkit needs Python 3.11 to 3.13 with venv and pip (Debian: python3-venv); say make PYTHON=..." >&2; exit 1; }
	$(BIN)/python -m pip install --constraint $(CONSTRAINTS) --editable '.[train]'
	@touch $@

# Import contracts are checked by a tool that wants a newer click and rich than ctkit does, so not beside the oldest.
$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --constraint $(CONSTRAINTS) \
	    --editable '.[train,dask,dev,docs,get,onnx,pandas,timm$(if $(filter oldest.txt,$(CONSTRAINTS)),,$(comma)walls)]'
	@touch $@

# The oldest release of each dependency that pyproject.toml allows: `make tests VENV=.venv-oldest CONSTRAINTS=oldest.txt`.
oldest.txt: pyproject.toml
	grep -o '"[A-Za-z][^" ]*>=[0-9.]*"' $< | sed 's/"//g; s/\[.*\]//; s/>=/==/' | sort -u > $@

quickstart: $(INSTALLED) ## reduce, pre-train and evaluate on synthetic CT, in minutes
	$(BIN)/ctkit run examples/quickstart.toml

test: lint types docs tests ## everything that must pass; the tests also build the wheel, install it and start it

lint: $(TESTABLE) ## style, and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: $(TESTABLE) ## mend what lint can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(TESTABLE) ## mypy, strict
	$(BIN)/mypy

tests: $(TESTABLE) ## pytest on $(JOBS) processes
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

docs: $(TESTABLE) ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

figures: $(INSTALLED) ## measure the figures of docs/performance.md and write them there
	$(BIN)/python -m pip install --quiet opencv-python-headless
	$(BIN)/python benchmarks/startup.py --write
	$(BIN)/python benchmarks/ingestion.py --write

gpu: ## measure on a GPU in $(MINUTES) minutes; ARGUMENTS='--device cpu --tiny' rehearses
	$(MEASURED_BY) benchmarks/gpu.py --minutes $(MINUTES) --out $(OUT) $(PACKED) $(ARGUMENTS)

wheels: $(INSTALLED) ## pack what `make gpu` needs where only PyTorch is, and no network, into $(WHEELS)
	rm -rf $(WHEELS)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEELS) .
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	    $(addprefix --platform ,$(PLATFORMS)) --dest $(WHEELS) --requirement benchmarks/gpu_wheels.txt
	@git describe --always --dirty --abbrev=12 --exclude='*' >$(WHEELS)/commit.txt 2>/dev/null || rm $(WHEELS)/commit.txt
	@size=$$(du -sk $(WHEELS) | cut -f1) && echo "$(WHEELS): $$((size / 1024)) MiB" && test $$size -lt 65536 \
	    || { echo "$(WHEELS) must be smaller than 64 MiB" >&2; exit 1; }

clean: ## remove what make made, but no run
	rm -rf $(VENV) oldest.txt site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
