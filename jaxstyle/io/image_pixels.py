"""Pixels of an opened image file as planes of sRGB, whatever its mode, depth and color profile."""

import functools
import io
import logging
import struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from jaxstyle.io.cmyk import cmyk_to_srgb
from jaxstyle.io.errors import InputError

_logger = logging.getLogger("jaxstyle")

Planes: TypeAlias = list[NDArray[Any]]

_PIXELS_AT_ONCE = 2**20


@functools.cache
def srgb_profile() -> bytes:
    """Returns an ICC profile of sRGB, the same each time."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + made[36:]  # the date


def read_planes(
    image: Image.Image, tags: Any, name: str
) -> tuple[Planes, NDArray[np.uint8] | None]:
    """Returns one plane (gray) or three (sRGB), and the alpha channel if there is one.

    Args:
        image: a decoded and upright image of any mode.
        tags: a TIFF's tags; empty for other formats.
        name: of the file, for messages.

    Returns:
        Planes `(H, W)`, uint8 or float32 in [0, 1]; and alpha `(H, W)` uint8, None if opaque.

    Raises:
        InputError: for values outside the range of its mode.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        planes, alpha = _deep_gray(image, tags, name)
    else:
        planes, alpha = _eight_bit(image, name)
    return planes, None if alpha is None or alpha.min() == 255 else alpha


def _eight_bit(image: Image.Image, name: str) -> tuple[Planes, NDArray[Any] | None]:
    icc = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        # A gray image stays gray, for its gray profile.
        with_alpha = "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"
        if image.mode != with_alpha:  # else it would be copied
            image = image.convert(with_alpha)
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # noqa: S101  (it is None only for inPlace=True)
        image, icc = converted, None
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if icc and icc != srgb_profile():  # which this package writes
        image = _to_srgb(image, icc, name)
    if image.mode == "CMYK":  # it has no profile, or a broken one
        _logger.warning("%s: CMYK without a color profile is taken as US Web Coated (SWOP)", name)
        image = cmyk_to_srgb(image)
    # One by one, because all channels as Pillow's images would take as much memory again.
    return [np.asarray(image.getchannel(channel)) for channel in image.getbands()], alpha


def _deep_gray(image: Image.Image, tags: Any, name: str) -> tuple[Planes, NDArray[np.uint8] | None]:
    """Reads gray of more than 8 bits: 16-bit integers (12 bits in some TIFFs), or float."""
    raw = np.asarray(image)
    alpha = None
    if isinstance(key := image.info.get("transparency"), int):
        alpha = np.where(raw == key, 0, 255).astype(np.uint8)
    if image.mode == "F":
        if not np.isfinite(raw).all():
            raise InputError(f"{name} holds NaN or infinity; save it again as 16-bit PNG")
        if raw.min() < 0 or raw.max() > 1:
            _logger.warning(
                "%s: values from %.4g to %.4g are clipped to [0, 1]", name, raw.min(), raw.max()
            )
        values = np.clip(raw, 0.0, 1.0).astype(np.float32)
    else:
        top = 4095 if tags.get(258) == (12,) else 65535
        if raw.min() < 0 or raw.max() > top:
            raise InputError(f"{name} has values outside 0 to {top}; save it again as 16-bit PNG")
        values = raw.astype(np.float32) / np.float32(top)
    if tags.get(262) == 0:  # WhiteIsZero, which Pillow inverts for 8 bits only
        values = np.float32(1.0) - values
    icc = image.info.get("icc_profile")
    if icc and icc != srgb_profile():
        # Little CMS gets 8 bits here, so its curve is sampled and interpolated.
        ramp = _to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), icc, name)
        curve = np.asarray(ramp.getchannel(0))[0].astype(np.float64) / 255.0
        values = np.interp(values, np.linspace(0.0, 1.0, 256), curve).astype(np.float32)
    return [values], alpha


def _to_srgb(image: Image.Image, icc: bytes, name: str) -> Image.Image:
    """Converts L, RGB or CMYK from its profile to RGB; ignores a broken profile with a warning."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        # Gray images with an RGB profile are common: the curve of the three channels is meant.
        source = image.convert("RGB") if (image.mode, space) == ("L", "RGB") else image
        converted = ImageCms.profileToProfile(
            source,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # the profile may hold hostile bytes
        converted = None
    if converted is None:
        _logger.warning("%s: its color profile is broken and was ignored", name)
        return image
    return converted


def resize(
    plane: NDArray[Any], alpha: NDArray[Any] | None, background: float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Composites a plane on `background` and resizes it by Lanczos.

    Pillow widens the filter when it reduces, which antialiases. It resizes the width first, as here
    a few rows at a time: a float plane of a large photo takes 0.7 GB.

    Args:
        plane: `(h, w)`, uint8, or float32 in [0, 1].
        alpha: `(h, w)` uint8; None is opaque.
        background: in [0, 1].
        shape: `(H, W)` of the result.

    Returns:
        `(H, W)` float32; next to edges it leaves [0, 1].
    """
    height, width = plane.shape
    narrow = np.empty((height, shape[1]), np.float32)
    rows = max(_PIXELS_AT_ONCE // width, 1)
    for start in range(0, height, rows):
        part = slice(start, start + rows)
        values = _composite(plane[part], None if alpha is None else alpha[part], background)
        narrow[part] = _lanczos(values, (len(values), shape[1]))
    return _lanczos(narrow, shape)


def _composite(
    plane: NDArray[Any], alpha: NDArray[Any] | None, background: float
) -> NDArray[np.float32]:
    """Composites a plane (uint8, or float32 in [0, 1]) on `background`; float32 in [0, 1]."""
    values = plane.astype(np.float32)
    if plane.dtype == np.uint8:
        values /= np.float32(255.0)
    if alpha is not None:
        opacity = alpha.astype(np.float32) / np.float32(255.0)
        values = values * opacity + (np.float32(1.0) - opacity) * np.float32(background)
    return values


def _lanczos(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    if values.shape == shape:
        return values
    resized = Image.fromarray(values).resize(shape[::-1], Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32)
