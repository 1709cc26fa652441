"""Time and errors of a FullRun in a fresh workspace, and the time of the same command when there is nothing to do.

    python benchmarks/full_run.py                     # synthetic faces
    python benchmarks/full_run.py --config faces      # real faces, if their archive is available
    python benchmarks/full_run.py --set train.steps=100

The required figures are this project's goals for two CPU cores and current TensorFlow.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import FULL_RUN, ROOT, parser

# The permitted time in minutes and the permitted error, by experiment.
MAX_MINUTES = {"synthetic": "6.0", "faces": "12.0"}
MAX_ERROR = {"synthetic": "60 % of mean_shape_nme", "faces": "11.0"}


def run(arguments: List[str]) -> float:
    """Run FullRun; return its wall time in seconds."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    start = time.monotonic()
    subprocess.run([*FULL_RUN, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def stage_seconds(workspace: Path) -> Dict[str, float]:
    """Return the seconds of each stage from the manifests, in the order in which they ran."""
    manifests = [json.loads(path.read_text()) for path in workspace.glob("artifacts/*/*/manifest.json")]
    return {manifest["stage"]: manifest["seconds"] for manifest in sorted(manifests, key=lambda item: item["started"])}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--config", default="synthetic", help="experiment (default: %(default)s)")
    arguments.add_argument("--set", default="", help="settings that override the experiment's")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = ["--config", options.config, "--set", options.set, "--workspace", folder]
        first_run = run(command)
        later_runs = [run(command) for _ in range(5)]
        (metrics,) = (json.loads(path.read_text()) for path in Path(folder).glob("*/metrics.json"))
        seconds = stage_seconds(Path(folder))
    name = Path(options.config).stem
    print(f"full run             {first_run / 60:8.1f} min   (at most {MAX_MINUTES.get(name, '-')})")
    for stage, spent in seconds.items():
        print(f"  {stage:<18} {spent:8.1f} s")
    print(f"nothing to do        {statistics.median(later_runs):8.2f} s     (median of 5; at most 2.0)")
    print(f"nme                  {metrics['nme']:8.2f} %     (at most {MAX_ERROR.get(name, '-')})")
    for key in ("mean_shape_nme", "nme_with_bias", "nme_warped", "mean_shape_nme_warped", "backward_nme"):
        print(f"{key:<21}{metrics[key]:8.2f} %")
    print(f"nme / mean shape     {100 * metrics['nme'] / metrics['mean_shape_nme']:8.2f} %")
    print(f"equivariance error   {metrics['equivariance_error']:8.2f} %")
    print(f"training             {metrics['train_pairs_per_second']:8.1f} pairs/s")
    print(", ".join(f"{name} {metrics[name]}" for name in ("tensorflow", "python", "device")))


if __name__ == "__main__":
    main()
