# The README's commands. Each target that needs .venv makes it first.

PYTHON ?= python3
LOCK_FLAGS ?=
INPUTS ?= 200000
SEED ?= 0
INSTALLED := .venv/.installed

# With it, `python -m stages.NAME` would not find the project.
unexport PYTHONSAFEPATH

# A plain /bin/sh would let make start simple commands itself, by its own PATH and not the one below.
SHELL := /bin/bash

# DVC starts its stages as `python -m stages.NAME`: that has to be the python of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Runs under any Python, 2.7 too, which would stop at newer syntax before it could say anything.
define CHECK_PYTHON
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("error: %s is Python %s; this project needs 3.11, 3.12 or 3.13: make setup PYTHON=python3.12"
             % (sys.executable, sys.version.split()[0]))
endef
export CHECK_PYTHON

define LOCK_HEADER
# Every dependency at one version, the dev group included, for Python 3.11 to 3.13.
# Written by `make lock` from pyproject.toml: change that file, not this one.
#
# The CUDA libraries (nvidia-*, cuda-*) are left out on purpose. A GPU build of torch requires them
# itself, at the versions it was built for; a CPU build requires none and stays small. Which of the
# two is installed, and from which index, is decided by pip's own configuration. triton is pinned at
# the version that the GPU build requires: without a GPU its interpreter runs the kernels' tests.
#
# requirements.hashes has the same packages with the digest of each of their files, but for torch: an
# index of CPU builds serves other files than the one of GPU builds under the same version. This file
# stays free of digests, since `pip install -c` would then refuse whatever has none.
endef
export LOCK_HEADER

define HASHES_HEADER
# What `make setup` installs before torch: the packages of requirements.lock, and the digest of every
# file that may be installed for them. Written by `make lock`; pip refuses a file of another digest.
endef
export HASHES_HEADER

.PHONY: help setup repro test fuzz bench doctor lock licences audit

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## Make .venv and install what is locked (PYTHON=python3.12 to choose the Python)
	@echo ".venv is ready: $$(.venv/bin/python --version), requirements.lock installed"

repro: $(INSTALLED) ## Run the pipeline, or what changed of it, and print the result
	@python -m ncn doctor --quick
	dvc repro
	@python -m ncn summary

# mypy is one process: before the tests it would leave the other core idle.
test: $(INSTALLED) ## Lint, format check, types, tests: what CI runs
	ruff check
	ruff format --check
	mypy & types=$$!; \
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types || { echo "error: mypy found what is said above" >&2; exit 1; }; \
	exit $$tests

fuzz: $(INSTALLED) ## Feed every parser and loader hostile input (INPUTS=200000, SEED=0)
	OMP_NUM_THREADS=1 python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED)

bench: $(INSTALLED) ## Measure what control and kernels cost on this machine: metrics/benchmark.md
	python -m ncn benchmark

doctor: $(INSTALLED) ## Check this machine, environment and folder
	@python -m ncn doctor

lock: $(INSTALLED) ## Pin what pyproject.toml asks for (LOCK_FLAGS=--upgrade moves to the newest)
	@command -v uv >/dev/null || python -m pip install --quiet uv
	cp requirements.lock .venv/resolved
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --fork-strategy fewest --annotation-style line --no-header --quiet $(LOCK_FLAGS) \
	    --output-file .venv/resolved > /dev/null
	{ printf '%s\n' "$$LOCK_HEADER"; grep -vE '^(nvidia-|cuda-)' .venv/resolved; } \
	    > .venv/requirements.lock
	uv pip compile .venv/requirements.lock --no-deps --universal --python-version 3.11 \
	    --generate-hashes --no-emit-package torch --no-annotate --no-header --quiet \
	    --output-file .venv/hashed > /dev/null
	{ printf '%s\n' "$$HASHES_HEADER"; cat .venv/hashed; } > .venv/requirements.hashes
	mv .venv/requirements.lock .venv/requirements.hashes .

licences: $(INSTALLED) ## List the licence of each locked package: LICENCES.md
	@python -m ncn licences

# In an environment of its own: what pip-audit needs must not move what is locked.
audit: $(INSTALLED) ## Look for known vulnerabilities of the locked packages, where that can be asked
	@[ -x .venv/audit/bin/pip-audit ] || { python -m venv .venv/audit && \
	    .venv/audit/bin/python -m pip install --quiet pip-audit; } &> .venv/audit.log || true
	@python -m ncn audit

# torch last and by its version alone: pip's own configuration chooses its build (see requirements.lock).
# What it needs is there by then, but for the CUDA libraries of a GPU build.
# The project itself is not installed: `dvc exp run --temp` would import this tree instead of its own.
# The stamp comes last, so an interrupted setup starts again; a .venv with a wrong Python or none,
# or left half-made, is made anew, by a Python from outside it (the first entry of PATH is its own).
$(INSTALLED): requirements.lock requirements.hashes
	@if ! { .venv/bin/python -c "$$CHECK_PYTHON" && .venv/bin/python -m pip --version; } &>/dev/null; then \
	    PATH="$${PATH#*:}"; \
	    command -v "$(PYTHON)" >/dev/null || \
	        { echo "error: $(PYTHON) not found; name one: make setup PYTHON=python3.12" >&2; exit 1; }; \
	    "$(PYTHON)" -c "$$CHECK_PYTHON" && "$(PYTHON)" -m venv --clear .venv; \
	fi
	python -m pip install --disable-pip-version-check --require-hashes --requirement requirements.hashes
	python -m pip install --disable-pip-version-check --constraint requirements.lock torch
	@python -m pip check --disable-pip-version-check
	@touch $@
