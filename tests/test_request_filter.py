"""The gate of the live page: foreign websites and names, proxies, frames, quotas of uploads."""

import asyncio
import json

import pytest

pytest.importorskip("starlette", reason="no Gradio: pip install '.[web]'")

from starlette.formparsers import MultiPartException

from jaxstyle.app.web import request_filter, uploads
from jaxstyle.app.web.origins import Origins, check_name, check_root_path
from jaxstyle.app.web.request_filter import RequestFilter
from jaxstyle.app.web.uploads import Parts, Uploads
from jaxstyle.io import InputError

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

    def ask(method, path, *headers, client="127.0.0.1", size=9, allow=(), root=""):
        headers = [*headers, *([("content-length", str(size))] if method == "POST" else [])]
        origins = Origins(allow, root, "127.0.0.1")
        gate = gates.setdefault(
            (allow, root),
            RequestFilter(app, folder=tmp_path, max_upload=1000, max_disk=1e6, origins=origins),
        )
        return send_to(gate, method, path, headers, client=client)[0]

    return ask


def send_to(gate, method, path, headers=(), *, client="127.0.0.1", body=(b"{}",), receive=None):
    """Returns status, headers and body of the answer to a request."""
    scope = {
        "type": "http", "method": method, "path": path, "client": (client, 1),
        "headers": [(key.encode(), value.encode()) for key, value in headers],
        "query_string": b"",
    }  # fmt: skip
    parts, sent = body if isinstance(body, list) else [*body], []

    async def receive_part():
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": parts not in ([], ["the end"])}

    async def send(message):
        sent.append(message)

    asyncio.run(gate(scope, receive or receive_part, send))
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), text.decode()


def gate_of(app, tmp_path, *allow, root="", **settings):
    settings = {"folder": tmp_path, "max_upload": 1000, "max_disk": 1e6, **settings}
    return RequestFilter(app, origins=Origins(allow, root, "127.0.0.1"), **settings)


@pytest.fixture
def seen(tmp_path):
    """Sends a request through a gate; returns the answer, and the scope that came through."""

    def seen(method, path, *headers, allow=(), root="", kind="text/html", **more):
        scopes = []

        async def app(scope, receive, send):
            scopes.append(scope)
            head = [(b"content-type", kind.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"{}"})

        answer = send_to(gate_of(app, tmp_path, *allow, root=root), method, path, headers, **more)
        return answer, (scopes or [None])[0]

    return seen


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


PROXY = ("paint.example",)


def test_a_refusal_says_which_option_permits_it(seen):
    cases = [
        ((("host", "paint.example"),), "--allow-host paint.example\n"),
        ((("host", "evil<b>.example"),), "--allow-host NAME\n"),
        ((HOST, ("x-forwarded-host", "paint.example")), "--allow-host paint.example\n"),
        ((HOST, ("origin", "https://paint.example")), "--allow-host paint.example\n"),
        ((HOST, SITE), "from another website\n"),
    ]
    for headers, end in cases:
        (status, head, text), scope = seen("GET", "/config", *headers)
        assert (status, scope) == (403, None)
        assert text.endswith(end)
        assert text.count("\n") == 1
        assert head[b"content-type"].startswith(b"text/plain")
        (status, _, text), _ = seen("POST", POSTS[1], *headers)
        assert status == 403
        assert json.loads(text)["detail"] == seen("GET", "/config", *headers)[0][2].strip()
    (_, _, text), _ = seen("GET", "/paint/", HOST)
    assert text.endswith("use --root-path\n")
    (_, _, text), _ = seen("POST", POSTS[0], HOST, ("content-length", "20000"))
    assert text.endswith("or raise --max-upload\n")


def test_a_path_behind_a_proxy(seen):
    for root in ("/paint", "https://paint.example/paint"):
        for asked, path in (
            ("/paint/", "/"), ("/", "/"), ("//", "/"), ("/paint/config", "/config"),
            ("/config", "/config"), ("/paint//config", "/config"), ("//config", "/config"),
            ("/paint/assets/a.js", "/assets/a.js"),
        ):  # fmt: skip
            (status, _, _), scope = seen("GET", asked, HOST, root=root)
            assert (status, scope["path"]) == (200, path), asked
        (status, head, _), _ = seen("GET", "/paint", HOST, root=root)
        assert (status, head[b"location"]) == (307, b"/paint/")
        for asked in ("/paintings/config", "/paint/docs", "/paint/paint/config", "/other/config",
                      "/paint/../docs", "/paint/gradio_api/file=/etc/passwd"):  # fmt: skip
            assert seen("GET", asked, HOST, root=root)[0][0] in (403, 404), asked


