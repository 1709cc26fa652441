"""Running an exported detector. `fse.inference.export` describes the files in its folder."""

import json
from pathlib import Path
from typing import Any, Dict, NamedTuple

import numpy as np

from fse.devices import cpu
from fse.errors import ExportError
from fse.tf1 import tf


class Detection(NamedTuple):
    """The output of a detector for n views."""

    landmarks: np.ndarray  # float32 [n, K, 2], points (x, y) in [-1, 1] over the view
    heatmaps: np.ndarray  # float32 [n, rows, columns, K], each map sums to 1


class Detector:
    """A frozen detector with a session of its own; a context manager.

    description: the contents of `model.json`.
    """

    def __init__(self, folder: Path):
        """Load `model.pb` and `model.json` from `folder`.

        Raises:
          ExportError: a file is missing or invalid.
        """
        self.description: Dict[str, Any] = read_description(folder)
        file = folder / "model.pb"
        graph_def = tf.GraphDef()
        try:
            graph_def.ParseFromString(file.read_bytes())
            self.graph = tf.Graph()
            with self.graph.as_default():
                names = ["images:0", "landmarks:0", "heatmaps:0"]
                self.tensors = tf.import_graph_def(graph_def, return_elements=names, name="")
        except Exception as error:  # protobuf's exceptions have no common base class
            raise ExportError(f"{file}: not a model of this program ({error})") from None
        self.session = tf.Session(graph=self.graph, config=cpu.session_config(0))

    def __call__(self, views: np.ndarray) -> Detection:
        """Detect landmarks in views, uint8 [n, view, view, 3], RGB."""
        images, landmarks, heatmaps = self.tensors
        return Detection(*self.session.run([landmarks, heatmaps], {images: views}))

    def __enter__(self) -> "Detector":
        """Return the detector itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Close the session."""
        self.session.close()


def read_description(folder: Path) -> Dict[str, Any]:
    """Return the contents of `model.json`.

    Raises:
      ExportError: the folder has no exported model.
    """
    try:
        return dict(json.loads((folder / "model.json").read_text()))
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder}: not a folder that `fse export` wrote ({error})") from None


def run_frozen(folder: Path, views: np.ndarray) -> Detection:
    """Load an exported model and run it once on views, uint8 [n, view, view, 3]."""
    with Detector(folder) as detect:
        return detect(views)


def central_view(crops: np.ndarray, view: int) -> np.ndarray:
    """Return the part of crops that the network sees: [..., size, size, 3] to [..., view, view, 3].

    Crops are larger than the view, so that the warped views of training seldom show what is beyond the crop's edge.
    """
    margin = (crops.shape[-2] - view) // 2
    return crops[..., margin : margin + view, margin : margin + view, :]
