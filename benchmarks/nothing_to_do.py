"""How long it takes to find that nothing is to be done, with 200,000 images in the workspace.

    python benchmarks/nothing_to_do.py
    python benchmarks/nothing_to_do.py --images 2000     # quick

Runs the whole pipeline once on tiny images, which takes its time, and then again and again, in turn with a Luigi that
does nothing at all and, where `dvc` is installed, with `dvc repro` on a pipeline of seven stages over the same images.
Exits with 1 if a bar is missed: 0.8 s, three times a bare Luigi, less than DVC.
"""

import argparse
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
from typing import Dict, List, Optional

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LUIGI = [sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module"]
BARE = [*LUIGI, "bare", "Done", "--local-scheduler", "--log-level", "WARNING"]

SECONDS = 0.8
TIMES_BARE = 3.0

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
    """A zip of images of 16 pixels, nine of ten for training, with two landmarks each."""
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    rows = ["file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    with zipfile.ZipFile(str(path), "w") as archive:
        for number in range(images):
            name = f"{number:06d}.png"
            archive.writestr("images/" + name, stream.getvalue())
            split = "test" if number % 10 == 9 else "train"
            rows.append(f"{name},{split},{4 + number % 3},6,{10 + number % 2},6")
        archive.writestr("landmarks.csv", "\n".join(rows) + "\n")


def seconds(command: List[str], folder: Path, environment: Dict[str, str]) -> float:
    """Wall time of a command that must end well."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=str(folder), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit("{} failed:\n{}".format(" ".join(command), done.stdout.decode(errors="replace")[-3000:]))
    return time.monotonic() - began


def prepare_dvc(folder: Path, images: Path, environment: Dict[str, str]) -> Optional[List[str]]:
    """An equal pipeline in DVC, run once: three stages that hold all images, four with little. None without DVC."""
    if shutil.which("dvc") is None:
        return None
    folder.mkdir()
    (folder / "code.py").write_text("def work(): pass\n")
    shutil.copytree(str(images), str(folder / "source"))
    (folder / "small").write_text("")
    stages = [("download", "source"), ("crop", "download"), ("convert", "crop")]
    stages += [("train", "small"), ("export", "train"), ("evaluate", "export"), ("report", "evaluate")]
    text = "".join(DVC_STAGE.format(name=name, source=source, out=name) for name, source in stages)
    (folder / "dvc.yaml").write_text("stages:\n" + text)
    seconds(["dvc", "init", "--no-scm", "--quiet"], folder, environment)
    print(
        "dvc repro, first time {:8.1f} s".format(seconds(["dvc", "repro", "--quiet"], folder, environment)), flush=True
    )
    return ["dvc", "repro", "--quiet"]


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), name]), FSE_LOCKS=name)
        (folder / "bare.py").write_text(BARE_TASK)
        (folder / "idle.toml").write_text(EXPERIMENT)
        write_archive(folder / "images.zip", options.images)
        run = [*LUIGI, "pipeline", "FullRun", "--config", "idle.toml"]
        print(f"the whole run         {seconds(run, folder, environment):8.1f} s", flush=True)
        commands = {"nothing to do": run, "a bare Luigi": BARE}
        images = folder / "workspace" / "idle" / "stages" / "Download" / "images"
        dvc = prepare_dvc(folder / "dvc", images, environment)
        if dvc:
            commands["dvc repro"] = dvc
        times: Dict[str, List[float]] = {what: [] for what in commands}
        for _ in range(options.repeats):
            for what, command in commands.items():
                times[what].append(seconds(command, folder / "dvc" if what == "dvc repro" else folder, environment))
    medians = {what: statistics.median(values) for what, values in times.items()}
    for what, values in times.items():
        print(f"{what:<21} {medians[what]:8.2f} s  (median of {len(values)}; {min(values):.2f} to {max(values):.2f})")
    ratio = medians["nothing to do"] / medians["a bare Luigi"]
    print("{:<21} {:8.2f}    (bar {}; and {} s)".format("times a bare Luigi", ratio, TIMES_BARE, SECONDS))
    missed = medians["nothing to do"] > SECONDS or ratio > TIMES_BARE
    return int(missed or medians["nothing to do"] > medians.get("dvc repro", float("inf")))


if __name__ == "__main__":
    sys.exit(main())
