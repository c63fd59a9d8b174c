"""What the errors of object stores and web servers mean; fsspec passes on those of each library.

No text of such an error is shown: it may hold an address with its signature.
"""

import errno
from collections.abc import Iterator

_TEMPORARY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_TEMPORARY_ERRNOS = (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO), errno.EPIPE)
# Connections that break, in aiohttp, botocore, fsspec, and the libraries of Google.
_BROKEN = {
    "ClientConnectionError", "ClientPayloadError", "HTTPClientError", "IncompleteReadError",
    "IncompleteRead", "ResponseParserError", "FSTimeoutError", "ReadTimeoutError", "TransportError",
    "ChecksumError", "ResponseStreamingError",
}  # fmt: skip
# Of these, nobody has answered.
_UNREACHABLE = {
    "ClientConnectorError", "EndpointConnectionError", "ConnectTimeoutError",
    "ConnectionTimeoutError", "ConnectionRefusedError", "gaierror",
}  # fmt: skip
_WITHOUT_KEYS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_CERTIFICATE = {"SSLError", "ClientConnectorCertificateError", "ClientConnectorSSLError"}


def is_missing(error: BaseException) -> bool:
    """Whether there is no such file, bucket or page."""
    codes = {*_statuses(error)}
    if isinstance(error, FileNotFoundError):
        # fsspec says so of any failure of a web server.
        return codes <= {404, 410} and not is_temporary(error) and not _names(error) & _CERTIFICATE
    return bool(codes) and codes <= {404, 410}


def is_temporary(error: BaseException) -> bool:
    """Whether it is worth trying again."""
    if _names(error) & (_CERTIFICATE | _WITHOUT_KEYS):
        return False
    if codes := {*_statuses(error)}:
        return not codes.isdisjoint(_TEMPORARY_STATUSES)
    return any(
        isinstance(each, TimeoutError | ConnectionError | EOFError)
        or getattr(each, "errno", None) in _TEMPORARY_ERRNOS
        for each in _chain(error)
    ) or bool(_names(error) & (_BROKEN | _UNREACHABLE))


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody has answered."""
    return bool(_names(error) & _UNREACHABLE)


def has_answered(error: BaseException) -> bool:
    """Whether a server has answered, though not as it should."""
    return bool([*_statuses(error)])


def explain(error: BaseException) -> str:
    """Says what is wrong and what to do, as the rest of a sentence."""
    names, codes = _names(error), {*_statuses(error)}
    if names & _WITHOUT_KEYS:
        text = (
            "there are no credentials for it on this machine; set them, such as AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY for s3://"
        )
    elif names & _CERTIFICATE:
        text = "its certificate is not valid; check the address"
    elif codes & {401, 403} or "PermissionError" in names:
        text = "the server refuses; check the credentials and what they may read and write"
    elif is_unreachable(error):
        text = "the server cannot be reached; check the address and the network"
    elif "FileExistsError" in names:
        text = "another program has written it meanwhile; name another output"
    elif is_temporary(error):
        answer = f" (status {min(codes)})" if codes else ""
        text = f"the server does not answer as it should{answer}; try again later"
    else:
        answer = f"status {min(codes)}" if codes else type(error).__name__
        text = f"the request failed ({answer}); check the address"
    return text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(9):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def _statuses(error: BaseException) -> Iterator[int]:
    """Yields the status codes of HTTP in an error and its causes."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        found = [getattr(each, "status", None)]
        if type(each).__name__ == "HttpError":  # of gcsfs; aiohttp has a code of broken answers
            found.append(getattr(each, "code", None))
        if isinstance(response, dict):
            found.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        elif response is not None:
            found.append(getattr(response, "status_code", None))
        yield from (code for code in found if isinstance(code, int) and 400 <= code < 600)
