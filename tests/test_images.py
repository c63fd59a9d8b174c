"""Images in and out, checked against plain arithmetic and against hostile files."""

import ast
import errno
import io
import itertools
import logging
import os
import resource
import stat
import struct
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

import jaxstyle.io.files as files_module
import jaxstyle.io.image_pixels as image_pixels_module
import jaxstyle.io.image_writer as image_writer_module
import jaxstyle.io.images as images_module
from jaxstyle.io.errors import InputError
from jaxstyle.io.files import check_target, write_atomically
from jaxstyle.io.image_pixels import resize
from jaxstyle.io.image_writer import check_writable, contact_sheet, save_image
from jaxstyle.io.images import MAX_PIXELS, load_image, read_picture, read_shape
from jaxstyle.io.ownership import is_ours

PHOTOS = sorted((Path(__file__).parents[2] / "shared" / "images").glob("*/*.jpg"))
needs_photos = pytest.mark.skipif(not PHOTOS, reason="the folder ../shared/images is absent")
needs_user = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read and write everything"
)
FORMATS = ["png", "jpg", "webp", "tif", "bmp", "gif"]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 7 + k) * np.cos(y / (5 + k)) for k in range(3)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def cmyk(inks: np.ndarray) -> Image.Image:
    return Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())


def fails(call: Callable[..., Any], *args: Any, match: str | None = None, **kwargs: Any) -> str:
    with pytest.raises(InputError, match=match) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable(), "one line, nothing that moves a cursor"
    assert "; " in message, "what is wrong; what to do"
    return message


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG by hand; `rows` are packed scan lines with their filter bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def icc(space: bytes, pcs: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile by hand."""
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for signature, value in tags.items():
        table += signature + struct.pack(">II", offset + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4xI4s4s4s12x4s", 128 + len(body), 0x02100000, kind, space, pcs, b"acsp")
    return (header.ljust(68, b"\0") + d50).ljust(128, b"\0") + body


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


WHITE = xyz(0.9642, 1.0, 0.8249)
LINEAR = b"curv\0\0\0\0\0\0\0\0"  # no points: the identity
RED, GREEN, BLUE = (  # the primaries of sRGB, adapted to D50
    xyz(0.43607, 0.22249, 0.01392),
    xyz(0.38515, 0.71687, 0.09708),
    xyz(0.14307, 0.06061, 0.71410),
)


def rgb_profile(red: bytes = RED, green: bytes = GREEN, blue: bytes = BLUE) -> bytes:
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), LINEAR)
    primaries = {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    return icc(b"RGB ", b"XYZ ", b"mntr", {b"wtpt": WHITE, **primaries, **curves})


GREY_PROFILE = icc(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": WHITE, b"kTRC": LINEAR})


def cmyk_profile() -> bytes:
    """Lightness falls linearly with black ink, and any full coloured ink is black."""
    identity = bytes(range(256))
    grid = [(255, 128, 128) if not any(inks) else (0, 128, 128)
            for inks in itertools.product((0, 1), repeat=4)]  # fmt: skip
    unit = struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + identity * 4
    lut += b"".join(map(bytes, grid)) + identity * 3
    return icc(b"CMYK", b"Lab ", b"prtr", {b"wtpt": WHITE, b"A2B0": lut})


# --- reading: formats and modes ---------------------------------------------------------------


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_the_same_kind_of_array(tmp_path: Path, extension: str) -> None:
    pixels = smooth(20, 30)
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"x.{extension}", **options)
    image = load_image(tmp_path / f"x.{extension}")
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    if extension in ("png", "tif", "bmp", "webp"):
        np.testing.assert_array_equal(image, pixels.astype(np.float32) / 255)
    else:  # lossy, or 256 colours
        assert np.abs(image - pixels / 255.0).mean() < 0.05


def test_path_may_be_str_bytes_or_pathlike(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(noise(2, 3, 3)).save(path)
    for form in (path, str(path), os.fsencode(path)):
        assert load_image(form).shape == (2, 3, 3)


@pytest.mark.parametrize(("mode", "levels"), [("1", [0, 255]), ("L", [0, 7, 128, 255])])
def test_grey_and_one_bit(tmp_path: Path, mode: str, levels: list[int]) -> None:
    pixels = np.array([levels], np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        load_image(tmp_path / "x.png"), np.repeat(pixels[..., None], 3, -1) / np.float32(255)
    )


@pytest.mark.parametrize("extension", ["png", "gif", "bmp", "tif"])
def test_palette(tmp_path: Path, extension: str) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 200, 0, 10, 20, 30])
    image.save(tmp_path / f"x.{extension}")
    expected = np.float32([[[255, 0, 0], [0, 200, 0], [10, 20, 30]]]) / np.float32(255)
    np.testing.assert_array_equal(load_image(tmp_path / f"x.{extension}"), expected)


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_grey_is_exact(tmp_path: Path, extension: str, order: str) -> None:
    values = np.array([[0, 1, 255, 256, 257], [32767, 32768, 65279, 65534, 65535]], order)
    Image.fromarray(values).save(tmp_path / f"x.{extension}")
    image = load_image(tmp_path / f"x.{extension}")
    np.testing.assert_allclose(image[..., 0], values / 65535.0, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(image[..., :1].repeat(3, -1), image)


def test_sixteen_bit_rgb(tmp_path: Path) -> None:
    values = np.array([[[0, 1000, 65535], [32768, 257 * 100, 65000]]], ">u2")
    (tmp_path / "x.png").write_bytes(png(2, 1, 16, 2, b"\0" + values.tobytes()))
    np.testing.assert_allclose(load_image(tmp_path / "x.png"), values / 65535.0, atol=1 / 255)


def tiff(values: np.ndarray, bits: int, photometric: int, data: bytes | None = None) -> bytes:
    """A little-endian grey TIFF by hand: one strip, no compression."""
    data = values.tobytes() if data is None else data
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def test_tiff_of_twelve_bits_and_tiff_with_white_as_zero(tmp_path: Path) -> None:
    twelve = np.array([[0x123, 0xFFF]])
    (tmp_path / "a.tif").write_bytes(tiff(twelve, 12, 1, bytes([0x12, 0x3F, 0xFF])))
    np.testing.assert_allclose(load_image(tmp_path / "a.tif")[..., 0], twelve / 4095, atol=1e-7)
    sixteen = np.array([[0, 1000, 65535]], "<u2")
    (tmp_path / "b.tif").write_bytes(tiff(sixteen, 16, 0))
    np.testing.assert_allclose(
        load_image(tmp_path / "b.tif")[..., 0], 1 - sixteen / 65535, atol=1e-7
    )


def test_thirty_two_bit_integers_must_fit_sixteen(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(path)
    np.testing.assert_array_equal(load_image(path)[0, :, 0], [0, 1])
    for value in (-1, 65536):
        Image.fromarray(np.array([[0, value]], np.int32)).save(path)
        fails(load_image, path, match="outside 0 to 65535")


def test_float_tiff(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.tif"
    values = np.array([[0.0, 0.123456, 1.0]], np.float32)
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(load_image(path)[..., 1], values)
    assert not caplog.records
    Image.fromarray(np.array([[-0.5, 0.5, 3.0]], np.float32)).save(path)
    np.testing.assert_array_equal(load_image(path)[..., 1], [[0, 0.5, 1]])
    assert "from -0.5 to 3 are clipped" in caplog.text
    for bad in (np.nan, np.inf):
        Image.fromarray(np.array([[0, bad]], np.float32)).save(path)
        fails(load_image, path, match="NaN or infinity")


# Solid and half-tone inks of US Web Coated (SWOP) as programs for printing show them in sRGB.
SWOP = {
    (0, 0, 0, 0): (255, 255, 255),
    (255, 0, 0, 0): (0, 174, 239),
    (0, 255, 0, 0): (236, 0, 140),
    (0, 0, 255, 0): (255, 242, 0),
    (0, 255, 255, 0): (237, 28, 36),
    (255, 0, 255, 0): (0, 166, 81),
    (255, 255, 0, 0): (46, 49, 146),
    (0, 0, 0, 255): (35, 31, 32),
    (0, 0, 0, 128): (147, 149, 152),
    (255, 255, 255, 255): (0, 0, 0),
}


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_cmyk_without_profile(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Near what printing gives: for the solid inks it was 0.2 off in the mean, and 0.1 too dark."""
    pixels = np.repeat(np.repeat(np.array([[*SWOP]], np.uint8), 16, 0), 16, 1)
    options = {"quality": 100} if extension == "jpg" else {}
    cmyk(pixels).save(tmp_path / f"x.{extension}", **options)
    found = load_image(tmp_path / f"x.{extension}")[8, 8::16] * 255
    expected = np.array([*SWOP.values()])
    assert np.abs(found - expected).max() < 65  # yellow's blue, which sRGB does not reach
    assert np.abs(found - expected).mean() < 14
    assert "CMYK without a color profile is taken as US Web Coated (SWOP)" in caplog.text


def test_cmyk_jpeg_of_adobe_is_stored_inverted(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=100)
    assert b"Adobe" in path.read_bytes()
    np.testing.assert_allclose(load_image(path)[8, 8] * 255, [255, 46, 23], atol=3)


def test_ycbcr_and_lab_tiff(tmp_path: Path) -> None:
    pixels = smooth(16, 16)
    image = Image.fromarray(pixels)
    image.convert("YCbCr").save(tmp_path / "ycbcr.tif", compression="tiff_lzw")
    np.testing.assert_allclose(load_image(tmp_path / "ycbcr.tif"), pixels / 255, atol=4 / 255)
    # L* = 50 and no colour: the luminance 0.18419, encoded
    Image.new("LAB", (2, 2), (128, 128, 128)).save(tmp_path / "lab.tif")
    luminance = ((128 * 100 / 255 + 16) / 116) ** 3
    expected = np.full((2, 2, 3), srgb_encode(np.float64(luminance)))
    np.testing.assert_allclose(load_image(tmp_path / "lab.tif"), expected, atol=2 / 255)


# --- transparency -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("RGBA", "png"), ("RGBA", "tif"), ("RGBA", "webp"), ("LA", "png"), ("LA", "tif")],
)
def test_alpha_is_composited_on_white(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, extension: str
) -> None:
    pixels = noise(9, 9, len(mode))
    options = {"lossless": True, "exact": True} if extension == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"x.{extension}", **options)
    alpha = pixels[..., -1:] / 255.0
    expected = np.broadcast_to(pixels[..., :-1] / 255.0 * alpha + 1 - alpha, (9, 9, 3))
    np.testing.assert_allclose(load_image(tmp_path / f"x.{extension}"), expected, atol=1e-6)
    assert [record.name for record in caplog.records] == ["jaxstyle"]
    assert "shown on white" in caplog.text


