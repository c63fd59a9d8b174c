"""Connects to a Ray cluster, or says in one line why that fails."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxstyle.io import InputError
from jaxstyle.io.files import describe_error

# Ray reads these when it is imported. Its messages would go to stdout, between lines of JSON; they
# are in its logs, and what matters of them is said here.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
try:
    import ray
except ImportError:
    raise InputError(
        "--engine ray needs Ray: pip install 'jaxstyle[ray]', here and on each node"
    ) from None

_SECONDS = 5.0  # for an address to answer
# HTTP/2, which Ray speaks: the client's preface with no settings, and a server's settings.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Connects this process, as a driver, to a cluster.

    Args:
        address: `HOST:PORT`; None for `RAY_ADDRESS`, or else the cluster of this machine.

    Raises:
        InputError: if there is no cluster, or it is of other versions.
    """
    jax.config.update("jax_platforms", "cpu")  # the devices here are for workers
    source = "--address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        _check_last()
    else:
        _check_answers(address, source)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise InputError(
            "no Ray cluster runs on this machine: start one with ray start --head, or give "
            "--address HOST:PORT"
        ) from None
    except (RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(f"{source} {address}: {describe_error(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_last() -> None:
    """Checks that the cluster answers of which Ray's file says that it was started here last.

    Raises:
        InputError: if it does not.
    """
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    try:
        address = Path(temporary, "ray", "ray_current_cluster").read_text().strip()
    except (OSError, ValueError):  # Ray looks for processes
        return
    problem = problem_of_head(address)
    if problem is not None:
        raise InputError(
            f"the Ray cluster that was started last on this machine, {address}, does not answer "
            f"({problem}): start one with ray start --head, or give --address HOST:PORT"
        )


def _check_answers(address: str, source: str) -> None:
    """Checks that a server of the kind of Ray's answers, for which Ray waits longer.

    Raises:
        InputError: if it does not.
    """
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise InputError(
            f"{source} {address}: give HOST:PORT of the cluster's head, as ray start prints it"
        )
    problem = problem_of_head(address)
    if problem is not None:
        raise InputError(
            f"{source} {address}: {problem}; give HOST:PORT of the cluster's head, as ray start "
            "prints it"
        )


def problem_of_head(address: str) -> str | None:
    """Returns why the head of a cluster does not answer, or None."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return "this is no address"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return None
            connection.sendall(_PREFACE)
            if connection.recv(9)[3:4] == bytes([_SETTINGS]):
                return None
    except (OSError, OverflowError) as error:
        return describe_error(error)
    return "it does not answer as Ray does"
