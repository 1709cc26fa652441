"""Run the pipeline from Python and read its results.

python examples/run_from_python.py [--config synthetic] [--set train.steps=100] [--workspace workspace]

Outputs that exist already are reused, exactly as by `luigi --module pipeline FullRun`.
"""

import argparse
import json
import sys
from pathlib import Path

import luigi

import pipeline


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="synthetic")
    parser.add_argument("--set", default="")
    parser.add_argument("--workspace", default="workspace")
    options = parser.parse_args()

    run = pipeline.FullRun(config=options.config, set=options.set, workspace=options.workspace)
    if not luigi.build([run], local_scheduler=True, log_level="WARNING"):
        return 1

    folder = Path(options.workspace) / run.experiment.experiment.name
    metrics = json.loads((folder / "metrics.json").read_text())
    print(f"error: {metrics['nme']:.2f} % of the inter-ocular distance; mean shape: {metrics['mean_shape_nme']:.2f} %")
    print(f"report: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
