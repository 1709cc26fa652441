from pathlib import Path

import numpy as np

from fse import geometry
from fse.config import Config
from fse.inputs import augment, records, rendering
from fse.inputs.batches import batches
from fse.model import network
from fse.tf1 import tf


def test_a_batch_shows_the_images_and_cells_through_the_warps_of_its_step(tiny: Config, shards: Path) -> None:
    data, step, views = records.read(shards), 2, tiny.augment.views
    with tf.Graph().as_default(), tf.Session() as session:
        first = tf.constant(step, tf.int64)
        images = records.repeated_batches(data, 4, tiny.train.seed, tiny.train.shuffle_buffer, first)
        iterators = [
            tf.data.make_initializable_iterator(dataset) for dataset in (batches(tiny, data, first, 6), images)
        ]
        session.run([iterator.initializer for iterator in iterators])
        batch, batch_images = session.run([iterator.get_next() for iterator in iterators])
    samples = augment.sample_step(tiny.augment, tiny.train.seed, step, 4, views)
    np.testing.assert_array_equal(batch.views, rendering.render(batch_images, samples, tiny.network.view))
    ticks = network.cell_centers(tiny.network.name, tiny.network.view)
    cells = geometry.grid(ticks, ticks)
    for number, points in enumerate(batch.cell_points):
        expected = geometry.warp_points(cells, samples.destinations[number // views, number % views])
        np.testing.assert_allclose(points, expected, atol=1e-5)
