#!/usr/bin/env bash
# Run the checks and tests on both stacks: Python 3.7 with TensorFlow 1.15, and current Python with current TensorFlow.
#   scripts/test.sh          all of them; without Python 3.7 the script prints a warning, and fails if CI=true
#   scripts/test.sh quick    formatter, linter, type checker and the quick tests, on current Python
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-all}
current=(python3.13 python3.12 python3.11 python3.10 python3.9 python3)
failed=()

step() {
    echo "== $*" >&2
    "$@" || failed+=("$*")
}

installing=
if [ "$mode" != quick ] && scripts/find_python.sh python3.7 >/dev/null 2>&1; then
    scripts/environment.sh .venv-py37 test python3.7 &
    installing=$!
fi
scripts/environment.sh .venv-current test "${current[@]}"
bin=.venv-current/bin
step $bin/ruff format --check .
step $bin/ruff check .
step $bin/mypy
if [ "$mode" = quick ]; then
    step $bin/python -m pytest -m "not slow"
elif [ -n "$installing" ]; then
    wait $installing
    # Run both stacks in parallel: each spends much of its time waiting for a single process. The output of current Python
    # goes to a file and is printed at the end.
    echo "== $bin/python -m pytest, in the background" >&2
    output=$(mktemp)
    $bin/python -m pytest >"$output" 2>&1 &
    current=$!
    trap 'kill $current 2>/dev/null || true; rm -f "$output"' EXIT
    step .venv-py37/bin/python -m pytest
    wait $current || failed+=("$bin/python -m pytest")
    cat "$output" >&2
else
    step $bin/python -m pytest
    echo "warning: Python 3.7 is not installed; the tests on TensorFlow 1.15 did NOT run" >&2
    [ "${CI:-}" != true ] || failed+=("Python 3.7 is not installed")
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all passed" >&2
