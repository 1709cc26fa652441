"""The tasks of a sweep; `tests/pipeline/test_sweep.py` runs one."""

from pathlib import Path

import pytest

from fse.errors import ConfigError
from tasks.stages.data import Download
from tasks.stages.results import Evaluate
from tasks.stages.sweep import Sweep


def test_a_sweep_requires_one_evaluation_per_run_and_shares_equal_stages(tmp_path: Path) -> None:
    task = Sweep(config="synthetic", grid="network.landmarks=[10,30]", seeds=2, workspace=str(tmp_path))
    required = task.requires()
    assert all(isinstance(evaluation, Evaluate) for evaluation in required)
    assert [evaluation.experiment.network.landmarks for evaluation in required] == [10, 10, 30, 30]
    assert {evaluation.workspace for evaluation in required} == {str(tmp_path)}
    assert len({evaluation.clone(Download).output().folder for evaluation in required}) == 1
    assert not task.complete()


def test_a_sweep_without_a_grid_repeats_the_experiment_with_other_seeds() -> None:
    assert [evaluation.experiment.train.seed for evaluation in Sweep(config="synthetic", seeds=2).requires()] == [
        1234,
        1235,
    ]


def test_an_invalid_grid_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="did you mean network.landmarks"):
        Sweep(config="synthetic", grid="network.landmark=[10]")
