"""`jaxstyle serve`: the live page."""

import os

from jaxstyle.io.errors import InputError, check_positive


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_size: int = 512,
    max_steps: int = 500,
    max_upload: int = 20,
    max_waiting: int = 20,
    allow_host: tuple[str, ...] = (),
    root_path: str = "",
    params: str | None = None,
) -> int:
    """Serve a page that paints, for a browser on this machine; see --host for others.

    Visitors upload a photo and a painting and see them become a picture. One run at a time has
    the device, the others wait. Nothing is kept when it ends.

    Args:
        host: Address to listen at; 0.0.0.0 admits other machines.
        port: The port.
        max_size: The largest long edge in pixels.
        max_steps: The most steps.
        max_upload: The largest file, in MB.
        max_waiting: The most runs that wait.
        allow_host: More names of this server, such as a proxy's.
        root_path: Where a proxy has the page, such as /paint.
        params: Network weights, a file [cached, fetched on first use].
    """
    for option, value in (
        ("--max-size", max_size),
        ("--max-steps", max_steps),
        ("--max-upload", max_upload),
        ("--max-waiting", max_waiting),
        ("--port", port),
    ):
        check_positive(option, value)
    from jaxstyle.app.temporary import server_folder  # noqa: PLC0415

    with server_folder() as folder:
        # Gradio must know before it is imported.
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder)
        try:
            from jaxstyle.app import web  # noqa: PLC0415  loads JAX and Gradio
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("gradio", "starlette"):
                raise
            raise InputError(
                "the page needs Gradio: pip install '.[web]' where you installed jaxstyle from"
            ) from None
        if max_size < web.MIN_SIZE:
            raise InputError(f"--max-size {max_size}: give at least {web.MIN_SIZE}")
        options = web.Options(
            folder=folder,
            weights=web.find_weights(params),
            max_size=max_size,
            max_steps=max_steps,
            max_upload=max_upload * 1_000_000,
            max_waiting=max_waiting,
            allow_hosts=allow_host,
            root_path=root_path,
        )
        return web.serve(options, host, port)
