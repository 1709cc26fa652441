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
    # Both stacks side by side: much of either's time is waiting for one process. What current Python says comes last.
    echo "== $bin/python -m pytest, in the background" >&2
    said=$(mktemp)
    $bin/python -m pytest >"$said" 2>&1 &
    current=$!
    trap 'kill $current 2>/dev/null || true; rm -f "$said"' EXIT
    step .venv-py37/bin/python -m pytest
    wait $current || failed+=("$bin/python -m pytest")
    cat "$said" >&2
else
    step $bin/python -m pytest
    echo "warning: no Python 3.7 here: the tests on TensorFlow 1.15 did NOT run" >&2
    [ "${CI:-}" != true ] || failed+=("Python 3.7 is missing")
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all passed" >&2
