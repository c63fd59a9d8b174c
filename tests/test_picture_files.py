"""What picture files are besides pixels of sRGB: other formats, opacity, resolution, 16 bits."""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from jaxstyle.io.errors import InputError
from jaxstyle.io.image_alpha import on_white
from jaxstyle.io.image_pixels import srgb_profile
from jaxstyle.io.image_writer import check_extension, encode_image, save_image
from jaxstyle.io.images import load_image, read_picture, read_shape
from jaxstyle.io.ownership import is_ours


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x % 256, 6 * y % 256, 2 * (x + y) % 256], -1).astype(np.uint8)


def fails(path: Path, match: str) -> None:
    for read in (load_image, read_shape):
        with pytest.raises(InputError, match=match) as caught:
            read(path)
        assert str(caught.value).isprintable()
        assert "; " in str(caught.value), "what is wrong; what to do"


# --- other formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.avif", "x.jpg"])
def test_avif_under_any_name(tmp_path: Path, name: str) -> None:
    pixels = smooth(24, 36)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    (tmp_path / name).write_bytes(buffer.getvalue())
    assert read_shape(tmp_path / name) == (36, 24)
    image = load_image(tmp_path / name)
    assert np.abs(image - np.rot90(pixels, -1) / 255).mean() < 0.02
    (tmp_path / name).write_bytes(buffer.getvalue()[:-200])
    with pytest.raises(InputError, match="damaged"):
        load_image(tmp_path / name)


def test_avif_of_too_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jaxstyle.io.images as images_module

    Image.new("RGB", (40, 30)).save(tmp_path / "x.avif")
    monkeypatch.setattr(images_module, "MAX_PIXELS", 1000)
    fails(tmp_path / "x.avif", "million pixels; make the image smaller")


@pytest.mark.parametrize("name", ["x.heic", "x.jpg"])
def test_heic_under_any_name(tmp_path: Path, name: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    pixels = smooth(48, 64)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = 6, 300.0, 200.0, 2
    before = set(Image.OPEN)
    made = pillow_heif.from_pillow(Image.fromarray(np.dstack([pixels, pixels[..., 1]])))
    made.save(tmp_path / name, format="HEIF", quality=100, chroma=444, exif=exif.tobytes())
    assert read_shape(tmp_path / name) == (64, 48)
    image, alpha, dpi = read_picture(tmp_path / name)
    assert alpha is not None
    visible = np.rot90(pixels, -1)[..., 1] > 128
    assert np.abs(image - np.rot90(pixels, -1) / 255)[visible].mean() < 0.03
    assert dpi == (200, 300)
    assert set(Image.OPEN) == before, "Pillow is as it was"


def test_heic_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"mif1", b"hevc"):
        head = b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic"
        (tmp_path / "x.jpg").write_bytes(head + bytes(2000))
        fails(tmp_path / "x.jpg", r"HEIC photo: run pip install 'jaxstyle\[heif\]' to read it; ")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize("part", ["references", "groups", "description", "boxes"])
def test_heic_whose_parts_would_be_copied_often(tmp_path: Path, part: str) -> None:
    described = struct.pack(">HH", 1, 500) + bytes(1000)
    content = {
        "references": box(b"iref", bytes(4) + box(b"cdsc", described)),
        "groups": box(b"grpl", bytes(5000)),
        "description": box(b"free", bytes(2**22)),
        "boxes": box(b"free", b"") * 2000,
    }[part]
    head = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    (tmp_path / "x.heic").write_bytes(head + box(b"meta", bytes(4) + content))
    fails(tmp_path / "x.heic", "too many small parts")