def test_opaque_alpha_is_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGBA", (3, 3), (1, 2, 3, 255)).save(tmp_path / "x.png")
    load_image(tmp_path / "x.png")
    assert not caplog.records


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_on_a_transparent_layer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    """White paint counts by its opacity; what is not painted is outside, and nothing is said."""
    pixels = np.full((2, 3, len(mode)), 255, np.uint8)
    pixels[..., -1] = [[0, 51, 255], [0, 102, 204]]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    mask = load_image(tmp_path / "x.png", background=0.0)
    np.testing.assert_allclose(mask[..., 1], [[0, 0.2, 1], [0, 0.4, 0.8]], atol=1e-6)
    assert not caplog.records
    Image.fromarray(pixels[..., :1].repeat(3, -1)).save(tmp_path / "y.png")
    np.testing.assert_array_equal(load_image(tmp_path / "y.png", background=0.0), 1)


@pytest.mark.parametrize(
    ("depth", "color", "row", "key", "alpha"),
    [
        (2, 0, b"\x1b", (3,), [1, 1, 1, 0]),
        (2, 0, b"\x1b", (1,), [1, 0, 1, 1]),
        (4, 0, b"\x05\xaf", (15,), [1, 1, 1, 0]),
        (4, 0, b"\x05\xaf", (5,), [1, 0, 1, 1]),
        (8, 0, b"\0\x55\xaa\xff", (255,), [1, 1, 1, 0]),
        (16, 2, struct.pack(">6H", 0x100, 0, 0, 0, 0, 0), (0x100, 0, 0), [0, 1]),
        (16, 2, struct.pack(">6H", 9, 9, 9, *[65535] * 3), (65535,) * 3, [1, 0]),
    ],
)
def test_the_transparent_color_has_the_depth_of_the_file(
    depth: int, color: int, row: bytes, key: tuple[int, ...], alpha: list[int]
) -> None:
    extra = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    found = read_picture(png(len(alpha), 1, depth, color, b"\0" + row, extra))
    np.testing.assert_array_equal(found.alpha, [alpha])


def test_the_transparent_color_leaves_no_halo_in_a_draft() -> None:
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[..., 1] = 255
    pixels[100:401, 100:401] = 255, 0, 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", transparency=(0, 255, 0))
    image, alpha, _ = read_picture(buffer.getvalue(), size=64, draft=True)
    assert alpha is not None
    assert (alpha.min(), alpha.max()) == (0, 1)
    assert image[alpha > 0.01, 1].max() < 0.01


