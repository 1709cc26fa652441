"""Landmarks of a person's own images: `fse landmarks MODEL IMAGE…`."""

import csv
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from PIL import Image

from fse import geometry
from fse.config import Crop
from fse.datasets import images
from fse.errors import FseError, ImageError
from fse.inference.detector import Detector, central_view
from fse.preprocessing import align_crop, crop_frame
from fse.report import drawing

MAX_PIXELS = Crop().max_pixels


def landmarks(model: Path, paths: List[Path], format: str, draw: Optional[Path]) -> None:
    """Prints the landmarks of images in pixels of each image ((0, 0) is its outer top-left corner).

    Every image's central square is looked at, `crop.scale` times its shorter side as in the model's configuration. A
    model trained on crops around boxes or landmarks expects images that are cropped that way already.

    Args:
      model: a folder that `fse export` wrote.
      paths: image files.
      format: `csv`, one row per image and landmark, or `json`, one object per image and line.
      draw: a folder for copies of the images with the landmarks drawn on them, `<name>-outputs.png`; small images
        are enlarged to 320 pixels, so that the markers can be told apart.

    Raises:
      ExportError: the model cannot be read.
      ImageError: some images cannot be; the others have been printed.
    """
    failures = []
    if draw:
        draw.mkdir(parents=True, exist_ok=True)
    with Detector(model) as detect:
        write = _csv_writer() if format == "csv" else _write_json
        for path in paths:
            try:
                image = images.decode(path, MAX_PIXELS)
            except FseError as error:
                failures.append(f"{path}: {error}")
                continue
            points = _in_image(detect, image)
            write(path, points)
            if draw:
                size = (image.shape[1], image.shape[0])
                drawn = drawing.draw_landmarks(image, geometry.from_pixels(points, size))
                drawn.save(str(draw / (path.stem + "-outputs.png")))
    sys.stdout.flush()
    if failures:
        raise ImageError("; ".join(failures))


def _in_image(detect: Detector, image: np.ndarray) -> np.ndarray:
    """[K, 2] landmarks in pixels of the image, uint8 [h, w, 3]."""
    description = detect.description
    size, view = description["crop"]["size"], description["view"]
    scale = float(description["crop"]["scale"]) if description["crop"]["mode"] in ("center", "squash") else 1.0
    height, width = image.shape[:2]
    side = [width, height] if description["crop"]["mode"] == "squash" else min(width, height)
    square = crop_frame.upright_square(np.array([width, height]) / 2.0, scale * np.array(side))
    cropped = np.asarray(align_crop.resample(Image.fromarray(image), square, size))
    found = detect(central_view(cropped[None], view)).landmarks[0]
    return geometry.apply_affine(square, found * (view / size))


def _csv_writer() -> Any:
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", "landmark", "x", "y"])

    def write(path: Path, points: np.ndarray) -> None:
        for number, (x, y) in enumerate(points):
            writer.writerow([str(path), number, f"{x:.2f}", f"{y:.2f}"])

    return write


def _write_json(path: Path, points: np.ndarray) -> None:
    value: Dict[str, Any] = {"file": str(path), "landmarks": np.round(points, 2).tolist()}
    print(json.dumps(value))