STRANGERS = {
    "PDF document": b"%PDF-1.7\n",
    "Photoshop document": b"8BPS\0\1",
    "JPEG XL image": b"\xff\x0a\xfa\x1f",
    "JPEG XL image ": b"\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG 2000 image": b"\0\0\0\x0cjP  \r\n\x87\n",
    "Windows icon": b"\0\0\1\0\1\0\x20\x20",
    "OpenEXR image": b"v/1\1\2\0\0\0",
    "SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">',
    "SVG drawing ": b"\xef\xbb\xbf<svg>",
    "video file; export one of its frames": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "video file; export one of its frames ": b"\0\0\1\0ftypqt  \0\0\2\0",
    "video file; export one of its frames  ": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81",
    "video file; export one of its frames   ": b"RIFF\0\0\1\0AVI LIST",
    "ZIP archive, or a document that is one; unpack": b"PK\3\4\x14\0",
    "text file; check the path": b'{"error": "not found"}\n' * 9,
    "zero bytes": bytes(3000),
    "macOS file of attributes": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "PNM image": b"P6\n4 4\n255\n",
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_are_named(tmp_path: Path, kind: str) -> None:
    padding = b"" if kind.startswith("text") else bytes(600)
    (tmp_path / "x.jpg").write_bytes(STRANGERS[kind] + padding)
    fails(tmp_path / "x.jpg", f"not a PNG, JPEG, WebP.* image but .*{kind.strip()}")


@pytest.mark.parametrize(
    "head",
    [b"II*\0\x10\0\0\0IIII", b"MM\0*\0\0\0\x10MMMM", b"\0\0\0\x18ftypisom\0\0\0\1crx isom"],
)
def test_raw_files_under_other_names(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(head + bytes(1000))
    fails(tmp_path / "x.jpg", "camera's raw file; export it as JPEG or 16-bit TIFF")


def test_an_unknown_file_with_a_raw_files_name(tmp_path: Path) -> None:
    (tmp_path / "x.rw2").write_bytes(b"unheard of\xff" + bytes(1000))
    fails(tmp_path / "x.rw2", "camera's raw file")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.nef", "JPEG")
    assert load_image(tmp_path / "x.nef").shape == (8, 8, 3)


@pytest.mark.parametrize("extension", ["gif", "webp", "png", "avif"])
def test_of_an_animation_the_first_frame_is_read_and_that_is_said(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (16, 16), (200, 40 * i, 0)) for i in range(3)]
    path = tmp_path / f"x.{extension}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(load_image(path)[8, 8], [200 / 255, 0, 0], atol=0.03)
    assert [record.message for record in caplog.records] == [
        f"'{path}': it is animated; its first frame is read"
    ]
    caplog.clear()
    frames[0].save(path)
    load_image(path)
    assert not caplog.records


def test_half_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        buffer, "JPEG"
    )
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(InputError, match=r"damaged: its end is missing; copy or download"):
        load_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "HEIF"])
