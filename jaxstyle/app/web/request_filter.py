"""Filters requests to the live page: Gradio serves much more than the page needs."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable, Container, MutableMapping
from pathlib import Path
from typing import Any

from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from jaxstyle.app.web.origins import Origins
from jaxstyle.app.web.uploads import Parts, Uploads

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_API = "/gradio_api"
_FILE = f"{_API}/file="
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"} | {
    f"{_API}/{name}" for name in ("info", "queue/data", "startup-events", "upload_progress")
}
_FOLDERS = ("/assets/", "/static/", f"{_API}/heartbeat/", _FILE)
_JOIN = f"{_API}/queue/join"
_CALLS = {_JOIN, f"{_API}/cancel", f"{_API}/reset"}
_UPLOAD = f"{_API}/upload"

_CALL_BYTES = 100_000
_FORM_BYTES = 10_000  # of a form, besides its file
_PATIENCE = 30  # seconds, for the rest of a body before an answer
_FREE_BYTES = 500e6  # on disk; below, uploads are refused

# Some scripts and styles of the page are inline; everything else comes from this server only.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "form-action 'none'; frame-ancestors "
)

# A proxy must pass on at once what a run shows; nginx and others know the first one.
_STREAM = [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache, no-transform")]


class RequestFilter:
    """ASGI middleware that passes the requests that the page needs and refuses all others.

    Gradio can also fetch addresses, proxy, record and share. Files are served, and accepted as
    uploads, from one folder only. Other websites in a visitor's browser are refused, whether their
    pages send requests here or their domain points to this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: Any,
        *,
        folder: Path,
        max_upload: int,
        max_disk: float,
        origins: Origins,
        functions: Container[object] | None = None,
    ) -> None:
        """Filters the requests to `app`.

        Args:
            app: an ASGI application.
            folder: holds all files that may be served.
            max_upload: maximum size of a file in bytes.
            max_disk: maximum size of `folder` in bytes; above, uploads are refused.
            origins: where requests may come from.
            functions: numbers of the page's functions that may be called; None for any.
        """
        self.app = app
        self.folder = folder.resolve()
        self.max_upload = max_upload
        self.max_disk = max_disk
        self.origins = origins
        self.functions = functions
        self.uploads = Uploads(self.folder, max_upload)
        self._uploading = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a refused request, and passes on all others."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            receive, send = _answer_after_body(scope, receive, send, 2 * self.max_upload)
        path = self._path_of(scope["path"])
        if path is None:  # the page's addresses are relative to a folder
            await RedirectResponse(f"{self.origins.path}/", 307)(scope, receive, send)
            return
        scope = {**scope, "path": path}
        answer = self._refuse(scope)
        if answer is None and path == _UPLOAD:
            answer = await self._refuse_upload(scope)
        elif answer is None and scope["method"] == "POST":
            body = await _read(receive)
            answer = self._refuse_call(path, body)
            receive = _repeat(body, receive)
        if answer is not None:
            await answer(scope, receive, send)
            return
        scope["headers"] = self.origins.forward(scope["headers"])
        if path == _UPLOAD:
            await self._take(scope, self._limit(scope, receive), send)
        else:
            await self.app(scope, receive, self._complete(scope, send))

    async def _take(self, scope: Any, receive: Receive, send: Send) -> None:
        """Passes on an upload, and removes what Gradio leaves of a strange one."""
        self._uploading += 1
        try:
            await self.app(scope, receive, self._complete(scope, send))
        except TypeError:  # Gradio: a field in the place of a file
            await _answer(_UPLOAD, 400, "an upload must be a file")(scope, receive, send)
        finally:
            self._uploading -= 1
            if not self._uploading:
                self.uploads.remove_parts()

    def _path_of(self, path: str) -> str | None:
        """Returns a path without the page's own, which some proxies remove and others keep.

        None for the page's own path without a slash at its end.
        """
        root = self.origins.path
        if root and path == root:
            return None
        if root and path.startswith(f"{root}/"):
            path = path.removeprefix(root)
        return f"/{path.lstrip('/')}"  # a proxy may add a slash

    def _complete(self, scope: Any, send: Send) -> Send:
        """Returns a `send` that adds headers to an answer, and records uploads."""
        uploaded = b""

        async def send_more(message: Message) -> None:
            nonlocal uploaded
            if message["type"] == "http.response.body" and scope["path"] == _UPLOAD:
                uploaded += message.get("body", b"")
                if not message.get("more_body"):
                    visitor = (scope.get("client") or ("",))[0]
                    self.uploads.add(uploaded, visitor, self._is_ours)
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                if dict(headers).get(b"content-type", b"").startswith(b"text/event-stream"):
                    headers += _STREAM
                message["headers"] = [
                    *headers,
                    (b"content-security-policy", f"{_POLICY}{self.origins.frames()}".encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        return send_more

    def _limit(self, scope: Any, receive: Receive) -> Receive:
        """Returns a `receive` that ends an upload that is too large or many, or breaks off.

        It raises what Gradio's parser of forms raises, since then Gradio removes the file.
        """
        received, parts = 0, Parts(scope["headers"])

        async def receive_part() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload broke off")
            received += len(message.get("body", b""))
            if received > self.max_upload + _FORM_BYTES:
                raise MultiPartException(f"maximum allowed size: {self._describe_limit()}")
            if parts.too_many(message.get("body", b"")):
                raise MultiPartException("too many files in one upload: send one at a time")
            return message

        return receive_part

    def _describe_limit(self) -> str:
        return f"send at most {self.max_upload / 1e6:g} MB, or raise --max-upload"

    def _refuse(self, scope: Any) -> Response | None:
        """Returns the answer if the head of a request is refused."""
        method, path = scope["method"], scope["path"]
        if (foreign := self.origins.refuse(scope, path)) is not None:
            return _answer(path, *foreign)
        known = {"GET": _PAGES, "HEAD": _PAGES, "POST": {*_CALLS, _UPLOAD}}.get(method, set())
        if path not in known and not (known is _PAGES and path.startswith(_FOLDERS)):
            return _answer(path, 404, "not found; under a path behind a proxy, use --root-path")
        if path.startswith(_FILE) and not self._is_ours(path.removeprefix(_FILE)):
            return _answer(path, 403, "only uploaded pictures and results are served")
        return None

    async def _refuse_upload(self, scope: Any) -> Response | None:
        # Without a length, or with one that means nothing, the bytes are counted as they come.
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self.max_upload + _FORM_BYTES:
            return _answer(_UPLOAD, 413, f"too large: {self._describe_limit()}")
        if shutil.disk_usage(self.folder).free < _FREE_BYTES:
            return _answer(_UPLOAD, 507, "the server's disk is full; come back later")
        if await self.uploads.used() > self.max_disk:
            return _answer(
                _UPLOAD, 507, "the server has no room; come back later, or raise --max-disk"
            )
        return None

    def _refuse_call(self, path: str, body: bytes) -> Response | None:
        """Returns the answer if a call is refused, such as for a file that it names."""
        if len(body) > _CALL_BYTES:
            return JSONResponse({"detail": f"too large: send at most {_CALL_BYTES} bytes"}, 413)
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            return JSONResponse({"detail": "a call must be JSON"}, 400)
        if path == _JOIN and self.functions is not None:
            number = call.get("fn_index") if isinstance(call, dict) else None
            if type(number) is not int or number not in self.functions:
                return JSONResponse({"detail": "the page has no such function"}, 404)
        waiting = [call]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                if "path" in value and not self._is_ours(value["path"]):
                    reason = "only a file that was uploaded here can be used: upload it first"
                    return JSONResponse({"detail": reason}, 403)
                waiting += value.values()
        return None

    def _is_ours(self, path: object) -> bool:
        try:
            return isinstance(path, str) and self.folder in Path(path).resolve().parents
        except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
            return False


def _answer(path: str, status: int, reason: str) -> Response:
    """Returns an answer of one line; the page's own script expects JSON from calls."""
    if path in _CALLS:
        return JSONResponse({"detail": reason}, status)
    return PlainTextResponse(f"{reason}\n", status, {"X-Content-Type-Options": "nosniff"})


async def _read(receive: Receive) -> bytes:
    """Reads the body of a call, or as much of it as is too much."""
    body = b""
    while len(body) <= _CALL_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def _answer_after_body(scope: Any, receive: Receive, send: Send, most: int) -> tuple[Receive, Send]:
    """Wraps `receive` and `send`: an answer waits for the body, or for `most` more bytes of it.

    A proxy that still sends when the connection closes drops the answer and gives its own, 502.
    Proxies let bodies through that are a little larger than the largest upload.
    """
    # A client that expects "100 Continue" sends its body only after the server has asked for it.
    more = b"expect" not in dict(scope["headers"])

    async def receive_part() -> Message:
        nonlocal more
        message = await receive()
        more = message.get("more_body", False)
        return message

    async def send_later(message: Message) -> None:
        nonlocal most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while more and most > 0:
                    most -= len((await receive_part()).get("body", b""))
        most = 0
        await send(message)

    return receive_part, send_later


def _repeat(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that has been read, and then goes on."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return whole.pop() if whole else await receive()

    return receive_again
