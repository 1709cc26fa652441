"""Small outputs of all stages, as the report reads them, and a parser of the page."""

import csv
import html.parser
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from fse import geometry

ROLES = ("download", "align-crop", "convert", "train", "export", "evaluate")
POINTS = ["left_eye", "right_eye", "nose"]
IMAGES, VIEW, CELLS, LANDMARKS = 3, 24, 6, 4

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
    """A parsed page. An element that is closed in the wrong order fails the test."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.ids: List[Optional[str]] = []
        self.tags: List[str] = []
        self.links: List[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: List[Tuple[str, Optional[str]]]) -> None:
        self.record(tag, attributes)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: List[Tuple[str, Optional[str]]]) -> None:
        self.record(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag
        self.text += " " if tag in ("th", "td") else ""

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""

    def record(self, tag: str, attributes: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        linking = ("src", "href", "xlink:href", "srcset", "data")
        self.links += [value or "" for name, value in attributes if name in linking]


def visible_text(page: str) -> str:
    """Return the text that a reader sees, with every run of white space as one space."""
    return re.sub(r"\s+", " ", Page(page).text)


def write_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values))


def write_table(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def heatmaps(points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return maps [n, CELLS, CELLS, LANDMARKS] with a peak near each point, and their expected positions."""
    ticks = geometry.centers(CELLS)
    x, y = points[:, None, None, :, 0], points[:, None, None, :, 1]
    maps = np.exp(-((ticks[None, None, :, None] - x) ** 2 + (ticks[None, :, None, None] - y) ** 2) / 0.1)
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    expected = np.stack([maps.sum(axis=1).transpose(0, 2, 1) @ ticks, maps.sum(axis=2).transpose(0, 2, 1) @ ticks], -1)
    return maps.astype(np.float32), expected.astype(np.float32)


def write_examples(folder: Path, names: Sequence[str], annotated: int) -> None:
    random = np.random.RandomState(0)
    maps, discovered = heatmaps(random.uniform(-0.8, 0.8, (IMAGES, LANDMARKS, 2)))
    arrays: Dict[str, Any] = {"names": np.array(names), "heatmaps": maps, "cells": geometry.centers(CELLS)}
    for kind in ("", "warped_"):
        arrays[kind + "images"] = random.randint(0, 256, (IMAGES, VIEW, VIEW, 3)).astype(np.uint8)
        arrays[kind + "discovered"] = discovered
        for points in ("annotated", "predicted"):
            arrays[kind + points] = random.uniform(-0.7, 0.7, (IMAGES, annotated, 2)).astype(np.float32)
    np.savez_compressed(folder / "examples.npz", **arrays)


def write_crops(folder: Path, points: Sequence[str]) -> None:
    """Write six training and three test crops. Points are near (0.1, -0.2), on two images outside the view."""
    random = np.random.RandomState(1)
    (folder / "images").mkdir()
    rows: List[List[Any]] = [["file", "source", "split", *(point + axis for point in points for axis in ("_x", "_y"))]]
    for number in range(9):
        name = f"{number}.png"
        Image.fromarray(random.randint(0, 256, (32, 32, 3)).astype(np.uint8)).save(folder / "images" / name)
        x = 0.95 if number in (0, 8) else 0.1
        rows.append([name, name, "train" if number < 6 else "test"] + [x, -0.2] * len(points))
    write_table(folder / "landmarks.csv", rows)


