"""Factorized spatial embeddings: object landmarks learned without labels (Thewlis, Bilen, Vedaldi, ICCV 2017).

The library behind the pipeline. It never imports Luigi; every stage is a function here and a verb of the `fse` command.

Coordinates, everywhere in this package: a point is `(x, y)`, x to the right, y down, in [-1, 1] over the whole image,
where -1 and +1 are its *outer edges*. Pixel or heatmap cell i of n has its center at (2i + 1)/n - 1. Pixels appear only
where annotation files come in and where images go out; there (0, 0) is the outer corner of the top-left pixel.
"""

__version__ = "0.1.0"
