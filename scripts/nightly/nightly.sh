#!/usr/bin/env bash
# Tonight's nightly, for systemd and cron, which have neither PATH nor the CANN environment. Settings are the environment's:
#   FSE_HOME       the checkout or folder with the virtual environment .venv   (default: this file's checkout)
#   FSE_WORKSPACE  folder of all outputs                                      (default: FSE_HOME/workspace)
#   FSE_NIGHTLY    the nightly's file or shipped name                         (default: nightly)
#   CANN           CANN's set_env.sh                                          (default: the first that is found)
# A night that is still running is left alone (exit code 10). Exit codes are in docs/nightly.md.
set -uo pipefail
home=${FSE_HOME:-$(cd "$(dirname "$0")/../.." && pwd)}
workspace=${FSE_WORKSPACE:-$home/workspace}
date=${1:-$(date +%F)}
for file in "${CANN:-}" /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do
    if [ -n "$file" ] && [ -r "$file" ]; then
        set +u
        # shellcheck disable=SC1090
        . "$file"
        set -u
        break
    fi
done
mkdir -p "$workspace" || exit 61
exec 9>"$workspace/nightly.flock"
flock --nonblock 9 || { echo "a nightly of $workspace is running" >&2; exit 10; }
export PATH="$home/.venv/bin:$PATH"
cd "$home" || exit 61
exec luigi --module pipeline NightlyRegression --date "$date" --config "${FSE_NIGHTLY:-nightly}" --workspace "$workspace"
