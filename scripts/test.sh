#!/usr/bin/env bash
# Run the checks and tests on both stacks: Python 3.7 with TensorFlow 1.15, and current Python with current TensorFlow.
#   scripts/test.sh          what CI runs; without Python 3.7 the script prints a warning, and fails if CI=true
#   scripts/test.sh long     the same with the longest tests, which are marked `long`
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

case $mode in
quick) marks="not slow and not long" ;;
long) marks="" ;;
*) marks="not long" ;;
esac
# One worker per CPU; the tests of a file share fixtures, so they stay together.
tests=(-m pytest -m "$marks" -n "$(nproc)" --dist loadfile)

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
    step $bin/python "${tests[@]}"
else
    step scripts/docs.sh
    running=
    if [ -n "$installing" ]; then
        wait $installing
        # Both stacks run in parallel: each spends much of its time waiting. This output is printed at the end.
        output=$(mktemp)
        trap 'kill $running 2>/dev/null || true; rm -f "$output"' EXIT
        echo "== .venv-py37/bin/python ${tests[*]}, in the background" >&2
        .venv-py37/bin/python "${tests[@]}" >"$output" 2>&1 &
        running=$!
    else
        echo "warning: Python 3.7 is not installed; the tests on TensorFlow 1.15 did NOT run" >&2
        [ "${CI:-}" != true ] || failed+=("Python 3.7 is not installed")
    fi
    $bin/coverage erase
    step $bin/coverage run "${tests[@]}"
    if [ -n "$running" ]; then
        wait $running || failed+=(".venv-py37/bin/python ${tests[*]}")
        cat "$output" >&2
    fi
    $bin/coverage combine --quiet 2>/dev/null || true
    rm -f .coverage.* # the data of processes that were killed while they wrote it
    step scripts/coverage.sh
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "all passed" >&2
