"""The colors and the opacity of a picture with transparent parts, kept apart.

Where a picture is transparent it has no color, and what a file holds there is arbitrary: white,
black, or what was cut away. So the colors around go on there, and no edge remains.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def separate_key(image: Image.Image, raw_mode: str) -> Image.Image:
    """Gives a gray or RGB picture one of whose colors means transparent an alpha channel.

    Reducing the picture would blend that color with others.

    Args:
        image: decoded, of any mode.
        raw_mode: of a PNG's pixels in the file, such as `L;4`: Pillow scales them to 8 bits, but
            not the color that means transparent.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        bits = {"L;2": 2, "L;4": 4}.get(raw_mode, 8)
        key = (key & 2**bits - 1) * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(key, tuple):
        key = tuple(each >> 8 if raw_mode == "RGB;16B" else each for each in key)
    else:
        return image
    image.info["transparency"] = key
    return image.convert("LA" if image.mode == "L" else "RGBA")


def resize_alpha(alpha: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Returns the opacity at another size, `(H, W)` in [0, 1].

    By an antialiased triangle filter: it is nowhere negative, and so adds no faint second edge.
    """
    values = alpha.astype(np.float32) / np.float32(255)
    if values.shape != shape:
        resized = Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(resized, np.float32).clip(0, 1)
    return values


def on_white(image: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Composites a picture `(H, W, 3)` of an opacity `(H, W)` on white."""
    opacity = alpha[..., None]
    return image * opacity + (np.float32(1) - opacity)


def divide_by_alpha(
    premultiplied: NDArray[np.float32], weight: NDArray[np.float32], alpha: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns the colors of a picture whose pixels were multiplied by their opacity.

    Args:
        premultiplied: `(H, W, 3)`, resized after the multiplication.
        weight: `(H, W)`, the opacity, resized by the same filter.
        alpha: `(H, W)`, the opacity, from `resize_alpha`.

    Returns:
        `(H, W, 3)` in [0, 1]. Transparent pixels have the colors of those around them.
    """
    # The filter of the colors has negative parts: next to an edge its weight may nearly vanish.
    known = (alpha > 0) & (weight > alpha / 2)
    colors = premultiplied / np.where(known, weight, 1)[..., None]
    return _fill(colors.clip(0, 1), known.astype(np.float32))


def _fill(image: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fills pixels of weight 0 from a picture of half the size, which is filled likewise."""
    if known.all() or not known.any():
        return image
    height, width = known.shape
    border = ((0, height % 2), (0, width % 2))
    total = np.pad(image * known[..., None], (*border, (0, 0)))
    total = total.reshape(-(-height // 2), 2, -(-width // 2), 2, 3).sum((1, 3))
    weight = np.pad(known, border).reshape(len(total), 2, -1, 2).sum((1, 3))
    small = _fill(total / np.maximum(weight, 1)[..., None], (weight > 0).astype(np.float32))
    planes = [Image.fromarray(np.ascontiguousarray(small[..., channel])) for channel in range(3)]
    smooth = [
        np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes
    ]
    return np.where(known[..., None] > 0, image, np.stack(smooth, axis=-1))
