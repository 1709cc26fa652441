#!/usr/bin/env bash
# Print the line coverage of the tests on current Python, child processes included: the lowest files and the total.
# No file may be below 85 %.
set -euo pipefail
cd "$(dirname "$0")/.."
report=$(.venv-current/bin/coverage report)
awk 'NR <= 12 || /^TOTAL/' <<<"$report"
low=$(awk '$1 ~ /\.py$/ && $NF + 0 < 85 { print $1 " " $NF }' <<<"$report")
if [ -n "$low" ]; then
    printf 'coverage below 85 %%:\n%s\n' "$low" >&2
    exit 1
fi
