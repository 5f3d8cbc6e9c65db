# Every verb works on a fresh checkout: it creates the environment first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
export DAGSTER_HOME := $(CURDIR)/.dagster
PORT ?= 3000
# Dozens of processes are started below: each would compile all of its modules anew.
unexport PYTHONDONTWRITEBYTECODE
# Material for MkDocs otherwise prints news of its makers at each build.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help install demo stream-demo ui test lint types docs docs-serve reference lock clean stop

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed .env $(DAGSTER_HOME)/dagster.yaml ## Create the environment from the locked, hashed requirements

demo: install ## A year of flights: features, checks, a training set, an online read
	@$(BIN)/python -m feature_assets.demo

stream-demo: install ## Three weeks of flights as events through Kafka, compared with a batch
	@$(BIN)/python -m feature_assets.stream_demo

ui: install ## Open the Dagster UI on the same data: http://localhost:3000 (PORT=... for another port)
	@$(BIN)/python -m dagster_feature_store.ui --port $(PORT)

test: install ## Run the tests; says at the end what it left out, and why
	@$(BIN)/pytest -n auto --dist loadgroup -q

lint: install ## Check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install ## Check types, strictly
	@$(BIN)/mypy

docs: install ## Build the documentation as a site, into site/; a broken link is an error
	@$(BIN)/mkdocs build --strict

docs-serve: install ## Show the documentation while it is written: http://localhost:8000
	@$(BIN)/mkdocs serve

reference: install ## Write the tables of the documentation that come from the code
	@$(BIN)/python -m docs.reference

lock: install ## Lock the dependencies anew after a change of pyproject.toml
	@$(BIN)/uv pip compile -q pyproject.toml --universal --all-extras --group dev \
		--generate-hashes --no-emit-index-url --no-header -o requirements.lock

stop: ## Stop the embedded Redis; its data stays
	@[ ! -x $(BIN)/feature-store ] || $(BIN)/feature-store redis stop

clean: ## Remove the environment, and, after a question, the store and Dagster's records
	@if pgrep -f -- "$(CURDIR)/$(VENV)/.*([d]agster|[f]eature-store (serve|stream))" >/dev/null; then \
		echo "Servers of this checkout are running: stop them first."; exit 1; fi
	@if [ -e .feature_store ] || [ -e .dagster ]; then \
		printf 'Remove .feature_store and .dagster, with all rows, versions and records that they hold? [y/N] '; \
		read -r answer || answer=; \
		case "$$answer" in y|Y|yes) ;; *) printf '\nNothing was removed.\n'; exit 1;; esac; fi
	@[ ! -x $(BIN)/feature-store ] || $(BIN)/feature-store redis stop || true
	@rm -rf .feature_store .dagster .env $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: install it (Debian: apt install python3-venv)."; exit 1; }
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the locked dependencies into $(VENV)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.env: | .env.example
	@cp .env.example .env

$(DAGSTER_HOME)/dagster.yaml: dagster.yaml resources/event_log.yaml
	@mkdir -p $(DAGSTER_HOME)
	@cat dagster.yaml resources/event_log.yaml > $@
