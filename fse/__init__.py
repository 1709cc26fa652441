"""Factorized spatial embeddings: object landmarks learned without labels (Thewlis, Bilen, Vedaldi, ICCV 2017).

This is the library behind the pipeline. It never imports Luigi. Every stage is a function here and a command of `fse`.

Coordinates in the whole package: a point is (x, y), with x to the right and y down. Both are in [-1, 1] over the whole
image, where -1 and +1 are its *outer edges*. Pixel or heatmap cell i of n has its center at (2i + 1)/n - 1. Pixel
coordinates occur only in annotation files that are read and in images that are drawn; there (0, 0) is the outer corner of
the top left pixel.
"""

__version__ = "0.1.0"  # the only place with the version; pyproject.toml reads it
