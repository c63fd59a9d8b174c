"""What JAX says of accelerators that it cannot use, as one line with the way out.

JAX is not imported here: its import fails already if its parts are of different versions.
"""

import importlib.util
import logging
import os
import re
import traceback
import warnings
from typing import Any

from jaxstyle.app.console import print_message
from jaxstyle.io.files import describe_error

_INSTALL = "pip install -U 'jax[cuda12]', or jax[cuda13], jax[tpu], or jax for the CPU alone"
_BUSY = (
    "if other programs use the card (nvidia-smi lists them), wait, choose another card with "
    "CUDA_VISIBLE_DEVICES=1, or set XLA_PYTHON_CLIENT_PREALLOCATE=false"
)
_CHECK = "check nvidia-smi, CUDA_VISIBLE_DEVICES and JAX_PLATFORMS; JAX_PLATFORMS=cpu uses the CPU"
_NO_TPU = (
    "check that this machine has a TPU that no other program uses; JAX_PLATFORMS=cpu uses the CPU"
)
_UNKNOWN = f"set JAX_PLATFORMS to cpu, cuda or tpu, and install what it names: {_INSTALL}"
_MEMORY = "OUT_OF_MEMORY|RESOURCE_EXHAUSTED|Out of memory|CUBLAS|CUDNN|DNN library|pre-allocating"
_WAYS_OUT = (
    ("not in the list of known backends|no plugin of CUDA", _UNKNOWN),
    # jax, jaxlib and the plugin of an accelerator must be of one version.
    ("jaxlib (is )?version|requires jaxlib|PJRT|plugin", f"install them together: {_INSTALL}"),
    ("CUDA-enabled jaxlib is not installed|TPU-enabled|Failed to open libtpu", _INSTALL),
    ("backend 'tpu'", _NO_TPU),
    (_MEMORY, _BUSY),
)
_NO_JAX = ("jax requires", "This version of jax requires", "jaxlib is version", "jaxlib version")


def describe_backend_error(error: BaseException) -> str | None:
    """Returns a line about JAX that cannot start, None for any other error."""
    reason = " ".join(str(error).split())
    if isinstance(error, AssertionError):  # of JAX, if JAX_PLATFORMS=cuda and there is no card
        last = traceback.extract_tb(error.__traceback__)[-1]
        if "_default_backend" in (last.line or ""):
            chosen = os.environ.get("JAX_PLATFORMS", "")
            here = importlib.util.find_spec("jax_plugins")
            why = "it finds no device" if here else "there is no plugin of CUDA"
            reason = f"Unable to initialize backend '{chosen}': {why}"
    if not reason.startswith(("Unable to initialize backend", "Backend '", *_NO_JAX)):
        return None
    return f"{reason}; {way_out(reason)}"


def way_out(reason: str) -> str:
    """Returns what to do about what JAX says of its backends."""
    return next((advice for found, advice in _WAYS_OUT if re.search(found, reason)), _CHECK)


def report_in_one_line() -> None:
    """From now on, JAX's warnings about its backends are one line each, without a traceback."""
    logging.getLogger("jax._src.xla_bridge").addFilter(_report)
    show = warnings.showwarning

    def show_shortly(message: Warning | str, *where: Any, **more: Any) -> None:
        text = str(message)
        if not text.startswith("JAX plugin"):
            show(message, *where, **more)
        elif text not in seen:  # once for each part of the plugin
            seen.add(text)
            print_message(f"warning: {text} {way_out(text)}")

    seen: set[str] = set()
    warnings.showwarning = show_shortly


def _report(record: logging.LogRecord) -> bool:
    if record.levelno < logging.WARNING:
        return True
    text = " ".join(record.getMessage().split())
    if record.exc_info and record.exc_info[1] is not None:
        text += f" {describe_error(record.exc_info[1])}"
    print_message(f"warning: {text}; {way_out(text)}")
    return False
