"""Cut-outs through whole runs: the result keeps their opacity, and what is hidden plays no part."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxstyle.app.batch.pictures import Lane, stack_masks, stack_style_masks
from jaxstyle.app.cli.main import main
from jaxstyle.app.inputs import load_masks, read_source
from jaxstyle.app.job import make_job
from jaxstyle.io import InputError
from jaxstyle.io.images import Picture


@pytest.fixture
def folder(tmp_path, pictures, monkeypatch):
    """A cut-out at 300 dpi, an opaque photo, and a painting with a transparent frame."""
    monkeypatch.chdir(tmp_path)
    for name, seed, shape in (("cut", 0, (48, 64)), ("photo", 1, (48, 64)), ("art", 2, (64, 64))):
        pixels = (255 * pictures(seed, *shape)).astype(np.uint8)
        alpha = np.full(shape, 255, np.uint8)
        if name == "cut":
            alpha[:, :24] = 0
            alpha[:, 24:28] = 100
        elif name == "art":
            alpha[:16], alpha[-8:] = 0, 0
        planes = pixels if name == "photo" else np.dstack([pixels, alpha])
        Image.fromarray(planes).save(f"{name}.png", dpi=(300, 300))
    return tmp_path


def pixels_of(path):
    with Image.open(path) as file:
        return np.asarray(file)


def opacity_of(path):
    with Image.open(path) as file:
        assert file.mode == "RGBA"
        assert round(file.info["dpi"][0]) == 300
        return np.asarray(file)[..., 3]


def test_a_run_keeps_opacity_and_resolution_and_is_repeated(
    folder, params_file, small_recipe, capsys
):
    settings = ["--size", "64", "--steps", "2", "--coarsest", "0", "--recipe", small_recipe]
    settings += ["--params", params_file, "--quiet"]
    arguments = ["stylize", "cut.png", "art.png", *settings]
    more = ["--bits", "16", "--output", "out.tif", "--preview-every", "1", "--report", "page"]
    assert main([*arguments, *more]) == 0
    expected = pixels_of("cut.png")[..., 3]
    np.testing.assert_array_equal(opacity_of("out.tif"), expected)
    np.testing.assert_array_equal(pixels_of("out-0001.tif")[..., 3], expected)
    assert json.loads((folder / "out.json").read_text())["bits"] == 16
    assert capsys.readouterr().err == ""
    assert main(["repeat", "out.json", "--quiet"]) == 0
    assert (folder / "out-again.tif").read_bytes() == (folder / "out.tif").read_bytes()
    # The picture, and its report, on white; the next run starts from the one before.
    assert main([*arguments, "--output", "out.jpg", "--init", "out.tif", "--overwrite"]) == 0
    assert "JPEG has no transparency, so the photo's transparent parts become white" in (
        capsys.readouterr().err
    )
    assert pixels_of("out.jpg")[:, :16].min() > 240


def test_a_batch_keeps_opacity_beside_an_opaque_photo(folder, params_file, small_recipe):
    rows = ["cut.png,art.png,a.webp", "photo.png,art.png,b.png", "photo.png,photo.png,c.png"]
    (folder / "m.csv").write_text("\n".join(["content,style,output", *rows]) + "\n")
    arguments = ["batch", "m.csv", "--output-dir", "out", "--size", "64", "--steps", "1"]
    arguments += ["--coarsest", "0", "--recipe", small_recipe, "--params", params_file, "--quiet"]
    assert main(arguments) == 0
    expected = pixels_of("cut.png")[..., 3]
    np.testing.assert_array_equal(pixels_of("out/a.webp")[..., 3], expected)
    assert pixels_of("out/b.png").shape == (48, 64, 3)
    assert main(["repeat", "out/a.json", "--quiet"]) == 0
    one, other = (pixels_of(path) for path in ("out/a.webp", "a-again.webp"))
    visible = expected > 0
    assert np.abs(one[visible].astype(int) - other[visible]).max() <= 1


def job_with(**options):
    given = {"content": "cut.png", "style": ("art.png",), "output": "x.png", "recipe": "gatys"}
    return make_job(**{**given, **options})


def test_masks_are_cut_where_their_pictures_are_transparent():
    rng = np.random.default_rng(0)
    image = rng.random((20, 20, 3), np.float32)
    alpha = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))
    opaque, clear = Picture(image, None, None), Picture(image, alpha, None)
    job = job_with(size=20)
    assert load_masks(job, opaque, [opaque]) == (None, None)
    masks, style_masks = load_masks(job, clear, [opaque, clear])
    np.testing.assert_array_equal(masks, alpha[None])
    assert style_masks[0] is None
    np.testing.assert_array_equal(style_masks[1], alpha)


def test_masks_given_with_transparency(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = np.zeros((20, 20), np.uint8)
    left[:, :10] = 255
    Image.fromarray(left).save("left.png")
    image, alpha = np.zeros((20, 20, 3), np.float32), np.full((20, 20), 0.5, np.float32)
    job = job_with(mask=("left.png",), style_mask=("left.png",))
    masks, style_masks = load_masks(job, Picture(image, alpha, None), [Picture(image, alpha, None)])
    np.testing.assert_allclose(masks[0], left / 510)
    np.testing.assert_allclose(style_masks[0], left / 510)
    alpha[:, :10] = 0
    with pytest.raises(InputError, match="--mask is white only where the content is transparent"):
        load_masks(job, Picture(image, alpha, None), [Picture(image, None, None)])
    with pytest.raises(InputError, match=r"--style-mask .* is white only where its style"):
        load_masks(job, Picture(image, None, None), [Picture(image, alpha, None)])


def test_a_picture_of_nothing_is_refused(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(path)
    for what in ("content", "style"):
        with pytest.raises(InputError, match=f"{what} .* is transparent everywhere"):
            read_source(job_with(), path, what, 64)


def test_lanes_without_masks_beside_those_with():
    def lane(masks, style_masks):
        image = np.zeros((4, 5, 3), np.float32)
        return Lane(image, (image, image), masks, style_masks, (4, 5), None, None)

    half = np.full((4, 5), 0.5, np.float32)
    plain, clear = lane(None, None), lane(half[None], (None, half))
    assert stack_masks([plain, plain]) is None
    assert stack_style_masks([plain, plain]) is None
    np.testing.assert_array_equal(stack_masks([plain, clear])[:, 0, 0, 0], [1, 0.5])
    first, second = stack_style_masks([clear, plain])
    assert first is None
    np.testing.assert_array_equal(second[:, 0, 0], [0.5, 1])