def write_stage_outputs(
    root: Path, points: Sequence[str] = POINTS, name: str = "faces", steps: Sequence[int] = (20, 40, 60)
) -> Dict[str, Path]:
    """Write small outputs of all stages; `name` is in every place that can hold a user's text.

    Returns:
      role -> folder.
    """
    folders = {role: root / role for role in ROLES}
    for seconds, (role, folder) in enumerate(folders.items(), 1):
        folder.mkdir()
        stage = {"stage": role, "key": "key-" + role, "seconds": seconds * 10.0, "host": name}
        versions = {"packages": {"tensorflow": "9.9"}, "git": {"commit": "c0ffee", "clean": True}, "device": "cpu"}
        write_json(folder / "manifest.json", **stage, **versions)
    write_json(
        folders["download"] / "dataset.json",
        name=name,
        images=10,
        splits={"train": 7, "test": 3},
        landmarks=points,
        source=name,
    )
    write_json(folders["align-crop"] / "crop.json", images=9, skipped=1, splits={"train": 6, "test": 3}, mode="center")
    write_table(folders["align-crop"] / "skipped.csv", [["source", "reason"], [name, "no pixels"]])
    write_crops(folders["align-crop"], points)
    (folders["download"] / "images").mkdir()
    for number, size in enumerate([(30, 40), (60, 40), (50, 50)]):
        Image.new("RGB", size).save(folders["download"] / "images" / f"{number}.png")
    training = {"steps": 1, "epochs": 2.5, "train_images": 6, "batch_size": 2, "seconds": 61.0, "pairs_per_second": 3.3}
    write_json(folders["train"] / "training.json", **training)
    columns = ["step", "loss_align", "loss_diversity", "loss_decay", "learning_rate", "pairs_per_second"]
    losses = [[step, 900 / step, 2, 0.1, 1e-3, 99] for step in steps]
    write_table(folders["train"] / "losses.csv", [columns, *losses])
    write_json(folders["export"] / "model.json", network="paper", landmarks=LANDMARKS, view=VIEW, map=CELLS)
    names = [name, "b.png", "c.png"]
    errors = ["nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped"] if points else []
    rows = [[file, *(8.0 + row + column for column in range(len(errors)))] for row, file in enumerate(names)]
    write_table(folders["evaluate"] / "predictions.csv", [["file", *errors], *rows])
    write_metrics(folders["evaluate"], points)
    write_examples(folders["evaluate"], names, len(points))
    return folders


def write_metrics(folder: Path, points: Sequence[str], **changes: Any) -> None:
    keys = ["nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped", "backward_nme"]
    metrics: Dict[str, Any] = dict.fromkeys([*keys, "failure_rate_10", "auc_10"])
    metrics.update(landmarks=LANDMARKS, train_images=3716, test_images=3, steps=2400, equivariance_error=1.87)
    metrics.update(loss_align=14.0, loss_diversity=1.5, train_pairs_per_second=197.9, train_seconds=388.0)
    metrics.update(device="cpu", python="3.7.9")
    if points:
        metrics.update(zip(keys, [9.81, 9.5, 11.0, 16.52, 31.0, 14.0]))
        metrics.update(failure_rate_10=0.25, auc_10=0.2, mean_shape_failure_rate_10=0.667, mean_shape_auc_10=0.05)
        metrics.update(
            nme_interval=[9.41, 10.2], failure_rate_10_interval=[0.2, 0.301], equivariance_error_interval=None
        )
        for name, error in (("per_landmark", 9.81), ("mean_shape_per_landmark", 16.52), ("per_landmark_warped", 11.0)):
            metrics[name] = dict.fromkeys(points, error)
        metrics["n_shot"] = [n_shot_row(1, 14.25, 2.5), n_shot_row(3716, 9.81, None)]
    metrics.update(changes)
    write_json(folder / "metrics.json", **metrics)


def n_shot_row(annotations: int, error: float, deviation: Optional[float]) -> Dict[str, Any]:
    """Return a row of the n-shot curve. The mean shape has twice the error; warped images have 1.5 times the error."""
    row: Dict[str, Any] = {"annotations": annotations, "draws": 10}
    for name, factor in (("nme", 1.0), ("nme_with_bias", 1.0), ("mean_shape_nme", 2.0)):
        for suffix, warped in (("", 1.0), ("_warped", 1.5)):
            row[name + suffix] = error * factor * warped
            row[name + suffix + "_sd"] = deviation
    return row
