"""The context of a night, gathered before its runs start: commit, environment, and health of the machine."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

from fse.doctor.software import installed
from tasks.caching.key_cache import digest_of
from tasks.nightly import environment, health
from tasks.nightly.commits import checkout_state, commits_between
from tasks.nightly.config import NightlyConfig, RunConfig
from tasks.nightly.history import History
from tasks.nightly.night import NightContext


def gather_context(
    config: NightlyConfig, overrides: str, date: str, history: History, workspace: Path, code: Path
) -> NightContext:
    """Return the context of a night.

    Args:
      config: the nightly's configuration.
      overrides: settings that override every run's, in the syntax of `--set`.
      date: of the night.
      history: of the nightly.
      workspace: folder of all outputs.
      code: folder of the checkout.
    """
    reports, problem = _check_health(config, overrides, workspace) if config.nightly.doctor else ([], "")
    versions = dict(installed())
    for report in reports:
        versions.update({name: value for name, value in report["versions"].items() if value})
    devices = [experiment.train.device for experiment in config.experiments(overrides)]
    described = environment.describe(devices, versions)
    commit, clean = checkout_state(code)
    last_good, first_bad = history.last_good(date), history.first_bad(date)
    return NightContext(
        environment=described,
        fingerprint=environment.fingerprint(described),
        config_hash=digest_of([config.key_parts(), overrides]),
        commit=commit,
        clean=clean,
        commits=commits_between(code, last_good.get("commit", ""), first_bad.get("commit", commit)),
        doctor_reports=reports,
        problem=problem,
    )


def _check_health(config: NightlyConfig, overrides: str, workspace: Path) -> Tuple[List[Dict[str, Any]], str]:
    """Check the machine once for all runs with the same requirements; return the reports and the problems."""
    representatives: Dict[Any, RunConfig] = {}
    for run, experiment in zip(config.runs, config.experiments(overrides)):
        train = experiment.train
        representatives.setdefault((train.device, train.devices, train.hosts, train.rank_table), run)
    results = [
        health.wait_until_healthy(run.config, run.overrides(overrides), workspace, config.nightly.device_wait)
        for run in representatives.values()
    ]
    reports = [result.report for result in results if result.report]
    return reports, "; ".join(result.problem for result in results if result.problem)