def test_transparent_colours_of_png_and_gif(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    grey = Image.fromarray(np.array([[10, 20]], np.uint8))
    grey.save(path, transparency=10)
    np.testing.assert_allclose(load_image(path)[0, :, 0], [1, 20 / 255], atol=1e-6)
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path, transparency=(1, 2, 3))
    np.testing.assert_array_equal(load_image(path), np.ones((1, 1, 3)))
    deep = np.array([1000, 1001], ">u2").tobytes()
    path.write_bytes(png(2, 1, 16, 0, b"\0" + deep, chunk(b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_allclose(load_image(path)[0, :, 0], [1, 1001 / 65535], atol=1e-6)
    indices, colours = bytes([0, 0, 1, 2]), bytes([0, 0, 0, 100, 100, 100, 0, 255, 0])
    extra = chunk(b"PLTE", colours) + chunk(b"tRNS", bytes([0, 51]))
    path.write_bytes(png(3, 1, 8, 3, indices, extra))
    half = 100 / 255 * 0.2 + 0.8
    np.testing.assert_allclose(load_image(path)[0, :, 0], [1, half, 0], atol=1e-6)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "x.gif", transparency=0)
    np.testing.assert_array_equal(load_image(tmp_path / "x.gif")[0], [[1, 1, 1], [0, 0, 1]])


# --- orientation and colour -------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, extension: str, orientation: int) -> None:
    pixels = noise(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"x.{extension}", exif=exif, **options)
    upright = {  # EXIF 2.32, table 6: where row 0 and column 0 of the file belong
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    image = load_image(tmp_path / f"x.{extension}")
    np.testing.assert_array_equal(image, upright.astype(np.float32) / 255)
    assert read_shape(tmp_path / f"x.{extension}") == image.shape[:2]


TURNS = {  # EXIF 2.32, table 6: where row 0 and column 0 of the file belong
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


MODES = {
    "png": "1 L P LA I;16 RGB RGBA",
    "jpg": "1 L RGB CMYK",
    "webp": "L P LA RGB RGBA",
    "bmp": "1 L P RGB RGBA",
    "gif": "1 L P LA RGB RGBA",
    "tif": "1 L P LA I;16 F RGB RGBA CMYK LAB",
    "tif tiff_deflate": "1 L P LA I;16 F RGB RGBA CMYK LAB",
}


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]
)
def test_a_turned_file_is_the_upright_one_turned(tmp_path: Path, kind: str, mode: str) -> None:
    """Of every mode that the format has, in all orientations, and as its header tells."""
    extension, _, compression = kind.partition(" ")
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "webp" else {}
    options |= {"compression": compression} if compression else {}
    grey = smooth(40, 56)[..., 0]
    if mode in ("I;16", "F"):
        deep = grey.astype(np.uint16) * 257 if mode == "I;16" else grey / np.float32(255)
        image = Image.fromarray(deep)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (56, 40), noise(40, 56, 3).tobytes())
    else:
        image = Image.fromarray(smooth(40, 56)).convert(mode)
    path = tmp_path / f"x.{extension}"
    image.save(path, **options)
    upright = load_image(path)
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, **options)
        told = extension not in ("bmp", "gif")  # these have no EXIF
        expected = turn(upright) if told else upright
        np.testing.assert_array_equal(load_image(path), expected)
        assert read_shape(path) == expected.shape[:2]
        assert read_shape(path, size=9) == load_image(path, size=9).shape[:2]


@pytest.mark.parametrize("top", [255, 65535])
def test_palette_tiff_of_8_and_16_bit_maps(tmp_path: Path, top: int) -> None:
    """The standard has 16 bits; some programs write values up to 255, which are 8."""
    colours = noise(256, 3)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 3
    tags[320] = tuple((colours.T.astype(int) * (top // 255)).ravel().tolist())
    indices = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(indices).save(tmp_path / "x.tif", tiffinfo=tags)
    np.testing.assert_array_equal(
        load_image(tmp_path / "x.tif"), colours[indices] / np.float32(255)
    )


def test_the_shape_of_a_png_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "before.png", exif=exif)
    whole = (tmp_path / "before.png").read_bytes()
    at = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[at : at + 4])
    end = whole.index(b"IEND") - 4
    behind = whole[:at] + whole[at + length : end] + whole[at : at + length] + whole[end:]
    (tmp_path / "behind.png").write_bytes(behind)
    Image.new("RGB", (40, 20)).save(tmp_path / "none.png")
    decoded = []
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(
        PngImagePlugin.PngImageFile, "load", lambda file: (decoded.append(file), load(file))[1]
    )
    assert read_shape(tmp_path / "none.png") == (20, 40)
    assert read_shape(tmp_path / "before.png") == (40, 20)
    assert not decoded
    assert read_shape(tmp_path / "behind.png") == (40, 20)
    assert load_image(tmp_path / "behind.png").shape == (40, 20, 3)


def test_orientation_of_a_jpeg_with_a_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert load_image(tmp_path / "x.jpg", size=10).shape == (10, 5, 3)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0", b"junk" * 9])
def test_broken_exif_does_not_matter(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (4, 2), (9, 9, 9)).save(tmp_path / "x.jpg", exif=exif)
    assert load_image(tmp_path / "x.jpg").shape == (2, 4, 3)


def test_linear_rgb_profile(tmp_path: Path) -> None:
    pixels = noise(16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=rgb_profile())
    expected = srgb_encode(pixels / 255.0)
    np.testing.assert_allclose(load_image(tmp_path / "x.png"), expected, atol=1.5 / 255)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif"])
def test_profile_with_swapped_primaries(tmp_path: Path, extension: str) -> None:
    options = {"lossless": True} if extension == "webp" else {}
    swapped = rgb_profile(red=BLUE, blue=RED)
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    image.save(tmp_path / f"x.{extension}", icc_profile=swapped, **options)
    np.testing.assert_allclose(load_image(tmp_path / f"x.{extension}")[8, 8], [0, 0, 1], atol=0.05)


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    pixels = noise(16, 16, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=profile)
    np.testing.assert_allclose(load_image(tmp_path / "x.png"), pixels / 255, atol=1.01 / 255)


@pytest.mark.parametrize("profile", [GREY_PROFILE, rgb_profile()])
def test_grey_with_a_profile(tmp_path: Path, profile: bytes) -> None:
    """Of its own kind, and of RGB: both are a linear curve here."""
    values = np.arange(16, 256, dtype=np.uint8)[None]
    Image.fromarray(values).save(tmp_path / "x.png", icc_profile=profile)
    expected = np.repeat(srgb_encode(values / 255.0)[..., None], 3, -1)
    np.testing.assert_allclose(load_image(tmp_path / "x.png"), expected, atol=1.5 / 255)
    deep = np.arange(4000, 65536, 77, dtype=np.uint16)[None]
    Image.fromarray(deep).save(tmp_path / "y.png", icc_profile=profile)
    image = load_image(tmp_path / "y.png")[0, :, 0]
    np.testing.assert_allclose(image, srgb_encode(deep[0] / 65535.0), atol=1.5 / 255)
    assert len(np.unique(image)) > 600, "more than 8 bits can hold"


def test_cmyk_profile(tmp_path: Path) -> None:
    black = np.arange(0, 256, 5)
    pixels = np.zeros((1, black.size, 4), np.uint8)
    pixels[..., 3] = black
    cmyk(pixels).save(tmp_path / "x.tif", icc_profile=cmyk_profile())
    lightness = 100 * (1 - black / 255.0)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    expected = np.repeat(srgb_encode(luminance)[None, :, None], 3, -1)
    np.testing.assert_allclose(load_image(tmp_path / "x.tif"), expected, atol=3 / 255)


def test_profile_comes_before_alpha(tmp_path: Path) -> None:
    pixels = noise(8, 8, 4)
    Image.fromarray(pixels).save(tmp_path / "x.png", icc_profile=rgb_profile())
    alpha = pixels[..., 3:] / 255.0
    expected = srgb_encode(pixels[..., :3] / 255.0) * alpha + 1 - alpha
    np.testing.assert_allclose(load_image(tmp_path / "x.png"), expected, atol=1.5 / 255)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        *itertools.product(("RGB", "L", "CMYK", "I;16"), (b"junk", rgb_profile()[:150])),
        ("RGB", cmyk_profile()),
        ("RGB", GREY_PROFILE),
        ("L", cmyk_profile()),
        ("CMYK", rgb_profile()),
        ("CMYK", GREY_PROFILE),
        ("I;16", cmyk_profile()),
    ],
)
def test_broken_or_wrong_profile_is_ignored_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, profile: bytes
) -> None:
    plain, tagged = tmp_path / "plain.tif", tmp_path / "tagged.tif"
    shape = {"RGB": (4, 4, 3), "CMYK": (4, 4, 4)}.get(mode, (4, 4))
    array = noise(*shape)
    image = Image.fromarray(array.astype(np.uint16) if mode == "I;16" else array)
    if mode == "CMYK":
        image = cmyk(array)
    image.save(plain)
    image.save(tagged, icc_profile=profile)
    np.testing.assert_array_equal(load_image(tagged), load_image(plain))
    assert "color profile is broken" in caplog.text


