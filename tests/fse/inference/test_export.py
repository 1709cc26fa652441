"""The stages Export and Evaluate on one tiny trained model."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fse.config import Config
from fse.errors import CheckpointError, ConfigError, ExportError
from fse.evaluation import evaluate
from fse.inference import detector, export
from fse.preprocessing import tfrecord
from fse.tf1 import tf
from fse.training import train
from tests.fse.crops import write_crops


@pytest.fixture(scope="module")
def outputs(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the outputs records, trained, model and evaluation of the tiny experiment."""
    root = tmp_path_factory.mktemp("outputs")
    for name in ("records", "trained", "model", "evaluation"):
        (root / name).mkdir()
    tfrecord.convert(tiny, write_crops(root / "crops", 16, 7), root / "records")
    train.train(tiny, root / "records", root / "trained")
    export.export(tiny, root / "trained", root / "records", root / "model")
    evaluate.evaluate(tiny, root / "model", root / "trained", root / "records", root / "evaluation")
    return root


def test_the_exported_models_agree_with_the_checkpoint(tiny: Config, outputs: Path) -> None:
    description = json.loads((outputs / "model" / "model.json").read_text())
    assert (description["network"], description["landmarks"], description["view"]) == ("compact", 4, 16)
    assert description["compared_images"] == 7
    assert set(description["difference"]) == {"model.pb", "saved_model"}
    assert max(description["difference"].values()) <= tiny.export.tolerance


def test_stages_other_than_train_do_not_need_npu_bridge(
    tiny: Config, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "npu_bridge", None)  # an import raises ImportError
    npu_experiment = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, device="npu"))
    export.export(npu_experiment, outputs / "trained", outputs / "records", tmp_path)
    assert (tmp_path / "model.pb").read_bytes() == (outputs / "model" / "model.pb").read_bytes()


def test_the_frozen_model_accepts_any_batch_size_and_returns_landmarks_and_heatmaps(outputs: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    with detector.Detector(outputs / "model") as detect:
        three, one = detect(images), detect(images[:1])
    assert three.landmarks.shape == (3, 4, 2)
    assert three.heatmaps.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(three.heatmaps.sum(axis=(1, 2)), 1.0, atol=1e-5)
    assert np.max(np.abs(three.landmarks)) < 1.0
    np.testing.assert_allclose(three.landmarks[:1], one.landmarks, atol=1e-5)
    # A landmark is the expected position under its heatmap.
    centers = np.array([-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(three.landmarks[..., 0], (three.heatmaps.sum(1) * centers[:, None]).sum(1), atol=1e-5)
    np.testing.assert_allclose(three.landmarks[..., 1], (three.heatmaps.sum(2) * centers[:, None]).sum(1), atol=1e-5)


def test_an_exported_model_uses_the_configured_softargmax(tiny: Config, outputs: Path, tmp_path: Path) -> None:
    network = dataclasses.replace(tiny.network, softargmax_radius=1, softargmax_temperature=2.0)
    near = dataclasses.replace(tiny, network=network)
    export.export(near, outputs / "trained", outputs / "records", tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["softargmax"] == {"radius": 1, "temperature": 2.0}
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    with detector.Detector(tmp_path) as detect:
        detection = detect(images)
    np.testing.assert_allclose(detection.heatmaps.sum(axis=(1, 2)), 1.0, atol=1e-5)
    centers = np.array([-0.75, -0.25, 0.25, 0.75])
    for image in range(3):
        for landmark in range(4):
            # A temperature of 2 takes the square root of the probabilities.
            shares = np.sqrt(detection.heatmaps[image, ..., landmark].astype(np.float64))
            row, column = np.unravel_index(np.argmax(shares), shares.shape)
            rows, columns = np.ogrid[:4, :4]
            shares *= (abs(rows - row) <= 1) & (abs(columns - column) <= 1)
            expected = np.array([shares.sum(0) @ centers, shares.sum(1) @ centers]) / np.sum(shares)
            np.testing.assert_allclose(detection.landmarks[image, landmark], expected, atol=1e-4)


def test_the_averaged_weights_are_exported(tiny: Config, outputs: Path, tmp_path: Path) -> None:
    averaged = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, ema_decay=0.9))
    train.train(averaged, outputs / "records", tmp_path / "trained")
    images = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 3)).astype(np.uint8)

    def maps(settings: Config, trained: Path, name: str) -> np.ndarray:
        (tmp_path / name).mkdir()
        return export.freeze(settings, trained / "checkpoints", tmp_path / name, images)[1].heatmaps

    last = maps(tiny, tmp_path / "trained", "last")
    assert abs(maps(averaged, tmp_path / "trained", "averaged") - last).max() > 1e-4
    # Averaging does not change training: the last weights are those of a training without it.
    np.testing.assert_allclose(last, maps(tiny, outputs / "trained", "without"), atol=1e-6)


