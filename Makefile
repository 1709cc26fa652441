# Two commands: `make run` is the main job, `make test` is everything CI asks for. See README.md.

SHELL := /bin/bash
# The first Python of this list that is found and has a lock file in requirements/ is the one to run on.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.7
LUIGI_TASK ?= FullRun
ARGS ?=

.PHONY: run test check clean lock

run: ; @scripts/environment.sh .venv run $(PYTHONS) && .venv/bin/luigi --module pipeline $(LUIGI_TASK) $(ARGS)

# Formatter, linter, type checker and all tests, on both stacks.
test: ; @scripts/test.sh

# The quick part, on current Python.
check: ; @scripts/test.sh quick

# Lock files for every Python, from pyproject.toml; needs uv.
lock: ; @scripts/lock.sh

clean: ; rm -rf .venv .venv-py* build *.egg-info
