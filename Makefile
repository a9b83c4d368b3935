# make demo   sets up and shows a tour of real calls
# make test   sets up and runs every check there is
# Needs POSIX make, sh, and Python >= 3.12 somewhere (.ci/find-python); make PYTHON=/path/to/python3 names one.
.POSIX:

PYTHON =
SOAK_SECONDS = 600
BIN = .venv/bin
SOURCES = codegen proxy generated tests

help:
	@echo 'make setup               a virtual environment in .venv'
	@echo 'make demo                the proxy between mocked runtimes, with a tour of calls'
	@echo 'make test                lint, types, drift of generated code, all tests, real servers, other Pythons'
	@echo 'make test-unit           the tests that need no servers'
	@echo 'make test-light          the tests against real inference servers that install in a minute'
	@echo 'make test-runtimes       these and vLLM: all tests against real servers (some GB, installed on first use)'
	@echo 'make test-all-pythons    the tests that need no servers under every Python >= 3.12 found'
	@echo 'make generate            write generated/, and the matrix of README.md, from specs/'
	@echo 'make check               does generated/ fit specs/?'
	@echo 'make lint types          ruff, mypy --strict'
	@echo 'make perf                what calls cost, beside Envoy; writes docs/performance.md'
	@echo 'make fuzz                five minutes of made-up input for each parser (FUZZ_SECONDS=300)'
	@echo 'make soak                ten minutes of mixed load; does all come back to where it was? (SOAK_SECONDS=600)'
	@echo 'make soak-memory         ten minutes of streams that are shown and captured: is their memory bounded? (SOAK_SECONDS=600)'
	@echo 'make docs                write docs/faults.md'
	@echo 'make screenshots         the pictures of README.md and docs/inspecting.md; needs a Chromium'
	@echo 'make clean               remove all that was made'

setup:
	@PYTHON='$(PYTHON)' .ci/setup .venv

demo: setup
	@$(BIN)/inferbridge demo

test: lint types check test-unit test-light
	@.ci/test-other-pythons

test-unit: setup
	$(BIN)/python -m pytest -q -n auto -m 'not runtimes and not heavy'

test-light: setup
	$(BIN)/python -m pytest -q -m runtimes

test-runtimes: setup
	$(BIN)/python -m pytest -q -m 'runtimes or heavy'

test-all-pythons: setup
	@.ci/test-other-pythons --every

generate: setup
	$(BIN)/inferbridge generate
	$(BIN)/inferbridge matrix --into README.md

check: setup
	$(BIN)/inferbridge generate --check

lint: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: setup
	$(BIN)/mypy

perf: setup
	$(BIN)/python -m tests.perf

fuzz: setup
	$(BIN)/python -m pip install -q --disable-pip-version-check --group fuzz
	$(BIN)/python -m pytest -q tests/fuzz
	PYTHONPATH=codegen:proxy:generated:tests $(BIN)/python -m fuzz

soak: setup
	PYTHONPATH=codegen:proxy:generated:tests $(BIN)/python -m soak $(SOAK_SECONDS)

soak-memory: setup
	PYTHONPATH=codegen:proxy:generated:tests $(BIN)/python -m soak.memory $(SOAK_SECONDS)

docs: setup
	PYTHONPATH=codegen:proxy:generated:tests $(BIN)/python -m faults

screenshots: setup
	PYTHONPATH=codegen:proxy:generated:tests $(BIN)/python -m browser

clean:
	rm -rf .venv .venv-* .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find $(SOURCES) -type d -name __pycache__ -exec rm -rf {} +

.PHONY: help setup demo test test-unit test-light test-runtimes test-all-pythons generate check lint types perf fuzz soak soak-memory docs screenshots clean