def test_messages_about_stubs_quote_no_library(tmp_path: Path, kind: str) -> None:
    buffer, image = io.BytesIO(), Image.fromarray(smooth(48, 64))
    if kind == "HEIF":
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        image = heif.from_pillow(image)
    image.save(buffer, format=kind)
    data, path = buffer.getvalue(), tmp_path / "x"
    said = set()
    for length in (16, 40, 100, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(InputError) as caught:
            load_image(path)
        said.add(str(caught.value).removeprefix(f"'{path}' "))
    assert said <= {
        "is damaged: its end is missing; copy or download it again",
        "is damaged or of an unusual kind; save it again as PNG or JPEG",
        "is not a PNG, JPEG, WebP, TIFF, AVIF, BMP or GIF image that can be read; save it again as "
        "PNG or JPEG",
    }
    assert kind != "HEIF" or "is damaged: its end is missing; copy or download it again" in said


# --- opacity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 20, 70])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_hidden_does_not_show(tmp_path: Path, mode: str, size: int | None) -> None:
    """Colors below transparency change nothing: neither those of the picture nor its edge."""
    rng = np.random.default_rng(0)
    color = smooth(40, 50)[..., : len(mode) - 1]
    alpha = np.zeros((40, 50, 1), np.uint8)
    alpha[10:30, 5:40] = 255
    alpha[10:30, 20:25] = 128
    found = []
    for hidden in (0, 255, rng.integers(0, 256, color.shape)):
        pixels = np.concatenate([np.where(alpha > 0, color, hidden), alpha], -1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        found.append(read_picture(tmp_path / "x.png", size=size))
    for other in found[1:]:
        np.testing.assert_array_equal(other.image, found[0].image)
        np.testing.assert_array_equal(other.alpha, found[0].alpha)
    if size is None:
        visible = alpha[..., 0] > 0
        expected = np.broadcast_to(color / 255, found[0].image.shape)
        np.testing.assert_allclose(found[0].image[visible], expected[visible], atol=1e-6)
        np.testing.assert_allclose(found[0].alpha, alpha[..., 0] / 255, atol=1e-6)


@pytest.mark.parametrize("size", [None, 30, 100])
def test_a_cut_out_of_one_color_has_that_color_everywhere(tmp_path: Path, size: int | None) -> None:
    """So no fringe appears on any background, at any size, however soft the edge."""
    y, x = np.mgrid[:60, :80]
    alpha = np.clip(255 * (1.2 - np.hypot((x - 40) / 30, (y - 30) / 20)) * 4, 0, 255)
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[..., 3] = alpha
    pixels[alpha >= 1] = [*(200, 100, 50), 0] + pixels[alpha >= 1] * [0, 0, 0, 1]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image, opacity, _ = read_picture(tmp_path / "x.png", size=size)
    assert opacity is not None
    assert opacity.min() == 0
    expected = np.broadcast_to(np.float32([200, 100, 50]) / 255, image.shape)
    np.testing.assert_allclose(image, expected, atol=1e-4)


def test_a_resized_edge_has_no_second_one(tmp_path: Path) -> None:
    pixels = np.full((90, 90, 4), 255, np.uint8)
    pixels[:, :45, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    _, alpha, _ = read_picture(tmp_path / "x.png", size=31)
    assert alpha is not None
    assert (np.diff(alpha[0]) >= 0).all()


def test_opaque_pictures_are_those_of_load_image(tmp_path: Path) -> None:
    Image.fromarray(smooth(20, 30)).save(tmp_path / "x.png")
    image, alpha, dpi = read_picture(tmp_path / "x.png", shape=(11, 12))
    assert image.shape == (11, 12, 3)
    assert alpha is None
    assert dpi is None
    np.testing.assert_array_equal(
        read_picture(tmp_path / "x.png", size=9).image, load_image(tmp_path / "x.png", size=9)
    )


@pytest.mark.parametrize("extension", ["png", "webp", "tif", "avif"])
def test_opacity_is_written(tmp_path: Path, extension: str) -> None:
    rng = np.random.default_rng(0)
    image, alpha = rng.random((9, 12, 3), np.float32), rng.random((9, 12), np.float32)
    path = tmp_path / f"x.{extension}"
    save_image(path, image, alpha=alpha)
    with Image.open(path) as file:
        found = np.asarray(file.convert("RGBA")) / 255
    exact = extension != "avif"
    np.testing.assert_allclose(found[..., 3], alpha, atol=0.503 / 255 if exact else 0.02)
    if exact:
        np.testing.assert_allclose(found[..., :3], image, atol=0.503 / 255)
    assert is_ours(path)


def test_in_a_jpeg_transparent_parts_are_white(tmp_path: Path) -> None:
    image, alpha = np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.float32)
    alpha[:, 8:] = 0.5
    save_image(tmp_path / "x.jpg", image, alpha=alpha)
    expected = on_white(image, alpha)
    np.testing.assert_allclose(load_image(tmp_path / "x.jpg"), expected, atol=0.03)
    with pytest.raises(InputError, match="alpha has shape"):
        encode_image("x.png", image, alpha=alpha[:3])
    with pytest.raises(InputError, match="holds NaN"):
        encode_image("x.png", image, alpha=alpha * np.nan)


# --- profile, resolution, 16 bits ---------------------------------------------------------------

WRITTEN = ["png", "jpg", "webp", "tif", "avif"]


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize("dpi", [None, (300.0, 150.0)])
def test_profile_and_resolution_are_written(
    tmp_path: Path, extension: str, dpi: tuple[float, float] | None
) -> None:
    path = tmp_path / f"x.{extension}"
    save_image(path, smooth(9, 12) / np.float32(255), dpi=dpi)
    with Image.open(path) as file:
        assert file.info["icc_profile"] == srgb_profile()
        assert 0x0112 not in file.getexif(), "the pixels are upright"
    assert read_picture(path).dpi == dpi
    assert is_ours(path)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "dpi", [300, (300,), (300, 300, 300), (np.nan, 72), (72, -1), (0, 0), (np.inf, 72), "ab", {}]
)
def test_a_resolution_that_is_none_is_refused(dpi: Any, bits: int) -> None:
    with pytest.raises(InputError, match=r"dpi must be two positive numbers.*; try \(300, 300\)"):
        encode_image("x.png", np.zeros((2, 2, 3)), dpi=dpi, bits=bits)


@pytest.mark.parametrize("name", [*(f"x.{each}" for each in WRITTEN), "16.png", "16.tif"])
def test_a_high_resolution_is_written_or_left_out(name: str) -> None:
    image, bits = np.zeros((2, 2, 3)), 16 if "16" in name else 8
    for dpi in ((90_000.0, 90_000.0), (300.0, 90_000.0)):
        assert read_picture(encode_image(name, image, dpi=dpi, bits=bits)).dpi == dpi
    assert read_picture(encode_image(name, image, dpi=(1e12, 300), bits=bits)).dpi is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_resolution_turns_with_the_pixels(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "x", kind, exif=exif, dpi=(300, 200))
    assert read_picture(tmp_path / "x").dpi == (200, 300)


@pytest.mark.parametrize(("x", "unit"), [(0.0, 2), (1e9, 2), (300.0, 1), (300.0, 7)])
def test_a_resolution_that_is_none_is_ignored(tmp_path: Path, x: float, unit: int) -> None:
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = x, x, unit
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=exif)
    assert read_picture(tmp_path / "x.jpg").dpi is None
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[282], tags[283], tags[296] = x, x, unit
    Image.new("RGB", (8, 4)).save(tmp_path / "x.tif", tiffinfo=tags)
    assert read_picture(tmp_path / "x.tif").dpi is None


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_written(tmp_path: Path, extension: str, with_alpha: bool) -> None:
    """To the nearest of 65536 values, read back by the format's own rules, in NumPy."""
    rng = np.random.default_rng(0)
    image, alpha = rng.random((900, 200, 3), np.float32), rng.random((900, 200), np.float32)
    options: dict[str, Any] = {"alpha": alpha} if with_alpha else {}
    path = tmp_path / f"x.{extension}"
    save_image(path, image, bits=16, dpi=(300, 300), **options)
    planes = np.dstack([image, alpha]) if with_alpha else image
    expected = np.rint(planes.astype(np.float64) * 65535)
    read = read_sixteen_bit_png if extension == "png" else read_sixteen_bit_tiff
    np.testing.assert_array_equal(read(path.read_bytes(), planes.shape), expected)
    assert is_ours(path)
    found = read_picture(path)
    assert found.dpi == (300, 300)
    with Image.open(path) as file:
        assert file.info["icc_profile"] == srgb_profile()
        np.testing.assert_allclose(np.asarray(file), expected / 257, atol=1)


