"""The live page, in a real Chromium and over its API: `make test-web`."""

import dataclasses
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle.app.working_size import MULTIPLE, crop, cropped_shape, pad, padded_shape

pytestmark = pytest.mark.web

pytest.importorskip("gradio", reason="no Gradio: pip install '.[web]'")
httpx = pytest.importorskip("httpx")

from jaxstyle.app.web.sessions import TERMS  # noqa: E402

SIZE = 64
MAX_UPLOAD = 1_000_000


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def start(port, params_file, folder, log, *options):
    """Starts the program, with `folder` for temporary files; returns it when it serves."""
    command = [
        sys.executable, "-m", "jaxstyle", "serve", "--port", str(port), "--params", params_file,
        "--max-size", "96", "--max-steps", "400", "--max-upload", "1", *options,
    ]  # fmt: skip
    # A proxy, where there is one, is none of its business.
    environment = {**os.environ, "TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"}
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, cwd=folder, env=environment)
    while "serving on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    return process


@pytest.fixture(scope="session")
def server(tmp_path_factory, params_file):
    folder = tmp_path_factory.mktemp("serve")
    log = tmp_path_factory.mktemp("log") / "log.txt"
    port = free_port()
    process = start(port, params_file, folder, log)
    yield f"http://127.0.0.1:{port}"
    end(process, folder, log)


def end(process, folder, log):
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
    assert "Traceback" not in log.read_text()
    assert list(folder.iterdir()) == []


@pytest.fixture
def visit(browser, server):
    """Opens the page as a new visitor; at the end, no request has left this machine."""
    contexts, asked = [], []

    def open_page(width=1280, height=900):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server)
        page.wait_for_selector("#paint")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked
    for url in asked:
        assert url.startswith((f"{server}/", "data:", "blob:")), url


def choose(page, name, path):
    page.set_input_files(f"#{name} input[type=file]", path)
    page.wait_for_selector(f"#{name} img[src*='{name}-shown.jpg']")


def set_number(page, label, value):
    page.get_by_label(f"number input for {label}").fill(str(value))
    page.keyboard.press("Tab")


def prepare(page, content, style, steps):
    choose(page, "content", content)
    choose(page, "style", style)
    set_number(page, "Size", SIZE)
    set_number(page, "Steps", steps)


def wait_for_status(page, text, seconds=180):
    page.wait_for_function(
        "text => new RegExp(text).test(document.querySelector('#status').innerText)",
        arg=text,
        timeout=1000 * seconds,
    )


def shown(page):
    """The bytes of the picture that the page shows."""
    response = page.request.get(page.get_attribute("#picture img", "src"))
    assert response.ok, response.text()
    return response.body()


def download(page, button):
    with page.expect_download() as waiting:
        page.click(f"#{button}")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def painted(params, content, style, steps, factor=1.0):
    """The same by the library, at multiples of 32 px."""
    recipe = jaxstyle.recipes.DEFAULT
    content, style = (jaxstyle.io.load_image(path, size=SIZE) for path in (content, style))
    result = jaxstyle.stylize(
        params,
        pad(content, padded_shape(content.shape, MULTIPLE)),
        crop(style, cropped_shape(style.shape, MULTIPLE)),
        recipe=recipe,
        weights={"style": factor * recipe.weights["style"]},
        solver=dataclasses.replace(jaxstyle.recipes.DEFAULT.solver, num_steps=steps),
    )
    return result._replace(image=result.image[: content.shape[0], : content.shape[1]])


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image, np.float32) / 255


