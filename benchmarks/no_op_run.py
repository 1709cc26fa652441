"""Time that FullRun takes to find that there is nothing to do, with 200,000 images in the workspace.

    python benchmarks/no_op_run.py
    python benchmarks/no_op_run.py --images 2000     # quick

Runs the whole pipeline once on tiny images, which takes long. Then it runs it again several times, in turns with a Luigi
task that does nothing and, if `dvc` is installed, with `dvc repro` on a pipeline of seven stages over the same images.
Exits with 1 if FullRun takes more than 0.8 s, more than three times a bare Luigi, or more than DVC.
"""

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Dict, List, Optional, Union

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import FULL_RUN, LUIGI, ROOT, parser

BARE_LUIGI = [*LUIGI, "bare", "Done", "--local-scheduler", "--log-level", "WARNING"]

MAX_SECONDS = 0.8
MAX_TIMES_BARE_LUIGI = 3.0

EXPERIMENT = """
[experiment]
name = "idle"
[dataset]
name = "idle"
archive = "images.zip"
[crop]
size = 16
max_skipped = 0.0
[network]
name = "compact"
landmarks = 4
view = 16
[train]
batch_size = 4
steps = 4
[evaluate]
batch_size = 1024
bootstrap = 20
samples = 1
"""

BARE_TASK = """
import luigi

class Done(luigi.Task):
    def complete(self):
        return True
"""

DVC_STAGE = """  {name}:
    cmd: rm -rf {out} && cp -r {source} {out}
    deps:
      - {source}
      - code.py
    outs:
      - {out}:
          cache: false
"""


def write_archive(path: Path, images: int) -> None:
    """Write a zip archive of images of 16 x 16 pixels with two landmarks each; every tenth is a test image."""
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    rows = ["file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            name = f"{number:06d}.png"
            archive.writestr("images/" + name, stream.getvalue())
            split = "test" if number % 10 == 9 else "train"
            rows.append(f"{name},{split},{4 + number % 3},6,{10 + number % 2},6")
        archive.writestr("landmarks.csv", "\n".join(rows) + "\n")


def seconds(command: List[str], folder: Union[str, Path], environment: Dict[str, str]) -> float:
    """Run a command; return its wall time in seconds. End this program if it fails."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout.decode(errors='replace')[-3000:]}")
    return time.monotonic() - start


def prepare_dvc(folder: Path, images: Path, environment: Dict[str, str]) -> Optional[List[str]]:
    """Run a comparable DVC pipeline once: three stages that copy all images, and four small ones.

    Returns:
      The command to run it again; None if DVC is not installed.
    """
    if shutil.which("dvc") is None:
        return None
    folder.mkdir()
    (folder / "code.py").write_text("def work(): pass\n")
    shutil.copytree(images, folder / "source")
    (folder / "small").write_text("")
    stages = [("download", "source"), ("crop", "download"), ("convert", "crop")]
    stages += [("train", "small"), ("export", "train"), ("evaluate", "export"), ("report", "evaluate")]
    text = "".join(DVC_STAGE.format(name=name, source=source, out=name) for name, source in stages)
    (folder / "dvc.yaml").write_text("stages:\n" + text)
    seconds(["dvc", "init", "--no-scm", "--quiet"], folder, environment)
    command = ["dvc", "repro", "--quiet"]
    print(f"dvc repro, first time {seconds(command, folder, environment):8.1f} s", flush=True)
    return command


def main() -> int:
    """Measure and print; return the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=200_000, help="number of images (default: %(default)s)")
    arguments.add_argument("--repeats", type=int, default=7, help="runs to measure (default: %(default)s)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), name]), FSE_LOCKS=name)
        (folder / "bare.py").write_text(BARE_TASK)
        (folder / "idle.toml").write_text(EXPERIMENT)
        write_archive(folder / "images.zip", options.images)
        full_run = [*FULL_RUN, "--config", "idle.toml"]
        print(f"the first run         {seconds(full_run, folder, environment):8.1f} s", flush=True)
        commands = {"nothing to do": full_run, "a bare Luigi": BARE_LUIGI}
        images = folder / "workspace" / "idle" / "stages" / "Download" / "images"
        dvc = prepare_dvc(folder / "dvc", images, environment)
        if dvc:
            commands["dvc repro"] = dvc
        times: Dict[str, List[float]] = {label: [] for label in commands}
        for _ in range(options.repeats):
            for label, command in commands.items():
                where = folder / "dvc" if label == "dvc repro" else folder
                times[label].append(seconds(command, where, environment))
    medians = {label: statistics.median(values) for label, values in times.items()}
    for label, values in times.items():
        print(f"{label:<21} {medians[label]:8.2f} s  (median of {len(values)}; {min(values):.2f} to {max(values):.2f})")
    ratio = medians["nothing to do"] / medians["a bare Luigi"]
    print(f"times a bare Luigi    {ratio:8.2f}    (at most {MAX_TIMES_BARE_LUIGI}; and at most {MAX_SECONDS} s)")
    missed = medians["nothing to do"] > MAX_SECONDS or ratio > MAX_TIMES_BARE_LUIGI
    return int(missed or medians["nothing to do"] > medians.get("dvc repro", float("inf")))


if __name__ == "__main__":
    sys.exit(main())
