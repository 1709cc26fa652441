#!/usr/bin/env bash
# Makes or refreshes a virtual environment from the lock file of its Python, and installs this package into it, editable.
#   scripts/environment.sh FOLDER run|test PYTHON…     PYTHON: names of interpreters, the first that is found is taken
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 kind=$2
shift 2
found=$(scripts/find_python.sh "$@")
read -r python version <<<"$found"
lock=requirements/py$version.txt
[ "$kind" = run ] || lock=requirements/py$version-$kind.txt
stamp=$folder/installed
want=$(cat "$lock" pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
    echo "installing into $folder ($("$python" --version), $lock) …" >&2
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    echo "$want" >"$stamp"
fi
