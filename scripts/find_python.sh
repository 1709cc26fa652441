#!/usr/bin/env bash
# Prints the path of the first interpreter of the given names (python3, python3.7, …) that runs and has a lock file.
# Interpreters that pyenv keeps but does not put on the PATH are found too.
cd "$(dirname "$0")/.." || exit 1
for name in "$@"; do
    version=${name#python}
    for candidate in "$name" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/"$name"; do
        path=$("$candidate" -c 'import sys; print(sys.executable, "%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        read -r executable found <<<"$path"
        if [ -f "requirements/py$found.txt" ]; then
            echo "$executable $found"
            exit 0
        fi
    done
done
echo "error: found none of $*: Python 3.7 or 3.9 to 3.13 is needed" >&2
exit 1
