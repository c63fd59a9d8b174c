"""Spectra of pictures: what a picture has at which frequencies, and along the pixel grid.

Frequencies are in cycles a pixel, up to 0.5 along each axis.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BANDS = ((0.20, 0.24), (0.26, 0.30), (0.30, 0.36), (0.36, 0.40), (0.40, 0.45), (0.45, 0.50))
"""The rings that `hatching` looks at."""
HIGH = (0.35, 0.50)
"""The ring of the finest detail, where ripples of networks lie."""
STRIDES = (2, 4, 8)
"""Of layers behind one, two and three poolings: they leave peaks at 1/2, 1/4, 1/8."""
_NEAR = 0.012  # of an axis or a peak


class Spectrum(NamedTuple):
    """The energy of a picture at each frequency."""

    energy: Array
    """`(H, W // 2 + 1)`, per pixel, summed over the channels; does not depend on the size."""
    y: Array
    """`(H, 1)` frequencies along the columns, from -0.5 to 0.5."""
    x: Array
    """`(1, W // 2 + 1)` frequencies along the rows, from 0 to 0.5."""

    @property
    def radius(self) -> Array:
        """`(H, W // 2 + 1)`: each frequency's distance from 0."""
        return np.hypot(self.y, self.x)


def spectrum(image: Array) -> Spectrum:
    """Returns the spectrum of a picture under a Hann window.

    Without a window, the jump from one border of the picture to the opposite one would be a cross
    along both axes.

    Args:
        image: `(H, W, c)`.
    """
    height, width, _ = image.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])[..., None]
    mean = (window * image).sum((0, 1)) / window.sum()
    transformed = np.fft.rfft2(window * (image - mean), axes=(0, 1))
    energy = (np.abs(transformed) ** 2).sum(-1) / (window**2).sum()
    return Spectrum(energy, np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])


def ring_energy(found: Spectrum, ring: tuple[float, float]) -> float:
    """Returns the mean energy in a ring of frequencies, `low <= radius < high`."""
    return float(found.energy[_in_ring(found, ring)].mean())


def hatching(found: Spectrum, ring: tuple[float, float]) -> float:
    """Returns the mean energy near the two axes over that elsewhere in a ring.

    Lines along the rows and columns of pixels make it large; a painting has about 1.
    """
    inside = _in_ring(found, ring)
    near = np.minimum(np.abs(found.y), found.x) <= _NEAR
    return float(found.energy[inside & near].mean() / found.energy[inside & ~near].mean())


def peak(found: Spectrum, stride: int) -> float:
    """Returns the mean energy at the frequency of a stride over the median energy around it.

    A layer of that stride makes what repeats every `stride` pixels: along the rows, along the
    columns, and along both. 1 is no peak.

    Args:
        found: the spectrum.
        stride: in pixels.
    """
    at = 1 / stride
    ratios = []
    for y, x in ((0, at), (at, 0), (at, at), (-at, at)):
        # Frequencies that differ by 1 are the same.
        down = np.abs(found.y - y)
        distance = np.hypot(np.minimum(down, 1 - down), found.x - x)
        around = (distance > 2 * _NEAR) & (distance <= 5 * _NEAR)
        here = distance <= max(_NEAR, float(distance.min()))
        ratios.append(found.energy[here].mean() / np.median(found.energy[around]))
    return float(np.mean(ratios))


def clipped(image: Array) -> float:
    """Returns the share of values in [0, 1] that are 0 or 1 in 8 bits."""
    levels = np.rint(np.asarray(image) * 255)
    return float(np.mean((levels <= 0) | (levels >= 255)))


def _in_ring(found: Spectrum, ring: tuple[float, float]) -> NDArray[np.bool_]:
    radius = found.radius
    return (ring[0] <= radius) & (radius < ring[1])