def test_an_exported_model_that_differs_from_the_checkpoint_is_an_error(
    tiny: Config, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(folder: Path, images: np.ndarray) -> detector.Detection:
        with detector.Detector(folder) as detect:
            detection = detect(images)
        return detection._replace(landmarks=detection.landmarks + 0.01)

    monkeypatch.setattr(detector, "run_frozen", other)
    with pytest.raises(ExportError, match=r"model.pb differs from the checkpoint .* by up to 0.01"):
        export.export(tiny, outputs / "trained", outputs / "records", tmp_path)


def test_a_missing_or_broken_checkpoint_is_an_error(tiny: Config, outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        export.export(tiny, tmp_path, outputs / "records", tmp_path)
    shutil.copytree(str(outputs / "trained"), str(tmp_path / "trained"))
    for data in (tmp_path / "trained" / "checkpoints").glob("*.data*"):
        data.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is broken"):
        export.export(tiny, tmp_path / "trained", outputs / "records", tmp_path)


def test_a_folder_without_a_model_is_an_error(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a folder that `fse export` wrote"):
        detector.Detector(tmp_path)
    shutil.copy(str(outputs / "model" / "model.json"), str(tmp_path))
    (tmp_path / "model.pb").write_bytes(b"\x07nonsense")
    with pytest.raises(ExportError, match="not a model of this program"):
        detector.Detector(tmp_path)


KEYS = (
    "nme nme_with_bias nme_warped mean_shape_nme mean_shape_nme_warped backward_nme failure_rate_10 auc_10 "
    "equivariance_error loss_align loss_diversity landmarks train_images test_images steps train_pairs_per_second "
    "train_seconds tensorflow python device"
).split()


def test_metrics_have_all_keys_and_plausible_values(outputs: Path) -> None:
    metrics = json.loads((outputs / "evaluation" / "metrics.json").read_text())
    assert set(KEYS) <= set(metrics)
    assert (metrics["landmarks"], metrics["train_images"], metrics["test_images"], metrics["steps"]) == (4, 16, 7, 6)
    assert all(metrics[key] > 0 for key in KEYS[:6])
    assert 0 <= metrics["failure_rate_10"] <= 1
    assert (metrics["tensorflow"], metrics["device"]) == (tf.__version__, "cpu")
    assert set(metrics["per_landmark"]) == {"left_eye", "right_eye"}


def test_predictions_and_examples_are_complete(outputs: Path) -> None:
    lines = (outputs / "evaluation" / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 7
    header = lines[0].split(",")
    assert header[:7] == "file nme nme_warped mean_shape_nme mean_shape_nme_warped left_eye_x left_eye_y".split()
    assert header[-1] == "discovered_3_y"
    examples = np.load(str(outputs / "evaluation" / "examples.npz"))
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


def test_images_without_annotations_have_an_equivariance_error(tiny: Config, outputs: Path, tmp_path: Path) -> None:
    for name in ("records", "evaluation"):
        (tmp_path / name).mkdir()
    tfrecord.convert(tiny, write_crops(tmp_path / "crops", 16, 7, names=()), tmp_path / "records")
    evaluate.evaluate(tiny, outputs / "model", outputs / "trained", tmp_path / "records", tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["nme"] is None
    assert metrics["equivariance_error"] > 0


def test_eyes_that_are_not_annotated_are_an_error(tiny: Config, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    crops = write_crops(tmp_path / "crops", 16, 7, names=("nose", "left_eye"))
    tfrecord.convert(tiny, crops, tmp_path / "records")
    with pytest.raises(ConfigError, match="right_eye is not annotated; the data set has nose, left_eye"):
        evaluate.evaluate(tiny, outputs / "model", outputs / "trained", tmp_path / "records", tmp_path)
