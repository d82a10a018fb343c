# Every target makes .venv by itself: plain venv and pip, versions from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOTS := workflows activities client

.DEFAULT_GOAL := help
.PHONY: help demo demo-coding test thorough format lint types mypy pyright check chaos compat bench long build wheel-test \
	record-histories machine clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## Run the demonstration: no account, no key, no server needed
	$(BIN)/sojourn demo

demo-coding: $(STAMP) ## Let a coding agent repair a program in a sandbox: no account, no key needed
	$(BIN)/sojourn demo coding

test: $(STAMP) ## Run the tests, several at a time: most of them wait
	@command -v chromium >/dev/null || \
	  echo "note: no chromium, so the tests of the console are left out; on Debian: apt-get install chromium" >&2
	@command -v bwrap >/dev/null || \
	  echo "note: no bubblewrap, so the tests of the sandbox are left out; on Debian: apt-get install bubblewrap" >&2
	$(BIN)/pytest -n 4 --dist worksteal

thorough: $(STAMP) ## Run what `make test` leaves out: more variants of what it shows
	$(BIN)/pytest -n 4 --dist worksteal -m thorough

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .

lint: $(STAMP) ## Check format, style and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## Check types: mypy (strict) and pyright, at the same time
	@$(MAKE) --no-print-directory --jobs 2 --output-sync mypy pyright

mypy: $(STAMP)
	$(BIN)/mypy $(ROOTS) tests examples

pyright: $(STAMP)
	$(BIN)/pyright

check: lint types test wheel-test ## Everything CI checks

chaos: $(STAMP) ## Kill everything 500 times and judge every session; CHAOS="--seed 7" replays a plan
	$(BIN)/python -m tests.chaos.run --steps $(CHAOS)

compat: $(STAMP) ## Try eight releases of the official SDK, and the TypeScript one, against sojourn up
	$(BIN)/python -m tests.compat.run
	SOJOURN_CONTRACT_EXAMPLES=200 $(BIN)/pytest tests/client/gateway/test_contract.py -n 2 --timeout 1200

bench: $(STAMP) ## Run the benchmarks
	$(BIN)/python benchmarks/run.py

machine: $(STAMP) ## Run 200 random programs against a session and its model (about 15 minutes)
	SOJOURN_MACHINE_PROGRAMS=200 $(BIN)/pytest tests/machine --durations=0 -s

long: $(STAMP) ## A conversation of 2,000 turns, and 10,000 idle sessions (about 20 minutes)
	$(BIN)/python benchmarks/long.py

build: $(STAMP) ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation

wheel-test: $(STAMP) ## Build the wheel, install it elsewhere, import every package
	$(BIN)/python tests/wheel_check.py

record-histories: $(STAMP) ## Record workflow histories for the replay tests
	$(BIN)/python tests/histories/record.py

clean: ## Remove everything that was built, .venv too
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(ROOTS) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; set PYTHON, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@
