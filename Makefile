# Two commands on a fresh machine with Python >= 3.10, git and make:
#   make bench   sets everything up and measures this machine's chip
#   make test    sets everything up and runs all tests
# and one on an image that brings torch, triton and CuPy, where nothing is installed:
#   make gpu     checks every kernel on the GPU, tunes, measures the standard suite into a folder, in under 9 minutes
# Both make (or reuse) a virtual environment; runners/setup_environment says how the torch in it is chosen.

VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
TORCH_BACKEND ?=
PIP_ARGS ?=
BENCH_ARGS ?=
GPU_OUT ?= results/gpu
GPU_ARGS ?=
TEST_ARGS ?=

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python
PYTHON ?= $(or $(shell for python in $(CANDIDATES); do $$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done),python3)

RUN := $(abspath $(VENV))/bin
SETUP = PYTHONSAFEPATH= $(PYTHON) -m runners.setup_environment --venv='$(VENV)' --torch='$(TORCH)' --torch-index='$(TORCH_INDEX)' \
	--torch-backend='$(TORCH_BACKEND)' --pip-args='$(PIP_ARGS)' --extras

.DEFAULT_GOAL := help
.PHONY: help bench gpu test lint types venv venv-dev clean python

help:  ## what can be made, and the variables
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'
	@echo
	@echo "  PYTHON=path         the Python to start from (now: $(PYTHON))"
	@echo "  VENV=path           where the virtual environment is (now: $(VENV))"
	@echo "  TORCH=...           the torch to install if none that drives the GPU is here (now: $(TORCH)); empty for none"
	@echo "  TORCH_INDEX=URL     a package index to take torch from"
	@echo "  TORCH_BACKEND=name  the build of torch: cpu, cu126, cu128, rocm6.4, ... instead of the one that fits the driver"
	@echo "  PIP_ARGS='...'      more options for pip, such as --proxy"
	@echo "  BENCH_ARGS='...'    passed on to 'chipassay bench'"
	@echo "  GPU_OUT=folder      where 'make gpu' writes, and goes on when called again (now: $(GPU_OUT))"
	@echo "  GPU_ARGS='...'      passed on to 'chipassay gpu'"
	@echo "  TEST_ARGS='...'     passed on to pytest"

bench: venv  ## set up, measure this chip, write the results, the profile and the report, and say what the chip is worth
	@'$(RUN)/chipassay' bench $(BENCH_ARGS)

gpu: python  ## straight from the checkout, nothing installed: check every kernel on this GPU, tune, measure, write to GPU_OUT
	@$(PYTHON) runners/from_checkout.py gpu --out '$(GPU_OUT)' $(GPU_ARGS)

test: python  ## set up and run all tests
	@$(SETUP) report,test
	@'$(RUN)/python' -m pytest $(TEST_ARGS)

lint: venv-dev  ## check style, types, the import rules and that generated docs are current
	@'$(RUN)/ruff' check .
	@'$(RUN)/ruff' format --check .
	@'$(RUN)/lint-imports'
	@'$(RUN)/python' -m chipassay.results.schema | diff - results/SCHEMA.md \
		|| { echo "results/SCHEMA.md is stale: $(RUN)/python -m chipassay.results.schema > results/SCHEMA.md" >&2; exit 1; }
	@'$(RUN)/python' -m chipassay.results.profile_doc | diff - results/PROFILE.md \
		|| { echo "results/PROFILE.md is stale: $(RUN)/python -m chipassay.results.profile_doc > results/PROFILE.md" >&2; exit 1; }
	@$(MAKE) --no-print-directory types

# The editable install is invisible to mypy, so it checks what users get: the wheel, built from a copy that no earlier build has touched.
types: venv-dev  ## check the types of what the wheel ships
	@set -e; copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	'$(RUN)/python' tests/packaging/tree.py "$$copy/tree"; \
	'$(RUN)/python' -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$$copy" "$$copy/tree"; \
	'$(RUN)/python' -m zipfile -e "$$copy"/chipassay-*.whl "$$copy/wheel"; \
	cd "$$copy/wheel"; '$(RUN)/mypy' --config-file '$(CURDIR)/pyproject.toml' --cache-dir '$(CURDIR)/.mypy_cache' \
		$$(cd chipassay && for room in *; do echo "-p chipassay.$$room"; done)

venv: python  ## make the virtual environment, or leave it as it is when it is current
	@$(SETUP) report

venv-dev: python
	@$(SETUP) report,test,dev

python:
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "chipassay needs Python 3.10 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1); give one: make PYTHON=path ..." >&2; exit 1; }

clean:  ## remove the virtual environment and caches, never results
	@if [ -e '$(VENV)/chipassay-setup.json' ]; then rm -rf '$(VENV)'; elif [ -e '$(VENV)' ]; then echo "$(VENV) was not made here: left as it is"; fi
	@rm -rf build dist chipassay.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .benchmarks .hypothesis
	@find . -name .git -prune -o -path './$(VENV)' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
