"""The replaced codes' input pipeline, made again from what they do, so that their rate can be measured beside ours."""

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator, List

from fse.devices import cpu
from fse.tf1 import tf


@contextlib.contextmanager
def reading(paths: List[Path], size: int, view: int, batch: int, threads: int = 2) -> Iterator[Callable[[], None]]:
    """A function that takes their next batch of pairs, in a graph, a session and threads of its own.

    Args:
      paths: JPEG images, read for ever.
      size, view: sides of what an image is shrunk to, and of what is cut out of its middle after warping, in pixels.
      batch: images a batch.
      threads: of TensorFlow; theirs, which does the work, is one.
    """
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(threads)) as session:
        taken = _batches(paths, size, view, batch)
        coordinator = tf.train.Coordinator()
        queues = tf.train.start_queue_runners(session, coordinator)
        try:
            yield lambda: session.run(taken)
        finally:
            coordinator.request_stop()
            coordinator.join(queues)


def _batches(paths: List[Path], size: int, view: int, batch: int) -> Any:
    """One number of each batch, the rest need not leave TensorFlow: a queue, and one image after the other."""
    _, contents = tf.WholeFileReader().read(tf.train.string_input_producer([str(path) for path in paths]))
    image = 2.0 * tf.image.convert_image_dtype(tf.image.decode_jpeg(contents, channels=3), tf.float32) - 1.0
    first = _warped(tf.image.resize_images(image, [size, size], tf.image.ResizeMethod.AREA), size)
    edge = (size - view) // 2
    pair = [each[edge : edge + view, edge : edge + view] for each in (first, _warped(first, size))]
    taken = tf.train.batch([tf.clip_by_value(each, -1.0, 1.0) for each in pair], batch)
    return tf.reshape(taken[1], [-1])[0] + tf.reshape(taken[0], [-1])[0]


def _warped(image: Any, size: int) -> Any:
    """Their warp of one image: a spline of four control points at each pixel, of which only the affine part is not zero,
    and the four pixels around each place, gathered and weighed.
    """
    ticks = tf.linspace(-1.0, 1.0, size)
    x, y = (tf.reshape(part, [-1]) for part in tf.meshgrid(ticks, ticks))
    squares = [tf.square(x - right) + tf.square(y - down) for down in (-1.0, 1.0) for right in (-1.0, 1.0)]
    rows = tf.stack([tf.ones_like(x), x, y] + [square * tf.log(square + 1e-6) for square in squares])
    angle, scale, shift = (tf.random_uniform([], *limits) for limits in ((-0.5, 0.5), (0.8, 1.1), (-0.1, 0.1)))
    cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
    warp = tf.pad(tf.stack([[shift, cosine, -sine], [shift, sine, cosine]]), [[0, 0], [0, 4]])
    x, y = tf.unstack((tf.matmul(warp, rows) + 1.0) * size / 2.0)
    pixels, total = tf.reshape(image, [-1, 3]), []
    for right in (tf.floor(x), tf.floor(x) + 1.0):
        for down in (tf.floor(y), tf.floor(y) + 1.0):
            column, row = (tf.clip_by_value(tf.cast(part, tf.int32), 0, size - 1) for part in (right, down))
            weight = (1.0 - tf.abs(x - right)) * (1.0 - tf.abs(y - down))
            total.append(weight[:, None] * tf.gather(pixels, row * size + column))
    return tf.reshape(tf.add_n(total), [size, size, 3])