# --- size ---------------------------------------------------------------------------------------


def lanczos_matrix(source: int, target: int) -> np.ndarray:
    """(target, source): the antialiased Lanczos-3 filter, from its formula."""
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    distance = (np.arange(source)[None] - centres) / width
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [7, 13, 33, 90])
def test_resize_is_the_lanczos_filter_in_float(tmp_path: Path, size: int) -> None:
    pixels = noise(31, 47, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = load_image(tmp_path / "x.png", size=size)
    rows, columns = lanczos_matrix(31, image.shape[0]), lanczos_matrix(47, image.shape[1])
    expected = np.einsum("ij,jkc,lk->ilc", rows, pixels / 255.0, columns)
    np.testing.assert_allclose(image, expected.clip(0, 1), atol=1e-5)
    assert (np.abs(image * 255 - np.rint(image * 255)) > 0.1).any(), "not rounded to 8 bits"


def test_resize_keeps_constants_and_means(tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), (0, 77, 255)).save(tmp_path / "x.png")
    for size in (1, 9, 50, 123):
        image = load_image(tmp_path / "x.png", size=size)
        expected = np.broadcast_to(np.float32([0, 77 / 255, 1]), image.shape)
        np.testing.assert_allclose(image, expected, atol=1e-6)
    pixels = (64 + noise(60, 60, 3) // 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "y.png")
    image = load_image(tmp_path / "y.png", size=15)
    np.testing.assert_allclose(image.mean((0, 1)), pixels.mean((0, 1)) / 255, atol=5e-3)


@pytest.mark.parametrize(
    ("width", "height", "size", "shape"),
    [
        (640, 480, 64, (48, 64)),
        (480, 640, 64, (64, 48)),
        (3, 2, 512, (341, 512)),
        (4, 1, 2, (1, 2)),  # 0.5 rounds up
        (100, 3, 50, (2, 50)),  # so does 1.5
        (100, 5, 50, (3, 50)),  # and 2.5, where Python's round() would give 2
        (1, 1, 5, (5, 5)),
    ],
)
def test_size_is_the_long_edge(
    tmp_path: Path, width: int, height: int, size: int, shape: tuple[int, int]
) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "x.png")
    assert load_image(tmp_path / "x.png", size=size).shape == (*shape, 3)
    assert load_image(tmp_path / "x.png", size=np.int64(size)).shape == (*shape, 3)


@pytest.mark.parametrize(
    "size",
    [0, -1, 1.5, "512", True, np.nan, np.eye(9), 10**6, 10**5000],
    ids=lambda size: type(size).__name__,
)
def test_bad_size(tmp_path: Path, size: Any) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    fails(load_image, tmp_path / "x.png", size=size, match="size|too large")


def test_too_narrow_for_the_size(tmp_path: Path) -> None:
    Image.new("L", (5000, 2)).save(tmp_path / "x.png")
    fails(load_image, tmp_path / "x.png", size=100, match="5000 x 2 pixels, too narrow")


@needs_photos
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_photos(path: Path) -> None:
    with Image.open(path) as photo:
        expected = np.asarray(photo.convert("RGB"), np.float32) / 255
    np.testing.assert_array_equal(load_image(path), expected)
    image = load_image(path, size=128)
    assert max(image.shape) == 128
    np.testing.assert_allclose(image.mean((0, 1)), expected.mean((0, 1)), atol=0.01)


# --- raw files of cameras and other strangers ---------------------------------------------------


def directory(tags: dict[int, int], order: str = "<", following: int = 0) -> bytes:
    """A TIFF directory of 32-bit numbers by hand."""
    entries = b"".join(struct.pack(order + "HHII", t, 4, 1, v) for t, v in sorted(tags.items()))
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following)


def raw_file(kind: str, order: str = "<") -> bytes:
    """A container as cameras write it: a thumbnail of 4 x 4 first, the sensor's data elsewhere."""
    pixels, below = 8, 8 + 16
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: pixels, 277: 1, 278: 4, 279: 16}
    full = tags | {254: 0, 256: 400, 257: 300, 262: 32803}
    first = tags | {254: 1, 271: 0}
    following = 0
    if kind == "dng":
        first[50706] = 0x00000401
    elif kind in ("sub-directory", "larger sub-directory"):
        first[330] = below
        full[262] = 32803 if kind == "sub-directory" else 1
    elif kind == "next page":
        following = below
    elif kind == "the sensor's only":
        first = full
    main = directory(full, order)
    return (
        struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, below + len(main))
        + bytes(range(16)) + main + directory(first, order, following)
    )  # fmt: skip


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "kind", ["dng", "sub-directory", "larger sub-directory", "next page", "the sensor's only"]
)
def test_raw_files_of_cameras_are_no_thumbnails(tmp_path: Path, kind: str, order: str) -> None:
    for name in ("x.dng", "x.tif", "x"):
        (tmp_path / name).write_bytes(raw_file(kind, order))
        for read in (load_image, read_shape):
            fails(read, tmp_path / name, match="camera's raw file; export it as JPEG or 16-bit")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
        ("x.cr2", b"II*\0\x10\0\0\0CR\2\0"),
        ("x.iiq", b"II*\0\x10\0\0\0IIII"),
        ("x.raf", b"FUJIFILMCCD-RAW 0201"),
        ("x.rw2", b"IIU\0\x18\0\0\0"),
        ("x.orf", b"IIRO\x08\0\0\0"),
        ("x.orf", b"MMOR\0\0\0\x08"),
        ("x.x3f", b"FOVb\0\0\2\0"),
        ("x.mrw", b"\0MRM\0\0\0\0"),
        ("x.crw", b"II\x1a\0\0\0HEAPCCDR"),
        ("x.NEF", b"II*\0\x08\0\0\0"),
        ("x.pef", b"MM\0*\0\0\0\x08"),
    ],
)
def test_raw_files_by_their_first_bytes(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head + bytes(1000))
    fails(load_image, tmp_path / name, match="camera's raw file")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC photo.*; export it as JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page.*; download it again"),
    ],
)
def test_what_a_file_is_instead_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.jpg").write_bytes(head + bytes(1000))
    fails(load_image, tmp_path / "x.jpg", match=reason)


