PYTHON ?= python3
BIN := .venv/bin
SOURCES := signet.py serving training monitoring deploy tests loadtests docs

.DEFAULT_GOAL := help
.PHONY: help serve test lint fmt bench bench-marks clean install-serve install-test

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

serve: install-serve ## Start an engine with the default model, and the gateway
	@exec $(BIN)/signet serve

test: install-test lint ## Lint, types, unit tests and integration tests against the real engine
	$(BIN)/python deploy/tools.py
	$(BIN)/python -m pytest

lint: install-test ## Check style, import rules and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

fmt: install-test ## Format, and mend what can be mended by itself
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install-test ## Measure the gateway beside the engine called directly and bare pass-throughs
	$(BIN)/python -m loadtests.bench

install-serve:
	@$(PYTHON) deploy/install.py --extras cpu,train

install-test:
	@$(PYTHON) deploy/install.py --extras cpu,train,load,test

clean: ## Remove the environment, caches and build output; keeps .signet (keys, ledger, models)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
