"""What the page keeps of a visitor: pictures reduced on arrival, few results, few sizes."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.web

pytest.importorskip("gradio", reason="no Gradio: pip install '.[web]'")

from jaxstyle.app.vgg import vgg_of  # noqa: E402
from jaxstyle.app.web import page, runs, sessions  # noqa: E402
from jaxstyle.app.web.sessions import Options, Session, add_result, choose  # noqa: E402
from jaxstyle.io import InputError  # noqa: E402

ONES = [1] * len(sessions.TERMS)  # the factors of the loss weights


@pytest.fixture
def options(tmp_path, params_file):
    return Options(
        folder=tmp_path / "served", weights={"caffe": params_file}, max_size=96, max_steps=9,
        max_upload=10**6, max_disk=10**7, max_waiting=3,
    )  # fmt: skip


@pytest.fixture
def upload(options):
    def upload(name, height, width, **settings):
        path = options.folder / "uploaded" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:height, :width]
        waves = np.stack([np.sin(x / 50), np.cos(y / 40), np.sin((x + y) / 60)], -1)
        Image.fromarray((127 + 100 * waves).astype(np.uint8)).save(path, **settings)
        return path

    return upload


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["large.jpg", "large.png"])
def test_a_large_picture_is_reduced_on_arrival(name, options, upload, monkeypatch):
    monkeypatch.setattr(sessions, "_REDUCED_PIXELS", 800 * 600 - 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    large, session = upload(name, 600, 800, exif=exif), Session()
    with Image.open(large) as image:
        original = image.transpose(Image.Transpose.ROTATE_270).resize((144, 192))
    shown, status = choose("content", large, session, options)
    assert status == f"{name}: 600x800 px, reduced to 144x192 px"
    assert session.content.name == "large.png"
    with Image.open(session.content) as kept, Image.open(shown) as thumbnail:
        assert kept.size == thumbnail.size == (144, 192)
        assert np.abs(np.asarray(kept, float) - np.asarray(original, float)).mean() < 3
    assert large.exists()  # another visitor may have sent the same picture
    other = Session()
    assert choose("content", large, other, options)[1] == status
    # One that is not large stays as it is.
    small = upload("small.png", 599, 800)
    assert choose("style", small, session, options)[1] == "small.png: 800x599 px"
    assert session.style.read_bytes() == small.read_bytes()


def test_nothing_stays_of_a_refused_picture(options, upload, monkeypatch):
    monkeypatch.setattr(sessions.gr, "Warning", lambda *arguments, **settings: None)
    path, session = upload("broken.png", 100, 200), Session()
    path.write_bytes(path.read_bytes()[:200])
    before = files_in(options.folder)
    shown, status = choose("content", path, session, options)
    assert (shown, session.content) == (None, None)
    assert "broken.png" in status
    assert str(options.folder) not in status
    assert files_in(options.folder) == before
    full = dataclasses.replace(options, max_disk=1)
    assert "no room" in choose("content", upload("a.png", 9, 9), session, full)[1]


@pytest.mark.parametrize("letter", ["x", "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL A}", "\u00e9"])
def test_long_names_are_shortened(letter, options, upload):
    session, most = Session(), 251 // len(letter.encode())
    for name in ("content", "style"):
        file = upload(f"{letter * most}.png", 64, 64)
        assert choose(name, file, session, options)[0] is not None
        assert len(getattr(session, name).name.encode()) <= 64
    job = sessions.make_session_job(options, session, "default", 64, 1, "style", 1, *ONES)
    assert len(job.output.name.encode()) <= 125
    job.output.write_bytes(b"1")


def test_messages_do_not_name_the_folder_of_the_server(options):
    session = Session(folder=options.folder / "visit-1f")
    inside = session.folder / "0a1b" / "my picture.png"
    assert sessions.plain(f"cannot write '{inside}'", session) == "cannot write 'my picture.png'"
    assert str(options.folder) not in sessions.plain(f"{options.folder} is full", session)


def test_a_visitor_has_few_results(options, monkeypatch):
    monkeypatch.setattr(sessions, "_RESULTS", 3)
    session = Session()
    for number in range(5):
        shown = options.folder / str(number) / "shown"
        shown.mkdir(parents=True)
        (shown / "preview.jpg").write_bytes(b"1")
        (shown.parent / "a.png").write_bytes(b"1")
        add_result(session, shown.parent / "a.png", str(number))
        assert (shown / "preview.jpg").exists()  # a browser may still be loading it
    assert [caption for _, caption in session.results] == ["4", "3", "2"]
    left = {str(path.relative_to(options.folder)) for path in files_in(options.folder)}
    assert left == {"2/a.png", "3/a.png", "4/a.png", "4/shown/preview.jpg"}


def test_sizes_are_in_steps(options, upload):
    session = Session()
    for name in ("content", "style"):
        choose(name, upload(f"{name}.png", 48, 64), session, options)
    settings = ["default", 64, 1, "style", 1, *ONES]
    job = sessions.make_session_job(options, session, *settings)
    assert (job.size, job.multiple_of) == (64, 32)
    for size in (65, 80, 95):
        with pytest.raises(InputError, match="size: give a multiple of 32, such as 64"):
            sessions.make_session_job(options, session, "default", size, *settings[2:])
    # A picture that was removed in the meantime, since nobody has used it for long.
    session.content.unlink()
    with pytest.raises(InputError, match="choose a photo and a painting"):
        sessions.make_session_job(options, session, *settings)


def test_each_term_of_a_recipe_has_a_slider(options, upload):
    session = Session()
    for name in ("content", "style"):
        choose(name, upload(f"{name}.png", 48, 64), session, options)
    factors = [1 + number / 8 for number in range(len(sessions.TERMS))]
    own = dict(zip(sessions.TERMS, factors, strict=True))
    for name, recipe in sessions.OFFERED.items():
        if vgg_of(recipe).preprocessing not in options.weights:
            continue
        job = sessions.make_session_job(options, session, name, 64, 1, "style", 0.5, *factors)
        expected = {term: own[term] * weight for term, weight in recipe.weights.items()}
        assert dict(job.recipe.weights) == pytest.approx(expected)
        assert job.recipe.strength == 0.5
        _, *sliders = page._on_recipe(name, options)
        shown = [term for term, each in zip(sessions.TERMS, sliders, strict=True) if each.visible]
        assert sorted(shown) == sorted(recipe.weights)
    for strength in (-0.1, 2.1, "1", None, True, float("nan")):
        with pytest.raises(InputError, match="strength: give a number from 0 to 2"):
            sessions.make_session_job(options, session, name, 64, 1, "style", strength, *ONES)


def test_jax_forgets_after_a_few_sizes(options, upload, monkeypatch):
    cleared = []
    monkeypatch.setattr(runs, "_SIZES", 2)
    monkeypatch.setattr(runs, "_painted", set())
    monkeypatch.setattr(runs.jax, "clear_caches", lambda: cleared.append(len(runs._painted)))
    session = Session()
    choose("style", upload("style.png", 64, 64), session, options)
    # At a long edge of 64, all but two have the same multiples of 32 px.
    for number, height in enumerate((40, 50, 50, 20, 90, 200)):
        choose("content", upload(f"{number}.png", height, 64), session, options)
        job = sessions.make_session_job(options, session, "default", 64, 1, "style", 1, *ONES)
        runs._forget_old_sizes(job)
        assert len(cleared) == (number >= 5)
    assert cleared == [3]


def test_a_reduced_picture_keeps_its_transparency(options, upload, monkeypatch):
    monkeypatch.setattr(sessions, "_REDUCED_PIXELS", 1000)
    path, session = upload("cut-out.png", 400, 600), Session()
    with Image.open(path) as image:
        image.putalpha(Image.new("L", (600, 400), 255))
        image.paste((0, 0, 0, 0), (0, 0, 300, 400))
        image.save(path)
    shown, _ = choose("content", path, session, options)
    with Image.open(session.content) as kept, Image.open(shown) as thumbnail:
        alpha = np.asarray(kept.getchannel("A"))
        assert (alpha[:, :90].max(), alpha[:, 102:].min()) == (0, 255)
        assert np.asarray(thumbnail)[:, :90].min() > 245  # on white
