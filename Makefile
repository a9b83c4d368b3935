# `make demo` and `make test` set everything up by themselves.
VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup test unit lint types generate check clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Make the virtual environment

$(STAMP): pyproject.toml
	@python="$$(.ci/find-python $(PYTHON))" || exit 1; \
	echo "setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade pip 2>/dev/null
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[proxy,simd]' --group dev
	@touch $(STAMP)

test: lint types check unit ## Everything continuous integration checks

unit: $(STAMP) ## The tests
	$(BIN)/python -m pytest -q

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

generate: $(STAMP) ## Write generated/ from specs/
	$(BIN)/inferbridge generate

check: $(STAMP) ## Is generated/ what specs/ says?
	$(BIN)/inferbridge generate --check

clean: ## Remove the virtual environment
	rm -rf $(VENV)
