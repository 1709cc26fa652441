"""The retention of the nights' outputs and logs."""

import contextlib
import shutil
from pathlib import Path
from typing import Collection


def remove_old_links(folder: Path, keep: int, accepted: Collection[str]) -> None:
    """Remove the links of old nights to their outputs, and the nights' logs. Clean then removes the outputs.

    The newest and the accepted nights keep theirs.

    Args:
      folder: the nightly's folder.
      keep: number of nights to keep; nights without outputs do not count.
      accepted: dates of the accepted nights.
    """
    runs = {
        verdict.parent.name: [path for path in verdict.parent.iterdir() if path.is_dir()]
        for verdict in folder.glob("*/verdict.json")
    }
    logs = folder.parents[1] / "logs"
    for date in sorted(date for date, folders in runs.items() if folders)[:-keep]:
        if date in accepted:
            continue
        for run_folder in runs[date]:
            shutil.rmtree(run_folder)
        for log in logs.glob(f"nightly-{folder.name}-{date}-*.log*"):
            with contextlib.suppress(FileNotFoundError):  # logrotate renamed it in the meantime
                log.unlink()
