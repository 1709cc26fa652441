"""The scripts in examples/, run as their docstrings say, on a finished run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import List

from tests.pipeline.program import ROOT, environment

EXAMPLES = ROOT / "examples"


def run(folder: Path, *arguments: str) -> List[str]:
    """Return the lines that a program prints; it must succeed."""
    path = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=str(folder),
        env=dict(environment(folder), PYTHONPATH=path, PYTHONWARNINGS="ignore"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_pipeline_runs_from_python(ran: Path) -> None:
    lines = run(ran, str(EXAMPLES / "run_from_python.py"), "--config", "tiny.toml")
    assert lines[-2].startswith("error: ")
    assert lines[-1] == f"report: {Path('workspace') / 'tiny' / 'report.html'}"


def test_a_task_of_ones_own_requires_the_pipeline(ran: Path) -> None:
    luigi = "from luigi.cmdline import luigi_run; luigi_run()"
    run(ran, "-c", luigi, "--module", "own_task", "WorstImages", "--config", "tiny.toml", "--count", "3")
    lines = (ran / "workspace" / "tiny" / "worst-3.txt").read_text().splitlines()
    errors = [float(line.split()[0]) for line in lines]
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)


def test_the_exported_model_is_used_without_this_project(ran: Path) -> None:
    image = next((ran / "workspace" / "artifacts" / "AlignCrop").glob("*/images/*.png"))
    lines = run(ran, str(EXAMPLES / "use_exported_model.py"), "workspace/tiny/model", str(image))
    assert [line.split(":")[0] for line in lines] == [f"landmark_{number}" for number in range(4)]
