"""Trainings that start from the weights of another one, by `train.init_from`. `test_train.py` tests resuming."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fse.config import Config
from fse.errors import CheckpointError
from fse.training import checkpoint_paths, checkpoints, train
from tests.fse.trainings import read_checkpoint, save_arrays, with_train


@pytest.mark.slow
def test_init_from_starts_with_the_averaged_weights_of_another_training(
    tiny: Config, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train.train(with_train(tiny, ema_decay=0.9, steps=3), shards, tmp_path / "source")
    source = read_checkpoint(tmp_path / "source")
    start = str(tmp_path / "source")
    settings = with_train(tiny, ema_decay=0.9, steps=2, learning_rate=1e-12, beta1=0.0, seed=5, init_from=start)
    with caplog.at_level("INFO"):
        train.train(settings, shards, tmp_path / "tuned")
    assert f"starting from the weights of {tmp_path / 'source' / 'checkpoints' / 'model-3'}" in caplog.text
    tuned = read_checkpoint(tmp_path / "tuned")
    kernels = [name for name in source if name.endswith("/kernel" + checkpoints.EMA_SUFFIX)]
    assert kernels
    for name in kernels:
        for variable in (name, name[: -len(checkpoints.EMA_SUFFIX)]):
            assert np.allclose(tuned[variable], source[name], atol=1e-6), variable
    assert tuned["global_step"] == 2  # its own steps, counted from zero

    # An interrupted training resumes from its own checkpoint, so the other training may have been deleted.
    shutil.rmtree(start)
    caplog.clear()
    with caplog.at_level("INFO"):
        train.train(with_train(settings, steps=3), shards, tmp_path / "tuned")
    assert "resuming from step 2 of 3" in caplog.text
    with pytest.raises(CheckpointError, match="train.init_from .*source: no checkpoint model-<step> there"):
        train.train(settings, shards, tmp_path / "late")
    assert not list((tmp_path / "late").glob("checkpoints/model-*"))


def test_another_network_is_refused_by_its_name(tiny: Config, shards: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "checkpoints").mkdir(parents=True)
    save_arrays(source / "checkpoints" / "model-1", {"a": np.zeros(3, np.float32)})
    (source / "manifest.json").write_text(json.dumps({"config": {"network": {"name": "deep"}}}))
    with pytest.raises(CheckpointError, match=r"its network.name is 'deep', but this experiment's is 'compact'"):
        train.train(with_train(tiny, init_from=str(source)), shards, tmp_path / "out")
    for nonsense in ("[]", "{", '{"config": 3}', '{"config": {"network": {"name": 3}}}'):
        (source / "manifest.json").write_text(nonsense)
        assert checkpoint_paths.network_name(str(source / "checkpoints" / "model-1")) == ""
