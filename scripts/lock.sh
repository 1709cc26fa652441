#!/usr/bin/env bash
# Write the lock files requirements/pyX.Y.txt (run) and requirements/pyX.Y-test.txt (test, check and document) from pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --no-header --no-annotate --generate-hashes --python-platform x86_64-unknown-linux-gnu)
for version in 3.7 3.9 3.10 3.11 3.12 3.13; do
    uv pip compile "${options[@]}" --python-version $version pyproject.toml -o requirements/py$version.txt
    uv pip compile "${options[@]}" --python-version $version --extra test --extra lint --extra docs pyproject.toml \
        -o requirements/py$version-test.txt
done
