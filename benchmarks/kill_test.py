"""Interrupt runs of the pipeline at random moments, resume them, and compare the result with an uninterrupted run.

    python benchmarks/kill_test.py                  # 30 interruptions, by three signals and Luigi's own timeout in turn
    python benchmarks/kill_test.py --moments 3 --seed 5

Ten seconds after an interruption, no process may be left, no lock held, and no incomplete output published. A run that
ends before its interruption does not count: its outputs are compared, and another run begins. Prints a line for each
interruption, and exits with 1 if there was any problem.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import FULL_RUN, ROOT, parser
from fse.runtime import integrity, locks
from fse.runtime.manifests import MANIFEST

# With one thread, a training gives the same bits wherever it is interrupted.
EXPERIMENT = """
[experiment]
name = "killed"
[dataset]
train = 160
test = 16
size = 64
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
steps = 150
save_freq = 10
threads = 1
[evaluate]
bootstrap = 20
samples = 2
[report]
examples = 3
"""

WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "timeout")
GRACE_SECONDS = 10.0  # for processes to end after an interruption


def start(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start a FullRun in a folder. All of its processes have the folder's name in their environment."""
    code = folder.parent / "code"  # a copy, as the checkout may be edited meanwhile
    for package in ("fse", "tasks", "pipeline", "configs"):
        if not (code / package).exists():
            shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = dict(os.environ, PYTHONPATH=str(code), FSE_LOCKS=str(folder), FSE_KILL_TEST=str(folder))
    (folder / "killed.toml").write_text(EXPERIMENT)
    command = [*FULL_RUN, "--config", "killed.toml", *more]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def interrupt(run: "subprocess.Popen[bytes]", way: str, seconds: float) -> bool:
    """Interrupt a run after some seconds, or wait for Luigi's timeout; return whether it was still running."""
    try:
        run.wait(300 if way == "timeout" else seconds)
        return way == "timeout" and run.returncode != 0
    except subprocess.TimeoutExpired:
        run.send_signal(getattr(signal, way))
        run.wait(GRACE_SECONDS)
        return True


def processes(folder: Path) -> List[str]:
    """Return the command lines of processes of a run in the folder that are still running."""
    variable = f"FSE_KILL_TEST={folder}".encode()
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if variable in (process / "environ").read_bytes().split(b"\0"):
                commands.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return commands


def problems(folder: Path) -> List[str]:
    """Return what an interrupted run should not have left: processes, locks and incomplete outputs."""
    deadline = time.monotonic() + GRACE_SECONDS
    left = [""]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = ["process still running: " + line for line in processes(folder)]
        left += [f"lock still held: {path}" for path in folder.rglob("*.lock") if not locks.is_free(path)]
    for path in folder.glob("workspace/artifacts/*/*"):
        if path.is_dir() and "." not in path.name:
            problem = integrity.problem(path)
            left += [f"incomplete output: {path}: {problem}"] if problem else []
    return left


def contents(folder: Path) -> Dict[str, str]:
    """Return the content hash of each stage's output, except the report's, which shows how long the stages took."""
    stages = sorted((folder / "workspace" / "killed" / "stages").iterdir())
    hashes = {path.name: str(json.loads((path / MANIFEST).read_text())["content"]) for path in stages}
    del hashes["Report"]
    return hashes


def finish(folder: Path) -> Dict[str, str]:
    """Run FullRun to its end; return the content hashes."""
    run = start(folder)
    if run.wait(600):
        log = (folder / "log").read_text(errors="replace")
        raise SystemExit("the run after the interruptions failed:\n" + log[-3000:])
    return contents(folder)


def main() -> int:
    """Interrupt, compare and print; return the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--moments", type=int, default=30, help="number of interruptions (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    options = arguments.parse_args()
    # A shell starts background jobs with SIGINT ignored, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random = np.random.RandomState(options.seed)
    count = 0
    with tempfile.TemporaryDirectory() as name:
        uninterrupted = new_folder(Path(name))
        began = time.monotonic()
        finish(uninterrupted)
        seconds = time.monotonic() - began
        print(f"uninterrupted: {seconds:.0f} s", flush=True)
        folder, number = new_folder(Path(name)), 0
        while number < options.moments:
            way, after = WAYS[number % len(WAYS)], float(random.uniform(0.2, seconds / 2))
            more = ["--workers", "2"] if number // len(WAYS) % 2 else []
            if way == "timeout":
                more += ["--worker-timeout", str(max(1, int(after / 4)))]
            interrupted = interrupt(start(folder, *more), way, after)
            left = problems(folder)
            count += len(left)
            if not interrupted:
                count += compare(folder, uninterrupted)
                folder = new_folder(Path(name))
                continue
            number += 1
            done = ", ".join(sorted(path.name for path in folder.glob("workspace/artifacts/*") if finished(path)))
            print(f"{number:3} {way:<8} {after:5.1f} s  finished stages: {done}", *left, sep="\n    ", flush=True)
        count += compare(folder, uninterrupted)
    print(f"{count} problems" if count else "no problems")
    return 1 if count else 0


def new_folder(parent: Path) -> Path:
    """Create an empty folder below `parent` and return it."""
    folder = parent / str(len(list(parent.iterdir())))
    folder.mkdir()
    return folder


def finished(stage: Path) -> List[Path]:
    """Return the finished outputs of a stage."""
    return [path for path in stage.iterdir() if path.is_dir() and "." not in path.name] if stage.is_dir() else []


def compare(folder: Path, uninterrupted: Path) -> int:
    """Finish an interrupted run and compare its outputs with those of an uninterrupted one.

    Returns:
      The number of stages whose outputs differ.
    """
    actual, expected = finish(folder), contents(uninterrupted)
    different = [stage for stage in expected if actual[stage] != expected[stage]]
    for stage in different:
        outputs = [str(run / "workspace" / "killed" / "stages" / stage) for run in (uninterrupted, folder)]
        subprocess.run(["diff", "-r", *outputs])
    result = "DIFFERENT: " + ", ".join(different) if different else "identical content"
    print(f"    finished: {result}", flush=True)
    return len(different)


if __name__ == "__main__":
    sys.exit(main())