def test_the_address_that_the_browser_knows(seen):
    """Gradio builds the addresses of its files from these headers; they are not taken from all."""

    def forwarded(*headers, method="POST", allow=PROXY):
        (status, _, _), scope = seen(method, POSTS[1] if method == "POST" else "/", *headers,
                                     allow=allow)  # fmt: skip
        assert status == 200
        known = dict(scope["headers"])
        assert b"x-gradio-server" not in known
        return [known.get(f"x-forwarded-{name}".encode()) for name in ("host", "proto")]

    name, https = ("x-forwarded-host", "paint.example"), ("x-forwarded-proto", "https")
    origin = ("origin", "https://paint.example:8443")
    assert forwarded(HOST) == [None, None]
    assert forwarded(HOST, origin) == [b"paint.example:8443", b"https"]
    assert forwarded(HOST, ("origin", "http://127.0.0.1:7860"), https) == [b"127.0.0.1:7860",
                                                                          b"http"]  # fmt: skip
    assert forwarded(HOST, name, https, method="GET") == [b"paint.example", b"https"]
    assert forwarded(("host", "paint.example"), https, method="GET") == [None, b"https"]
    several = ("x-forwarded-proto", "https, http"), ("x-forwarded-host", "paint.example, 127.0.0.1")
    assert forwarded(HOST, *several, method="GET") == [b"paint.example", b"https"]
    assert forwarded(HOST, ("x-gradio-server", "https://evil.example")) == [None, None]
    assert forwarded(HOST, ("x-forwarded-proto", "javascript")) == [None, None]
    for foreign in ("evil.example", "paint.example, evil.example", "", "paint.example.evil",
                    "6.6.6.6", "6.6.6.6:7860", "[2001:db8::1]", "evil.example\\@paint.example",
                    "paint.example/evil", "x@paint.example", "paint.example:", "paint.example:1a",
                    "paint.example?", "paint.example#", "localhost/evil"):  # fmt: skip
        answer, scope = seen("GET", "/", HOST, ("x-forwarded-host", foreign), allow=PROXY)
        assert (answer[0], scope) == (403, None), foreign
        assert seen("GET", "/", ("host", foreign), allow=PROXY)[0][0] == (
            200 if foreign[-1:].isdigit() or foreign[:1] == "[" else 403
        ), foreign
    # A number is taken from a proxy if it is allowed, or if Host has it anyway.
    six = ("x-forwarded-host", "6.6.6.6")
    assert forwarded(HOST, six, method="GET", allow=("6.6.6.6",))[0] == b"6.6.6.6"
    assert forwarded(("host", "6.6.6.6"), six, method="GET")[0] == b"6.6.6.6"
    for scheme in ("chrome-extension", "ftp", "data", ""):
        foreign = ("origin", f"{scheme}://paint.example")
        assert seen("POST", POSTS[1], HOST, foreign, allow=PROXY)[0][0] == 403
        own = ("origin", f"{scheme}://{HOST[1]}")
        assert seen("POST", POSTS[1], HOST, own)[0][0] == 403


def test_only_named_websites_may_frame_it(seen):
    frame = [HOST, SITE, ("sec-fetch-dest", "iframe")]

    def policy(*headers, allow=(), root=""):
        (status, head, _), _ = seen("GET", "/", *headers, allow=allow, root=root)
        found = head.get(b"content-security-policy", b"").decode()
        return status, found.rpartition("frame-ancestors ")[2]

    assert policy(HOST) == (200, "'self'")
    assert policy(*frame) == (403, "")
    assert policy(*frame, allow=("blog.example",)) == (200, "'self' blog.example blog.example:*")
    assert policy(*frame, root="https://blog.example/a") == (
        200, "'self' blog.example blog.example:*"
    )  # fmt: skip
    referer = ("referer", "https://blog.example/")
    assert policy(*frame, referer, allow=("blog.example",))[0] == 200
    assert policy(*frame, referer, allow=PROXY) == (403, "")
    for path in ("/config", "/theme.css"):
        assert seen("GET", path, *frame, allow=PROXY)[0][0] == 403
    # To be named gives no more: the page's own requests come from the page.
    for headers in ((SITE,), (SITE, ("origin", "https://paint.example"))):
        assert seen("POST", POSTS[0], HOST, *headers, allow=PROXY)[0][0] == 403
    # Where the server listens is a name of its own, but not of other programs there.
    origin = ("origin", "http://127.0.0.1:3000")
    assert seen("POST", POSTS[0], HOST, origin, allow=PROXY)[0][0] == 403


