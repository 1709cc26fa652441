#!/usr/bin/env bash
# Build the documentation into site/; any warning is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/environment.sh .venv-current test python3.13 python3.12 python3.11 python3.10
NO_MKDOCS_2_WARNING=1 exec .venv-current/bin/python -m mkdocs build --strict --quiet
