"""The Luigi commands around a nightly: `AcceptBaseline`, `Bisect` and `ExportHistory`."""

import datetime
import statistics
from pathlib import Path

import luigi

from fse.errors import DataError, StageError
from fse.runtime.files import atomic_file
from fse.runtime.git import git_output
from tasks.commands.command import Command
from tasks.nightly import baseline, environment, runner
from tasks.nightly.bisect import first_bad_commit
from tasks.nightly.commits import checkout_state
from tasks.nightly.config import RunConfig
from tasks.nightly.history import History
from tasks.nightly.nightly_task import NightlyTask

_HIDDEN = luigi.parameter.ParameterVisibility.HIDDEN


class NightlyCommand(NightlyTask, Command):
    """A command of a nightly."""


class AcceptBaseline(NightlyCommand):
    """Accept the figures of a night as the baseline, in the TOML file beside the nightly's configuration."""

    reason = luigi.Parameter(default="", description="why; it is stored in the file")

    def act(self) -> None:
        """Add the night to the file.

        Raises:
          DataError: there is no such night, it has no figures, or the reason is missing.
        """
        record = self.history().record(str(self.date))
        if record is None:
            raise DataError(f"--date {self.date}: {self.folder} has no night of this date")
        about = environment.in_words(record["environment"])
        accepted = baseline.accept(self.nightly_config.baselines, record, about, self.reason)
        print(f"{self.nightly_config.baselines}: accepted {accepted.date}: {accepted.why}")
        print("commit this file; later nights are compared with the accepted night")


class Bisect(NightlyCommand):
    """Find the commit that changed a metric. Each commit reuses the workspace and runs only the stages it affects."""

    date = luigi.DateParameter(default=datetime.date.min, significant=False, visibility=_HIDDEN)
    metric = luigi.Parameter(
        description="metric as on the nightly's page: accuracy.nme, or nme if only one run judges it"
    )
    good = luigi.Parameter(description="commit with the good value")
    bad = luigi.Parameter(description="later commit with the bad value")

    def act(self) -> None:
        """Print the measured values and the first bad commit.

        Raises:
          ConfigError: the nightly does not judge the metric.
          DataError: the commits cannot be compared.
          StageError: one of the two commits cannot be measured, or git fails.
        """
        run_name, metric = self.nightly_config.resolve_metric(self.metric).split(".")
        (run,) = [run for run in self.nightly_config.runs if run.name == run_name]
        log = self.root / "logs" / "bisect.log"

        def measure(code: Path) -> float:
            commit, _ = checkout_state(code)
            value = statistics.mean(
                runner.metric_at_commit(run, self._overrides(run, seed), self.root, code, log, metric)
                for seed in run.seeds
            )
            print(f"{commit[:12]}  {self.metric} = {value:.6g}", flush=True)
            return value

        print(f"log: {log}", flush=True)
        result = first_bad_commit(runner.CODE, self.good, self.bad, measure, run.gates[metric].noise)
        print("the first bad commit is one of:" if len(result.commits) > 1 else "the first bad commit:")
        for commit in result.commits:
            print(git_output(runner.CODE, "log", "-1", "--format=%H %an %ad%n    %s", commit))

    def _overrides(self, run: RunConfig, seed: int) -> str:
        return run.overrides(self.set, f"train.seed={seed}", f"experiment.name='bisect-{run.name}'")


class ExportHistory(NightlyCommand):
    """Export the history: CSV with a line per measured value, or JSON lines with a line per night."""

    date = luigi.DateParameter(default=datetime.date.min, significant=False, visibility=_HIDDEN)
    output_file = luigi.Parameter(description="file to write, *.csv or *.jsonl")

    def act(self) -> None:
        """Write the file.

        Raises:
          DataError: the file has another extension.
          StageError: the file cannot be written.
        """
        path = Path(self.output_file)
        writers = {".csv": History.write_csv, ".jsonl": History.write_jsonl}
        if path.suffix not in writers:
            raise DataError(f"--output-file {path}: its extension is unknown; use *.csv or *.jsonl")
        history = self.history()
        try:
            with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
                writers[path.suffix](history, stream)
        except OSError as error:
            raise StageError(f"{path}: cannot be written: {error.strerror}") from error
        print(f"{path}: {len(history.records())} nights")
