"""`jaxstyle serve`: the live page."""

import os

from jaxstyle.app.web.origins import check_name, check_root_path
from jaxstyle.io.errors import InputError, check_positive


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_size: int = 512,
    max_steps: int = 500,
    max_upload: int = 64,
    max_disk: int = 5,
    max_waiting: int = 20,
    allow_host: tuple[str, ...] = (),
    root_path: str = "",
    params: str | None = None,
) -> int:
    """Serve a web page that paints, on this machine; see --host for other machines.

    Visitors upload a photo and a painting and watch the picture being painted. One run at a time
    uses the device; the others wait. All files are deleted when the server ends.

    Args:
        host: Address to listen on; 0.0.0.0 for all networks.
        port: Port to listen on.
        max_size: Maximum long edge in pixels.
        max_steps: Maximum number of steps.
        max_upload: Maximum size of an uploaded file in MB.
        max_disk: Maximum size of all visitors' files in GB.
        max_waiting: Maximum number of waiting runs.
        allow_host: Names of a proxy, a tunnel, or a site that frames the page.
        root_path: Path of the page behind a proxy, such as /paint, or an address.
        params: Network weights in any format `weights convert` reads [cached].
    """
    for option, value in (
        ("--max-size", max_size),
        ("--max-steps", max_steps),
        ("--max-upload", max_upload),
        ("--max-disk", max_disk),
        ("--max-waiting", max_waiting),
        ("--port", port),
    ):
        check_positive(option, value)
    allow_host = tuple(check_name(name) for name in allow_host)
    root_path = check_root_path(root_path)
    from jaxstyle.app.web.server_folder import server_folder  # noqa: PLC0415

    with server_folder() as folder:
        # Gradio reads these when it is imported.
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder)
        try:
            from jaxstyle.app.web import server, sessions  # noqa: PLC0415  load JAX and Gradio
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("gradio", "starlette"):
                raise
            raise InputError(
                "the page needs Gradio: pip install '.[web]' where you installed jaxstyle from"
            ) from None
        if max_size < sessions.MIN_SIZE:
            raise InputError(f"--max-size {max_size}: give at least {sessions.MIN_SIZE}")
        options = sessions.Options(
            folder=folder,
            weights=server.find_weights(params),
            max_size=max_size,
            max_steps=max_steps,
            max_upload=max_upload * 1_000_000,
            max_disk=max_disk * 1_000_000_000,
            max_waiting=max_waiting,
            allow_hosts=allow_host,
            root_path=root_path,
        )
        return server.serve(options, host, port)
