"""`python -m fse` is the `fse` command."""

import sys

from fse.cli import main

if __name__ == "__main__":  # parallel processes that import the main module must not run it
    sys.exit(main())
