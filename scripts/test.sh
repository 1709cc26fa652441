#!/usr/bin/env bash
# All checks and tests on both stacks: Python 3.7 with TensorFlow 1.15, and current Python with current TensorFlow.
#   scripts/test.sh          everything; a missing interpreter is said aloud, and is an error where CI=true
#   scripts/test.sh quick    formatter, linter, types and the quick tests, on current Python
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-all}
current=(python3.13 python3.12 python3.11 python3.10 python3.9 python3)
failed=()

step() {
    echo "== $*" >&2
    "$@" || failed+=("$*")
}

scripts/environment.sh .venv-current test "${current[@]}"
bin=.venv-current/bin
step $bin/ruff format --check .
step $bin/ruff check .
step $bin/mypy
if [ "$mode" = quick ]; then
    step $bin/python -m pytest -m "not slow"
else
    step $bin/python -m pytest
    if scripts/find_python.sh python3.7 >/dev/null 2>&1; then
        scripts/environment.sh .venv-py37 test python3.7
        step .venv-py37/bin/python -m pytest
    else
        echo "warning: no Python 3.7 here: the tests on TensorFlow 1.15 did NOT run" >&2
        [ "${CI:-}" != true ] || failed+=("Python 3.7 is missing")
    fi
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all passed" >&2