@pytest.mark.parametrize(
    ("name", "advice"),
    [("https://a.example/x", ": --allow-host a.example"), ("a.example:80", "-host a.example"),
     ("*.example", "example.org"), ("", "example.org"), ("a b", "example.org"),
     ("a.example,b.example", "example.org"), ("a.example;", "example.org")],
)  # fmt: skip
def test_names_are_checked(name, advice):
    with pytest.raises(InputError, match="give one host name alone") as caught:
        check_name(name)
    assert str(caught.value).endswith(advice)
    assert check_name("Paint.Example") == "paint.example"


def test_root_paths_are_checked():
    for given, kept in (("/paint/", "/paint"), ("/", ""), ("", ""), ("/a/b-c", "/a/b-c"),
                        ("/user/x@y/proxy/7860", "/user/x@y/proxy/7860"),
                        ("https://a.example:1/", "https://a.example:1"),
                        ("http://a.example/b", "http://a.example/b")):  # fmt: skip
        assert check_root_path(given) == kept
    for given in ("paint", "//evil.example", "ftp://a.example", "/a b", "/a?b", "/a;b", "https://",
                  "https://[x", "https://[::1", "https://a:99999", "https://:80", "https://a@b/c",
                  "/..", "/a/../b", "/%2e%2E", "/a//b", "/a\n", "https://a\n/b"):  # fmt: skip
        with pytest.raises(InputError, match="--root-path") as caught:
            check_root_path(given)
        assert "\n" not in str(caught.value)


def test_streams_are_not_held_back(seen):
    (_, head, _), _ = seen("GET", "/gradio_api/queue/data", HOST, kind="text/event-stream; x")
    assert head[b"x-accel-buffering"] == b"no"
    assert b"no-transform" in head[b"cache-control"]
    (_, head, _), _ = seen("GET", "/", HOST)
    assert b"x-accel-buffering" not in head


def test_uploads_without_a_length_are_counted(tmp_path):
    async def app(scope, receive, send):
        """Gradio's parser of forms raises and catches that error, and removes the file."""
        received, status = 0, 200
        try:
            more = True
            while more:
                message = await receive()
                received += len(message["body"])
                more = message["more_body"]
        except MultiPartException as error:
            status = 413 if "maximum allowed size" in error.message else 400
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": str(received).encode()})

    gate = gate_of(app, tmp_path)

    def upload(*parts, path=POSTS[0], headers=(), unread=None):
        parts = [*parts] if unread is None else unread
        status, _, text = send_to(gate, "POST", path, [HOST, *headers], body=parts)
        return status, text

    assert upload(*[bytes(100)] * 100) == (200, "10000")
    assert upload(*[bytes(100)] * 120) == (413, "11000")
    # The rest is read, since a proxy that still sends hears no answer; but not for ever.
    for parts, left in ((120, 0), (200, 200 - 131)):
        unread = [bytes(100)] * parts
        assert upload(unread=unread) == (413, "11000")
        assert len(unread) == left
    # Nor does a wrong length help.
    assert upload(*[bytes(100)] * 120, headers=[("content-length", "5")]) == (413, "11000")
    assert upload(bytes(100), headers=[("transfer-encoding", "chunked")]) == (200, "100")
    assert upload() == (400, "0")  # it breaks off
    calls = [b'"' + bytes(50_000).replace(b"\0", b"x")] * 2
    assert upload(*calls, b'"', path=POSTS[1])[0] == 413
    assert upload(b"[1, ", b"2]", path=POSTS[1])[0] == 200
    assert upload(b"[1, ", b"2", path=POSTS[1])[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", POSTS[0], 413), ("POST", "/nothing", 404), ("PUT", "/", 404), ("POST", "/p", 307)],
)
def test_the_rest_of_a_body_is_read_before_an_answer(tmp_path, monkeypatch, method, path, status):
    # A proxy that still sends hears no answer. But it is not read for ever.
    async def refuse(scope, receive, send):
        """As Gradio does with too large a file."""
        await receive()
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate = gate_of(refuse, tmp_path, root="/p")  # which takes files of 1000 bytes
    for parts, left in ((15, 0), (100, 100 - 20 - (status == 413))):
        unread = [bytes(100)] * parts
        assert send_to(gate, method, path, [HOST], body=unread)[0] == status
        assert len(unread) == left
    # The body of a client that waits for "100 Continue" is not asked for.
    unread = [bytes(100)] * 15
    send_to(gate, "POST", "/nothing", [HOST, ("expect", "100-continue")], body=unread)
    assert len(unread) == 15

    async def wait():
        await asyncio.sleep(60)

    monkeypatch.setattr(request_filter, "_PATIENCE", 0.1)
    assert send_to(gate, method, "/nothing", [HOST], receive=wait)[0] == 404


