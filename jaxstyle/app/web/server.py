"""Serves the live page until a signal ends it."""

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from jaxstyle.app.console import print_message
from jaxstyle.app.interrupts import Terminated, interrupt, on_signal
from jaxstyle.app.web.origins import Origins
from jaxstyle.app.web.page import CSS, make_page
from jaxstyle.app.web.request_filter import RequestFilter
from jaxstyle.app.web.runs import Run, is_alive, stop
from jaxstyle.app.web.server_folder import remove, remove_old
from jaxstyle.app.web.sessions import Options
from jaxstyle.io import InputError, fetch, list_weights, verify
from jaxstyle.io.files import describe_error, show_path

_SECONDS_BETWEEN_CLEANING = 600.0


def serve(options: Options, host: str, port: int) -> int:
    """Serves the page until Ctrl-C, SIGTERM or SIGHUP.

    Args:
        options: what the page allows.
        host: address to listen on.
        port: port to listen on.

    Returns:
        The exit code.

    Raises:
        InputError: if the address is not available.
    """
    _check_address(host, port)
    runs: list[Run] = []
    code = 130
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []

    def end(number: int) -> None:
        for each in hangup:  # a closing terminal sends it more than once
            signal.signal(each, signal.SIG_IGN)
        interrupt(number)

    with on_signal(end, signal.SIGTERM, *hangup):
        page = None
        try:
            page = make_page(options, runs)
            _launch(page, options, host, port)
            print_message(f"serving on {page.local_url} (Ctrl-C ends it)")
            while not threading.Event().wait(_SECONDS_BETWEEN_CLEANING):
                remove_old(options.folder)
        except KeyboardInterrupt as error:
            code = 128 + error.args[0] if isinstance(error, Terminated) else 130
        finally:
            for each in runs:
                stop(each)
            if page is not None:
                page.close(verbose=False)
            remove(options.folder)
    with contextlib.suppress(OSError):  # the terminal may be gone
        print_message("ended")
    if any(is_alive(each) for each in runs):
        # The run compiles: nothing can interrupt that, and an ordinary exit would crash.
        remove(options.folder)  # what the run has written since
        os._exit(code)
    return code


def _launch(page: gr.Blocks, options: Options, host: str, port: int) -> None:
    filtered = Middleware(
        RequestFilter,
        folder=options.folder,
        max_upload=options.max_upload,
        max_disk=options.max_disk,
        origins=Origins(options.allow_hosts, options.root_path, host),
        functions=page.fns,
    )
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        inbrowser=False,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        allowed_paths=[],
        blocked_paths=[],
        max_file_size=options.max_upload,
        theme=gr.themes.Default(
            primary_hue="orange",
            neutral_hue="stone",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=CSS,
        root_path=options.root_path or None,
        app_kwargs={"middleware": [filtered]},
    )


def find_weights(params: str | None) -> dict[str, Path]:
    """Returns a file of weights for each preprocessing: `params`, or the best ones of the cache.

    Raises:
        InputError: if there is none.
    """
    if params is not None:
        return {verify(params).preprocessing: Path(params)}
    fetch()
    return {info.preprocessing: info.path for info in reversed(list_weights())}


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError, ValueError) as error:  # ValueError: a name of strange letters
        raise InputError(
            f"cannot serve on {show_path(host)}:{port} ({describe_error(error)}); use another "
            "--port or --host"
        ) from None
    # Gradio checks that it can reach itself; this request must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name)
        os.environ[name] = ",".join([*([known] if known else []), host, "localhost"])
