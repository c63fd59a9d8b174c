"""Where requests to the page may come from: its own addresses, and names that the user allows.

A browser tells by the headers `Host`, `Origin` and `Sec-Fetch-Site` which website sends a request.
A proxy may replace `Host` and tell the name that the visitor used by `X-Forwarded-Host`.
"""

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from jaxstyle.io.errors import InputError
from jaxstyle.io.files import show_path

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_ADDRESS = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")  # NAME:PORT
# Gradio builds the addresses of its files from these, whoever sent them.
_FORWARDED = (b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")


def check_name(name: str) -> str:
    """Returns a value of `--allow-host` in lower case.

    Raises:
        InputError: if it is not one host name, such as a URL or a pattern.
    """
    lower = name.lower()
    if not _NAME.fullmatch(lower):
        inside = _name_in(lower.partition("://")[2] or lower)
        advice = f"--allow-host {inside}" if _NAME.fullmatch(inside) else "such as example.org"
        raise InputError(f"--allow-host {show_path(name)}: give one host name alone: {advice}")
    return lower


def check_root_path(root_path: str) -> str:
    """Returns a value of `--root-path` without a slash at its end.

    Raises:
        InputError: if it is neither a path nor the URL of the page.
    """
    root = root_path.rstrip("/")
    if root and not _is_root(root):
        raise InputError(
            f"--root-path {show_path(root_path)}: give a path such as /paint, or the whole address "
            "of the page such as https://example.org/paint"
        )
    return root


def _is_root(root: str) -> bool:
    """Whether it is a path, or a URL that a browser sends as it is."""
    try:
        parts = urlsplit(root)
        host = host_of(parts.netloc.lower()) if parts.port != 0 else ""
    except ValueError:
        return False
    path = parts.path
    url = parts.scheme in ("http", "https") and bool(host)
    if parts.geturl() != root or not (url or root == path):
        return False
    return all(
        re.fullmatch(r"[\w.~%@+-]+", part) and unquote(part) not in (".", "..")
        for part in path.split("/")[1:]
    ) and path[:1] in ("", "/")


class Origins:
    """Tells requests of the page and of allowed names from those of other websites."""

    def __init__(self, allow_hosts: Sequence[str], root_path: str, host: str) -> None:
        """Allows this machine's addresses and names, also `host`, where it listens.

        `allow_hosts` and the host of `root_path`, if it is a URL, may also send and frame.
        """
        root = urlsplit(root_path)
        self.path = root.path
        """The path of the page behind a proxy, such as `/paint`."""
        named = [*allow_hosts, *([root.hostname] if root.hostname else [])]
        self._allowed = {name.lower() for name in named}
        own = {"localhost", "127.0.0.1", "::1", socket.gethostname().lower(), host.lower()}
        self._own = own | self._allowed

    def refuse(self, scope: Any, path: str) -> tuple[int, str] | None:
        """Returns status and reason if a request may not be answered.

        Args:
            scope: the request, see ASGI.
            path: what it asks for, without the page's own path.
        """
        headers = _by_name(scope["headers"])
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        # A foreign domain that points to this machine appears as a name, never as a number. What a
        # proxy tells is put into the page, so no number that anybody may send is taken from it.
        forwarded = [*_listed(headers.get("x-forwarded-host", []))]
        for host in (*hosts, *(each for each in forwarded if each not in hosts)):
            name = host_of(host)
            if name not in self._own and not (host in hosts and _is_number(name)):
                return 403, f"unknown host name; {_advice(name)}"
        if len(hosts) != 1:
            return 403, "a request needs exactly one Host header"
        for origin in origins:
            address = _without_scheme(origin)
            if address != hosts[0] and host_of(address) not in self._allowed:
                return 403, f"requests must come from the page; {_advice(host_of(address))}"
        foreign = {"cross-site", "same-site"} & {*headers.get("sec-fetch-site", [])}
        if foreign and not self._is_opened(scope["method"], path, headers):
            return 403, "requests must come from the page, not from another website"
        return None

    def _is_opened(self, method: str, path: str, headers: dict[str, list[str]]) -> bool:
        """Whether another website only links to the page, or an allowed one shows it in a frame."""
        if (method, path) != ("GET", "/") or "origin" in headers:
            return False
        if headers.get("sec-fetch-dest") == ["iframe"]:
            # The page may only be framed by allowed names: see `frames`, which browsers obey.
            referers = [_without_scheme(each) for each in headers.get("referer", [])]
            return bool(self._allowed) and all(_name_in(each) in self._allowed for each in referers)
        return headers.get("sec-fetch-dest") == ["document"]

    def frames(self) -> str:
        """Returns the sources that may show the page in a frame, for `frame-ancestors`."""
        return " ".join(["'self'", *(f"{each} {each}:*" for each in sorted(self._allowed))])

    def forward(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Returns the headers of an accepted request, with the address that its browser knows.

        With that address Gradio builds those of its files. A request that changes something has it
        in `Origin`. Otherwise a proxy tells it.
        """
        kept = [(key, value) for key, value in headers if key.lower() not in _FORWARDED]
        known = _by_name(headers)
        scheme, _, host = known.get("origin", [""])[0].partition("://")
        schemes = [scheme] if host else [*_listed(known.get("x-forwarded-proto", []))]
        hosts = [host] if host else [*_listed(known.get("x-forwarded-host", []))]
        if hosts:
            kept.append((b"x-forwarded-host", hosts[0].encode("latin-1")))
        if schemes and schemes[0] in ("http", "https"):
            kept.append((b"x-forwarded-proto", schemes[0].encode()))
        return kept


def _advice(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "if it is this page's, start it with --allow-host NAME"
    return f"if it is this page's, start it with --allow-host {name}"


def _by_name(headers: Headers) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for key, value in headers:
        values.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1").lower())
    return values


def _listed(values: Sequence[str]) -> Iterator[str]:
    """Yields what several proxies have written, the visitor's nearest first."""
    for value in values:
        yield from (each.strip() for each in value.split(","))


def _without_scheme(url: str) -> str:
    """Returns what follows http:// or https://; empty for other schemes, such as an extension's."""
    scheme, _, rest = url.partition("://")
    return rest if scheme in ("http", "https") else ""


def host_of(address: str) -> str:
    """Returns the name in NAME or NAME:PORT in lower case; empty for anything else."""
    return _name_in(address) if _ADDRESS.fullmatch(address) else ""


def _name_in(url: str) -> str:
    """Returns the name in NAME:PORT/PATH; empty if there is none."""
    try:
        return urlsplit(f"//{url}").hostname or ""
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