def read_sixteen_bit_png(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    at, chunks = 8, {}
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks[kind] = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        assert check == zlib.crc32(kind + chunks[kind])
        at += 12 + length
    color = {3: 2, 4: 6}[channels]
    assert chunks[b"IHDR"] == struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()  # the difference from the row above
    values = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    return values.view(">u2").reshape(shape)


def read_sixteen_bit_tiff(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    order, version, at = struct.unpack_from("<2sHI", data)
    assert (order, version) == (b"II", 42)
    assert at % 2 == 0
    (number,) = struct.unpack_from("<H", data, at)
    tags = {}
    for entry in range(number):
        tag, kind, count = struct.unpack_from("<HHI", data, at + 2 + 12 * entry)
        code = {2: "B", 3: "H", 4: "I", 5: "II", 7: "B"}[kind] * count
        place = at + 10 + 12 * entry
        if struct.calcsize("<" + code) > 4:
            (place,) = struct.unpack_from("<I", data, place)
        tags[tag] = struct.unpack_from("<" + code, data, place)
    assert list(tags) == sorted(tags)
    height, width, channels = shape
    assert (tags[256], tags[257], tags[258]) == ((width,), (height,), (16,) * channels)
    assert (tags[259], tags[262], tags[277], tags[317]) == ((8,), (2,), (channels,), (2,))
    assert tags.get(338) == (None if channels == 3 else (2,))
    assert (tags[282], tags[296]) == ((30000, 100), (2,))
    strips = [
        zlib.decompress(data[start : start + length])
        for start, length in zip(tags[273], tags[279], strict=True)
    ]
    assert len(strips) == -(-height // tags[278][0]) > 1
    values = np.frombuffer(b"".join(strips), "<u2").reshape(shape)
    return np.cumsum(values, axis=1, dtype=np.uint16)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_other_programs_read_sixteen_bits(tmp_path: Path, extension: str) -> None:
    library = {"png": "png", "tif": "tifffile"}[extension]
    reader = pytest.importorskip(library, reason=f"{library} is not installed")
    image = np.random.default_rng(0).random((30, 40, 3), np.float32)
    path = tmp_path / f"x.{extension}"
    save_image(path, image, bits=16, alpha=image[..., 0])
    if extension == "png":
        with path.open("rb") as file:
            found = np.array(list(reader.Reader(file).read()[2])).reshape(30, 40, 4)
    else:
        found = reader.imread(path)
    expected = np.rint(image.astype(np.float64) * 65535)
    np.testing.assert_array_equal(found[..., :3], expected)
    np.testing.assert_array_equal(found[..., 3], expected[..., 0])


def test_sixteen_bits_need_a_format_that_has_them() -> None:
    for name in ("x.jpg", "x.webp", "x.avif"):
        with pytest.raises(InputError, match=r"has 8 bits for each color; save it as \.png or"):
            check_extension(name, bits=16)
    with pytest.raises(InputError, match="8 or 16 bits"):
        encode_image("x.png", np.zeros((2, 2, 3)), bits=12)
