"""Trainings that start from the weights of another one: whose, how, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fse import config
from fse.errors import CheckpointError
from fse.tf1 import tf
from fse.training import checkpoint_paths, checkpoints, train
from tests.fse.trainings import changed, stored


def saved(prefix: Path, values: dict) -> str:
    """A checkpoint of some arrays."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        return tf.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)


def wanted() -> dict:
    """Variables a and b, [2, 3] and []."""
    return {name: tf.Variable(np.zeros(shape, np.float32), name=name) for name, shape in (("a", (2, 3)), ("b", ()))}


A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(7)


@pytest.mark.slow
def test_a_training_starts_from_the_averaged_weights_of_another(
    tiny: config.Config, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train.train(changed(tiny, ema_decay=0.9, steps=3), shards, tmp_path / "source")
    source = stored(tmp_path / "source")
    start = str(tmp_path / "source")
    settings = changed(tiny, ema_decay=0.9, steps=2, learning_rate=1e-12, beta1=0.0, seed=5, init_from=start)
    with caplog.at_level("INFO"):
        train.train(settings, shards, tmp_path / "tuned")
    assert "starting from the weights of {}".format(tmp_path / "source" / "checkpoints" / "model-3") in caplog.text
    tuned = stored(tmp_path / "tuned")
    kernels = [name for name in source if name.endswith("/kernel" + checkpoints.AVERAGED)]
    assert kernels
    for name in kernels:
        for kind in (name, name[: -len(checkpoints.AVERAGED)]):
            assert np.allclose(tuned[kind], source[name], atol=1e-6), kind
    assert tuned["global_step"] == 2  # the steps are its own

    # A stopped one goes on from its own checkpoint: what it started from may have gone.
    shutil.rmtree(start)
    caplog.clear()
    with caplog.at_level("INFO"):
        train.train(changed(settings, steps=3), shards, tmp_path / "tuned")
    assert "going on from step 2 of 3" in caplog.text
    with pytest.raises(CheckpointError, match="train.init_from .*source: no checkpoint model-<step> there"):
        train.train(settings, shards, tmp_path / "late")
    assert not list((tmp_path / "late").glob("checkpoints/model-*"))


def test_which_checkpoint_is_meant(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "faces" / "stages" / "Train" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("model-9.index", "model-10.index", "model-best.index", "model-9.data-00000-of-00001"):
        (folder / name).write_text("")
    newest = str(folder / "model-10")
    for path in (tmp_path / "workspace" / "faces", folder.parent, folder, folder / "model-10"):
        assert checkpoint_paths.resolve_checkpoint(str(path)) == newest
    assert checkpoint_paths.resolve_checkpoint(str(folder / "model-9")) == str(folder / "model-9")
    assert checkpoint_paths.resolve_checkpoint(str(tmp_path)) is None
    assert [path.name for path in checkpoint_paths.files_of(str(folder / "model-9"))] == [
        "model-9.data-00000-of-00001",
        "model-9.index",
    ]


def test_relative_paths_are_of_the_file_and_names_of_the_workspace(tmp_path: Path) -> None:
    for given, found in (("../other/run", str(tmp_path / "other" / "run")), ("faces", "faces")):
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / "a.toml").write_text(f"[train]\nstart_from = {json.dumps(given)}")
        assert config.load(tmp_path / "configs" / "a.toml").train.init_from == found


def test_moving_averages_are_taken_where_there_are_some(tmp_path: Path) -> None:
    prefix = saved(
        tmp_path / "model-1", {"a": 0.0 * A, "a" + checkpoints.AVERAGED: A, "b": B, "global_step": np.int64(3)}
    )
    with tf.Graph().as_default():
        values = checkpoints.weights(prefix, wanted())
    assert (values["a"] == A).all()
    assert values["b"] == B


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": A}, "does not fit the network: b is missing in it"),
        ({"a": A.T, "b": B}, r"a is \[3, 2\] in it, \[2, 3\] in the network"),
        ({"a": A.astype(np.float64), "b": B}, "a is of type float64 in it, float32 in the network"),
        ({"a": A * np.nan, "b": B}, "a has values that are not finite"),
        ({"a": np.array([["x"] * 3] * 2), "b": B}, "a is of type object in it"),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path: Path, values: dict, message: str) -> None:
    prefix = saved(tmp_path / "model-1", values)
    with tf.Graph().as_default(), pytest.raises(CheckpointError, match=message):
        checkpoints.weights(prefix, wanted())


@pytest.mark.parametrize("file", ["model-1.index", "model-1.data-00000-of-00001"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 100])
def test_broken_checkpoints(tmp_path: Path, file: str, content: bytes) -> None:
    prefix = saved(tmp_path / "model-1", {"a": A, "b": B})
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with tf.Graph().as_default(), pytest.raises(CheckpointError, match="model-1 cannot be read"):
        checkpoints.weights(prefix, wanted())


def test_another_network_is_refused_by_its_name(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "checkpoints").mkdir(parents=True)
    saved(source / "checkpoints" / "model-1", {"a": A})
    (source / "manifest.json").write_text(json.dumps({"config": {"network": {"name": "deep"}}}))
    with pytest.raises(CheckpointError, match=r"its network.name is 'deep', and here it is 'compact'"):
        train.train(changed(tiny, init_from=str(source)), shards, tmp_path / "out")
    for nonsense in ("[]", "{", '{"config": 3}', '{"config": {"network": {"name": 3}}}'):
        (source / "manifest.json").write_text(nonsense)
        assert checkpoint_paths.network_of(str(source / "checkpoints" / "model-1")) == ""
