# `make run` runs the pipeline; `make test` runs all checks and tests of CI. See README.md.

SHELL := /bin/bash
# `make run` uses the first of these interpreters that exists and has a lock file in requirements/.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.7
LUIGI_TASK ?= FullRun
ARGS ?=

.PHONY: run test test-all check docs clean lock

run: ; @scripts/environment.sh .venv run $(PYTHONS) && .venv/bin/luigi --module pipeline $(LUIGI_TASK) $(ARGS)

# Formatter, linter, type checker, documentation and all tests, on Python 3.7 and current Python.
test: ; @scripts/test.sh

# The same with the longest tests.
test-all: ; @scripts/test.sh long

# Formatter, linter, type checker and the quick tests, on current Python.
check: ; @scripts/test.sh quick

# Build the documentation into site/.
docs: ; @scripts/docs.sh

# Write the lock files of all Python versions from pyproject.toml; needs uv.
lock: ; @scripts/lock.sh

clean: ; rm -rf .venv .venv-* build site *.egg-info .coverage*
