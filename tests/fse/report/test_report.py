import csv
import dataclasses
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fse import config, geometry
from fse.errors import DataError
from fse.report import data, results
from fse.report.report import STAGES, report

HOSTILE = "<script>alert('x')</script>\"&"
SECTIONS = ["results", "landmarks", "predictions", "heatmaps", "errors", "shots", "losses", "data", "times"]
SECTIONS += ["configuration", "provenance"]
VOID = {"meta", "img", "br", "hr", "link", "input"}
POINTS = ["left_eye", "right_eye", "nose"]
IMAGES, VIEW, CELLS, K = 3, 24, 6, 4


class Page(html.parser.HTMLParser):
    """A page taken apart; an element that is closed out of turn fails the test."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.open, self.ids, self.tags, self.links, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: Any, attributes: Any) -> None:
        self.note(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: Any, attributes: Any) -> None:
        self.note(tag, attributes)

    def handle_endtag(self, tag: Any) -> None:
        assert self.open
        assert self.open.pop() == tag
        self.text += " " if tag in ("th", "td") else ""

    def handle_data(self, data: Any) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""

    def note(self, tag: Any, attributes: Any) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]


def write_json(file: Any, **values: Any) -> None:
    file.write_text(json.dumps(values))


def write_table(file: Any, rows: Any) -> None:
    with open(str(file), "w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def heatmaps(points: Any) -> Any:
    """Maps [n, CELLS, CELLS, K] with a peak near each point, and their expectations."""
    ticks = geometry.centers(CELLS)
    x, y = points[:, None, None, :, 0], points[:, None, None, :, 1]
    maps = np.exp(-((ticks[None, None, :, None] - x) ** 2 + (ticks[None, :, None, None] - y) ** 2) / 0.1)
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    expected = np.stack([maps.sum(axis=1).transpose(0, 2, 1) @ ticks, maps.sum(axis=2).transpose(0, 2, 1) @ ticks], -1)
    return maps.astype(np.float32), expected.astype(np.float32)


def write_examples(folder: Any, names: Any, annotated: Any) -> None:
    random = np.random.RandomState(0)
    maps, discovered = heatmaps(random.uniform(-0.8, 0.8, (IMAGES, K, 2)))
    arrays = {"names": np.array(names), "heatmaps": maps, "cells": geometry.centers(CELLS)}
    for kind in ("", "warped_"):
        arrays[kind + "images"] = random.randint(0, 256, (IMAGES, VIEW, VIEW, 3)).astype(np.uint8)
        arrays[kind + "discovered"] = discovered
        for points in ("annotated", "predicted"):
            arrays[kind + points] = random.uniform(-0.7, 0.7, (IMAGES, annotated, 2)).astype(np.float32)
    np.savez_compressed(str(folder / "examples.npz"), **arrays)


def write_crops(folder: Any, points: Any) -> None:
    """Six training and three test crops, whose points lie around (0.1, -0.2), two of them outside the view."""
    random = np.random.RandomState(1)
    (folder / "images").mkdir()
    rows = [["file", "source", "split", *(point + axis for point in points for axis in ("_x", "_y"))]]
    for number in range(9):
        name = f"{number}.png"
        Image.fromarray(random.randint(0, 256, (32, 32, 3)).astype(np.uint8)).save(str(folder / "images" / name))
        x = 0.95 if number in (0, 8) else 0.1
        rows.append([name, name, "train" if number < 6 else "test"] + [x, -0.2] * len(points))
    write_table(folder / "landmarks.csv", rows)


def write_inputs(root: Any, points: Any = POINTS, name: Any = "faces", steps: Any = (20, 40, 60)) -> Any:
    """What the stages write, small; `name` stands wherever a user's text can."""
    folders = {stage: root / stage for stage in STAGES}
    for seconds, (stage, folder) in enumerate(folders.items(), 1):
        folder.mkdir()
        about = {"stage": stage, "key": "key-" + stage, "seconds": seconds * 10.0, "host": name}
        versions = {"packages": {"tensorflow": "9.9"}, "git": {"commit": "c0ffee", "clean": True}, "device": "cpu"}
        write_json(folder / "manifest.json", **about, **versions)
    write_json(
        folders["Download"] / "dataset.json",
        name=name,
        images=10,
        splits={"train": 7, "test": 3},
        landmarks=points,
        source=name,
    )
    write_json(folders["AlignCrop"] / "crop.json", images=9, skipped=1, splits={"train": 6, "test": 3}, mode="center")
    write_table(folders["AlignCrop"] / "skipped.csv", [["source", "reason"], [name, "no pixels"]])
    write_crops(folders["AlignCrop"], points)
    (folders["Download"] / "images").mkdir()
    for number, size in enumerate([(30, 40), (60, 40), (50, 50)]):
        Image.new("RGB", size).save(str(folders["Download"] / "images" / f"{number}.png"))
    training = {"steps": 1, "epochs": 2.5, "train_images": 6, "batch_size": 2, "seconds": 61.0, "pairs_per_second": 3.3}
    write_json(folders["Train"] / "training.json", **training)
    columns = ["step", "loss_align", "loss_diversity", "loss_decay", "learning_rate", "pairs_per_second"]
    write_table(folders["Train"] / "losses.csv", [columns] + [[step, 900 / step, 2, 0.1, 1e-3, 99] for step in steps])
    write_json(folders["Export"] / "model.json", network="paper", landmarks=K, view=VIEW, map=CELLS)
    names = [name, "b.png", "c.png"]
    errors = ["nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped"] if points else []
    rows = [[file] + [8.0 + i + j for j in range(len(errors))] for i, file in enumerate(names)]
    write_table(folders["Evaluate"] / "predictions.csv", [["file", *errors], *rows])
    write_metrics(folders["Evaluate"], points)
    write_examples(folders["Evaluate"], names, len(points))
    return folders