def test_upload_run_preview_and_download(visit, files, random_params):
    page = visit()
    prepare(page, files[0], files[1], 60)
    page.get_by_text("Weights, times the recipe's").click()
    set_number(page, "Style", 2.5)
    answers = []
    page.on("response", lambda each: answers.append((each.url, each.status)))
    page.click("#paint")
    page.wait_for_selector("#picture img[src*='content-shown.jpg']")  # until there is a better one
    wait_for_status(page, r"step [1-9]\d* of 60")
    first = shown(page)
    wait_for_status(page, r"step [2-5]\d of 60")
    second = shown(page)
    assert first != second
    assert pixels(first).shape == pixels(second).shape == (48, SIZE, 3)
    assert page.locator("#curve img").is_visible()
    wait_for_status(page, "Done after 60 steps")
    assert not [answer for answer in answers if answer[1] >= 400]

    name, png = download(page, "png")
    assert name == "picture0-picture1.png"
    # Rounding grows with every step: the first losses agree, and on the whole the pictures.
    expected = painted(random_params, files[0], files[1], 60, 2.5)
    change = np.abs(expected.image - jaxstyle.io.load_image(files[0])).mean()
    assert np.abs(pixels(png) - expected.image).mean() < change / 2

    name, text = download(page, "json")
    assert name == "picture0-picture1.json"
    metadata = json.loads(text)
    assert metadata["recipe"]["name"] == "default"
    assert metadata["recipe"]["weights"] == {"content": 2.5, "style": 2.5}
    assert metadata["recipe"]["solver"]["num_steps"] == 60
    assert (metadata["content"], metadata["styles"]) == ("picture0.png", ["picture1.png"])
    assert metadata["size"] == [SIZE, 48]
    assert [entry["step"] for entry in metadata["trace"]] == list(range(61))
    losses = [entry["loss"] for entry in metadata["trace"]]
    np.testing.assert_allclose(losses[1:4], expected.trace[:3], rtol=1e-3)
    assert metadata["trace"][-1]["loss"] == metadata["loss"] < metadata["trace"][0]["loss"]
    assert page.locator("#gallery button img").count() == 1

    # Another run of the same visitor joins the first, and the samples can be chosen.
    page.click("#sample-style")
    page.wait_for_function("document.querySelector('#status').innerText.includes('style.png')")
    set_number(page, "Steps", 1)
    page.click("#paint")
    wait_for_status(page, "Done after 1 steps")
    assert download(page, "png")[0] == "picture0-style.png"
    assert page.locator("#gallery button img").count() == 2


def test_cancel_frees_the_device_and_keeps_the_picture(visit, files):
    one, two = visit(), visit()
    prepare(one, files[0], files[1], 400)
    prepare(two, files[0], files[2], 3)
    one.click("#paint")
    wait_for_status(one, r"step [1-9]\d* of 400")
    two.click("#paint")
    wait_for_status(two, "queue: 1/1")
    begin = time.monotonic()
    one.click("#cancel")
    wait_for_status(two, "preparing|step|Done", 3)
    assert time.monotonic() - begin < 3
    wait_for_status(one, r"Cancelled after \d+ steps")
    wait_for_status(two, "Done after 3 steps")

    metadata = json.loads(download(one, "json")[1])
    assert metadata["status"] == "interrupted"
    assert 1 <= metadata["trace"][-1]["step"] < 400
    assert metadata["loss"] < metadata["trace"][0]["loss"]
    assert pixels(download(one, "png")[1]).shape == (48, SIZE, 3)
    assert one.locator("#gallery button img").count() == 1

    # Who is still in the queue leaves it.
    set_number(two, "Steps", 400)
    two.click("#paint")
    wait_for_status(two, r"step [1-9]\d* of 400")
    one.click("#paint")
    wait_for_status(one, "queue: 1/1")
    one.click("#cancel")
    wait_for_status(one, "^(?!.*queue)")
    two.click("#cancel")
    wait_for_status(two, r"Cancelled after \d+ steps")


def test_closing_the_page_frees_the_device(visit, files):
    one, two = visit(), visit()
    prepare(one, files[0], files[1], 400)
    prepare(two, files[0], files[2], 3)
    one.click("#paint")
    wait_for_status(one, r"step [1-9]\d* of 400")
    two.click("#paint")
    wait_for_status(two, "queue: 1/1")
    begin = time.monotonic()
    one.close()
    wait_for_status(two, "preparing|step|Done", 3)
    assert time.monotonic() - begin < 3
    wait_for_status(two, "Done after 3 steps")


