"""Evaluation on another data set, and training that starts from another experiment, through the real program."""

import io
import json
from pathlib import Path
from typing import List

import numpy as np
import pytest
from PIL import Image

from tests.fse.datasets.layouts import zipped
from tests.pipeline.program import luigi

pytestmark = pytest.mark.slow

STAGES = ("Download", "AlignCrop", "ConvertTFRecord")
EVALUATION_STAGES = [stage + "-evaluate" for stage in STAGES]
OTHER = "evaluate.dataset=photographs,evaluate.dataset.archive={}"


@pytest.fixture(scope="module")
def archive(ran: Path) -> str:
    """The `--set` that evaluates on an archive with eight training and four test images."""
    random, rows, contents = np.random.RandomState(0), ["file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y"], {}
    for number in range(12):
        stream = io.BytesIO()
        Image.fromarray(random.randint(0, 256, (30, 40, 3)).astype(np.uint8)).save(stream, "PNG")
        contents[f"images/{number}.png"] = stream.getvalue()
        points = ",".join(str(value) for value in random.randint(8, 22, 4))
        rows.append("{}.png,{},{}".format(number, "train" if number < 8 else "test", points))
    contents["landmarks.csv"] = "\n".join(rows).encode()
    zipped(ran / "photographs.zip", contents)
    return OTHER.format(ran / "photographs.zip")


def started_stages(stderr: str) -> List[str]:
    return [line.split(": started")[0] for line in stderr.splitlines() if ": started" in line]


def test_only_stages_of_the_evaluation_run_and_the_report_shows_both_data_sets(ran: Path, archive: str) -> None:
    done = luigi(ran, "FullRun", "--config", "tiny.toml", "--set", archive)
    assert done.returncode == 0, done.stderr
    assert started_stages(done.stderr) == [*EVALUATION_STAGES, "Evaluate", "Report"]
    folder = ran / "workspace" / "tiny"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["train_images"], metrics["regression_images"], metrics["test_images"]) == (24, 8, 4)
    descriptions = [folder / "stages" / name / "dataset.json" for name in ("Download", "Download-evaluate")]
    assert [json.loads(file.read_text())["name"] for file in descriptions] == ["synthetic", "photographs"]
    page = (folder / "report.html").read_text()
    assert "Training data" in page
    assert "photographs, 12 images" in " ".join(page.split())
    again = luigi(ran, "FullRun", "--config", "tiny.toml", "--set", archive)
    assert (again.returncode, started_stages(again.stderr)) == (0, [])


def test_clean_keeps_the_images_to_evaluate_on(ran: Path, archive: str) -> None:
    assert luigi(ran, "Clean", "--config", "tiny.toml", "--set", archive, "--delete").returncode == 0
    plan = luigi(ran, "Plan", "--config", "tiny.toml", "--set", archive).stdout
    names = [*STAGES, *EVALUATION_STAGES, "Train", "Export", "Evaluate", "Report"]
    assert [line.split()[:2] for line in plan.splitlines()] == [[name, "done"] for name in names]


def test_an_equal_data_set_is_not_prepared_twice(ran: Path) -> None:
    equal = "evaluate.dataset=synthetic,dataset.train=3000,dataset.test=600,dataset.size=128,evaluate.crop.size=20"
    same = luigi(ran, "Plan", "--config", "tiny.toml", "--workspace", "nowhere", "--set", equal)
    assert same.returncode == 0
    assert "evaluate" not in same.stdout


def test_a_stage_runs_alone_for_the_images_to_evaluate_on(ran: Path, archive: str) -> None:
    arguments = ["--config", "tiny.toml", "--workspace", "other", "--set", archive]
    done = luigi(ran, "AlignCrop", "--data", "evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    assert started_stages(done.stderr) == EVALUATION_STAGES[:2]
    crops = json.loads((ran / "other" / "tiny" / "stages" / "AlignCrop-evaluate" / "crop.json").read_text())
    assert crops["splits"] == {"train": 8, "test": 4}


def test_invalid_data_sets_end_the_program_before_any_stage(ran: Path) -> None:
    done = luigi(ran, "AlignCrop", "--data", "tested")
    assert done.returncode == 40
    assert "Traceback" not in done.stderr
    done = luigi(ran, "FullRun", "--set", "dataset.name=celeba")
    assert done.returncode == 45
    assert (
        "celeba has no test images; name the data set to evaluate on, for example evaluate.dataset=mafl" in done.stderr
    )
    done = luigi(ran, "FullRun", "--set", "evaluate.dataset=mafI")
    assert done.returncode == 45
    assert "evaluate.dataset.archive must say where the data set 'mafI' is; did you mean mafl?" in done.stderr


def test_a_training_starts_from_another_experiment_and_depends_on_its_content(ran: Path) -> None:
    tuned = "experiment.name=tuned,train.init_from={},train.steps=2"
    done = luigi(ran, "Train", "--config", "tiny.toml", "--set", tuned.format("tiny"))
    assert done.returncode == 0, done.stderr
    assert started_stages(done.stderr) == ["Train"]
    assert "starting from the weights of" in done.stderr
    by_path = luigi(ran, "Plan", "--config", "tiny.toml", "--set", tuned.format("workspace/tiny")).stdout
    assert [line.split()[1] for line in by_path.splitlines() if line.startswith("Train ")] == ["done"]
    step = next((ran / "workspace" / "tiny" / "stages" / "Train" / "checkpoints").glob("model-4.index"))
    other = luigi(ran, "Plan", "--config", "tiny.toml", "--set", tuned.format(step.with_suffix(""))).stdout
    assert "Train            will run" in other
    assert "content of train.init_from" in other
    missing = luigi(ran, "Train", "--config", "tiny.toml", "--set", tuned.format("nowhere"))
    assert missing.returncode == 20
    assert "no checkpoint model-<step> there" in missing.stderr
