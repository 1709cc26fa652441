"""The command `fse landmarks MODEL IMAGE…`: landmarks of a user's own images."""

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
from fse.preprocessing import crop_frame, resample
from fse.report import drawing

# Larger images are refused, because a small file can decode to more memory than the machine has.
MAX_PIXELS = Crop().max_pixels


def print_landmarks(model: Path, paths: List[Path], output_format: str, draw_folder: Optional[Path]) -> None:
    """Print the landmarks of images, in pixels of each image; (0, 0) is its outer top-left corner.

    The detector sees the central square of each image: `crop.scale` times its shorter side, as in the configuration of
    the model. A model that was trained on crops around boxes or landmarks expects images that are cropped that way
    already.

    Args:
      model: a folder that `fse export` wrote.
      paths: image files.
      output_format: `csv`, one row per image and landmark, or `json`, one object per image and line.
      draw_folder: folder for copies of the images with the landmarks drawn on them, `<name>-outputs.png`. Small images
        are enlarged to 320 pixels, so that the markers do not overlap.

    Raises:
      ExportError: the model cannot be read.
      ImageError: some images cannot be read; the landmarks of the others have been printed.
    """
    failures = []
    if draw_folder:
        draw_folder.mkdir(parents=True, exist_ok=True)
    with Detector(model) as detect:
        write = _csv_writer() if output_format == "csv" else _write_json
        for path in paths:
            try:
                image = images.decode(path, MAX_PIXELS)
            except FseError as error:
                failures.append(f"{path}: {error}")
                continue
            points = _detect(detect, image)
            write(path, points)
            if draw_folder:
                size = (image.shape[1], image.shape[0])
                drawn = drawing.draw_landmarks(image, geometry.from_pixels(points, size))
                drawn.save(draw_folder / (path.stem + "-outputs.png"))
    sys.stdout.flush()
    if failures:
        raise ImageError("; ".join(failures))


def _detect(detect: Detector, image: np.ndarray) -> np.ndarray:
    """Return the landmarks of an image, uint8 [height, width, 3], as pixels (x, y) of it: float64 [K, 2]."""
    crop, view = detect.description["crop"], detect.description["view"]
    # The scales of the other modes refer to boxes or landmarks, which a user's image does not have.
    scale = float(crop["scale"]) if crop["mode"] in ("center", "squash") else 1.0
    height, width = image.shape[:2]
    side = [width, height] if crop["mode"] == "squash" else min(width, height)
    frame = crop_frame.upright_crop_frame(np.array([width, height]) / 2.0, scale * np.array(side))
    crop_image = np.asarray(resample.resample(Image.fromarray(image), frame, crop["size"]))
    points = detect(central_view(crop_image[None], view)).landmarks[0]
    # From [-1, 1] over the view to [-1, 1] over the crop, and with the crop frame to pixels of the image.
    return geometry.apply_affine(frame, points * (view / crop["size"]))


def _csv_writer() -> Any:
    """Print the header of the CSV table and return the function that writes the rows of an image."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", "landmark", "x", "y"])

    def write(path: Path, points: np.ndarray) -> None:
        for number, (x, y) in enumerate(points):
            writer.writerow([str(path), number, f"{x:.2f}", f"{y:.2f}"])

    return write


def _write_json(path: Path, points: np.ndarray) -> None:
    value: Dict[str, Any] = {"file": str(path), "landmarks": np.round(points, 2).tolist()}
    print(json.dumps(value))
