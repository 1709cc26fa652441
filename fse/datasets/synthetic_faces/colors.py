"""Colors of skin, hair and eyes, RGB in [0, 1]."""

import numpy as np

_LIGHT_SKIN, _DARK_SKIN = np.array([0.97, 0.82, 0.71]), np.array([0.36, 0.23, 0.16])
HAIR_COLORS = np.array(
    [
        [0.07, 0.06, 0.06],
        [0.20, 0.13, 0.09],
        [0.36, 0.22, 0.12],
        [0.52, 0.23, 0.11],
        [0.78, 0.62, 0.36],
        [0.88, 0.78, 0.56],
        [0.62, 0.61, 0.60],
        [0.85, 0.84, 0.82],
    ]
)
IRIS_COLORS = np.array(
    [[0.20, 0.11, 0.06], [0.32, 0.20, 0.09], [0.22, 0.36, 0.55], [0.24, 0.40, 0.25], [0.30, 0.32, 0.35]]
)


def sample_skin(random: np.random.RandomState) -> np.ndarray:
    """Sample a color between light and dark skin by geometric interpolation, as pigments mix."""
    skin: np.ndarray = _LIGHT_SKIN * (_DARK_SKIN / _LIGHT_SKIN) ** random.uniform() + random.normal(size=3) * 0.02
    return skin
