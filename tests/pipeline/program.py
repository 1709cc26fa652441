"""The real `luigi` program, and an experiment that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[2]

TINY = """
[experiment]
name = "tiny"
[dataset]
train = 24
test = 8
size = 32
[crop]
size = 20
[network]
name = "compact"
landmarks = 4
view = 16
[loss]
diversity_weight = 50.0
diversity_window = 2
[train]
batch_size = 4
steps = 6
save_freq = 2
[evaluate]
bootstrap = 20
samples = 2
[report]
examples = 3
"""

STAGES = ["Download", "AlignCrop", "ConvertTFRecord", "Train", "Export", "Evaluate", "Report"]


def command(*arguments: str) -> List[str]:
    """Return the command line of `luigi --module pipeline …`."""
    return [
        sys.executable,
        "-c",
        "from luigi.cmdline import luigi_run; luigi_run()",
        "--module",
        "pipeline",
        *arguments,
    ]


def environment(folder: Path, code: Path = ROOT) -> Dict[str, str]:
    """Return variables for a program that runs the packages in `code` and keeps its device locks in `folder`."""
    return dict(os.environ, PYTHONPATH=str(code), PYTHONWARNINGS="", FSE_LOCKS=str(folder))


def luigi(folder: Path, *arguments: str, code: Path = ROOT, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `luigi --module pipeline …` in a folder without a luigi.cfg."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder, code),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def started(done: "subprocess.CompletedProcess[str]") -> List[str]:
    """Return the stages that a run executed."""
    return [stage for stage in STAGES if stage + ": started" in done.stderr]


def tree(folder: Path) -> Dict[Path, int]:
    """Return all paths in a folder with the times of their last changes."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
