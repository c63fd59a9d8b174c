"""Magenta's style vector, by onnxruntime: what a feed-forward network takes a style to be.

Ghiasi et al., "Exploring the Structure of a Real-time, Arbitrary Neural Artistic Stylization
Network", BMVC 2017. A MobileNetV2 predicts 100 numbers from a picture of 256 x 256.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .wheels import MAGENTA, read_member

_SIZE = 256


@functools.cache
def _session() -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(read_member(MAGENTA), providers=["CPUExecutionProvider"])


def style_vector(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the mean style vector of five crops, `(100,)`: four corners and the middle.

    Args:
        image: `(H, W, 3)` in [0, 1]; a smaller one than 256 px is enlarged first.
    """
    short = min(image.shape[:2])
    if short < _SIZE:
        height, width = (round(length * _SIZE / short) for length in image.shape[:2])
        channels = [
            Image.fromarray(channel).resize((width, height), Image.Resampling.LANCZOS)
            for channel in np.moveaxis(np.asarray(image, np.float32), -1, 0)
        ]
        image = np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 1)
    bottom, right = (length - _SIZE for length in image.shape[:2])
    places = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    session = _session()
    name = session.get_inputs()[0].name
    vectors = [
        session.run(
            None, {name: np.asarray(image[y : y + _SIZE, x : x + _SIZE], np.float32)[None]}
        )[0].ravel()
        for y, x in places
    ]
    return np.asarray(np.mean(vectors, axis=0))
