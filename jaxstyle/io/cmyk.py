"""The colors of CMYK without a profile, as they are printed on coated paper in the USA (SWOP)."""

import numpy as np
from PIL import Image

# Products of two inks, then single inks, in [0, 1]; what each takes from the white of red, green
# and blue, in 255ths. It is the least-squares fit to US Web Coated (SWOP) that pdf.js publishes
# for DeviceCMYK (Mozilla, Apache License 2.0), rounded.
_PAIRS = np.triu_indices(4)
_FIT = np.array(
    [
        [-4.3873, 8.8410, 0.8843],  # cyan, cyan
        [54.4862, 60.1180, 8.0787],  # cyan, magenta
        [18.8229, 6.8714, 30.8998],
        [212.2566, 31.1591, -0.2388],
        [1.7150, -15.3104, 10.4959],  # magenta, magenta
        [-5.6097, 17.5753, 63.0238],
        [-17.8739, 131.3525, 50.6070],
        [-2.5217, 4.4443, 0.0330],  # yellow, yellow
        [-21.2489, 9.8633, 115.6038],
        [-21.8612, -20.7373, -22.3382],  # black, black
        [-285.2331, -79.2971, -14.1836],  # cyan
        [-5.4970, -190.9453, -112.2388],
        [17.5119, -24.8674, -193.5821],
        [-189.4818, -187.8045, -180.1261],
    ],
    np.float32,
)
_PIXELS_AT_ONCE = 2**14  # what a processor's cache holds


def cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """Converts a CMYK image to RGB, without a profile."""
    inks = np.asarray(image).reshape(-1, 4)
    colors = np.empty((len(inks), 3), np.uint8)
    features = np.empty((len(_FIT), _PIXELS_AT_ONCE), np.float32)
    for start in range(0, len(inks), _PIXELS_AT_ONCE):
        part = inks[start : start + _PIXELS_AT_ONCE]
        here = features[:, : len(part)]
        single = here[-4:]
        np.divide(part.T, np.float32(255), out=single)
        for row, one, other in zip(here, *_PAIRS, strict=False):
            np.multiply(single[one], single[other], out=row)
        found = _FIT.T @ here
        found += np.float32(255)
        colors[start : start + _PIXELS_AT_ONCE] = np.rint(found, out=found).clip(0, 255).T
    return Image.fromarray(colors.reshape(*image.size[::-1], 3))