def test_three_visitors_at_once_each_get_their_own(visit, files, random_params):
    pages = [visit() for _ in range(3)]
    for page, style in zip(pages, files[1:], strict=False):
        prepare(page, files[0], style, 20)
    for page in pages:
        page.click("#paint")
    for page in pages:
        wait_for_status(page, "Done after 20 steps")
    results = [pixels(download(page, "png")[1]) for page in pages]
    expected = [painted(random_params, files[0], style, 20).image for style in files[1:4]]
    for number, (page, result) in enumerate(zip(pages, results, strict=True)):
        distances = [np.abs(result - each).mean() for each in expected]
        assert np.argmin(distances) == number
        assert page.locator("#gallery button img").count() == 1
    assert np.abs(results[0] - results[1]).max() > 0.1


def test_a_phone_has_room_for_it(visit, files):
    page = visit(390, 844)
    choose(page, "content", files[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("content", "style", "paint", "cancel", "picture", "png", "json"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


def test_recipes_say_what_they_need(visit, files):
    page = visit()
    prepare(page, files[0], files[1], 1)
    field = page.locator("#recipe input")
    field.fill("crowson-w2")
    field.press("Enter")
    page.wait_for_function(
        "document.querySelector('#about').innerText.includes('needs VGG19 weights for torchvision')"
    )
    page.click("#paint")
    wait_for_status(page, "needs VGG19 weights for torchvision")
    # SciPy's solver works.
    field.fill("gokalp-kim")
    field.press("Enter")
    page.wait_for_function("document.querySelector('#about').innerText.includes('Starry Night')")
    page.click("#paint")
    wait_for_status(page, "Done after 1 steps")
    metadata = json.loads(download(page, "json")[1])
    assert metadata["recipe"]["name"] == "gokalp-kim"
    assert metadata["num_evaluations"] > 20


def encoded(kind, image):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=None, depth=8, color=0):
    """A PNG whose header says that size."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(bytes(1000)) if data is None else data
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def malformed(pictures):
    """Fifty files that are no pictures, or no longer."""
    image = Image.fromarray((255 * pictures(0, 48, 64)).astype(np.uint8))
    whole = {kind: encoded(kind, image) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")}
    rng = np.random.default_rng(0)
    for kind, data in whole.items():
        for part in (1, 3, 10, len(data) // 3, len(data) // 2):
            yield f"{kind} cut to {part}", data[:part]
    first = whole["PNG"]
    yield "text", b"This is not a picture.\n" * 20
    yield "html", b"<!doctype html><html><script>alert(1)</script></html>"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
    yield "pdf", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
    yield "zip", b"PK\x03\x04" + bytes(100)
    yield "elf", b"\x7fELF\x02\x01\x01" + bytes(100)
    yield "mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(100)
    yield "json", b'{"path": "/etc/passwd"}'
    yield "utf-16", "no picture".encode("utf-16")
    yield "zeros", bytes(5000)
    yield "noise", rng.bytes(5000)
    yield "ppm", b"P6\n2 2\n255\n" + bytes(12)
    yield "ico", encoded("ICO", image)
    yield "zero width", png(0, 48)
    yield "huge", png(60_000, 60_000)
    yield "wider than can be", png(2**31 - 1, 1)
    yield "bomb", png(20_000, 20_000, zlib.compress(bytes(20_000 * 2501), 9), depth=1)
    yield "too many pixels", png(13_400, 13_400, zlib.compress(bytes(13_400 * 1676), 9), depth=1)
    yield "broken zlib", png(64, 48, b"nothing that zlib knows")
    yield "wrong checksum", first[:20] + bytes([first[20] ^ 1]) + first[21:]


def test_fifty_malformed_uploads(visit, files, pictures):
    page = visit()
    kinds = list(malformed(pictures))
    assert len(kinds) == 50
    for number, (kind, data) in enumerate(kinds):
        name = f"upload{number}.png"
        page.set_input_files(
            "#content input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data}
        )
        # One line that names the file and says what is wrong, and room for the next.
        page.wait_for_function(
            "name => document.querySelector('#status .problem')?.innerText.includes(name)",
            arg=name,
        )
        message = page.inner_text("#status .problem")
        assert "\n" not in message, kind
        assert "/" not in message, (kind, message)
        page.wait_for_selector("#content input[type=file]", state="attached")
    page.click("#paint")
    wait_for_status(page, "choose a photo and a painting")
    # Nor does anything stay of a picture that is taken away again.
    choose(page, "content", files[0])
    choose(page, "style", files[1])
    page.get_by_label("Remove Image").first.click()
    page.wait_for_selector("#content img", state="detached")
    page.click("#paint")
    wait_for_status(page, "choose a photo and a painting")

    # Nothing in it, too large, and of another type: Gradio itself refuses them.
    for name, kind, data in (
        ("empty.png", "image/png", b""),
        ("large.png", "image/png", png(10, 10) + bytes(MAX_UPLOAD + 1)),
        ("page.html", "text/html", b"<html></html>"),
    ):
        page.reload()
        page.wait_for_selector("#paint")
        page.set_input_files(
            "#content input[type=file]", {"name": name, "mimeType": kind, "buffer": data}
        )
        page.locator(".toast-body, #status .problem").first.wait_for()

    page.reload()
    page.wait_for_selector("#paint")
    prepare(page, files[0], files[1], 2)
    page.click("#paint")
    wait_for_status(page, "Done after 2 steps")


class Client:
    """Calls the page's API as a program would, past its sliders."""

    def __init__(self, server):
        self.http = httpx.Client(base_url=f"{server}/gradio_api", timeout=120, trust_env=False)
        self.json = {"Content-Type": "application/json"}
        config = httpx.get(f"{server}/config", trust_env=False).json()
        self.functions = {each["api_name"]: each["id"] for each in config["dependencies"]}
        self.session = os.urandom(8).hex()

    def upload(self, data, name="picture.png"):
        return self.http.post("/upload", files={"files": (name, data)})

    def call(self, name, *values):
        """Returns the last message, or the answer of a call that is refused."""
        body = {
            "fn_index": self.functions[name],
            "data": list(values),
            "session_hash": self.session,
        }
        answer = self.http.post("/queue/join", content=json.dumps(body), headers=self.json)
        if answer.status_code != 200:
            return answer
        with self.http.stream("GET", f"/queue/data?session_hash={self.session}") as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("msg") == "process_completed":
                    return message
        raise AssertionError("no end")

    def choose(self, name, data):
        (path,) = self.upload(data).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        message = self.call(name, file, None)
        assert message["success"], message
        return path


@pytest.fixture
def client(server):
    client = Client(server)
    yield client
    client.http.close()


def test_numbers_out_of_range_are_refused(client, files):
    client.choose("content", files[0].read_bytes())
    client.choose("style", files[1].read_bytes())
    good = {"recipe": "default", "size": SIZE, "steps": 1, "color": "style", "strength": 1}
    others = [1] * (len(TERMS) - 2)
    weights = [1, 1, *others]

    def refused(pattern, **changed):
        settings = {**good, "weights": weights, **changed}
        message = client.call("paint", None, *list(settings.values())[:5], *settings["weights"],
                              )  # fmt: skip
        assert not message["success"]
        assert re.search(pattern, message["output"]["error"]), message

    for value in (0, 63, 97, -1, 1e9, 64.5, "64", None, True, [64], float("inf"), float("nan")):
        refused("size: give", size=value)
    for value in (0, 401, -5, 1.5, "1", None):
        refused("steps: give", steps=value)
    for value in (-1, 10.5, 1e300, "1", None, float("nan")):
        refused("weight of style: give", weights=[1, value, *others])
    for value in ("", "../default", "recipe.json", "seamless", 3, None, ["default"]):
        refused("unknown recipe", recipe=value)
    for value in ("", "blue", None, ["style"]):
        refused("unknown colors", color=value)
    for value in (-0.1, 2.5, "1", None, float("nan")):
        refused("strength: give", strength=value)
    refused("all terms", weights=[0, 0, *others])
    # As it stands, it is good.
    assert client.call("paint", None, *good.values(), *weights)["success"]


def test_only_uploaded_files_are_read(client, files):
    path = client.choose("content", files[0].read_bytes())
    repository = Path(__file__).parent.parent
    meta = {"meta": {"_type": "gradio.FileData"}}
    (other,) = client.upload(files[1].read_bytes()).json()
    for foreign in (
        "/etc/passwd",
        str(repository / "README.md"),
        str(repository / "jaxstyle" / "app" / "samples" / "content.png"),
        str(files[0]),
        f"{Path(path).parent}/../../../{files[0].name}",
        str(Path(path).parent.parent),
        "http://127.0.0.1:9/picture.png",
        "https://example.com/picture.png",
        "file:///etc/passwd",
        "\0",
        "",
        3,
        None,
    ):
        for file in ({"path": foreign, **meta}, {"path": other, **meta, "more": {"path": foreign}}):
            answer = client.call("content", file, None)
            assert answer.status_code == 403, (foreign, answer)
            assert "upload it first" in answer.json()["detail"]
    nothing = client.call("content", {"url": "data:image/png;base64,AAAA", **meta}, None)
    assert "nothing was uploaded" in nothing["output"]["data"][1]
    assert client.http.post("/queue/join", content="[" * 50_000).status_code == 400
    assert client.http.post("/queue/join", content='"' + "x" * 200_000 + '"').status_code == 413


def test_only_results_are_served(server, client, files):
    path = client.choose("content", files[0].read_bytes())
    get = client.http.get
    assert get(f"/file={path}").content == files[0].read_bytes()
    repository = Path(__file__).parent.parent
    for foreign in (
        "/etc/passwd",
        "/etc%2Fpasswd",
        f"{repository}/README.md",
        f"{repository}/pyproject.toml",
        "README.md",
        f"{Path(path).parent}/../../../../../../../../etc/passwd",
        f"{Path(path).parent}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        str(Path(path).parent.parent),
        "http://127.0.0.1:9/",
        "https://example.com/",
    ):
        assert get(f"/file={foreign}").status_code in (403, 404), foreign
    for other in ("/proxy=https://example.com/", "/file/etc/passwd", "/openapi.json", "/runs",
                  "/vibe-code", "/component_server", "/run/paint", "/call/paint"):  # fmt: skip
        assert get(other).status_code == 404
        assert client.http.post(other, json={}).status_code == 404
    for page in ("/docs", "/monitoring", "/monitoring/summary", "/../etc/passwd"):
        assert httpx.get(server + page, trust_env=False).status_code == 404
    # Neither another site's page nor its name gets at it.
    strange = httpx.get(server, headers={"Host": "example.com"}, trust_env=False)
    assert strange.status_code == 403
    answer = httpx.get(server, headers={"Origin": "https://example.com"}, trust_env=False)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    upload = {"files": {"files": ("x.png", files[0].read_bytes())}}
    for headers in ({"Origin": "https://example.com"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.http.post("/upload", **upload, headers=headers).status_code == 403
    answer = httpx.get(server, trust_env=False)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_it_within_a_run(number, code, tmp_path, params_file, files):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    log = tmp_path / "log.txt"
    port = free_port()
    process = start(port, params_file, temporary, log)
    client = Client(f"http://127.0.0.1:{port}")
    client.choose("content", files[0].read_bytes())
    client.choose("style", files[1].read_bytes())
    body = {
        "fn_index": client.functions["paint"],
        "data": [None, "default", SIZE, 400, "style", *[1] * (1 + len(TERMS))],
        "session_hash": client.session,
    }
    assert client.http.post("/queue/join", json=body).status_code == 200
    client.http.close()
    time.sleep(1.5)  # it compiles, or makes steps
    process.send_signal(number)
    assert process.wait(15) == code
    assert "Traceback" not in log.read_text()
    assert list(temporary.iterdir()) == []


def test_a_port_that_is_taken(params_file, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "jaxstyle", "serve", "--port", str(port),
             "--params", params_file],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot serve on 127.0.0.1:{port} (")
    assert done.stderr.count("\n") == 1
