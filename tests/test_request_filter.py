"""The gate of the live page: foreign websites, foreign names, and quotas of uploads."""

import asyncio
import json

import pytest

pytest.importorskip("starlette", reason="no Gradio: pip install '.[web]'")

from jaxstyle.app.web import request_filter
from jaxstyle.app.web.request_filter import RequestFilter

HOST = ("host", "127.0.0.1:7860")
SITE = ("sec-fetch-site", "cross-site")


@pytest.fixture
def ask(tmp_path):
    """Sends a request through a gate in front of a server that takes every upload."""
    number = iter(range(10_000))

    async def app(scope, receive, send):
        answer = []
        if scope["path"] == "/gradio_api/upload":
            path = tmp_path / str(next(number)) / "x.png"
            path.parent.mkdir()
            path.write_bytes(bytes(int(dict(scope["headers"])[b"content-length"])))
            answer = [str(path)]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    gates = {}

    def ask(method, path, *headers, client="127.0.0.1", size=9, allow=()):
        headers = [*headers, *([("content-length", str(size))] if method == "POST" else [])]
        scope = {
            "type": "http", "method": method, "path": path, "client": (client, 1),
            "headers": [(key.encode(), value.encode()) for key, value in headers],
            "query_string": b"",
        }  # fmt: skip
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            sent.append(message)

        gate = gates.setdefault(
            allow, RequestFilter(app, folder=tmp_path, max_upload=1000, allow_hosts=allow)
        )
        asyncio.run(gate(scope, receive, send))
        return sent[0]["status"]

    return ask


POSTS = ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"]


@pytest.mark.parametrize("path", POSTS)
def test_other_websites_get_nothing(path, ask):
    assert ask("POST", path, HOST) == 200  # a program, which tells no origin
    assert ask("POST", path, HOST, ("origin", "http://127.0.0.1:7860")) == 200
    same = ("sec-fetch-site", "same-origin")
    assert ask("POST", path, HOST, ("origin", "http://127.0.0.1:7860"), same) == 200
    for origin in (
        "https://evil.example", "null", "", "http://127.0.0.1:3000", "http://127.0.0.1",
        "http://localhost:7860", "http://127.0.0.1:7860.evil.example", "file://", "http://[",
    ):  # fmt: skip
        assert ask("POST", path, HOST, ("origin", origin)) == 403, origin
    for site in ("cross-site", "same-site", "Cross-Site"):
        assert ask("POST", path, HOST, ("sec-fetch-site", site)) == 403
    two = [("origin", "http://127.0.0.1:7860"), ("origin", "https://evil.example")]
    assert ask("POST", path, HOST, *two) == 403
    assert ask("POST", path, HOST, *reversed(two)) == 403


def test_links_may_be_followed_but_nothing_else_is_read(ask):
    followed = [HOST, SITE, ("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")]
    assert ask("GET", "/", *followed) == 200
    assert ask("GET", "/", HOST, ("sec-fetch-site", "none")) == 200
    assert ask("GET", "/", HOST, SITE, ("sec-fetch-dest", "iframe")) == 403
    assert ask("GET", "/config", *followed) == 403
    assert ask("GET", "/gradio_api/queue/data", HOST, SITE) == 403
    assert ask("GET", "/config", HOST, ("origin", "https://evil.example")) == 403


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "",
     "[", "a@127.0.0.1@evil"],
)  # fmt: skip
def test_names_that_were_pointed_to_this_machine(name, ask):
    assert ask("GET", "/", ("host", name)) == 403
    assert ask("POST", POSTS[0], ("host", name), ("origin", f"http://{name}")) == 403


def test_known_names(ask):
    for name in ("localhost:7860", "[::1]:7860", "192.168.1.5:7860", "127.0.0.1", "LOCALHOST"):
        assert ask("GET", "/", ("host", name)) == 200
        assert ask("POST", POSTS[0], ("host", name), ("origin", f"http://{name.lower()}")) == 200
    assert ask("GET", "/") == 403  # no name at all
    assert ask("GET", "/", HOST, HOST) == 403
    # A proxy's: it may keep the name that the visitor used, or give its own.
    allow = ("paint.example",)
    origin = ("origin", "https://paint.example")
    for host in (HOST, ("host", "paint.example")):
        assert ask("POST", POSTS[0], host, origin, allow=allow) == 200
        assert ask("POST", POSTS[0], host, ("origin", "https://evil.example"), allow=allow) == 403


def test_the_oldest_uploads_go(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(request_filter, "_UPLOADS_OF_A_VISITOR", 3)
    monkeypatch.setattr(request_filter, "_UPLOADS_IN_ALL", 5)

    def kept():
        return sorted(int(path.parent.name) for path in tmp_path.rglob("x.png"))

    for _ in range(4):
        assert ask("POST", POSTS[0], HOST, client="a", size=1000) == 200
    assert kept() == [1, 2, 3]
    ask("POST", POSTS[0], HOST, client="a", size=1)
    assert kept() == [2, 3, 4]
    for client in ("b", "b", "c"):
        ask("POST", POSTS[0], HOST, client=client, size=1000)
    assert kept() == [3, 4, 5, 6, 7]  # 4001 bytes of three visitors
    ask("POST", POSTS[0], HOST, client="c", size=1000)
    assert kept() == [4, 5, 6, 7, 8]
    assert all(path.name in "45678" for path in tmp_path.iterdir())  # no empty folders
    assert ask("POST", POSTS[0], HOST, size=20_000) == 413


def test_no_upload_on_a_full_disk(ask, monkeypatch):
    monkeypatch.setattr(request_filter.shutil, "disk_usage", lambda path: Full)
    assert ask("POST", POSTS[0], HOST) == 507


class Full:
    free = 4e8
