#!/usr/bin/env bash
# Create or update a virtual environment from the lock file of its Python version, and install this package as editable.
#   scripts/environment.sh FOLDER run|test PYTHON…
# PYTHON… are names of interpreters; the first one that exists is used. Nothing is installed if the environment is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 kind=$2
shift 2
interpreter=$(scripts/find_python.sh "$@")
read -r python version <<<"$interpreter"
lock=requirements/py$version.txt
[ "$kind" = run ] || lock=requirements/py$version-$kind.txt
stamp=$folder/installed
checksum=$(cat "$lock" pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$checksum" ]; then
    echo "installing into $folder ($("$python" --version), $lock) …" >&2
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    echo "$checksum" >"$stamp"
fi