def test_no_more_than_the_quota(tmp_path):
    async def app(scope, receive, send):
        raise AssertionError("it must not come here")

    (tmp_path / "visit-1").mkdir()
    (tmp_path / "visit-1" / "a.png").write_bytes(bytes(2000))
    status, _, text = send_to(gate_of(app, tmp_path, max_disk=1999), "POST", POSTS[0], [HOST])
    assert status == 507
    assert "--max-disk" in text


def test_the_oldest_uploads_go(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "_OF_A_VISITOR", 3)
    monkeypatch.setattr(uploads, "_IN_ALL", 5)

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


def test_a_shared_upload_stays_while_somebody_holds_it(tmp_path):
    held = Uploads(tmp_path, 1000)

    def add(visitor, *names):
        for name in names:
            path = tmp_path / name / "x.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(1000))
            held.add(json.dumps([str(path)]).encode(), visitor, lambda path: True)

    def kept():
        return {path.name for path in tmp_path.iterdir()}

    add("a", "same")
    add("b", "same", *[f"b{number}" for number in range(12)])
    assert kept() == {"same", *[f"b{number}" for number in range(12)]}
    add("a", *[f"a{number}" for number in range(12)])
    assert "same" not in kept()
    add("b", "b11")  # again: it counts once
    assert len(kept()) == 24
    held.add(b'["/nowhere/x.png"]', "a", lambda path: True)
    held.add(b"refused", "a", lambda path: True)
    assert len(kept()) == 24


def test_tiny_uploads_are_few(tmp_path):
    held = Uploads(tmp_path, 64_000_000)
    for number in range(300):
        path = tmp_path / str(number) / "x.png"
        path.parent.mkdir()
        path.write_bytes(b"1")
        held.add(json.dumps([str(path)]).encode(), "a", lambda path: True)
    assert len([*tmp_path.iterdir()]) == 12 * 16
    assert asyncio.run(held.used()) == 12 * 16 * 2 * 4096


@pytest.mark.parametrize("length", [1, 7, 10_000])
def test_parts_of_a_form_are_counted(length):
    def too_many(files, content=b"--b --bo"):
        parts = Parts([(b"content-type", b"multipart/form-data; boundary=bound")])
        form = (b"--bound\r\n" + content + b"\r\n") * files + b"--bound--\r\n"
        return [parts.too_many(form[at : at + length]) for at in range(0, len(form), length)][-1]

    assert [too_many(files) for files in (1, 8, 9, 999)] == [False, False, True, True]
    assert not Parts([]).too_many(b"--" * 100)  # Gradio refuses it


def test_an_upload_of_many_files_ends(tmp_path):
    async def app(scope, receive, send):
        try:
            while (await receive())["more_body"]:
                pass
        except MultiPartException as error:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": error.message.encode()})

    form = [HOST, ("content-type", "multipart/form-data; boundary=b")]
    for body in ([b"--b\r\n"] * 99, [b"--b\r\n" * 99]):
        body.append("the end")  # who asks for more waits until the visitor goes
        answer = send_to(gate_of(app, tmp_path), "POST", POSTS[0], form, body=body)
        assert (answer[0], answer[2]) == (400, "too many files in one upload: send one at a time")
        assert body == ["the end"]


def test_what_a_strange_form_leaves_is_removed(tmp_path):
    async def app(scope, receive, send):
        """Gradio's parser writes a file of any field, and answers with those named `files`."""
        (tmp_path / "tmpabc").write_bytes(b"1")
        raise TypeError("File is not an instance")

    (tmp_path / "visit-1").mkdir()
    status, _, text = send_to(gate_of(app, tmp_path), "POST", POSTS[0], [HOST])
    assert (status, text) == (400, "an upload must be a file\n")
    assert [path.name for path in tmp_path.iterdir()] == ["visit-1"]


def test_only_functions_of_the_page_are_called(tmp_path):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    gate = gate_of(app, tmp_path, functions={0: "paint", 1: "cancel"})
    for number, expected in (("0", 200), ("1", 200), ("999", 404), ("-1", 404), ("null", 404),
                             ("true", 404), ('"0"', 404), ("1.0", 404), ("[]", 404)):  # fmt: skip
        body = [b'{"data": [], "fn_index": ' + number.encode() + b"}"]
        status, _, text = send_to(gate, "POST", POSTS[1], [HOST], body=body)
        assert status == expected, number
    assert json.loads(text)["detail"] == "the page has no such function"
    for body in (b"[]", b"1", b"{}"):
        assert send_to(gate, "POST", POSTS[1], [HOST], body=[body])[0] == 404


def test_no_upload_on_a_full_disk(ask, monkeypatch):
    monkeypatch.setattr(request_filter.shutil, "disk_usage", lambda path: Full)
    assert ask("POST", POSTS[0], HOST) == 507


class Full:
    free = 4e8