def write_metrics(folder: Any, points: Any, **changes: Any) -> None:
    keys = ["nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped", "backward_nme"]
    metrics = dict.fromkeys([*keys, "failure_rate_10", "auc_10"])
    metrics.update(landmarks=K, train_images=3716, test_images=3, steps=2400, equivariance_error=1.87, loss_align=14.0)
    metrics.update(loss_diversity=1.5, train_pairs_per_second=197.9, train_seconds=388.0, device="cpu", python="3.7.9")
    if points:
        metrics.update(zip(keys, [9.81, 9.5, 11.0, 16.52, 31.0, 14.0]))
        metrics.update(failure_rate_10=0.25, auc_10=0.2, mean_shape_failure_rate_10=0.667, mean_shape_auc_10=0.05)
        metrics.update(
            nme_interval=[9.41, 10.2], failure_rate_10_interval=[0.2, 0.301], equivariance_error_interval=None
        )
        for name, error in (("per_landmark", 9.81), ("mean_shape_per_landmark", 16.52), ("per_landmark_warped", 11.0)):
            metrics[name] = dict.fromkeys(points, error)
        metrics["n_shot"] = [shot(1, 14.25, 2.5), shot(3716, 9.81, None)]
    metrics.update(changes)
    write_json(folder / "metrics.json", **metrics)


def shot(annotations: Any, error: Any, deviation: Any) -> Any:
    """A row of the n-shot curve; the mean shape is twice as far off, and all of it half as much again when warped."""
    row = {"annotations": annotations, "draws": 10}
    for name, factor in (("nme", 1.0), ("nme_with_bias", 1.0), ("mean_shape_nme", 2.0)):
        for suffix, warped in (("", 1.0), ("_warped", 1.5)):
            row[name + suffix] = error * factor * warped
            row[name + suffix + "_sd"] = deviation
    return row


def settings(**changes: Any) -> Any:
    default = config.Config()
    network = dataclasses.replace(default.network, landmarks=K, view=VIEW)
    return dataclasses.replace(default, **dict({"network": network, "crop": config.Crop(size=32)}, **changes))


