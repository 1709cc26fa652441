#!/usr/bin/env bash
# Run tonight's nightly, or that of the date in $1. For systemd and cron, which start programs with neither the user's PATH
# nor the environment of CANN. Environment variables:
#   FSE_HOME       checkout or folder with the virtual environment .venv    (default: the checkout of this file)
#   FSE_WORKSPACE  folder of all outputs                                    (default: FSE_HOME/workspace)
#   FSE_NIGHTLY    configuration file, or the name of a shipped nightly     (default: nightly)
#   CANN           CANN's set_env.sh                                        (default: searched in /usr/local/Ascend)
# If a nightly of this workspace is already running, the script exits with 10. docs/nightly.md lists the exit codes.
set -uo pipefail
home=${FSE_HOME:-$(cd "$(dirname "$0")/../.." && pwd)}
workspace=${FSE_WORKSPACE:-$home/workspace}
date=${1:-$(date +%F)}
for file in "${CANN:-}" /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do
    if [ -n "$file" ] && [ -r "$file" ]; then
        set +u  # set_env.sh reads variables that are not set
        # shellcheck disable=SC1090
        . "$file"
        set -u
        break
    fi
done
mkdir -p "$workspace" || exit 61
exec 9>"$workspace/nightly.flock"
flock --nonblock 9 || { echo "a nightly of $workspace is already running" >&2; exit 10; }
export PATH="$home/.venv/bin:$PATH"
cd "$home" || exit 61
exec luigi --module pipeline NightlyRegression --date "$date" --config "${FSE_NIGHTLY:-nightly}" --workspace "$workspace"