def test_honest_tiffs_of_several_pages_or_tiles_are_read(tmp_path: Path) -> None:
    """A thumbnail behind the picture, pages, a pyramid below it, and what once was a raw file."""
    path = tmp_path / "x.tif"
    pages = [Image.fromarray(noise(*shape, 3)) for shape in ((20, 30), (40, 60), (5, 7))]
    expected = np.asarray(pages[0], np.float32) / 255
    pages[0].save(path, save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(load_image(path), expected)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254], tags[271], tags[50706], tags.tagtype[50706] = 0, "MAKER", b"\1\4\0\0", 1
    pages[0].save(path, tiffinfo=tags)
    np.testing.assert_array_equal(load_image(path), expected)
    reduced = {254: 1, 256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}
    main = reduced | {254: 0, 256: 4, 257: 4, 278: 4, 279: 16}
    for below in (True, False):
        small = directory(reduced)
        first = directory(main | ({330: 24} if below else {}), following=0 if below else 24)
        head = struct.pack("<2sHI", b"II", 42, 24 + len(small))
        path.write_bytes(head + bytes(range(16)) + small + first)
        np.testing.assert_array_equal(
            load_image(path)[..., 0], np.arange(16, dtype="f4").reshape(4, 4) / np.float32(255)
        )
    tiles = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16, 324: 8, 325: 256}
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 264) + bytes(range(256)) + directory(tiles))
    np.testing.assert_array_equal(
        load_image(path)[..., 0], np.arange(256, dtype="f4").reshape(16, 16) / np.float32(255)
    )


@pytest.mark.parametrize(
    "kind",
    ["png text", "png unknown", "png pixels", "jpg exif", "jpg comment", "gif comment", "gif end"],
)
def test_millions_of_empty_parts_are_not_read(tmp_path: Path, kind: str) -> None:
    """Decoders take some microseconds for each, and for EXIF a time that grows with its square."""
    extension = kind[:3]
    data = SAMPLES[extension]
    small, at = {
        "png text": (chunk(b"tEXt", b"k\0v"), 33),
        "png unknown": (chunk(b"abCd", b""), 33),
        "png pixels": (chunk(b"IDAT", b""), 33),
        "jpg exif": (b"\xff\xe1\0\x70Exif\0\0" + bytes(104), 2),
        "jpg comment": (b"\xff\xfe\0\3x", 2),
        "gif comment": (b"!\xfe\1x\0", data.find(b",\0\0\0\0", 13)),
        "gif end": (b"!\xfe\1x\0", len(data) - 1),
    }[kind]
    path = tmp_path / "x"
    path.write_bytes(data[:at] + small * (4_000_000 // len(small)) + data[at:])
    start = time.monotonic()
    fails(load_image, path, match="too many small parts")
    fails(read_shape, path, match="too many small parts")
    assert time.monotonic() - start < 1
    path.write_bytes(data[:at] + small * 200 + data[at:])  # an honest number
    assert load_image(path).shape == (24, 20, 3)


@pytest.mark.parametrize("between", [b"", b"\xff\xfe\0\4\xff\xd9"])
def test_a_jpeg_of_thousands_of_scans_is_not_decoded(between: bytes) -> None:
    """The comment between two scans seems to hold the end of the image."""
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(buffer, "JPEG", progressive=True)
    data = bytearray(buffer.getvalue())
    assert read_picture(bytes(data)).image.shape == (64, 64, 3)
    at = data.rfind(b"\xff\xda")
    scan = between + data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")] + bytes(4)
    few, many = (bytes(data[:at] + scan * count + b"\xff\xd9") for count in (50, 2000))
    assert read_picture(few).image.shape == (64, 64, 3)
    fails(load_image, many, match="too many small parts")
    frame = few.find(b"\xff\xc2")
    large = few[: frame + 5] + struct.pack(">HH", 11_000, 11_000) + few[frame + 9 :]
    for read in (load_image, read_shape):
        fails(read, large + bytes(600_000), match="too many small parts")


@pytest.mark.parametrize("tag", [273, 324])
def test_a_tiff_of_very_many_strips_is_not_read(tag: int) -> None:
    count = 70_000
    entries = struct.pack("<HHIIHHII", 256, 4, 1, 4, tag, 4, count, 38)
    data = struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + bytes(4) + bytes(4 * count)
    fails(load_image, data, match="too many small parts")


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "WEBP", lossless=True)
    data = bytearray(buffer.getvalue())
    at = data.find(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", 8999 | 8999 << 14)
    for read, empty in itertools.product(
        (load_image, read_shape), (data, png(9000, 9000, 8, 2, b""))
    ):
        message = fails(read, bytes(empty), match=r"81 million pixels in only \d+ bytes")
    assert "make the image smaller" in message
    # As few bytes as a flat drawing has: it is decoded, and found to be empty.
    filled = png(9000, 9000, 8, 2, b"", chunk(b"abCd", bytes(200_000)))
    assert read_shape(filled) == (9000, 9000)
    assert read_shape(png(7000, 7000, 8, 2, b"")) == (7000, 7000)
    assert read_shape(png(13_000, 9000, 1, 0, b"", chunk(b"abCd", bytes(60_000)))) == (9000, 13_000)


def test_rows_are_resized_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plane, alpha = noise(50, 40, 2).transpose(2, 0, 1)
    whole = resize(plane, alpha, 1.0, (20, 30))
    monkeypatch.setattr(image_pixels_module, "_PIXELS_AT_ONCE", 120)
    np.testing.assert_array_equal(resize(plane, alpha, 1.0, (20, 30)), whole)


def test_a_slow_picture_holds_no_other_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "slow.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "fast.png")
    begun, done = threading.Event(), threading.Event()
    load = PngImagePlugin.PngImageFile.load

    def slow(file: PngImagePlugin.PngImageFile) -> Any:
        if file.width == 2:
            begun.set()
            assert done.wait(10)
        return load(file)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", slow)
    before = list(warnings.filters)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(load_image, tmp_path / "slow.png")
        assert begun.wait(10)
        assert load_image(tmp_path / "fast.png").shape == (3, 3, 3)
        done.set()
        assert first.result().shape == (2, 2, 3)
    assert warnings.filters == before


# --- bad files ----------------------------------------------------------------------------------


def test_bad_paths(tmp_path: Path) -> None:
    fails(load_image, tmp_path / "no.png", match="does not exist")
    fails(load_image, tmp_path, match="is a folder; give the path of a file in it")
    fails(load_image, "https://a.org/b.jpg", match="is an address; download the file, and give")
    fails(load_image, "~/b.jpg", match="does not exist: only the shell replaces ~")
    fails(load_image, tmp_path / "no" / "b.jpg", match="does not exist: there is no folder '.*no'")
    fails(load_image, "a\0b.png", match="null")
    fails(load_image, "x" * 5000 + ".png", match="too long")
    fails(load_image, "no\n\x1b[2J\udcff.png", match="does not exist")
    fails(load_image, b"no\xff.png", match="does not exist")
    fails(load_image, "", match="does not exist")
    for value in (None, 0, np.zeros((4, 4, 3)), Image.new("RGB", (2, 2))):
        fails(load_image, value, match="a path cannot be of type")
    fails(load_image, io.BytesIO(), match="is empty")
    (tmp_path / "file").write_bytes(b"x")
    fails(load_image, tmp_path / "file" / "x.png", match="[Nn]ot a directory")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fails(load_image, tmp_path / "loop", match="symbolic links")


def test_name_that_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(path, "wb") as file:
            Image.new("RGB", (2, 2)).save(file, "PNG")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    assert load_image(path).shape == (2, 2, 3)
    assert load_image(os.fsdecode(path)).shape == (2, 2, 3)


def test_special_files_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    start = time.monotonic()
    for name in ("pipe.png", "zero.png"):
        fails(load_image, tmp_path / name, match="not a regular file")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    "content", [b"hello\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"]
)
def test_not_an_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    fails(load_image, tmp_path / "x.jpg", match="x.jpg' is (not a PNG|damaged)")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    fails(load_image, tmp_path / "x.jpg", match="is empty")


@pytest.mark.parametrize("extension", ["ppm", "ico", "tga", "pdf", "eps"])
def test_other_formats_stay_shut(tmp_path: Path, extension: str) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / f"x.{extension}")
    fails(load_image, tmp_path / f"x.{extension}", match="PNG, JPEG, WebP")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with monkeypatch.context() as patch:
        patch.setattr(images_module.Image, "open", refuse)
        fails(load_image, tmp_path / "x.png", match="may not be read")
    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, "stat", refuse)
        fails(load_image, tmp_path / "x.png", match="may not be read")


