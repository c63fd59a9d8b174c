"""The columns of the yardstick: what is measured of a picture, next to its photo and painting.

| column | kind | what it is; 0 is best unless said otherwise |
| --- | --- | --- |
| `st-lpips` | content | ST-LPIPS (AlexNet) between the picture and the photo |
| `contours` | content | 1 minus the AUC of HED's edges at the photo's contours; 0.5: lost |
| `frechet` | style | Frechet distance of EfficientNet-Lite0's features at strides 4, 8, 16 |
| `magenta` | style | 1 minus the cosine between Magenta's style vectors |
| `patches` | style | sliced Wasserstein distance of 7x7 patches of a Laplacian pyramid |
| `colors` | style | sliced Wasserstein distance of the colors in CIELAB |
| `detail` | artifact | energy above 0.35 cycles a pixel over the painting's; 1 is right |
| `hatching` | artifact | the largest hatching of all bands; a painting has 0.8 to 2.5 |
| `peaks` | artifact | the largest peak at 1/2, 1/4, 1/8 cycles a pixel; 1 to 2 is none |
| `clipped` | artifact | share of values that are 0 or 255 |

`quality.py check` ranks pictures whose order is known. All columns put photo, result and painting
in their order, the style columns also `default` before the same with max pooling, on three photos
and three paintings at 160 px. What a column does not rank on all three pairs is none of its rules
in `ranks.py`: ST-LPIPS takes a slightly blurred result for closer to the photo, and HED and
Magenta do not always see noise. No artifact column tells max pooling from average pooling on
photos of buildings, whose own lines are stronger.
"""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstyle.app.console import print_message

from . import distances, magenta, networks
from .spectrum import BANDS, HIGH, STRIDES, clipped, hatching, peak, ring_energy, spectrum

Array = NDArray[np.floating]

KINDS = {
    "st-lpips": "content",
    "contours": "content",
    "frechet": "style",
    "magenta": "style",
    "patches": "style",
    "colors": "style",
    "detail": "artifact",
    "hatching": "artifact",
    "peaks": "artifact",
    "clipped": "artifact",
}
"""Column -> kind."""


def columns() -> list[str]:
    """Returns the columns that can be measured here; `magenta` needs onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is not None:
        return list(KINDS)
    print_message("no column `magenta`: it needs onnxruntime; pip install '.[quality]'")
    return [name for name in KINDS if name != "magenta"]


class Yardstick:
    """Measures pictures against a photo and a painting; loads the networks once."""

    def __init__(self, content: Array, painting: Array) -> None:
        """Loads the networks and computes what is compared with.

        Args:
            content: `(H, W, 3)` sRGB in [0, 1], of the size of the pictures.
            painting: `(h, w, 3)`, at the same long edge.
        """
        self.columns = columns()
        self.content = np.asarray(content, np.float32)
        self.painting = np.asarray(painting, np.float32)
        self.alexnet = networks.load_alexnet()
        self.efficientnet = networks.load_efficientnet()
        self.hed = networks.load_hed()
        self.contours = self._contours(self.content)
        self.style = self._style(self.painting)
        self.spectrum = spectrum(self.painting)

    def measure(self, picture: Array) -> dict[str, float]:
        """Returns the figure of each column.

        Args:
            picture: `(H, W, 3)` sRGB in [0, 1].
        """
        picture = np.asarray(picture, np.float32)
        own = spectrum(picture)
        found = {
            "st-lpips": float(networks.st_lpips(self.alexnet, picture, self.content)),
            "contours": distances.contour_distance(self._contours(picture), self.contours),
            **self.measure_style(picture),
            "detail": ring_energy(own, HIGH) / ring_energy(self.spectrum, HIGH),
            "hatching": max(hatching(own, band) for band in BANDS),
            "peaks": max(peak(own, stride) for stride in STRIDES),
            "clipped": clipped(picture),
        }
        return {name: found[name] for name in self.columns}

    def measure_style(self, picture: Array) -> dict[str, float]:
        """Returns the figures of the style columns, for a picture of any size."""
        picture = np.asarray(picture, np.float32)
        style = zip(self._style(picture), self.style, strict=True)
        found = {
            "frechet": float(np.mean([distances.frechet_distance(a, b) for a, b in style])),
            "patches": distances.patch_distance(picture, self.painting),
            "colors": distances.color_distance(picture, self.painting),
        }
        return found | ({"magenta": self._magenta(picture)} if "magenta" in self.columns else {})

    def _contours(self, picture: Array) -> Array:
        return np.asarray(networks.hed(self.hed, picture))

    def _style(self, picture: Array) -> list[Any]:
        features = networks.style_features(self.efficientnet, picture)
        return [np.asarray(each).reshape(-1, each.shape[-1]) for each in features]

    def _magenta(self, picture: Array) -> float:
        a, b = magenta.style_vector(picture), magenta.style_vector(self.painting)
        return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
