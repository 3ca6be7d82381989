PYTHON ?= python3
BIN := .venv/bin
WITH_STACK := $(BIN)/python -m loadtests.tools.with_stack
# Files whole, those of the real engine together and last: tests/conftest.py.
# `make test PROCESSES=4` on a machine with more cores; each takes up to 1.5 GB, and each of two engines 3.5 GB.
PROCESSES ?= 2
SIDE_BY_SIDE := --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder
SOURCES := signet.py serving training monitoring deploy tests loadtests docs

# Set in many containers; packages are compiled when they are first imported, and would be again in each process.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve check test fetch fetch-services fetch-tools fetch-clients fetch-models lint fmt test-faults bench bench-budget bench-fairness bench-routing bench-marks studies clean install-serve install-test

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

serve: install-serve ## Start an engine with the default model, and the gateway
	@exec $(BIN)/signet serve

check: lint ## Lint, types and unit tests: no engine, no server, no other program (2 minutes)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m unit

test: install-test ## Lint, types, unit tests and integration tests against the real engine
	@$(MAKE) --no-print-directory --jobs 5 --output-sync=target lint fetch
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Most of it waits for the network: side by side.
fetch: fetch-services fetch-tools fetch-clients fetch-models

fetch-services fetch-tools fetch-clients: fetch-%: install-test
	$(BIN)/python deploy/$*.py

fetch-models: install-test
	PYTHONPATH=. $(BIN)/python -P -m tests.support.prepared

lint: install-test ## Check style, import rules and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

fmt: install-test ## Format, and fix what can be fixed by itself
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install-test ## Measure the gateway beside the engine called directly and bare pass-throughs
	$(BIN)/python -m loadtests.benchmarks.gateway
	$(WITH_STACK) $(BIN)/python -m loadtests.benchmarks.real_engine --engine-url {engine} --gateway-url {gateway} --key {key} \
		--out docs/benchmarks/engine.md

test-faults: install-test ## Kill, stop and starve everything under load (a quarter of an hour)
	$(BIN)/python deploy/services.py
	$(BIN)/python -m loadtests.faults.campaigns

bench-fairness: install-test ## Measure what one tenant's flood does to another, with the fair queue and without
	$(BIN)/python -m loadtests.benchmarks.fairness

bench-routing: install-test ## Compare routing policies on simulated engines, then on two real ones (10 GB, 6 minutes)
	$(BIN)/python -m loadtests.benchmarks.routing_simulation --out docs/benchmarks/routing.md
	$(BIN)/python -m loadtests.benchmarks.two_engines --out docs/benchmarks/routing.md

bench-budget: install-test ## Spend budgets from 200 clients at once: one process, workers, a killed worker, Redis
	$(BIN)/python -m loadtests.benchmarks.budget --out docs/benchmarks/budget.md

bench-marks: install-test ## Study the mark on the real engine; HUMAN_TEXT=FILE adds false positives (20 minutes)
	$(WITH_STACK) $(BIN)/python -m loadtests.benchmarks.mark_power --engine-url {engine} --keyring {keyring} \
		--model-folder {model_folder} $(if $(HUMAN_TEXT),--human-text $(HUMAN_TEXT))

studies: install-test ## Run the studies again and write docs/studies (a quarter of an hour; NAME=one of them)
	$(BIN)/signet study $(or $(NAME),--all) --out docs/studies

install-serve:
	@$(PYTHON) deploy/install.py --extras cpu,train

install-test:
	@$(PYTHON) deploy/install.py --extras cpu,train,onnx,load,test

clean: ## Remove the environment, caches and build output; keeps .signet (keys, ledger, models)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
