"""What the live page answers: a gate in front of Gradio, which offers much more than it needs."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

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
_FORM_BYTES = 10_000  # what a form takes besides the file in it

# The page's scripts and styles are partly inline; nothing may come from, or go, anywhere else.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'"
)


class Guard:
    """ASGI middleware that lets through what the page asks for, and refuses all else.

    Gradio also fetches addresses for its visitors, proxies, records and shares. Files are served,
    and taken as what a visitor has uploaded, from one folder only.
    """

    def __init__(self, app: Any, *, folder: Path, max_upload: int) -> None:
        """Guards `app`; `folder` has all files, an upload has at most `max_upload` bytes."""
        self.app = app
        self.folder = folder.resolve()
        self.max_upload = max_upload

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a request, by itself if it is refused."""
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

        async def send_with_policy(message: Message) -> None:
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
        """What is wrong with a request's head: a status and a reason."""
        method, path = scope["method"], scope["path"]
        known = {"GET": _PAGES, "HEAD": _PAGES, "POST": {*_CALLS, _UPLOAD}}.get(method, set())
        if path not in known and not (known is _PAGES and path.startswith(_FOLDERS)):
            return 404, "there is nothing here"
        if path.startswith(_FILE) and not self._is_ours(path.removeprefix(_FILE)):
            return 403, "only uploaded pictures and results are served"
        if method == "POST":
            most = self.max_upload + _FORM_BYTES if path == _UPLOAD else _CALL_BYTES
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"")
            chunked = b"transfer-encoding" in headers  # with which the length means nothing
            if chunked or not length.isdigit() or int(length) > most:
                return 413, f"too large: send at most {most} bytes"
        return None

    def _refuse_call(self, body: bytes) -> tuple[int, str] | None:
        """What is wrong with a call, most of all with the files that it names."""
        try:
            waiting = [json.loads(body)]
        except (ValueError, RecursionError):
            return 400, "a call is JSON"
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


async def _read(receive: Receive) -> bytes:
    """Reads the body of a request, whose length has been checked."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
