"""Running an exported detector (`fse.inference.export` says what is in its folder)."""

import json
from pathlib import Path
from typing import Any, Dict, NamedTuple

import numpy as np

from fse.devices import cpu
from fse.errors import ExportError
from fse.tf1 import tf


class Detection(NamedTuple):
    """landmarks: float32 [n, K, 2], in [-1, 1] over the view. heatmaps: float32 [n, rows, columns, K], each sums to 1."""

    landmarks: np.ndarray
    heatmaps: np.ndarray


class Detector:
    """A frozen detector in a session of its own; a context manager.

    description: the contents of `model.json`.
    """

    def __init__(self, folder: Path):
        """Loads `model.pb` and `model.json` from `folder`.

        Raises:
          ExportError: one of them is missing or not what it should be.
        """
        self.description: Dict[str, Any] = read_description(folder)
        graph_def = tf.GraphDef()
        try:
            graph_def.ParseFromString((folder / "model.pb").read_bytes())
            self.graph = tf.Graph()
            with self.graph.as_default():
                names = ["images:0", "landmarks:0", "heatmaps:0"]
                self.tensors = tf.import_graph_def(graph_def, return_elements=names, name="")
        except Exception as error:  # protobuf raises its own kinds, of no common base
            raise ExportError("{}: not a model of this program ({})".format(folder / "model.pb", error)) from None
        self.session = tf.Session(graph=self.graph, config=cpu.session_config(0))

    def __call__(self, images: np.ndarray) -> Detection:
        """Detects landmarks in views, uint8 [n, view, view, 3]."""
        return Detection(*self.session.run(self.tensors[1:], {self.tensors[0]: images}))

    def __enter__(self) -> "Detector":
        """The detector itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Closes the session."""
        self.session.close()


def read_description(folder: Path) -> Dict[str, Any]:
    """The contents of `model.json`.

    Raises:
      ExportError: the folder holds no exported model.
    """
    try:
        return dict(json.loads((folder / "model.json").read_text()))
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder}: not a folder that `fse export` wrote ({error})") from None


def run_frozen(folder: Path, images: np.ndarray) -> Detection:
    """Loads the exported model once and runs it on views, uint8 [n, view, view, 3]."""
    with Detector(folder) as detect:
        return detect(images)


def central_view(images: np.ndarray, view: int) -> np.ndarray:
    """The part of the crops that the network sees: [..., size, size, 3] to [..., view, view, 3]."""
    margin = (images.shape[-2] - view) // 2
    return images[..., margin : margin + view, margin : margin + view, :]
