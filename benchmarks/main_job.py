"""Runs the main job in a fresh workspace, then again with nothing to do, and prints what it took and what came out.

    python benchmarks/main_job.py                     # synthetic faces
    python benchmarks/main_job.py --config faces      # real faces, where their archive is
    python benchmarks/main_job.py --set train.steps=100

The bars are those of the project's plan, for two cores and current TensorFlow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module", "pipeline", "FullRun"]
# Minutes for the whole run, and the largest permitted error, by configuration.
MINUTES = {"synthetic": 6.0, "faces": 12.0}
BARS = {"synthetic": "60 % of mean_shape_nme", "faces": "11.0"}


def run(arguments: List[str]) -> float:
    """Seconds of wall time of a FullRun."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    began = time.monotonic()
    subprocess.run([*PROGRAM, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def stage_seconds(workspace: Path) -> Dict[str, float]:
    """Seconds of each stage, from the manifests."""
    manifests = [json.loads(path.read_text()) for path in workspace.glob("artifacts/*/*/manifest.json")]
    return {manifest["stage"]: manifest["seconds"] for manifest in sorted(manifests, key=lambda item: item["started"])}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="synthetic")
    parser.add_argument("--set", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--config", options.config, "--set", options.set, "--workspace", folder]
        whole = run(arguments)
        again = [run(arguments) for _ in range(5)]
        (found,) = (json.loads(path.read_text()) for path in Path(folder).glob("*/metrics.json"))
        seconds = stage_seconds(Path(folder))
    name = Path(options.config).stem
    print("whole run            {:8.1f} min   (bar {})".format(whole / 60, MINUTES.get(name, "-")))
    for stage, spent in seconds.items():
        print(f"  {stage:<18} {spent:8.1f} s")
    print(f"nothing to do        {sorted(again)[2]:8.2f} s     (median of 5; bar 2.0)")
    print("nme                  {:8.2f} %     (bar {})".format(found["nme"], BARS.get(name, "-")))
    for key in ("mean_shape_nme", "nme_with_bias", "nme_warped", "mean_shape_nme_warped", "backward_nme"):
        print(f"{key:<21}{found[key]:8.2f} %")
    print("nme / mean shape     {:8.2f} %".format(100 * found["nme"] / found["mean_shape_nme"]))
    print("equivariance error   {:8.2f} %".format(found["equivariance_error"]))
    print("training             {:8.1f} pairs/s".format(found["train_pairs_per_second"]))
    print("tensorflow {tensorflow}, python {python}, device {device}".format(**found))


if __name__ == "__main__":
    main()
