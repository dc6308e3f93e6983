# `make demo` and `make test` need nothing but Python 3.11 or newer and make; the rest is installed into the checkout.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench matrix lint format install lock clean

demo: install ## Everything in one go: sign up, upload, four operations, the ledger
	$(BIN)/dtf demo

test: lint ## Every test, on a stack of its own
	$(BIN)/pytest

bench: install ## Figures of speed, as ratios; asserts nothing about time
	$(BIN)/pytest tests/benchmarks -s

matrix: install ## Who may do what with every table, tried on a stack of its own
	$(BIN)/python -m tests.database.matrix

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar supabase

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
	@echo "Installing the dependencies into this folder (once, about a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m cli.local.npm install --no-save
	@touch $@

lock: install ## Renew the lock files after a change of pyproject.toml or package.json
	$(BIN)/pip install --quiet uv==0.13.9
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --python-version 3.11 --output-file requirements.lock
	$(BIN)/python -m cli.local.npm install

clean: ## Stop the stack and remove all that was installed or made
	test ! -x $(BIN)/dtf || $(BIN)/dtf down
	test ! -x $(BIN)/dtf || DTF_DIRECTORY=.dtf/test $(BIN)/dtf down
	rm -rf .venv node_modules .dtf demo-output screenshots supabase/.temp .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
