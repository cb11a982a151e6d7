# Every target makes the virtual environment by itself (bin/setup); nothing has to be set or installed before,
# save Python 3.11. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
PYTHON := .venv/bin/python
# Only from the command line, never from whatever the environment holds under that name.
ARGS :=
COMPILE := bin/setup.py --uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11

.PHONY: help setup demo up test check bench chaos schema examples lock format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## the virtual environment, from the locked requirements
	@bin/setup

demo: setup ## two months of real plans on a real chain, in minutes
	@$(PYTHON) manage.py sandbox demo

up: setup ## web, workers, beat, Flower and what they need, until Ctrl-C
	@$(PYTHON) manage.py sandbox up

# Two processes, a file at a time: most tests wait for processes, blocks and leases. Each has services of its own,
# so that with a DATABASE_URL or a REDIS_URL from outside it is one.
test: setup ## the whole test suite; ARGS="tests/ledger -k overdraft" narrows it
	@$(PYTHON) -m pytest $(if $(DATABASE_URL)$(REDIS_URL),-n 0,-n 2 --dist loadfile) $(ARGS)

check: setup ## format, lint, types, imports, migrations, deployment, schema; ARGS="mypy ruff" narrows it
	@$(PYTHON) -m bin.check $(ARGS)

bench: setup ## throughput and latency against their baselines; results in var/bench.json
	@$(PYTHON) -m tests.bench $(ARGS)

chaos: setup ## kill and break real processes; verdicts in var/chaos.json
	@$(PYTHON) -m tests.chaos $(ARGS)

schema: setup ## write docs/openapi.yaml anew from the code
	@$(PYTHON) -m bin.check --write-schema

examples: setup ## record the OpenAPI document's examples anew, from real answers
	@EXAMPLES=write $(PYTHON) -m pytest -q tests/core/api/test_examples.py
	@$(PYTHON) -m bin.check --write-schema

lock: setup ## resolve requirements/*.in into requirements/*.txt with hashes; ARGS=--upgrade for the newest
	@for name in setup base dev lint node; do \
		$(PYTHON) $(COMPILE) $(ARGS) requirements/$$name.in -o requirements/$$name.txt; done
	@bin/setup

format: setup ## format and sort, fix what can be fixed
	@$(PYTHON) -m ruff check --fix-only --quiet .
	@$(PYTHON) -m ruff format .

clean: ## remove what was made here: environment, caches, sandbox data
	@rm -rf .venv var staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path '*/node_modules/*' -prune -exec rm -rf {} +
