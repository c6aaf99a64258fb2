# Sealwright. `make demo` runs the main job; `make test` passes the tests. Both install what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: bench help demo test test-fast lint lock clean

ARTIFACT ?=
CONFIGURATION ?=
OUT ?=
DATA ?=
BENCH ?=
SMALL ?=
PROFILE ?=
KEEP ?=
export ARTIFACT CONFIGURATION OUT DATA KEEP BENCH SMALL PROFILE

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: ## sign a real artifact: [ARTIFACT=f CONFIGURATION=f.xml OUT=f] [KEEP=1] [DATA=folder]
	@scripts/setup demo
	@.venv/bin/python demo/run.py

test: ## lint, types, import contracts and all tests, with real parts
	@scripts/setup test
	@scripts/check

test-fast: ## the unit tests alone
	@scripts/setup test
	@.venv/bin/python -m pytest -q -n auto --dist loadfile tests/unit

bench: ## measure speed and memory into docs/performance.md: [BENCH=a,d] [SMALL=1] [PROFILE=1]
	@scripts/setup test
	@scripts/setup-bench
	@.venv/bin/python -m tests.bench

lint: ## ruff, mypy and the import contracts
	@scripts/setup test
	@scripts/check lint

lock: ## make the lock files anew from pyproject.toml
	@scripts/lock

clean: ## remove what was built here (never data)
	rm -rf .venv build dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache
