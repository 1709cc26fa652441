import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_crops

from fse.config import Config
from fse.errors import CheckpointError, ConfigError, ExportError
from fse.evaluation import evaluate
from fse.inference import detector, export
from fse.preprocessing import tfrecord
from fse.tf1 import tf
from fse.training import train


@pytest.fixture(scope="module")
def made(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """records, trained, model and evaluation of the tiny experiment."""
    root = tmp_path_factory.mktemp("made")
    for name in ("records", "trained", "model", "evaluation"):
        (root / name).mkdir()
    tfrecord.convert(tiny, write_crops(root / "crops", 16, 7), root / "records")
    train.train(tiny, root / "records", root / "trained")
    export.export(tiny, root / "trained", root / "records", root / "model")
    evaluate.evaluate(tiny, root / "model", root / "trained", root / "records", root / "evaluation")
    return root


def test_the_exported_models_agree_with_the_checkpoint(tiny: Config, made: Path) -> None:
    description = json.loads((made / "model" / "model.json").read_text())
    assert (description["network"], description["landmarks"], description["view"]) == ("compact", 4, 16)
    assert description["compared_images"] == 7
    assert set(description["difference"]) == {"model.pb", "saved_model"}
    assert max(description["difference"].values()) <= tiny.export.tolerance


def test_stages_other_than_training_do_without_npu_bridge(
    tiny: Config, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "npu_bridge", None)  # importing it would be an error
    of_npu = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, device="npu"))
    export.export(of_npu, made / "trained", made / "records", tmp_path)
    assert (tmp_path / "model.pb").read_bytes() == (made / "model" / "model.pb").read_bytes()


def test_the_frozen_model_takes_any_batch_and_gives_points_and_maps(made: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    with detector.Detector(made / "model") as detect:
        three, one = detect(images), detect(images[:1])
    assert three.landmarks.shape == (3, 4, 2)
    assert three.heatmaps.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(three.heatmaps.sum(axis=(1, 2)), 1.0, atol=1e-5)
    assert abs(three.landmarks).max() < 1.0
    np.testing.assert_allclose(three.landmarks[:1], one.landmarks, atol=1e-5)
    # A landmark is the expectation of its map over the cells' centers.
    centers = np.array([-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(three.landmarks[..., 0], (three.heatmaps.sum(1) * centers[:, None]).sum(1), atol=1e-5)
    np.testing.assert_allclose(three.landmarks[..., 1], (three.heatmaps.sum(2) * centers[:, None]).sum(1), atol=1e-5)


def test_an_exported_model_reads_landmarks_as_configured(tiny: Config, made: Path, tmp_path: Path) -> None:
    reading = {"softargmax_radius": 1, "softargmax_temperature": 2.0}
    near = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, **reading))
    export.export(near, made / "trained", made / "records", tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["reading"] == {"radius": 1, "temperature": 2.0}
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    with detector.Detector(tmp_path) as detect:
        found = detect(images)
    np.testing.assert_allclose(found.heatmaps.sum(axis=(1, 2)), 1.0, atol=1e-5)
    centers = np.array([-0.75, -0.25, 0.25, 0.75])
    for image in range(3):
        for landmark in range(4):
            shares = np.sqrt(found.heatmaps[image, ..., landmark].astype(np.float64))
            row, column = np.unravel_index(shares.argmax(), shares.shape)
            rows, columns = np.ogrid[:4, :4]
            shares *= (abs(rows - row) <= 1) & (abs(columns - column) <= 1)
            wanted = (shares.sum(0) @ centers, shares.sum(1) @ centers) / shares.sum()
            np.testing.assert_allclose(found.landmarks[image, landmark], wanted, atol=1e-4)


def test_averaged_weights_are_what_is_exported(tiny: Config, made: Path, tmp_path: Path) -> None:
    averaged = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, ema_decay=0.9))
    train.train(averaged, made / "records", tmp_path / "trained")
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)

    def maps(settings: Config, trained: Path, name: str) -> np.ndarray:
        (tmp_path / name).mkdir()
        return export.freeze(settings, trained / "checkpoints", tmp_path / name, images)[1].heatmaps

    last = maps(tiny, tmp_path / "trained", "last")
    assert abs(maps(averaged, tmp_path / "trained", "averaged") - last).max() > 1e-4
    # The average only watches: the last weights are those of a training without it.
    np.testing.assert_allclose(last, maps(tiny, made / "trained", "without"), atol=1e-6)


def test_an_exported_model_that_differs_is_refused(
    tiny: Config, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(folder: Path, images: np.ndarray) -> detector.Detection:
        with detector.Detector(folder) as detect:
            found = detect(images)
        return found._replace(landmarks=found.landmarks + 0.01)

    monkeypatch.setattr(detector, "run_frozen", other)
    with pytest.raises(ExportError, match=r"model.pb differs from the checkpoint .* by up to 0.01"):
        export.export(tiny, made / "trained", made / "records", tmp_path)


def test_no_checkpoint_or_a_broken_one_is_refused(tiny: Config, made: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        export.export(tiny, tmp_path, made / "records", tmp_path)
    shutil.copytree(str(made / "trained"), str(tmp_path / "trained"))
    for data in (tmp_path / "trained" / "checkpoints").glob("*.data*"):
        data.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is broken"):
        export.export(tiny, tmp_path / "trained", made / "records", tmp_path)


def test_what_is_no_model_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a folder that `fse export` wrote"):
        detector.Detector(tmp_path)
    shutil.copy(str(made / "model" / "model.json"), str(tmp_path))
    (tmp_path / "model.pb").write_bytes(b"\x07nonsense")
    with pytest.raises(ExportError, match="not a model of this program"):
        detector.Detector(tmp_path)


KEYS = (
    "nme nme_with_bias nme_warped mean_shape_nme mean_shape_nme_warped backward_nme failure_rate_10 auc_10 "
    "equivariance_error loss_align loss_diversity landmarks train_images test_images steps train_pairs_per_second "
    "train_seconds tensorflow python device"
).split()


def test_metrics_have_all_keys_and_sound_values(made: Path) -> None:
    found = json.loads((made / "evaluation" / "metrics.json").read_text())
    assert set(KEYS) <= set(found)
    assert (found["landmarks"], found["train_images"], found["test_images"], found["steps"]) == (4, 16, 7, 6)
    assert all(found[key] > 0 for key in KEYS[:6])
    assert 0 <= found["failure_rate_10"] <= 1
    assert (found["tensorflow"], found["device"]) == (tf.__version__, "cpu")
    assert set(found["per_landmark"]) == {"left_eye", "right_eye"}


def test_predictions_and_examples_are_complete(made: Path) -> None:
    lines = (made / "evaluation" / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 7
    header = lines[0].split(",")
    assert header[:7] == "file nme nme_warped mean_shape_nme mean_shape_nme_warped left_eye_x left_eye_y".split()
    assert header[-1] == "discovered_3_y"
    examples = np.load(str(made / "evaluation" / "examples.npz"))
    assert examples["images"].shape == examples["warped_images"].shape == (3, 16, 16, 3)
    assert examples["heatmaps"].shape == (3, 4, 4, 4)
    np.testing.assert_allclose(examples["cells"], [-0.75, -0.25, 0.25, 0.75])
    assert examples["predicted"].shape == examples["warped_annotated"].shape == (3, 2, 2)
    # The dots of the images are at the annotated points of the view, upright and warped.
    for kind in ("", "warped_"):
        for image, points in zip(examples[kind + "images"], examples[kind + "annotated"]):
            for x, y in (np.clip(points, -0.99, 0.99) + 1.0) * 8.0:
                if 1 < x < 15 and 1 < y < 15:
                    assert image[int(y), int(x)].min() > 120


def test_images_without_annotations_still_have_an_equivariance_error(tiny: Config, made: Path, tmp_path: Path) -> None:
    for name in ("records", "evaluation"):
        (tmp_path / name).mkdir()
    tfrecord.convert(tiny, write_crops(tmp_path / "crops", 16, 7, names=()), tmp_path / "records")
    evaluate.evaluate(tiny, made / "model", made / "trained", tmp_path / "records", tmp_path / "evaluation")
    found = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert found["nme"] is None
    assert found["equivariance_error"] > 0


def test_eyes_that_are_not_annotated_are_refused(tiny: Config, made: Path, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    crops = write_crops(tmp_path / "crops", 16, 7, names=("nose", "left_eye"))
    tfrecord.convert(tiny, crops, tmp_path / "records")
    with pytest.raises(ConfigError, match="right_eye is not annotated; the data set has nose, left_eye"):
        evaluate.evaluate(tiny, made / "model", made / "trained", tmp_path / "records", tmp_path)


def test_a_perfectly_equivariant_detector_has_no_error() -> None:
    from fse import geometry
    from fse.config import Augment
    from fse.inputs import augment

    targets = augment.draw(Augment(flip=False), np.random.RandomState(0), 5, 1).targets[:, 0].astype(float)
    upright = np.random.RandomState(1).uniform(-0.6, 0.6, (5, 3, 2))
    warped = np.stack([geometry.unwarp_points(points, target) for points, target in zip(upright, targets)])
    assert evaluate.equivariance_error(upright, warped, targets) == pytest.approx(0.0, abs=1e-6)
    assert evaluate.equivariance_error(upright, upright, targets) > 1.0
