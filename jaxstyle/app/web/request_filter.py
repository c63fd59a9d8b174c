"""Filters requests to the live page: Gradio serves much more than the page needs."""

import contextlib
import ipaddress
import json
import shutil
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_API = "/gradio_api"
_FILE = f"{_API}/file="
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"} | {
    f"{_API}/{name}" for name in ("info", "queue/data", "startup-events", "upload_progress")
}
_FOLDERS = ("/assets/", "/static/", f"{_API}/heartbeat/", _FILE)
_CALLS = {f"{_API}/{name}" for name in ("queue/join", "cancel", "reset")}
_UPLOAD = f"{_API}/upload"

_CALL_BYTES = 100_000
_FORM_BYTES = 10_000  # of a form, besides its file
_UPLOADS_OF_A_VISITOR = 12  # files of the largest size; then the visitor's oldest is removed
_UPLOADS_IN_ALL = 100
_FREE_BYTES = 500e6  # on disk; below, uploads are refused

# Some scripts and styles of the page are inline; everything else comes from this server only.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'"
)


class RequestFilter:
    """ASGI middleware that passes the requests that the page needs and refuses all others.

    Gradio can also fetch addresses, proxy, record and share. Files are served, and accepted as
    uploads, from one folder only. Other websites in a visitor's browser are refused, whether their
    pages send requests here or their domain points to this machine (DNS rebinding).
    """

    def __init__(
        self, app: Any, *, folder: Path, max_upload: int, allow_hosts: Sequence[str] = ()
    ) -> None:
        """Filters the requests to `app`.

        Args:
            app: an ASGI application.
            folder: holds all files that may be served.
            max_upload: maximum size of a file in bytes.
            allow_hosts: host names of the page, besides this machine's own.
        """
        self.app = app
        self.folder = folder.resolve()
        self.max_upload = max_upload
        self.allow_hosts = {name.lower() for name in allow_hosts}
        self.names = {"localhost", socket.gethostname().lower()} | self.allow_hosts
        # Visitor and size of each upload, oldest first.
        self.uploads: dict[Path, tuple[str, int]] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a refused request, and passes on all others."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        body: bytes | None = None
        refusal = self._refuse(scope)
        if refusal is None and scope["method"] == "POST" and scope["path"] != _UPLOAD:
            body = await _read(receive)
            refusal = self._refuse_call(body)
        if refusal is not None:
            status, reason = refusal
            await JSONResponse({"detail": reason}, status)(scope, receive, send)
            return

        async def receive_again() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        uploaded = b""

        async def send_with_policy(message: Message) -> None:
            nonlocal uploaded
            if message["type"] == "http.response.body" and scope["path"] == _UPLOAD:
                uploaded += message.get("body", b"")
                if not message.get("more_body"):
                    self._count(uploaded, (scope.get("client") or ("",))[0])
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive_again, send_with_policy)

    def _refuse(self, scope: Any) -> tuple[int, str] | None:
        """Returns status and reason if the head of a request is refused."""
        method, path = scope["method"], scope["path"]
        if (foreign := self._refuse_foreign(scope)) is not None:
            return foreign
        known = {"GET": _PAGES, "HEAD": _PAGES, "POST": {*_CALLS, _UPLOAD}}.get(method, set())
        if path not in known and not (known is _PAGES and path.startswith(_FOLDERS)):
            return 404, "not found"
        if path.startswith(_FILE) and not self._is_ours(path.removeprefix(_FILE)):
            return 403, "only uploaded pictures and results are served"
        if method == "POST":
            most = self.max_upload + _FORM_BYTES if path == _UPLOAD else _CALL_BYTES
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"")
            chunked = b"transfer-encoding" in headers  # then the length means nothing
            if chunked or not length.isdigit() or int(length) > most:
                return 413, f"too large: send at most {most} bytes"
            if path == _UPLOAD and shutil.disk_usage(self.folder).free < _FREE_BYTES:
                return 507, "the server's disk is full; come back later"
        return None

    def _refuse_foreign(self, scope: Any) -> tuple[int, str] | None:
        """Refuses requests of other websites' pages; the browser's headers reveal them."""
        headers: dict[bytes, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.lower(), []).append(value.decode("latin-1").lower())
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        # A foreign domain that points to this machine appears as a name, never as an address.
        known = len(hosts) == 1 and (_is_number(hosts[0]) or _name_of(hosts[0]) in self.names)
        if not known:
            return 403, "unknown host name; if it is this server's, use --allow-host NAME"
        for origin in origins:
            address = origin.partition("://")[2]
            if address != hosts[0] and _name_of(address) not in self.allow_hosts:
                return (
                    403,
                    "requests must come from the page; behind a proxy, use --allow-host NAME",
                )
        # Links from other pages to this one may be followed.
        link = (
            (scope["method"], scope["path"]) == ("GET", "/")
            and not origins
            and headers.get(b"sec-fetch-dest") == ["document"]
        )
        if not link and {"cross-site", "same-site"} & {*headers.get(b"sec-fetch-site", [])}:
            return 403, "requests must come from the page"
        return None

    def _count(self, answer: bytes, visitor: str) -> None:
        """Records the files of an upload; removes the oldest ones if there are too many bytes."""
        try:
            paths = [Path(path) for path in json.loads(answer) if self._is_ours(path)]
        except (ValueError, TypeError):  # Gradio has refused it
            return
        for path in paths:
            self.uploads.pop(path, None)
            with contextlib.suppress(OSError):
                self.uploads[path] = visitor, path.stat().st_size
        for whose, files in ((visitor, _UPLOADS_OF_A_VISITOR), (None, _UPLOADS_IN_ALL)):
            mine = [path for path, (owner, _) in self.uploads.items() if whose in (owner, None)]
            total = sum(self.uploads[path][1] for path in mine)
            for path in mine:
                if total <= files * self.max_upload:
                    break
                total -= self.uploads.pop(path)[1]
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()

    def _refuse_call(self, body: bytes) -> tuple[int, str] | None:
        """Returns status and reason if a call is refused, such as for a file that it names."""
        try:
            waiting = [json.loads(body)]
        except (ValueError, RecursionError):
            return 400, "a call must be JSON"
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                if "path" in value and not self._is_ours(value["path"]):
                    return 403, "only a file that was uploaded here can be used: upload it first"
                waiting += value.values()
        return None

    def _is_ours(self, path: object) -> bool:
        try:
            return isinstance(path, str) and self.folder in Path(path).resolve().parents
        except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
            return False


def _name_of(address: str) -> str:
    """Returns the name in NAME:PORT; empty if it is not an address."""
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""


def _is_number(address: str) -> bool:
    try:
        ipaddress.ip_address(_name_of(address))
    except ValueError:
        return False
    return True


async def _read(receive: Receive) -> bytes:
    """Reads the body of a request; its length has been checked."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
