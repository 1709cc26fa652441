"""Checkpoints are the same on both TensorFlow versions: a training that one began resumes on the other.

The suite of each version tests one direction. It needs the environments of both versions in the checkout.
"""

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
from fse.runtime.files import write_json
from fse.runtime.versions import tensorflow_version
from fse.training import checkpoint_paths, loss_table, train
from tests.fse.trainings import read_checkpoint, with_train

ROOT = Path(__file__).resolve().parents[3]

# scripts/test.sh creates both environments before it runs a test.
OTHER_PYTHON = ROOT / (".venv-current" if sys.version_info < (3, 8) else ".venv-py37") / "bin" / "python"


def losses(folder: Path, step: int) -> List[float]:
    """Return the losses of a step."""
    row = next(row for row in loss_table.read(folder) if row["step"] == step)
    return [row[name] for name in loss_table.LOSSES]


@pytest.mark.slow
@pytest.mark.skipif(
    not OTHER_PYTHON.exists(), reason="the other TensorFlow version's environment is not in this checkout"
)
def test_a_training_of_the_other_tensorflow_version_resumes_here(
    tiny: config.Config, shards: Path, tmp_path: Path
) -> None:
    settings = with_train(tiny, threads=1, ema_decay=0.9)
    write_json(tmp_path / "experiment.json", config.as_tables(settings))
    command = [str(OTHER_PYTHON), "-m", "fse", "train", "--config", str(tmp_path / "experiment.json")]
    command += ["--records", str(shards), "--output", str(tmp_path / "theirs")]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS="")
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    manifest = json.loads((tmp_path / "theirs" / "manifest.json").read_text())
    assert manifest["packages"]["tensorflow"] != tensorflow_version()

    for ranks in (1, 2):
        run = tmp_path / str(ranks)
        shutil.copytree(str(tmp_path / "theirs"), str(run))
        for file in (run / "checkpoints").glob("model-6.*"):
            file.unlink()
        train.train(with_train(settings, devices=ranks), shards, run)
        prefixes = checkpoint_paths.list_checkpoints(run / "checkpoints")
        assert [checkpoint_paths.step_of(prefix) for prefix in prefixes] == [6, 4, 2]
        if ranks == 2:
            assert "resuming from step 4 of 6" in (run / "logs" / "train_0.log").read_text()
    ours, theirs = read_checkpoint(tmp_path / "1"), read_checkpoint(tmp_path / "theirs")
    assert set(ours) == set(theirs)
    assert ours["global_step"] == theirs["global_step"] == 6
    # The losses of the first step are those of the restored weights. After it, Adam amplifies differences in rounding.
    for step, bound in ((5, 1e-4), (6, 1e-2)):
        np.testing.assert_allclose(losses(tmp_path / "1", step), losses(tmp_path / "theirs", step), rtol=bound)
