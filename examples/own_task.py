"""A Luigi task of your own that requires the whole pipeline.

PYTHONPATH=examples luigi --module own_task WorstImages --config synthetic --count 5

It runs after `FullRun`, reads the predictions and lists the test images with the largest errors.
"""

import csv
from pathlib import Path

import luigi

from pipeline import FullRun


class WorstImages(luigi.Task):
    """The test images whose landmarks are predicted worst, as a text file."""

    config = luigi.Parameter(default="synthetic")
    set = luigi.Parameter(default="")
    workspace = luigi.Parameter(default="workspace")
    count = luigi.IntParameter(default=10)

    def requires(self) -> luigi.Task:
        """Require the pipeline's results for the same experiment."""
        return FullRun(config=self.config, set=self.set, workspace=self.workspace)

    def output(self) -> luigi.LocalTarget:
        """Return the text file beside the experiment's results."""
        return luigi.LocalTarget(str(self.results / f"worst-{self.count}.txt"))

    @property
    def results(self) -> Path:
        """The folder of the experiment's results."""
        return Path(self.workspace) / str(self.requires().experiment.experiment.name)

    def run(self) -> None:
        """Write one line per image: its error in percent of the inter-ocular distance, and its name."""
        with open(self.results / "predictions.csv", newline="", encoding="utf-8") as stream:
            rows = [(float(row["nme"]), row["file"]) for row in csv.DictReader(stream) if row["nme"]]
        with self.output().open("w") as stream:
            for error, name in sorted(rows, reverse=True)[: self.count]:
                stream.write(f"{error:.2f} {name}\n")
