"""PNG and TIFF with 16 bits for each color, which Pillow cannot write.

PNG Specification (Third Edition), W3C; TIFF Revision 6.0, Adobe 1992.
"""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_STRIP = 2**20  # bytes of a TIFF's strips, before they are compressed
_SHORT, _LONG, _RATIONAL, _UNDEFINED, _ASCII = 3, 4, 5, 7, 2
_CODES = {_SHORT: "H", _LONG: "I", _RATIONAL: "II", _UNDEFINED: "B", _ASCII: "B"}

Dpi = tuple[float, float] | None


def encode_png(pixels: NDArray[np.uint16], profile: bytes, dpi: Dpi, software: str) -> bytes:
    """Returns a PNG file.

    Args:
        pixels: `(H, W, 3)`, or `(H, W, 4)` with the opacity.
        profile: ICC profile.
        dpi: pixels per inch along width and height.
        software: text of the keyword `Software`.
    """
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    # Filter 2: each byte minus the one above.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    filtered[0, 1:] = rows[0]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)),
        (b"iCCP", b"sRGB\0\0" + zlib.compress(profile)),
        (b"tEXt", b"Software\0" + software.encode("latin-1")),
        (b"IDAT", zlib.compress(filtered.data)),
        (b"IEND", b""),
    ]
    if dpi is not None:
        x, y = (round(each / 0.0254) for each in dpi)
        chunks.insert(2, (b"pHYs", struct.pack(">IIB", x, y, 1)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def encode_tiff(pixels: NDArray[np.uint16], profile: bytes, dpi: Dpi, software: str) -> bytes:
    """Returns a TIFF file, compressed by Deflate; the arguments are those of `encode_png`."""
    height, width, channels = pixels.shape
    # Predictor 2: each value minus that of the pixel before.
    filtered = pixels.astype("<u2")
    filtered[:, 1:] -= pixels[:, :-1]
    rows = max(_STRIP // filtered[0].nbytes, 1)
    strips = [
        zlib.compress(filtered[start : start + rows].data) for start in range(0, height, rows)
    ]
    lengths = [len(each) for each in strips]
    tags: dict[int, tuple[int, tuple[int, ...] | bytes]] = {
        256: (_LONG, (width,)),
        257: (_LONG, (height,)),
        258: (_SHORT, (16,) * channels),
        259: (_SHORT, (8,)),  # Deflate
        262: (_SHORT, (2,)),  # RGB
        273: (_LONG, tuple(8 + sum(lengths[:i]) for i in range(len(lengths)))),
        277: (_SHORT, (channels,)),
        278: (_LONG, (rows,)),
        279: (_LONG, tuple(lengths)),
        284: (_SHORT, (1,)),  # the colors of a pixel next to each other
        305: (_ASCII, software.encode("ascii") + b"\0"),
        317: (_SHORT, (2,)),
        34675: (_UNDEFINED, profile),
    }
    if channels == 4:
        tags[338] = (_SHORT, (2,))  # opacity, which the colors are not multiplied by
    if dpi is not None:
        tags[282], tags[283] = ((_RATIONAL, (round(each * 100), 100)) for each in dpi)
        tags[296] = (_SHORT, (2,))  # per inch
    start = 8 + sum(lengths) + sum(lengths) % 2
    body = b"".join(strips).ljust(start - 8, b"\0")
    return struct.pack("<2sHI", b"II", 42, start) + body + _directory(tags, start)


def _directory(tags: Mapping[int, tuple[int, tuple[int, ...] | bytes]], start: int) -> bytes:
    """Returns a directory that stands at `start`, and behind it the values that do not fit in."""
    entries, behind, at = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        count = len(values) // len(_CODES[kind])
        data = struct.pack(f"<{len(values)}{_CODES[kind][0]}", *values)
        entries += struct.pack("<HHI", tag, kind, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", at + len(behind))
            behind += data + b"\0" * (len(data) % 2)
    return struct.pack("<H", len(tags)) + entries + bytes(4) + behind
