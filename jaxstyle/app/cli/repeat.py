"""`jaxstyle repeat`: a picture again, from its JSON."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxstyle.app.cli.arguments import command_line
from jaxstyle.app.cli.options import Messages
from jaxstyle.app.cli.pictures import place
from jaxstyle.io.errors import InputError
from jaxstyle.io.locations import is_url, redact


def repeat(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="JSON")],
    *,
    output: str | None = None,
    memory: str | None = None,
    overwrite: bool = False,
    messages: Messages,
) -> int:
    """Paint a picture again from the JSON file next to it, in any folder.

    All settings are those of the JSON: recipe, size, seed, masks and the rest. Pictures and
    network weights must not have changed; the message names those that have.

    Args:
        file: The JSON file next to the picture.
        output: The picture to write [out-again.png for out.png].
        memory: Memory limit, such as 4GB [what is available].
        overwrite: Replace existing files that jaxstyle did not write.
        messages: What is printed.
    """
    command = command_line(repeat, locals())
    if is_url(file):
        raise InputError(
            f"{redact(file)} is an address: download the JSON, and the pictures that it names next "
            "to it"
        )
    # These load JAX, which --help does not need.
    from jaxstyle.app.job import output_path  # noqa: PLC0415
    from jaxstyle.app.memory_estimate import parse_memory  # noqa: PLC0415
    from jaxstyle.app.painting import paint  # noqa: PLC0415
    from jaxstyle.app.repeat import job_of  # noqa: PLC0415

    named = {} if output is None else {"output": output_path(place(output))}
    job = job_of(
        Path(file),
        memory=parse_memory(memory) if memory else None,
        overwrite=overwrite,
        command=command,
        **named,
        **vars(messages),
    )
    return paint(job)