def written(root: Any, folders: Any, **changes: Any) -> Any:
    report(settings(**changes), *(folders[stage] for stage in STAGES), root)
    return (root / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("faces")
    return written(root, write_inputs(root))


def plain(text: Any) -> Any:
    """The text that a reader sees, every white space as one plain space."""
    return re.sub(r"\s+", " ", Page(text).text)


def test_page_is_well_formed_and_has_its_sections_in_order(faces: Any) -> None:
    page = Page(faces)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    assert page.tags.count("svg") == 3


def test_page_refers_to_nothing_outside_itself(faces: Any) -> None:
    page = Page(faces)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.links
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "@import" not in faces
    assert not re.search(r"url\((?!#)", faces)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= set(page.ids)


def test_headline_says_the_result_in_words(faces: Any) -> None:
    sentence = (
        "4 landmarks, learned from 3,716 images without labels in 2,400 steps, predict 3 annotated points with an "
        "error of 9.8 % of the inter-ocular distance; always predicting the mean shape gives 16.5 %."
    )
    assert sentence in plain(faces)


def test_errors_stand_beside_the_mean_shape(faces: Any) -> None:
    text = plain(faces)
    assert "9.81 %9.41\N{EN DASH}10.20 16.52 % \N{MINUS SIGN}41 %" in text
    assert "11.00 % 31.00 % \N{MINUS SIGN}65 %" in text
    assert "25.0 %20.0\N{EN DASH}30.1 66.7 % \N{MINUS SIGN}42 points" in text
    assert "95 %: 9.4\N{EN DASH}10.2 %; mean shape 16.5 %" in text
    assert "No better than a constant" not in text


def test_each_point_has_its_errors_upright_and_warped(faces: Any) -> None:
    text = plain(faces)
    for point in POINTS:
        assert point + " 9.81 % 16.52 % 11.00 % \N{EN DASH}" in text


def test_the_curve_over_annotations_is_drawn_and_tabled(faces: Any) -> None:
    text = plain(faces)
    assert "1 10 14.25 ± 2.50 14.25 ± 2.50 28.50 ± 2.50 21.38 ± 2.50 42.75 ± 2.50" in text
    assert "3,716 10 9.81 9.81 19.62 14.71 29.43" in text
    assert 'id="n-shot-curves-' in faces


def test_wild_errors_of_few_annotations_do_no_harm(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path)
    rows = [shot(1, 14.0, 900.0), shot(20, 1e9, 1e9), shot(60, 9.0, None)]
    write_metrics(folders["Evaluate"], POINTS, n_shot=rows)
    assert "1,000,000,000.00" in plain(written(tmp_path, folders))


@pytest.mark.parametrize("rows", [[], [dict.fromkeys(shot(1, 1.0, 1.0), None)]])
def test_without_errors_there_is_no_curve_over_annotations(tmp_path: Path, rows: Any) -> None:
    folders = write_inputs(tmp_path)
    write_metrics(folders["Evaluate"], POINTS, n_shot=rows)
    assert "There is no curve over the number of annotations." in plain(written(tmp_path, folders))


def test_images_of_every_kind_are_embedded(faces: Any) -> None:
    images = [link for link in Page(faces).links if link.startswith("data:image/")]
    overlays, tiles, legends = IMAGES, 2 * K, K + len(POINTS)
    sheets, shapes = 2, 2
    assert len(images) == 2 * IMAGES + 2 * IMAGES + overlays + tiles + legends + sheets + shapes
    assert len(faces) < 3_000_000


def test_same_inputs_give_the_same_page(tmp_path: Path, faces: Any) -> None:
    assert written(tmp_path, write_inputs(tmp_path)) == faces


def test_what_a_user_names_is_text_and_nothing_else(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path, points=["left_eye", "right_eye", HOSTILE], name=HOSTILE)
    text = written(tmp_path, folders, experiment=config.Experiment(HOSTILE), crop=config.Crop(mode=HOSTILE, size=32))
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count(HOSTILE) > 10


def test_the_data_is_shown(faces: Any) -> None:
    text = plain(faces)
    smallest, largest, median = (
        "{} \N{MULTIPLICATION SIGN} {}".format(*size) for size in ((30, 40), (50, 50), (60, 40))
    )
    assert f"Sizes{smallest} to {largest} pixels, median {median}" in text
    assert "train: 6 of 6 images test: 3 of 3 images" in text
    assert "mean of 6 training images" in text
    # x is 0.1 five times and 0.95 once over the crop; the network sees the middle three quarters.
    assert "left_eye 62.1 ± 15.8 40.0 ± 0.0 16.7 %" in text


def test_images_left_out_are_counted_by_reason_and_named(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path)
    rows = [[f"{number}.jpg", f"{number} x 9 pixels, more than 8"] for number in range(25)]
    write_table(folders["AlignCrop"] / "skipped.csv", [["source", "reason"], ["z.jpg", "the file is empty"], *rows])
    text = plain(written(tmp_path, folders))
    assert "26 images could not be used: Reason Images … x … pixels, more than … 25 the file is empty 1" in text
    assert "The first 20 of them are: Image Reason z.jpg the file is empty 0.jpg 0 x 9 pixels" in text
    assert "19.jpg" not in text


def test_many_reasons_are_summed_up() -> None:
    counted = data.reasons(["reason " + letter for letter in "abcdefghijklmnaab"])
    assert counted[:3] == [("reason a", 3), ("reason b", 2), ("reason c", 1)]
    assert counted[10:] == [("other reasons", 4)]


def test_places_are_even_and_reach_both_ends() -> None:
    assert list(data.evenly(100, 4)) == [0, 33, 66, 99]
    assert list(data.evenly(3, 24)) == [0, 1, 2]
    assert list(data.evenly(1, 24)) == [0]
    assert list(data.evenly(0, 24)) == []


def test_a_crop_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path)
    (folders["AlignCrop"] / "images" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="0.png: not a JPEG.*run AlignCrop again"):
        written(tmp_path, folders)


