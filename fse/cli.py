"""The `fse` command: every stage without Luigi, landmarks of your own images, and checks of files and of the machine.

Exit codes: 0 success; 1 failure, which standard error explains; 2 an invalid command line or configuration; 3 a failure of
the machine, such as a download, the device or the disk; 4 a training for an NPU that did not use it.
"""

import logging
import os
import sys
from typing import List, Optional

from fse.errors import EXIT_DEVICE_UNUSED, EXIT_MACHINE, ConfigError, DeviceUnusedError, FseError, is_machine_error
from fse.runtime import platforms


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command and return the exit code.

    Args:
      arguments: the command line without the program's name; by default this process's.

    Raises:
      SystemExit: help or the version was asked for, an option is invalid, or the operating system is not Linux.
    """
    platforms.require_linux()
    # These modules need Linux: on other systems their imports would fail before the check.
    from fse import commands
    from fse.runtime import processes

    parent = os.environ.get("FSE_PARENT")
    if parent:  # a stage that Luigi started ends with Luigi, even if Luigi is killed
        processes.die_with_parent(int(parent))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    options = commands.build_parser().parse_args(arguments)
    try:
        options.run(options)
    except ConfigError as error:
        return _fail(str(error), 2)
    except DeviceUnusedError as error:
        return _fail(str(error), EXIT_DEVICE_UNUSED)
    except FseError as error:
        # The stages that prepare images name settings of [dataset] and [crop], even if the images are for evaluation.
        for_evaluation = getattr(options, "data", "") == "evaluate"
        prefix = "evaluation data ([evaluate.dataset] and [evaluate.crop]): " if for_evaluation else ""
        return _fail(f"{prefix}{error}", EXIT_MACHINE if is_machine_error(error) else 1)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", EXIT_MACHINE)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
