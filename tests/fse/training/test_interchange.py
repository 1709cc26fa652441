"""A training begun on the other TensorFlow goes on here: each stack's suite has one direction, in the checkout of both."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest

from fse import config
from fse.runtime import outputs
from fse.training import checkpoint_paths, train
from tests.fse.trainings import changed, stored

ROOT = Path(__file__).resolve().parents[3]

# scripts/test.sh makes both environments, and tests neither unless both are there.
OTHER = ROOT / (".venv-current" if sys.version_info < (3, 8) else ".venv-py37") / "bin" / "python"


def losses(folder: Path, step: int) -> List[float]:
    """What `losses.csv` has of a step."""
    with open(str(folder / "losses.csv"), newline="") as stream:
        rows = {int(row["step"]): row for row in csv.DictReader(stream)}
    return [float(rows[step][name]) for name in train.LOSSES]


@pytest.mark.slow
@pytest.mark.skipif(not OTHER.exists(), reason="the other stack's environment is not in this checkout")
def test_a_training_begun_on_the_other_tensorflow_goes_on_here(
    tiny: config.Config, shards: Path, tmp_path: Path
) -> None:
    settings = changed(tiny, threads=1, ema_decay=0.9)
    outputs.write_json(tmp_path / "experiment.json", config.as_tables(settings))
    command = [str(OTHER), "-m", "fse", "train", "--config", str(tmp_path / "experiment.json")]
    command += ["--records", str(shards), "--output", str(tmp_path / "theirs")]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS="")
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    made = json.loads((tmp_path / "theirs" / "manifest.json").read_text())
    assert made["packages"]["tensorflow"] != outputs.tensorflow_version()

    for ranks in (1, 2):
        run = tmp_path / str(ranks)
        shutil.copytree(str(tmp_path / "theirs"), str(run))
        for file in (run / "checkpoints").glob("model-6.*"):
            file.unlink()
        train.train(changed(settings, devices=ranks), shards, run)
        assert [checkpoint_paths.step_of(path) for path in checkpoint_paths.found(run / "checkpoints")] == [6, 4, 2]
        if ranks == 2:
            assert "going on from step 4 of 6" in (run / "logs" / "train_0.log").read_text()
    ours, theirs = stored(tmp_path / "1"), stored(tmp_path / "theirs")
    assert set(ours) == set(theirs)
    assert ours["global_step"] == theirs["global_step"] == 6
    # The first step's losses are those of the restored weights; after it Adam blows rounding up, within bounds.
    for step, bound in ((5, 1e-4), (6, 1e-2)):
        np.testing.assert_allclose(losses(tmp_path / "1", step), losses(tmp_path / "theirs", step), rtol=bound)