def test_without_annotations_the_page_says_so(tmp_path: Path) -> None:
    text = plain(written(tmp_path, write_inputs(tmp_path, points=[])))
    assert "train: 6 of 6 images" in text
    assert "mean of 6 training images" in text
    assert "mean shape; dots" not in text
    assert "Outside the view" not in text
    assert "without annotated points there is no error to report" in text
    assert "There are no annotated points to compare with." in text
    assert "there is no error curve" in text
    assert "There is no curve over the number of annotations." in text
    assert "Mean shape" not in text
    assert "Equivariance error" in text


def test_no_losses_no_examples_no_manifests(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path, steps=())
    (folders["Evaluate"] / "examples.npz").unlink()
    (folders["AlignCrop"] / "skipped.csv").unlink()
    for folder in folders.values():
        (folder / "manifest.json").unlink()
    text = plain(written(tmp_path, folders))
    assert "so there are no curves" in text
    assert "kept no example images" in text
    assert "No stage recorded its time." in text
    assert "No image was left out." in text


def test_a_model_worse_than_the_mean_shape_and_crops_that_peek_are_said_aloud(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path)
    write_metrics(folders["Evaluate"], POINTS, nme=17.0)
    write_json(folders["AlignCrop"] / "crop.json", mode="landmarks", reads_test_annotations=True)
    text = plain(written(tmp_path, folders))
    assert "No better than a constant." in text
    assert "The crops read test annotations." in text
    assert "17.00 %9.41\N{EN DASH}10.20 16.52 % +3 %" in text


def test_what_is_evaluated_on_is_shown_beside_what_is_trained_on(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    folders = write_inputs(tmp_path / "one", points=[], name="celeba")
    (tmp_path / "other").mkdir()
    others = write_inputs(tmp_path / "other", name="mafl")
    write_json(
        others["AlignCrop"] / "crop.json", splits={"train": 6, "test": 3}, mode="box", reads_test_annotations=True
    )
    changes = {"name": "mafl"}
    config_ = config.from_tables({"crop": {"size": 32}, "network": {"view": VIEW}, "evaluate": {"dataset": changes}})
    places = [others[stage] for stage in STAGES]
    report(config_, *(folders[stage] for stage in STAGES[:3]), *places[3:], tmp_path, *places[:3])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = plain(page)
    trained, evaluated = text.split("Trained on")[1].split("Evaluated on")[:2]
    assert "celeba, 10 images" in trained
    assert "Outside the view" not in trained
    assert "mafl, 10 images" in evaluated
    assert "Outside the view" in evaluated
    assert page.count("crops of the split") == 4
    assert "The crops read test annotations." in text
    assert "AlignCrop-evaluate 20.0 s" in text
    assert "evaluate.dataset" in text


def test_settings_that_differ_from_the_defaults_are_marked(faces: Any) -> None:
    changed = re.findall(r'<tr class="changed"><th[^>]*>(\w+)</th>', faces)
    assert changed == ["size", "landmarks", "view"]


def test_each_stage_has_its_share_of_the_time(faces: Any) -> None:
    text = plain(faces)
    assert "Train 40.0 s 19.0 %" in text
    assert "Together 3 min 30 s" in text


def test_provenance_says_what_made_each_stage(faces: Any) -> None:
    assert "Train key-Train \N{EN DASH} faces \N{EN DASH} 9.9 cpu c0ffee" in plain(faces)


def test_untrained_model_with_even_maps(tmp_path: Path) -> None:
    folders = write_inputs(tmp_path)
    with np.load(str(folders["Evaluate"] / "examples.npz")) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["heatmaps"] = np.full_like(arrays["heatmaps"], 1.0 / CELLS**2)
    arrays["discovered"] = np.zeros_like(arrays["discovered"])
    np.savez_compressed(str(folders["Evaluate"] / "examples.npz"), **arrays)
    assert "Heatmaps" in plain(written(tmp_path, folders))


@pytest.mark.parametrize(
    ("stage", "file", "content"),
    [
        ("Evaluate", "metrics.json", None),
        ("Evaluate", "metrics.json", "{"),
        ("Download", "dataset.json", "[]"),
        ("Train", "manifest.json", "nonsense"),
        ("Evaluate", "examples.npz", "PK nonsense"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, stage: str, file: str, content: Any) -> None:
    folders = write_inputs(tmp_path)
    (folders[stage] / file).unlink()
    if content is not None:
        (folders[stage] / file).write_text(content)
    with pytest.raises(DataError, match=re.escape(str(folders[stage] / file))):
        report(settings(), *(folders[stage] for stage in STAGES), tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.96, "1 min 0 s"), (200.4, "3 min 20 s"), (18_720, "5 h 12 min"), (None, "not recorded")],
)
def test_durations(seconds: Any, text: str) -> None:
    assert results.duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text
