"""The input pipeline of the reference implementations, rebuilt from what their code does, for comparison of its speed."""

import contextlib
import os
from pathlib import Path
from typing import Any, Callable, Iterator, List

from fse.devices import cpu
from fse.tf1 import tf


@contextlib.contextmanager
def open_pipeline(
    paths: List[Path], size: int, view: int, batch: int, threads: int = 2
) -> Iterator[Callable[[], None]]:
    """Yield a function that takes the next batch of pairs; it has a graph, a session and threads of its own.

    Args:
      paths: JPEG images, read in an endless loop.
      size: side in pixels to which images are reduced.
      view: side in pixels of what is cut out of their middle after warping.
      batch: images per batch.
      threads: threads of TensorFlow. The pipeline itself works in a single thread.
    """
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(threads)) as session:
        batch_tensor = _batches(paths, size, view, batch)
        coordinator = tf.train.Coordinator()
        queues = tf.train.start_queue_runners(session, coordinator)
        try:
            yield lambda: session.run(batch_tensor)
        finally:
            coordinator.request_stop()
            coordinator.join(queues)


def _batches(paths: List[Path], size: int, view: int, batch: int) -> Any:
    """Return one number that depends on the batch, so that the batch itself need not be copied to Python.

    As in the reference implementations, queues feed the pipeline, and images are processed one after the other.
    """
    _, contents = tf.WholeFileReader().read(tf.train.string_input_producer([os.fspath(path) for path in paths]))
    image = 2.0 * tf.image.convert_image_dtype(tf.image.decode_jpeg(contents, channels=3), tf.float32) - 1.0
    first = _warp(tf.image.resize_images(image, [size, size], tf.image.ResizeMethod.AREA), size)
    edge = (size - view) // 2
    pair = [image[edge : edge + view, edge : edge + view] for image in (first, _warp(first, size))]
    batches = tf.train.batch([tf.clip_by_value(image, -1.0, 1.0) for image in pair], batch)
    return tf.reshape(batches[1], [-1])[0] + tf.reshape(batches[0], [-1])[0]


def _warp(image: Any, size: int) -> Any:
    """Warp one image, [size, size, 3], by a random affine map.

    The reference implementations evaluate a spline with four control points at each pixel, although only its affine part
    is not zero. They gather the four pixels around each position and weigh them.
    """
    ticks = tf.linspace(-1.0, 1.0, size)
    x, y = (tf.reshape(part, [-1]) for part in tf.meshgrid(ticks, ticks))
    squares = [tf.square(x - right) + tf.square(y - down) for down in (-1.0, 1.0) for right in (-1.0, 1.0)]
    rows = tf.stack([tf.ones_like(x), x, y] + [square * tf.log(square + 1e-6) for square in squares])
    angle, scale, shift = (tf.random_uniform([], *limits) for limits in ((-0.5, 0.5), (0.8, 1.1), (-0.1, 0.1)))
    cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
    coefficients = tf.pad(tf.stack([[shift, cosine, -sine], [shift, sine, cosine]]), [[0, 0], [0, 4]])
    x, y = tf.unstack((tf.matmul(coefficients, rows) + 1.0) * size / 2.0)
    pixels, weighted = tf.reshape(image, [-1, 3]), []
    for right in (tf.floor(x), tf.floor(x) + 1.0):
        for down in (tf.floor(y), tf.floor(y) + 1.0):
            column, row = (tf.clip_by_value(tf.cast(part, tf.int32), 0, size - 1) for part in (right, down))
            weight = (1.0 - tf.abs(x - right)) * (1.0 - tf.abs(y - down))
            weighted.append(weight[:, None] * tf.gather(pixels, row * size + column))
    return tf.reshape(tf.add_n(weighted), [size, size, 3])
