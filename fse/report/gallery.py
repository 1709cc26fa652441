"""The example images of the report: discovered landmarks, predicted points and heatmaps, with their legends."""

import base64
import io
import math
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
from PIL import Image

from fse.report import drawing
from fse.report.inputs import ReportInputs

_COMPARED = 12  # examples shown with annotated points and with heatmaps
_SINGLE_MAPS = 50  # heatmaps shown one by one for an example
_FULL_SIZE = 320  # pixels
_FULL_SIZE_IMAGES = 60  # more images than this are drawn smaller, which keeps the page under 3 MB


def draw_galleries(inputs: ReportInputs, limit: int) -> Dict[str, Any]:
    """Draw everything that the page shows of the example images.

    Args:
      inputs: the outputs of the stages.
      limit: the maximum number of examples, `report.examples`.

    Returns:
      the template variables `examples`, `compared`, `overlays`, `maps`, `legend` and `points`; empty without examples.
    """
    examples, points = inputs.examples, _annotated_points(inputs)
    names = [str(name) for name in examples.get("names", ())][:limit]
    if not names:
        return {"examples": [], "compared": [], "overlays": [], "maps": [], "legend": [], "points": []}
    compared = names[:_COMPARED]
    image_count = 2 * len(names) + (3 if points else 1) * len(compared)
    shrinkage = min(1.0, (_FULL_SIZE_IMAGES / image_count) ** 0.65)
    scale = _FULL_SIZE * shrinkage / examples["images"].shape[2]
    landmarks = examples["discovered"].shape[1]
    galleries: Dict[str, Any] = {
        "examples": _draw_pairs(drawing.draw_landmarks, ["discovered"], examples, names, scale),
        "compared": _draw_compared(inputs, compared, scale) if points else [],
        "legend": [data_uri(drawing.landmark_key(number, 52)) for number in range(landmarks)],
        "points": [(name, data_uri(drawing.comparison_key(number, 40))) for number, name in enumerate(points)],
    }
    galleries.update(_draw_heatmaps(examples, compared, scale))
    return galleries


def data_uri(image: Image.Image) -> str:
    """Return an image as a data URI: PNG if it has an alpha channel, otherwise JPEG."""
    stream = io.BytesIO()
    if image.mode == "RGBA":
        image_format = "png"
        image.save(stream, image_format, optimize=True)
    else:
        image_format = "jpeg"
        # Chroma subsampling would blur the colors of small markers.
        image.save(stream, image_format, optimize=True, quality=80, subsampling=0)
    return f"data:image/{image_format};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _annotated_points(inputs: ReportInputs) -> List[str]:
    """Return the names of the annotated points in the examples; empty without annotations."""
    count = inputs.examples["annotated"].shape[1] if "annotated" in inputs.examples else 0
    evaluated = inputs.datasets[-1].dataset
    names = [str(name) for name in inputs.metrics.get("per_landmark") or evaluated.get("landmarks") or ()]
    return names[:count] + [f"point {number}" for number in range(len(names), count)]


def _draw_pairs(
    draw: Callable[..., Image.Image],
    keys: Sequence[str],
    examples: Dict[str, np.ndarray],
    names: Sequence[str],
    scale: float,
) -> List[Dict[str, Any]]:
    """Draw points on each example and on its warped version.

    Args:
      draw: a function of `drawing`, called with the image, the points of each key, and `scale`.
      keys: arrays of `examples` with points [n, K, 2]; the arrays of the warped images have the prefix `warped_`.
      examples: the arrays of examples.npz.
      names: names of the first examples; the others are not drawn.
      scale: enlargement of the images.
    """
    pairs = []
    for index, name in enumerate(names):
        images = []
        for prefix in ("", "warped_"):
            points = [examples[prefix + key][index] for key in keys]
            images.append(data_uri(draw(examples[prefix + "images"][index], *points, scale=scale)))
        pairs.append({"name": name, "images": images})
    return pairs


def _draw_compared(inputs: ReportInputs, names: Sequence[str], scale: float) -> List[Dict[str, Any]]:
    """Draw annotated and predicted points on examples, and add the errors of each example."""
    pairs = _draw_pairs(drawing.draw_comparison, ["annotated", "predicted"], inputs.examples, names, scale)
    rows = {name: row for row, name in enumerate(inputs.files)}
    for pair in pairs:
        row = rows.get(pair["name"])
        pair["errors"] = [math.nan if row is None else inputs.errors[key][row] for key in ("nme", "nme_warped")]
    return pairs


def _draw_heatmaps(examples: Dict[str, np.ndarray], names: Sequence[str], scale: float) -> Dict[str, Any]:
    """Draw all heatmaps of an example over it, and for the first two examples also each heatmap by itself."""
    maps, images = examples["heatmaps"], examples["images"]
    palette, ticks = drawing.colors(maps.shape[3]), examples["cells"]
    overlays = []
    for index, name in enumerate(names):
        overlay = drawing.overlay_heatmaps(images[index], maps[index], palette, ticks, scale)
        overlays.append({"name": name, "image": data_uri(overlay)})
    single_maps = []
    for index, name in enumerate(names[:2]):
        tiles = []
        for number, color in enumerate(palette[:_SINGLE_MAPS]):
            heatmap = maps[index][:, :, number : number + 1]
            tiles.append(data_uri(drawing.overlay_heatmaps(images[index], heatmap, [color], ticks, 0.5 * scale)))
        single_maps.append({"name": name, "tiles": tiles, "left_out": len(palette) - len(tiles)})
    return {"overlays": overlays, "maps": single_maps}
