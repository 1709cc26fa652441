#!/usr/bin/env bash
# Print path and version of the first interpreter of the given names (python3, python3.7, …) that runs and has a lock file.
# The versions that pyenv installed are searched too, even if they are not on the PATH.
cd "$(dirname "$0")/.." || exit 1
for name in "$@"; do
    version=${name#python}
    for candidate in "$name" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/"$name"; do
        interpreter=$("$candidate" -c 'import sys; print(sys.executable, "%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        read -r executable version_number <<<"$interpreter"
        if [ -f "requirements/py$version_number.txt" ]; then
            echo "$executable $version_number"
            exit 0
        fi
    done
done
echo "error: none of these interpreters exists: $*; install Python 3.7 or 3.9 to 3.13" >&2
exit 1
