"""Stops runs of the pipeline at random moments, goes on, and compares what comes out with an uninterrupted run.

    python benchmarks/kill_test.py                  # 30 moments, three signals and Luigi's own timeout in turn
    python benchmarks/kill_test.py --moments 3 --seed 5

After each stop no process may be left after ten seconds, no lock held and no half output in its place. A run that had
ended before its moment came does not count: it is compared, and another begins. Prints one line a stop, and exits with 1
if anything is not so.
"""

import argparse
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fse.runtime import locks, outputs

PROGRAM = [sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module", "pipeline", "FullRun"]
# One thread: then a training gives the same bits whenever it is stopped.
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
PATIENCE_SECONDS = 10.0


def start(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Starts a full run; every process of it has the folder's name in its environment."""
    code = folder.parent / "code"  # a copy: the checkout may be edited meanwhile
    for package in ("fse", "tasks", "pipeline", "configs"):
        if not (code / package).exists():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(str(ROOT / package), str(code / package), ignore=ignored)
    environment = dict(os.environ, PYTHONPATH=str(code), FSE_LOCKS=str(folder), FSE_KILL_TEST=str(folder))
    (folder / "killed.toml").write_text(EXPERIMENT)
    command = [*PROGRAM, "--config", "killed.toml", *more]
    with open(str(folder / "log"), "ab") as log:
        return subprocess.Popen(command, cwd=str(folder), env=environment, stdout=log, stderr=log)


def stop(run: "subprocess.Popen[bytes]", way: str, after: float) -> bool:
    """Stops a run after some seconds, or lets Luigi's timeout do it. Returns whether it was still running."""
    try:
        run.wait(300 if way == "timeout" else after)
        return way == "timeout" and run.returncode != 0
    except subprocess.TimeoutExpired:
        run.send_signal(getattr(signal, way))
        run.wait(PATIENCE_SECONDS)
        return True


def processes(folder: Path) -> List[str]:
    """Command lines of the processes that a run in the folder started and that are still there."""
    mark = f"FSE_KILL_TEST={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def problems(folder: Path) -> List[str]:
    """What a stopped run left that it should not have."""
    until = time.monotonic() + PATIENCE_SECONDS
    found = [""]
    while found and time.monotonic() < until:
        time.sleep(0.05)
        found = ["process left: " + line for line in processes(folder)]
        found += [f"lock held: {path}" for path in folder.rglob("*.lock") if not locks.is_free(path)]
    for path in folder.glob("workspace/artifacts/*/*"):
        if path.is_dir() and "." not in path.name:
            problem = outputs.problem(path)
            found += [f"half an output: {path}: {problem}"] if problem else []
    return found


def contents(folder: Path) -> Dict[str, str]:
    """Content hash of every stage's output but the report's, which shows how long everything took."""
    stages = sorted((folder / "workspace" / "killed" / "stages").iterdir())
    found = {path.name: str(json.loads((path / outputs.MANIFEST).read_text())["content"]) for path in stages}
    del found["Report"]
    return found


def finish(folder: Path) -> Dict[str, str]:
    """Lets a run end; returns what came out."""
    run = start(folder)
    if run.wait(600):
        raise SystemExit("the run after the stops failed:\n" + (folder / "log").read_text(errors="replace")[-3000:])
    return contents(folder)


def main() -> int:
    """Stops, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and hand that on
    random = np.random.RandomState(options.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        whole = fresh(Path(name))
        began = time.monotonic()
        finish(whole)
        seconds = time.monotonic() - began
        print(f"uninterrupted: {seconds:.0f} s", flush=True)
        folder, number = fresh(Path(name)), 0
        while number < options.moments:
            way, after = WAYS[number % len(WAYS)], float(random.uniform(0.2, seconds / 2))
            more = ["--workers", "2"] if number // len(WAYS) % 2 else []
            run = start(folder, *more, *(["--worker-timeout", str(max(1, int(after / 4)))] if way == "timeout" else []))
            stopped = stop(run, way, after)
            found = problems(folder)
            bad += len(found)
            if not stopped:
                bad += compare(folder, whole)
                folder = fresh(Path(name))
                continue
            number += 1
            done = sorted(path.name for path in folder.glob("workspace/artifacts/*") if contents_of(path))
            words = (number, way, after, ", ".join(done))
            print("{:3} {:<8} {:5.1f} s  done so far: {}".format(*words), *found, sep="\n    ", flush=True)
        bad += compare(folder, whole)
    print("all as they should be" if not bad else f"{bad} problems")
    return 1 if bad else 0


def fresh(parent: Path) -> Path:
    """A new empty folder."""
    folder = parent / str(len(list(parent.iterdir())))
    folder.mkdir()
    return folder


def contents_of(stage: Path) -> List[Path]:
    """The finished outputs of a stage."""
    return [path for path in stage.iterdir() if path.is_dir() and "." not in path.name] if stage.is_dir() else []


def compare(folder: Path, whole: Path) -> int:
    """Prints how a run that is finished here compares with an uninterrupted one; returns the number of differences."""
    found, wanted = finish(folder), contents(whole)
    different = [name for name in wanted if found[name] != wanted[name]]
    for name in different:
        subprocess.run(
            ["diff", "-r", *(str(each / "workspace" / "killed" / "stages" / name) for each in (whole, folder))]
        )
    print(
        "    finished: " + ("identical content" if not different else "DIFFERENT: " + ", ".join(different)), flush=True
    )
    return len(different)


if __name__ == "__main__":
    sys.exit(main())