@needs_user
def test_permission_denied_for_real(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    fails(load_image, tmp_path / "x.png", match="may not be read")
    tmp_path.chmod(0o500)
    fails(check_writable, tmp_path / "y.png", match="not writable")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("edge", [40_000, 13_378])
def test_bomb_is_refused_from_its_header(tmp_path: Path, edge: int) -> None:
    (tmp_path / "x.png").write_bytes(png(edge, edge, 8, 2, b""))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    fails(load_image, tmp_path / "x.png", match="more than 178 million pixels")
    assert time.monotonic() - start < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_own_limit_holds_where_pillow_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for name, header in (
        ("x.png", png(40_000, 40_000, 8, 2, b"")),
        ("x.gif", b"GIF89a" + struct.pack("<2H3xB4H2x", 65535, 65535, 44, 0, 0, 65535, 65535)),
        ("x.bmp", b"BM" + struct.pack("<6i2H24x", 54, 0, 54, 40, 9**5, 9**5, 1, 24)),
    ):
        (tmp_path / name).write_bytes(header)
        fails(load_image, tmp_path / name, match="million pixels")
    assert 13_377**2 <= MAX_PIXELS < 13_378**2


def test_large_but_allowed_header_leaks_no_warning(tmp_path: Path) -> None:
    """Pillow warns from 89 million pixels on; here warnings are errors."""
    filling = chunk(b"abCd", bytes(50_000))
    (tmp_path / "x.png").write_bytes(png(10_000, 10_000, 1, 0, b"", filling))
    before = list(warnings.filters)
    fails(load_image, tmp_path / "x.png", match="damaged")
    assert warnings.filters == before


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_bombs(tmp_path: Path, kind: bytes) -> None:
    squeezed = zlib.compress(bytes(80_000_000), 1)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    data = png(1, 1, 8, 0, b"\0\7", chunk(kind, head + squeezed))
    (tmp_path / "x.png").write_bytes(data)
    start = time.monotonic()
    fails(load_image, tmp_path / "x.png", match="damaged|not a PNG")
    assert time.monotonic() - start < 1


def tiff_bomb(size: int, tags: int) -> bytes:
    """A TIFF of 2 x 2 pixels, whose own tags are followed by many that all have the same bytes."""
    own = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4}
    entries = [(tag, 4, 1, value) for tag, value in own.items()]
    entries += [(1000 + number, 7, size, 8) for number in range(tags)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", 8 + size) + bytes(size)
    return head + struct.pack("<H", len(entries)) + directory + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "JPEG")
    parts = [struct.pack(">BBH", 255, kind, len(data) + 2) + data for kind, data in segments]
    return b"\xff\xd8" + b"".join(parts) + buffer.getvalue()[2:]


def tag_bombs() -> dict[str, bytes]:
    """Files of 1 MB at most; of the bytes of each of its tags there would be a gigabyte."""
    block, small = tiff_bomb(1_000_000, 1000), tiff_bomb(30_000, 2500)
    pieces = [block[at : at + 60_000] for at in range(0, len(block), 60_000)]
    webp = io.BytesIO()
    Image.new("RGB", (2, 2)).save(webp, "WEBP", exif=block)
    profile = f"\nexif\n{len(block)}\n{block.hex()}".encode()
    return {
        "tiff": block,
        "exif of a jpeg": jpeg_with(*((0xE1, b"Exif\0\0" + each) for each in pieces)),
        "pictures of a jpeg": jpeg_with((0xE2, b"MPF\0" + small)),
        "exif of a png": png(2, 2, 8, 0, bytes(6), chunk(b"eXIf", block)),
        "profile of a png": png(
            2, 2, 8, 0, bytes(6),
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile[:1_000_000])),
        ),
        "webp": webp.getvalue(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", tag_bombs())
def test_tags_that_share_their_bytes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(tag_bombs()[kind])
    assert path.stat().st_size < 2_200_000
    tracemalloc.start()
    try:
        if kind in ("tiff", "exif of a jpeg", "pictures of a jpeg"):
            fails(load_image, path, match="too many small parts")
            fails(read_shape, path, match="too many small parts")
        else:  # the tags are not needed for the pixels
            assert load_image(path).shape == (2, 2, 3)
            assert read_shape(path) == (2, 2)
        assert not is_ours(path)
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def test_tags_of_one_value_each_are_read(tmp_path: Path) -> None:
    """As many as in a photo with a long description and an orientation."""
    exif = Image.Exif()
    exif[0x0112], exif[270], exif[0x010F] = 6, "x" * 20_000, "maker"
    for kind in ("png", "jpg", "webp", "tif"):
        Image.new("RGB", (4, 2)).save(tmp_path / f"x.{kind}", exif=exif)
        assert read_shape(tmp_path / f"x.{kind}") == (4, 2), kind
        assert load_image(tmp_path / f"x.{kind}").shape == (4, 2, 3), kind


def test_out_of_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: Any) -> None:
        raise MemoryError

    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    monkeypatch.setattr(images_module, "resize", exhausted)
    fails(load_image, tmp_path / "x.png", match="does not fit in memory")


SAMPLES: dict[str, bytes] = {}
for _extension in [*FORMATS, "avif"]:
    _buffer = io.BytesIO()
    _kind = {"jpg": "jpeg", "tif": "tiff"}.get(_extension, _extension)
    Image.fromarray(smooth(24, 20)).save(_buffer, _kind)
    SAMPLES[_extension] = _buffer.getvalue()
