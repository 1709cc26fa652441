"""The `fse` command, in child processes as a user types it, and its parser."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest
from PIL import Image

from fse import cli, commands, config
from fse.compat import flags
from fse.runtime import locks
from fse.training import checkpoint_paths


def fse(*arguments: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-m", "fse", *arguments],
        env=dict(os.environ, PYTHONPATH=str(root)),
        capture_output=True,
        text=True,
        timeout=300,
    )


def images(folder: Path, count: int = 8) -> Path:
    folder.mkdir(parents=True)
    random = np.random.RandomState(0)
    for number in range(count):
        pixels = random.randint(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return folder


FLAGS = (
    "--batch_size 4 --K 3 --M 2 --scale_size 24 --crop_size 20 --max_epochs 2 --save_freq 2 --summary_freq 1 "
    "--learning_rate 1e-3 --beta1 0.6 --weight_decay 1e-4 --diversity_weight 20 --align_weight 2 --num_gpus 1 "
    "--data_url unused"
).split()


def parsed(*arguments: str) -> config.Config:
    return flags.settings(commands.build_parser().parse_args(["train", *arguments]))


def test_train_without_flags_has_the_defaults_of_the_reference_implementations() -> None:
    assert parsed() == config.Config()


@pytest.mark.parametrize("spelling", ["--random-seed", "--random_seed"])
def test_every_flag_sets_its_setting(spelling: str) -> None:
    settings = parsed(*FLAGS, spelling, "7")
    train, loss = settings.train, settings.loss
    assert (train.batch_size, train.epochs, train.save_freq, train.summary_freq) == (4, 2, 2, 1)
    assert (train.learning_rate, train.beta1, train.seed) == (1e-3, 0.6, 7)
    assert (loss.weight_decay, loss.diversity_weight, loss.align_weight, loss.diversity_window) == (1e-4, 20.0, 2.0, 2)
    assert (settings.network.landmarks, settings.network.view, settings.crop.size) == (3, 20, 24)


SEED_FLAGS = (
    "mode batch_size input_dir output_dir checkpoint learning_rate beta1 K M weight_decay diversity_weight align_weight "
    "random-seed random_seed scale_size crop_size max_epochs summary_freq save_freq data_url train_url num_gpus"
).split()


@pytest.mark.parametrize("name", SEED_FLAGS)
def test_every_flag_of_the_reference_implementations_is_accepted_and_documented(name: str) -> None:
    value = {"mode": "test"}.get(name, "1")
    options = commands.build_parser().parse_args(["train", "--" + name, value])
    assert str(getattr(options, name.replace("-", "_"))) in (value, value + ".0")
    documented = (Path(__file__).resolve().parents[2] / "docs" / "reference-implementations.md").read_text()
    assert f"`--{name}`" in documented


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "join"])
def test_a_device_that_another_training_has_locked_is_an_error(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSE_LOCKS", str(tmp_path))
    with locks.lock_devices("cpu", ["0"], 0.0):
        assert cli.main([verb, "--records", str(tmp_path), "--output", str(tmp_path / "out")]) == 3
    said = capsys.readouterr().err
    assert f"error: device cpu of this host is in use by process {os.getpid()} of " in said
    assert "try again after it has ended" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_trains_and_tests_as_in_the_reference_implementations(tmp_path: Path) -> None:
    folders = ["--input_dir", str(images(tmp_path / "in")), "--output_dir", str(tmp_path / "out")]
    done = fse("train", *FLAGS, *folders, "--train_url", str(tmp_path / "url"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-4].startswith("progress  epoch 2  step 2  image/sec ")
    assert [line.split()[0] for line in lines[-3:]] == ["loss_align", "loss_diversity", "loss_decay"]
    for folder in ("out", "url"):
        assert [checkpoint_paths.step_of(path) for path in checkpoint_paths.list_checkpoints(tmp_path / folder)] == [4]
    assert list((tmp_path / "out" / "logs").glob("events.*"))

    drawn = fse("train", *FLAGS, "--mode", "test", "--checkpoint", str(tmp_path / "out"), *folders)
    assert drawn.returncode == 0, drawn.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == [
        f"{number}-outputs.png" for number in range(8)
    ]

    # Another training that starts from the checkpoint of the first one continues at its step.
    longer = [*FLAGS, "--max_epochs", "3", "--checkpoint", str(tmp_path / "out"), *folders[:2]]
    more = fse("train", *longer, "--output_dir", str(tmp_path / "more"))
    assert more.returncode == 0, more.stderr
    assert "resuming from step 4 of 6" in more.stderr


@pytest.mark.slow
def test_the_stages_one_by_one_and_landmarks_of_an_image(tmp_path: Path) -> None:
    settings = [
        "--set",
        "dataset.train=16,dataset.test=6,dataset.size=32,crop.size=20,network.view=16,network.landmarks=3,"
        "loss.diversity_window=2,train.batch_size=4,train.steps=4,evaluate.dataset=synthetic,evaluate.dataset.train=8,"
        "evaluate.dataset.test=5,evaluate.dataset.size=40",
    ]
    data = ["dataset", "crops", "records"]
    others = [name + "-evaluate" for name in data]
    # Command, output folder, and folders of its inputs.
    steps = [
        ("download", "dataset", {}),
        ("align-crop", "crops", {"dataset": "dataset"}),
        ("convert", "records", {"crops": "crops"}),
        ("download", "dataset-evaluate", {}),
        ("align-crop", "crops-evaluate", {"dataset": "dataset-evaluate"}),
        ("convert", "records-evaluate", {"crops": "crops-evaluate"}),
        ("train", "trained", {"records": "records"}),
        ("export", "model", {"trained": "trained", "records": "records"}),
        ("evaluate", "evaluation", {"model": "model", "trained": "trained", "records": "records-evaluate"}),
        ("report", "report", {name: name for name in [*data, *others, "trained", "model", "evaluation"]}),
    ]
    for verb, output, inputs in steps:
        options = [part for flag, name in inputs.items() for part in ("--" + flag, str(tmp_path / name))]
        options += ["--data", "evaluate"] if output in others else []
        done = fse(verb, "--config", "synthetic", *settings, *options, "--output", str(tmp_path / output))
        assert done.returncode == 0, done.stderr
    assert "Evaluation data" in (tmp_path / "report" / "report.html").read_text()
    measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert [measured[name + "_images"] for name in ("train", "regression", "test")] == [16, 8, 5]

    image = images(tmp_path / "mine", 1) / "0.jpg"
    found = fse("landmarks", str(tmp_path / "model"), str(image), "--draw", str(tmp_path / "drawn"))
    assert found.returncode == 0, found.stderr
    rows = list(csv.DictReader(io.StringIO(found.stdout)))
    assert [row["landmark"] for row in rows] == ["0", "1", "2"]
    # The view is the middle 16 of 20 pixels of the central square, 30 pixels wide, of an image of 30 x 40.
    assert all(3.0 <= float(row["x"]) <= 27.0 and 8.0 <= float(row["y"]) <= 32.0 for row in rows)
    with Image.open(tmp_path / "drawn" / "0-outputs.png") as drawn:
        assert drawn.size == (240, 320)  # enlarged, so that the markers are visible

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    mixed = fse("landmarks", str(tmp_path / "model"), str(broken), str(image), "--format", "json")
    assert mixed.returncode == 1
    assert len(json.loads(mixed.stdout)["landmarks"]) == 3
    assert "broken.jpg" in mixed.stderr
    assert "Traceback" not in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "--input_dir DIR is missing"),
        (["train", "--input_dir", "nowhere", "--output_dir", "out"], 2, "nowhere: no such folder"),
        (["train", "--K", "0", "--records", "x", "--output", "y"], 2, "network.landmarks must be between 1"),
        (["convert", "--output", "out"], 2, "--crops DIR is missing"),
        (["convert", "--crops", "nowhere", "--output", "out"], 1, "nowhere: no such folder"),
        (["download", "--config", "nowhere", "--output", "out"], 2, "no such file"),
        (["landmarks", "nowhere", "image.jpg"], 1, "not a folder that `fse export` wrote"),
    ],
)
def test_a_mistake_on_the_command_line_is_an_error(
    arguments: List[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == code
    assert message in capsys.readouterr().err


def test_an_error_of_the_data_to_evaluate_on_names_their_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = "evaluate.dataset=mine,evaluate.dataset.archive=nowhere.zip"
    assert cli.main(["download", "--data", "evaluate", "--set", mine, "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: evaluation data ([evaluate.dataset] and [evaluate.crop]): ")
    assert "nowhere.zip: no such file or folder" in said
