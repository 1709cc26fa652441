"""Find landmarks with an exported model, through TensorFlow alone.

python examples/use_exported_model.py workspace/synthetic/model image.png

Nothing of this project is imported: the model folder is all that an application needs. `model.json` says how large the
model's input is. The image given should be a crop as the model was trained on; this script only resizes it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder that Export wrote")
    parser.add_argument("image", type=Path)
    options = parser.parse_args()

    view = json.loads((options.model / "model.json").read_text())["view"]
    image = Image.open(str(options.image)).convert("RGB")
    pixels = np.asarray(image.resize((view, view), Image.Resampling.BICUBIC), np.uint8)[None]  # [1, view, view, 3]

    with tf.Session(graph=tf.Graph()) as session:
        loaded = tf.saved_model.load(session, ["serve"], str(options.model / "saved_model"))
        signature = loaded.signature_def["serving_default"]
        landmarks = session.run(
            signature.outputs["landmarks"].name, {signature.inputs["images"].name: pixels}
        )  # float32 [1, K, 2]: (x, y) in [-1, 1], x to the right, y down, -1 and 1 at the image's outer edges

    for number, (x, y) in enumerate(landmarks[0]):
        print(f"landmark_{number}: x={(x + 1) / 2 * image.width:.1f} y={(y + 1) / 2 * image.height:.1f}")


if __name__ == "__main__":
    main()