for _name, _mode, _kind, _options in (
    ("progressive", "RGB", "jpeg", {"progressive": True, "icc_profile": rgb_profile()}),
    ("cmyk", "CMYK", "jpeg", {}),
    ("deflate", "RGBA", "tiff", {"compression": "tiff_deflate"}),
    ("lzw", "P", "tiff", {"compression": "tiff_lzw"}),
    ("palette", "P", "png", {"transparency": 3}),
    ("lossless", "RGBA", "webp", {"lossless": True}),
    ("deep", "I;16", "png", {"icc_profile": GREY_PROFILE}),
    ("float", "F", "tiff", {}),
):
    _buffer = io.BytesIO()
    _image = Image.fromarray(smooth(24, 20))
    _image = _image.convert("I").convert("I;16") if _mode == "I;16" else _image.convert(_mode)
    _image.save(_buffer, _kind, **_options)
    SAMPLES[_name] = _buffer.getvalue()


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_file_is_an_error_or_complete(tmp_path: Path, name: str) -> None:
    data, path = SAMPLES[name], tmp_path / "x"
    path.write_bytes(data)
    whole = load_image(path)
    for length in sorted({*range(1, len(data), max(1, len(data) // 60)), len(data) - 1}):
        path.write_bytes(data[:length])
        try:
            image = load_image(path)
        except InputError:
            continue
        np.testing.assert_array_equal(image, whole)  # only padding or metadata was missing


@needs_photos
def test_truncated_photo_is_never_filled_with_grey(tmp_path: Path) -> None:
    data = PHOTOS[0].read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "x.jpg").write_bytes(data[: int(len(data) * part)])
        fails(load_image, tmp_path / "x.jpg", match="damaged")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.png"


def check_hostile(path: Path, data: bytes, size: int | None) -> None:
    path.write_bytes(data)
    try:
        with pytest.MonkeyPatch.context() as patch:  # no gigabytes for a mutated header
            patch.setattr(images_module, "MAX_PIXELS", 10**6)
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6 // 2)
            image = load_image(path, size=size)
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert size is None or max(image.shape[:2]) == size


MAGIC = [
    b"",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
]
MAGIC += [b"RIFF\x40\0\0\0WEBPVP8 "]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=200))
def test_random_bytes(scratch: Path, magic: bytes, rest: bytes) -> None:
    check_hostile(scratch, magic + rest + b"\0", None)


@FUZZ
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    head=st.booleans(),
    cut=st.floats(0, 1),
    size=st.sampled_from([None, 8]),
)
def test_mutated_files(
    scratch: Path, name: str, edits: list[tuple[float, int]], head: bool, cut: float, size: int
) -> None:
    data = bytearray(SAMPLES[name])
    reach = min(len(data), 200) if head else len(data)  # headers are where damage has meaning
    for position, value in edits:
        data[int(position * (reach - 1))] = value
    check_hostile(scratch, bytes(data if cut > 0.2 else data[: int(cut * 5 * len(data)) + 1]), size)


def test_threads_leave_warnings_and_images_alone(tmp_path: Path) -> None:
    for index in range(8):
        Image.new("RGB", (30, 30), (index, 0, 0)).save(tmp_path / f"{index}.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: load_image(tmp_path / f"{i % 8}.png", size=9), range(80)))
    assert warnings.filters == before
    for index, image in enumerate(images):
        np.testing.assert_allclose(image[0, 0, 0], (index % 8) / 255, atol=1e-6)


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["png", "webp", "tif", "tiff", "PNG"])
def test_lossless_round_trip(tmp_path: Path, extension: str) -> None:
    image = np.random.default_rng(0).random((13, 17, 3), np.float32)
    path = tmp_path / f"x.{extension}"
    save_image(path, image)
    again = load_image(path)
    assert np.abs(again.astype(np.float64) - image).max() <= 0.5 / 255 + 1e-7
    first = path.read_bytes()
    save_image(path, again)
    assert path.read_bytes() == first, "saving what was loaded changes nothing"


def test_every_byte_value_survives(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    for dtype in (np.float32, np.float64):
        save_image(tmp_path / "x.png", values.astype(dtype) / dtype(255))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), values)


@pytest.mark.parametrize("extension", ["jpg", "jpeg"])
def test_jpeg_is_444_and_close(tmp_path: Path, extension: str) -> None:
    image = smooth(40, 50) / np.float32(255)
    save_image(tmp_path / f"x.{extension}", image)
    with Image.open(tmp_path / f"x.{extension}") as file:
        assert file.format == "JPEG"
        assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3
        quality_95 = file.quantization[0]
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", quality=95)
    with Image.open(buffer) as reference:
        assert reference.quantization[0] == quality_95
    np.testing.assert_allclose(load_image(tmp_path / f"x.{extension}"), image, atol=6 / 255)


def test_values_outside_are_clipped(tmp_path: Path) -> None:
    save_image(tmp_path / "x.png", np.array([[[-5.0, 0.5, 7.0], [-np.inf, 1.0, np.inf]]]))
    pixels = np.asarray(Image.open(tmp_path / "x.png"))
    np.testing.assert_array_equal(pixels, [[[0, 128, 255], [0, 255, 255]]])


def test_jax_arrays_of_every_float_type(tmp_path: Path) -> None:
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        save_image(tmp_path / "x.png", jnp.full((2, 2, 3), 0.5, dtype))
        assert np.asarray(Image.open(tmp_path / "x.png"))[0, 0, 0] == 128


def test_bad_images(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    fails(save_image, path, np.full((2, 2, 3), np.nan), match="NaN")
    for shape in ((2, 2), (2, 2, 4), (2, 2, 1), (1, 2, 2, 3), (0, 2, 3), ()):
        fails(save_image, path, np.zeros(shape), match="shape")
    for dtype in (np.uint8, bool, np.int32, complex):
        fails(save_image, path, np.zeros((2, 2, 3), dtype), match="floating point")
    fails(save_image, path, np.full((2, 2, 3), 255.0), match="up to 255; .* divide it by 255")
    for alpha in (np.zeros((2, 2), np.uint8), np.zeros((2, 2), bool)):
        fails(save_image, path, np.zeros((2, 2, 3)), alpha=alpha, match="alpha has type .* / 255")
    alpha = np.full((2, 2), 255.0)
    fails(save_image, path, np.zeros((2, 2, 3)), alpha=alpha, match="alpha .* divide it by 255")
    fails(save_image, path, None, match="shape")
    fails(save_image, path, [[1], [2, 3]], match="not an array")
    fails(save_image, path, [[["a", "b", "c"]]], match="floating point")
    assert not list(tmp_path.iterdir())


def test_too_long_for_the_format(tmp_path: Path) -> None:
    fails(save_image, tmp_path / "x.webp", np.zeros((1, 16384, 3)), match="at most 16383 pixels")
    fails(save_image, tmp_path / "x.jpg", np.zeros((65501, 1, 3)), match="at most 65500 pixels")
    save_image(tmp_path / "y.webp", np.zeros((1, 16383, 3)))
    save_image(tmp_path / "y.jpg", np.zeros((65500, 1, 3)))
    save_image(tmp_path / "y.png", np.zeros((65501, 1, 3)))


@pytest.mark.parametrize(
    "save", [check_writable, lambda path: save_image(path, np.zeros((1, 1, 3)))]
)
def test_bad_targets(tmp_path: Path, save: Callable[[Any], None]) -> None:
    for name in ("x", "x.gif", "x.png.txt", ".png", ""):
        message = fails(save, tmp_path / name if name else "", match="no known extension")
        assert ".png, .jpg, .jpeg, .webp, .tif, .tiff" in message
    fails(save, tmp_path / "no" / "such" / "x.png", match="folder of .* does not exist")
    assert not list(tmp_path.iterdir()), "no folders are made"
    (tmp_path / "d.png").mkdir()
    fails(save, tmp_path / "d.png", match="is a folder")
    (tmp_path / "file").touch()
    fails(save, tmp_path / "file" / "x.png", match="does not exist")
    os.mkfifo(tmp_path / "pipe.png")
    fails(save, tmp_path / "pipe.png", match="not a regular file")
    (tmp_path / "null.png").symlink_to("/dev/null")
    fails(save, tmp_path / "null.png", match="not a regular file")
    fails(save, "a\0b.png", match="not a file name")
    fails(save, tmp_path / ("x" * 300 + ".png"), match="too long")
    fails(save, 3, match="a path cannot be of type int")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    fails(save, tmp_path / "loop.png", match="symbolic links")
    assert not (tmp_path / "x.png").exists()


def test_write_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, "access", lambda path, mode: mode != os.W_OK)
        fails(check_writable, tmp_path / "x.png", match="write-protected")
    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, "access", lambda path, mode: mode == os.W_OK)
        fails(check_writable, tmp_path / "x.png", match="folder of .* not writable")
    check_writable(tmp_path / "x.png")
    check_writable(tmp_path / "y.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"], "checking writes nothing"


