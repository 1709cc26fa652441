import dataclasses
import re
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from fse import config
from fse.errors import DataError
from fse.report.report import report
from tests.fse.report.stage_outputs import (
    CELLS,
    IMAGES,
    LANDMARKS,
    POINTS,
    VIEW,
    Page,
    n_shot_row,
    visible_text,
    write_json,
    write_metrics,
    write_stage_outputs,
    write_table,
)

HOSTILE = "<script>alert('x')</script>\"&"
SECTIONS = ["results", "landmarks", "predictions", "heatmaps", "errors", "shots", "losses", "data", "times"]
SECTIONS += ["configuration", "provenance"]


def settings(**changes: Any) -> config.Config:
    default = config.Config()
    network = dataclasses.replace(default.network, landmarks=LANDMARKS, view=VIEW)
    return dataclasses.replace(default, **dict({"network": network, "crop": config.Crop(size=32)}, **changes))


def write_report(root: Path, folders: Dict[str, Path], **changes: Any) -> str:
    report(settings(**changes), folders, root)
    return (root / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("faces")
    return write_report(root, write_stage_outputs(root))


def test_page_is_well_formed_and_has_its_sections_in_order(faces: str) -> None:
    page = Page(faces)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    assert page.tags.count("svg") == 3


def test_page_is_self_contained(faces: str) -> None:
    page = Page(faces)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.links
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "@import" not in faces
    assert not re.search(r"url\((?!#)", faces)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= set(page.ids)


def test_headline_says_the_result_in_words(faces: str) -> None:
    sentences = (
        "4 landmarks, learned from 3,716 images without labels in 2,400 steps, predict 3 annotated points with an "
        "error of 9.8 % of the inter-ocular distance. Always predicting the mean shape gives an error of 16.5 %."
    )
    assert sentences in visible_text(faces)


def test_errors_are_next_to_those_of_the_mean_shape(faces: str) -> None:
    text = visible_text(faces)
    assert "9.81 %9.41\N{EN DASH}10.20 16.52 % \N{MINUS SIGN}41 %" in text
    assert "11.00 % 31.00 % \N{MINUS SIGN}65 %" in text
    assert "25.0 %20.0\N{EN DASH}30.1 66.7 % \N{MINUS SIGN}42 points" in text
    assert "95 % CI 9.4\N{EN DASH}10.2 %; mean shape 16.5 %" in text
    assert "No better than a constant" not in text


def test_each_point_has_its_errors_on_upright_and_warped_images(faces: str) -> None:
    text = visible_text(faces)
    for point in POINTS:
        assert point + " 9.81 % 16.52 % 11.00 % \N{EN DASH}" in text


def test_n_shot_curve_is_drawn_and_tabulated(faces: str) -> None:
    text = visible_text(faces)
    assert "1 10 14.25 ± 2.50 14.25 ± 2.50 28.50 ± 2.50 21.38 ± 2.50 42.75 ± 2.50" in text
    assert "3,716 10 9.81 9.81 19.62 14.71 29.43" in text
    assert 'id="n-shot-curves-' in faces


def test_n_shot_curve_with_huge_errors(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path)
    rows = [n_shot_row(1, 14.0, 900.0), n_shot_row(20, 1e9, 1e9), n_shot_row(60, 9.0, None)]
    write_metrics(folders["evaluate"], POINTS, n_shot=rows)
    assert "1,000,000,000.00" in visible_text(write_report(tmp_path, folders))


@pytest.mark.parametrize("rows", [[], [dict.fromkeys(n_shot_row(1, 1.0, 1.0), None)]])
def test_no_n_shot_curve_without_errors(tmp_path: Path, rows: Any) -> None:
    folders = write_stage_outputs(tmp_path)
    write_metrics(folders["evaluate"], POINTS, n_shot=rows)
    text = visible_text(write_report(tmp_path, folders))
    assert "The evaluation did not measure errors over the number of annotations." in text


def test_images_of_every_kind_are_embedded(faces: str) -> None:
    images = [link for link in Page(faces).links if link.startswith("data:image/")]
    overlays, tiles, legends = IMAGES, 2 * LANDMARKS, LANDMARKS + len(POINTS)
    sheets, shapes = 2, 2
    assert len(images) == 2 * IMAGES + 2 * IMAGES + overlays + tiles + legends + sheets + shapes
    assert len(faces) < 3_000_000


def test_same_inputs_give_the_same_page(tmp_path: Path, faces: str) -> None:
    assert write_report(tmp_path, write_stage_outputs(tmp_path)) == faces


def test_user_text_is_escaped(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path, points=["left_eye", "right_eye", HOSTILE], name=HOSTILE)
    crop = config.Crop(mode=HOSTILE, size=32)
    text = write_report(tmp_path, folders, experiment=config.Experiment(HOSTILE), crop=crop)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count(HOSTILE) > 10


def test_data_section_shows_sizes_splits_and_spread(faces: str) -> None:
    text = visible_text(faces)
    smallest, largest, median = (
        "{} \N{MULTIPLICATION SIGN} {}".format(*size) for size in ((30, 40), (50, 50), (60, 40))
    )
    assert f"Sizes{smallest} to {largest} pixels, median {median}" in text
    assert "train: 6 of 6 images test: 3 of 3 images" in text
    assert "mean of 6 training images" in text
    # x is 0.1 five times and 0.95 once over the crop; the network sees the middle three quarters.
    assert "left_eye 62.1 ± 15.8 40.0 ± 0.0 16.7 %" in text


def test_skipped_images_are_counted_by_reason_and_listed(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path)
    rows = [[f"{number}.jpg", f"{number} x 9 pixels, more than 8"] for number in range(25)]
    write_table(folders["align-crop"] / "skipped.csv", [["source", "reason"], ["z.jpg", "the file is empty"], *rows])
    text = visible_text(write_report(tmp_path, folders))
    assert "26 images could not be used: Reason Images … x … pixels, more than … 25 the file is empty 1" in text
    assert "The first 20 skipped images: Image Reason z.jpg the file is empty 0.jpg 0 x 9 pixels" in text
    assert "19.jpg" not in text


def test_unreadable_crop_is_named(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path)
    (folders["align-crop"] / "images" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="0.png: not a JPEG.*run AlignCrop again"):
        write_report(tmp_path, folders)


def test_page_without_annotations(tmp_path: Path) -> None:
    text = visible_text(write_report(tmp_path, write_stage_outputs(tmp_path, points=[])))
    assert "train: 6 of 6 images" in text
    assert "mean of 6 training images" in text
    assert "mean shape; dots" not in text
    assert "Outside the view" not in text
    assert "Without annotated points there is no other error to report." in text
    assert "There are no annotated points to compare the predictions with." in text
    assert "there is no error curve" in text
    assert "The evaluation did not measure errors over the number of annotations." in text
    assert "Mean shape" not in text
    assert "Equivariance error" in text


def test_page_without_losses_examples_and_manifests(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path, steps=())
    (folders["evaluate"] / "examples.npz").unlink()
    (folders["align-crop"] / "skipped.csv").unlink()
    for folder in folders.values():
        (folder / "manifest.json").unlink()
    text = visible_text(write_report(tmp_path, folders))
    assert "so there are no curves" in text
    assert "saved no example images" in text
    assert "No stage recorded its time." in text
    assert "No image was skipped." in text


def test_page_warns_of_a_useless_model_and_of_crops_by_test_annotations(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path)
    write_metrics(folders["evaluate"], POINTS, nme=17.0)
    write_json(folders["align-crop"] / "crop.json", mode="landmarks", reads_test_annotations=True)
    text = visible_text(write_report(tmp_path, folders))
    assert "No better than a constant." in text
    assert "The crops read test annotations." in text
    assert "17.00 %9.41\N{EN DASH}10.20 16.52 % +3 %" in text


def test_separate_evaluation_data_has_its_own_part(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    folders = write_stage_outputs(tmp_path / "training", points=[], name="celeba")
    (tmp_path / "evaluation").mkdir()
    evaluation = write_stage_outputs(tmp_path / "evaluation", name="mafl")
    splits = {"train": 6, "test": 3}
    write_json(evaluation["align-crop"] / "crop.json", splits=splits, mode="box", reads_test_annotations=True)
    folders.update({role: evaluation[role] for role in ("train", "export", "evaluate")})
    folders.update({f"{role}-evaluate": evaluation[role] for role in ("download", "align-crop", "convert")})
    tables = {"crop": {"size": 32}, "network": {"view": VIEW}, "evaluate": {"dataset": {"name": "mafl"}}}
    report(config.from_tables(tables), folders, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = visible_text(page)
    trained, evaluated = text.split("Training data")[1].split("Evaluation data")[:2]
    assert "celeba, 10 images" in trained
    assert "Outside the view" not in trained
    assert "mafl, 10 images" in evaluated
    assert "Outside the view" in evaluated
    assert len(re.findall(r"crops of the \w+ split", page)) == 4
    assert "The crops read test annotations." in text
    assert "AlignCrop-evaluate 20.0 s" in text
    assert "evaluate.dataset" in text


def test_settings_that_differ_from_the_defaults_are_marked(faces: str) -> None:
    changed = re.findall(r'<tr class="changed"><th[^>]*>(\w+)</th>', faces)
    assert changed == ["size", "landmarks", "view"]


def test_each_stage_has_its_share_of_the_time(faces: str) -> None:
    text = visible_text(faces)
    assert "Train 40.0 s 19.0 %" in text
    assert "Total 3 min 30 s" in text


def test_provenance_of_each_stage(faces: str) -> None:
    assert "Train key-train \N{EN DASH} faces \N{EN DASH} 9.9 cpu c0ffee" in visible_text(faces)


def test_untrained_model_with_uniform_heatmaps(tmp_path: Path) -> None:
    folders = write_stage_outputs(tmp_path)
    with np.load(folders["evaluate"] / "examples.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["heatmaps"] = np.full_like(arrays["heatmaps"], 1.0 / CELLS**2)
    arrays["discovered"] = np.zeros_like(arrays["discovered"])
    np.savez_compressed(folders["evaluate"] / "examples.npz", **arrays)
    assert "Heatmaps" in visible_text(write_report(tmp_path, folders))


@pytest.mark.parametrize(
    ("role", "file", "content"),
    [
        ("evaluate", "metrics.json", None),
        ("evaluate", "metrics.json", "{"),
        ("download", "dataset.json", "[]"),
        ("train", "manifest.json", "nonsense"),
        ("train", "losses.csv", "step,loss_align\n20,nonsense\n"),
        ("evaluate", "predictions.csv", 'file,nme\n"a'),
        ("evaluate", "examples.npz", "PK nonsense"),
    ],
)
def test_unreadable_file_is_named(tmp_path: Path, role: str, file: str, content: Any) -> None:
    folders = write_stage_outputs(tmp_path)
    (folders[role] / file).unlink()
    if content is not None:
        (folders[role] / file).write_text(content)
    with pytest.raises(DataError, match=re.escape(str(folders[role] / file))):
        report(settings(), folders, tmp_path)
    assert not (tmp_path / "report.html").exists()
