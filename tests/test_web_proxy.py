"""The live page behind nginx, which ends TLS, under a path: `make test-web`."""

import getpass
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.web

test_web = pytest.importorskip("test_web", reason="no Gradio or Playwright: make test-web")
httpx = pytest.importorskip("httpx")
from test_web import (  # noqa: E402
    SIZE,
    choose,
    download,
    end,
    free_port,
    pixels,
    prepare,
    set_number,
    start,
    wait_for_status,
)

NAME = "paint.example.org"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
GUIDE = Path(__file__).parent.parent / "scripts" / "docs" / "web.md"

# The page, and websites that show it in a frame. The guide's location is put into each.
CONFIGURATION = """
user {user}; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; default_type text/html;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 127.0.0.1:{ports[0]} ssl; server_name paint.example.org; {location} }}
  server {{ listen 127.0.0.1:{ports[1]} ssl; server_name paint.example.org; {unbuffered} }}
  server {{
    listen 127.0.0.1:{ports[0]} ssl; server_name blog.example.org evil.example.org;
    return 200 '<iframe src="https://paint.example.org:{ports[0]}/paint/" height=900></iframe>';
  }}
}}
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory, params_file):
    """Two addresses of the page: by the guide's example; without buffers and the path removed."""
    if NGINX is None:
        pytest.skip("no nginx: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    temporary = tmp_path_factory.mktemp("behind")
    log = tmp_path_factory.mktemp("log") / "log.txt"
    page, *ports = free_port(), free_port(), free_port()
    process = start(
        page, params_file, temporary, log,
        *("--root-path", "/paint", "--allow-host", NAME, "--allow-host", "blog.example.org"),
    )  # fmt: skip
    (location,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert "http://127.0.0.1:7860;" in location
    location = location.replace("127.0.0.1:7860", f"127.0.0.1:{page}")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    unbuffered = location.replace(f":{page};", f":{page}/; proxy_buffering off;")
    unbuffered = unbuffered.replace("client_max", "proxy_request_buffering off; client_max")
    (folder / "nginx.conf").write_text(
        CONFIGURATION.format(
            user=getpass.getuser(),
            folder=folder,
            ports=ports,
            location=location,
            unbuffered=unbuffered,
        )
    )
    errors = (folder / "out.txt").open("w")
    nginx = subprocess.Popen([NGINX, "-p", folder, "-c", "nginx.conf"], stderr=errors)
    while not (folder / "pid").exists():
        assert nginx.poll() is None, (folder / "out.txt").read_text()
        time.sleep(0.1)
    yield [f"https://{NAME}:{port}/paint" for port in ports]
    nginx.terminate()
    nginx.wait(15)
    errors.close()
    end(process, temporary, log)


@pytest.fixture
def visit(browser, proxied):
    """Opens the page, or another one, as a new visitor."""
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(120_000)

    def visit(url):
        page = context.new_page()
        page.goto(url)
        return page

    yield visit
    context.close()


@pytest.mark.parametrize("buffered", [True, False])
def test_upload_run_cancel_and_download(buffered, visit, proxied, files):
    url = proxied[0 if buffered else 1]
    answers = []
    page = visit(f"{url}/")
    page.on("response", lambda each: answers.append((each.url, each.status)))
    page.wait_for_selector("#paint")
    prepare(page, files[0], files[1], 400)
    page.evaluate(
        """() => {
            window.loaded = []
            document.addEventListener('load', event => {
                if (event.target.closest?.('#picture')) window.loaded.push(event.target.src)
            }, true)
        }"""
    )
    page.click("#paint")
    # Each update comes while the run works, not when it has ended.
    wait_for_status(page, r"step [1-9]\d* of 400")
    first = page.inner_text("#status")
    page.wait_for_function(
        "text => document.querySelector('#status').innerText !== text", arg=first
    )
    # The next picture may be on its way just now.
    page.wait_for_function(
        """([height, width]) => {
            const shown = document.querySelector('#picture img')
            return shown.naturalHeight === height && shown.naturalWidth === width
        }""",
        arg=[48, SIZE],
    )
    assert [each.rpartition("/")[2] for each in page.evaluate("window.loaded")][:2] == [
        "content-shown.jpg", "preview-00000.jpg",
    ]  # fmt: skip
    # A second tab waits, and takes its turn when the first one cancels.
    other = visit(f"{url}/")
    other.wait_for_selector("#paint")
    prepare(other, files[0], files[2], 2)
    other.click("#paint")
    wait_for_status(other, "queue: 1/1")
    page.click("#cancel")
    wait_for_status(page, r"Cancelled after \d+ steps")
    wait_for_status(other, "Done after 2 steps")
    assert pixels(download(page, "png")[1]).shape == (48, SIZE, 3)
    assert download(page, "json")[0] == "picture0-picture1.json"
    assert not [answer for answer in answers if answer[1] >= 400]
    assert all(each.startswith(f"{url}/") for each, _ in answers)
    # After a reload in the middle of a run there is a new session, and the device is free.
    set_number(other, "Steps", 400)
    other.click("#paint")
    wait_for_status(other, r"step [1-9]\d* of 400")
    other.reload()
    other.wait_for_selector("#paint")
    prepare(other, files[0], files[1], 2)
    other.click("#paint")
    wait_for_status(other, "Done after 2 steps")


def test_only_an_allowed_website_frames_it(visit, proxied, files):
    site = proxied[0].removesuffix("/paint").replace
    frame = visit(site(NAME, "blog.example.org")).frames[1]
    frame.wait_for_selector("#paint")
    frame.set_input_files("#content input[type=file]", files[0])
    frame.wait_for_selector("#content img[src*='content-shown.jpg']")
    page = visit(site(NAME, "evil.example.org"))
    page.wait_for_timeout(1000)
    assert not page.frames[1].query_selector("#paint")


def test_a_proxy_gets_nothing_that_the_page_does_not_give(proxied, files):
    photo = Path(files[0]).read_bytes()
    for url in proxied:
        address = re.sub(NAME, "127.0.0.1", url)
        with httpx.Client(
            base_url=address, headers={"Host": url.split("/")[2]}, verify=False, trust_env=False
        ) as http:
            # A form without a length: the proxy reads it first, or passes it on as it comes.
            body = (
                b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
                + photo + b"\r\n--x--\r\n"
            )  # fmt: skip
            form = {"Content-Type": "multipart/form-data; boundary=x"}
            post = "/gradio_api/upload"
            answer = http.post(post, content=iter([body[:100], body[100:]]), headers=form)
            assert answer.status_code == 200, answer.text
            (path,) = answer.json()
            assert http.get(f"/gradio_api/file={path}").content == photo
            for _ in range(10):  # the proxy hears every answer
                for path, status in ((post, 413), ("/gradio_api/queue/join", 413), ("/", 404)):
                    parts = [body[:-9], *[bytes(100_000)] * 12, b"\r\n--x--\r\n"]
                    answer = http.post(path, content=iter(parts), headers=form)
                    assert answer.status_code == status
                    if path == post:
                        assert re.search("at most 1 MB|size of 1000000", answer.text)
            for foreign in ("/gradio_api/file=/etc/passwd", "/docs", "/..%2f..%2fetc/passwd"):
                assert http.get(foreign).status_code in (400, 403, 404)
            for headers in (
                {"Host": "other.example.org"},
                {"Origin": "https://other.example.org"},
                {"X-Forwarded-Host": "other.example.org"},
            ):
                answer = http.post(post, content=body, headers={**form, **headers})
                assert answer.status_code in (403, 404, 405), answer.text
            answer = http.get("/", headers={"X-Forwarded-Host": "other.example.org"})
            assert answer.text.endswith("start it with --allow-host other.example.org\n")


def test_without_the_slash(visit, proxied, files):
    page = visit(proxied[0])
    page.wait_for_selector("#paint")
    assert page.url == f"{proxied[0]}/"
    choose(page, "content", files[0])