# --- whole or not at all ------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [True, False])
def test_failed_write_leaves_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, reason: Any, existing: bool
) -> None:
    path = tmp_path / "x.png"
    if existing:
        path.write_bytes(b"old")

    def fail(*args: Any) -> None:
        raise reason

    monkeypatch.setattr(files_module.os, step, fail)
    if isinstance(reason, OSError):
        fails(save_image, path, np.zeros((2, 2, 3)), match="No space left")
    else:
        with pytest.raises(KeyboardInterrupt):
            save_image(path, np.zeros((2, 2, 3)))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if existing else [])


def test_write_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"
    for data in (b"one", bytearray(b"two"), memoryview(b"three"), b""):
        write_atomically(path, data)
        assert path.read_bytes() == bytes(data)
    monkeypatch.chdir(tmp_path)
    write_atomically("relative", b"r")
    write_atomically(b"caf\xe9", b"c")
    assert {os.fsencode(p.name) for p in tmp_path.iterdir()} == {b"x.bin", b"relative", b"caf\xe9"}
    fails(write_atomically, "", b"", match="not a file name")
    fails(check_target, tmp_path, match="is a folder")


def test_file_mode_follows_the_umask_or_the_old_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save_image(tmp_path / "new.png", np.zeros((1, 1, 3)))
        (tmp_path / "old.png").write_bytes(b"old")
        (tmp_path / "old.png").chmod(0o604)
        save_image(tmp_path / "old.png", np.zeros((1, 1, 3)))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old.png").stat().st_mode) == 0o604


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in ("x.png", "dangling.png"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "x.png").write_bytes(b"old")
    for name in ("x.png", "dangling.png"):
        save_image(tmp_path / name, np.zeros((1, 1, 3)))
        assert (tmp_path / name).is_symlink()
        assert load_image(tmp_path / "real" / name).shape == (1, 1, 3)


# --- contact sheet ------------------------------------------------------------------------------


def test_contact_sheet_by_hand() -> None:
    features = np.stack([[[1.0, 3.0]], [[5.0, 5.0]], [[-2.0, -4.0]]], axis=-1)  # (1, 2, 3)
    sheet = contact_sheet(features, columns=2, gap=1)
    expected = np.array([[0, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 1, 1]], np.float32)
    np.testing.assert_array_equal(sheet, expected[..., None].repeat(3, -1))
    assert sheet.dtype == np.float32
    np.testing.assert_array_equal(
        contact_sheet(features, columns=9, gap=0)[..., 0], [[0, 1, 0, 0, 1, 0]]
    )


@pytest.mark.parametrize(
    ("shape", "sheet"), [((8, 8, 64), (71, 71)), ((4, 16, 16), (39, 33)), ((5, 5, 1), (5, 5))]
)
def test_contact_sheet_is_near_square(shape: tuple[int, ...], sheet: tuple[int, int]) -> None:
    assert contact_sheet(noise(*shape).astype(np.float32)).shape == (*sheet, 3)


def test_contact_sheet_takes_any_float_and_can_be_saved(tmp_path: Path) -> None:
    for dtype in (jnp.bfloat16, jnp.float32):
        sheet = contact_sheet(jnp.arange(24, dtype=dtype).reshape(2, 3, 4))
        assert sheet.min() == 0
        save_image(tmp_path / "x.png", sheet)
    extremes = np.array([[[-3e38], [3e38]]], np.float32)
    np.testing.assert_array_equal(contact_sheet(extremes)[0, :, 0], [0, 1])


def test_bad_contact_sheets() -> None:
    for shape in ((2, 2), (0, 2, 2), (2, 2, 0), (1, 2, 2, 2)):
        fails(contact_sheet, np.zeros(shape), match="shape")
    fails(contact_sheet, np.full((2, 2, 2), np.nan), match="NaN")
    fails(contact_sheet, np.zeros((2, 2, 2)), columns=0, match="columns")
    fails(contact_sheet, np.zeros((2, 2, 2)), gap=-1, match="gap")


# --- the house ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", [images_module, image_pixels_module, image_writer_module, files_module]
)
def test_files_need_no_jax(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    names = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not {name for name in names if name.split(".")[0] in ("jax", "jaxlib", "flax")}


def test_notices_reach_stderr_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    Image.new("RGBA", (2, 2)).save(tmp_path / "x.png")
    load_image(tmp_path / "x.png")
    assert capsys.readouterr().err.endswith("x.png': transparent parts are shown on white\n")


@pytest.mark.parametrize(
    ("extension", "mode", "reduced"),
    [("jpg", "L", True), ("jpg", "RGB", True), ("jpg", "CMYK", True), ("png", "RGB", True),
     ("png", "RGBA", True), ("tif", "CMYK", True), ("webp", "RGB", True), ("png", "P", False),
     ("png", "1", False), ("png", "I;16", False)],
)  # fmt: skip
def test_a_draft_is_nearly_the_same(extension, mode, reduced, tmp_path, monkeypatch):
    image = Image.fromarray(smooth(304, 400))
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    path = tmp_path / f"a.{extension}"
    image.save(path, exif=exif)
    decoded, read_planes = [], images_module.read_planes

    def record(image: Image.Image, *rest: Any) -> Any:
        decoded.append(image.size)
        return read_planes(image, *rest)

    monkeypatch.setattr(images_module, "read_planes", record)
    exact, draft = load_image(path, size=48), load_image(path, size=48, draft=True)
    assert exact.shape == (48, 36, 3)
    assert draft.shape[0] == 48
    assert abs(draft.shape[1] - 36) <= 1
    assert np.abs(exact[:, :36] - draft[:, :36]).mean() < 0.02
    np.testing.assert_array_equal(load_image(path, draft=True), load_image(path))
    # Without `size`, and in modes that cannot be reduced, it is decoded whole.
    assert (max(decoded[1]) < 150) == reduced
    assert decoded[0] == decoded[2] == decoded[3] == (304, 400)
