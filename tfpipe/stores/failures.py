"""What went wrong in a store: told from what its library raised, in words that hold no secret.

The words of such an exception are never passed on: they quote addresses with signatures, headers and whole answers.
"""

import errno
import http
import os
import re
import socket
from typing import Any, NamedTuple

_TOO_MANY, _TOO_EARLY = 429, 425
_AGAIN = (http.HTTPStatus.REQUEST_TIMEOUT, _TOO_MANY, _TOO_EARLY)
_DENIED = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
_ABSENT = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE)
# Of classes, by their names: boto, google-auth and aiohttp are not imported here.
_NO_CREDENTIALS = re.compile(r"Credential|TokenRetrieval|DefaultCredentials|RefreshError|ProfileNotFound")
_NO_CONNECTION = re.compile(
    r"Connect|Disconnect|EndpointConnection|Timeout|Payload|IncompleteRead|ChunkedEncoding|HTTPClient"
)
# Of S3, whatever their status is: what it got was not what was sent, or came too slowly.
_TRANSIENT_CODES = ("BadDigest", "IncompleteBody", "OperationAborted", "RequestTimeout", "XAmzContentSHA256Mismatch")
# Errors of the system that will be the same next time.
_LASTING = (errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS, errno.ENOTSUP)
# That a name is not known may be a moment's fault of a name server.
_TRIES_OF_A_NAME = 3


class ShortError(Exception):
    """An answer, or an object, has other than the promised bytes. Its words are ours."""


class StalledError(Exception):
    """A call did not come back in time. Its words are ours."""


class UnsizedError(Exception):
    """A store does not tell how large an object is. Its words are ours."""


class Failure(NamedTuple):
    """What went wrong.

    Attributes:
      problem: in words.
      is_transient: whether it may be better in a while.
      is_absent: whether there is no such object.
      remedy: what to do, in words.
      most_tries: after so many in all it is not tried again; None: the time alone limits them.
    """

    problem: str
    is_transient: bool = False
    is_absent: bool = False
    remedy: str = "try again when the store answers"
    most_tries: int | None = None


def failure(error: BaseException) -> Failure:
    """What an exception of a store's library means."""
    chain = _chain(error)
    if isinstance(error, (ShortError, StalledError)):
        return Failure(str(error), is_transient=True)
    if isinstance(error, UnsizedError):
        return Failure(str(error), remedy="fetch the file by other means, and give its path")
    names = [name for each in chain for name in (c.__name__ for c in type(each).__mro__)]
    if "BadHttpMessage" in names:  # To which aiohttp gives status 400, as if the store had answered it.
        return Failure("its answer is damaged", is_transient=True)
    if any("Checksum" in name for name in names):
        return Failure("what came has another checksum than the object", is_transient=True)
    for each in chain:  # HTTP's file system calls whatever went wrong a file that is not there.
        if (status := _status(each)) is not None:
            return _of_status(status, _code(each))
    if any(_NO_CREDENTIALS.search(name) for name in names):
        remedy = "set those of the store, such as AWS_ACCESS_KEY_ID or GOOGLE_APPLICATION_CREDENTIALS"
        return Failure("there are no credentials for it", remedy=remedy)
    if any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_NONAME for each in chain):
        remedy = "check the address, and AWS_ENDPOINT_URL where it is set"
        return Failure("its host is not known", is_transient=True, remedy=remedy, most_tries=_TRIES_OF_A_NAME)
    if any(_NO_CONNECTION.search(name) for name in names):
        return Failure("the connection failed or was too slow", is_transient=True)
    if isinstance(error, PermissionError):
        return _of_status(http.HTTPStatus.FORBIDDEN, None)
    if isinstance(error, FileNotFoundError):
        return _of_status(http.HTTPStatus.NOT_FOUND, None)
    if isinstance(error, OSError):
        words = os.strerror(error.errno) if isinstance(error.errno, int) else type(error).__name__
        return Failure(words, is_transient=error.errno not in _LASTING)
    return Failure(f"its library fails by {type(error).__name__}", remedy="check the address and the store")


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found


def _status(error: BaseException) -> int | None:
    """The status of HTTP that an exception of boto, aiohttp or gcsfs carries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:  # Not both: of aiohttp's errors the second is deprecated.
        status = error.status if hasattr(error, "status") else getattr(error, "code", None)
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _code(error: BaseException) -> str | None:
    """The name that S3 gives an error, such as `NoSuchBucket`."""
    response: Any = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[A-Za-z0-9]{3,40}", code) else None


def _of_status(status: int, code: str | None) -> Failure:
    if status in _DENIED:
        return Failure(f"access is denied{f' ({code})' if code else ''}", remedy="give credentials that may do that")
    if status in _ABSENT:
        is_bucket = code == "NoSuchBucket"
        problem = "there is no such bucket" if is_bucket else "there is no such object"
        return Failure(problem, is_absent=not is_bucket, remedy="check the address")
    try:
        phrase = code or http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    words = f"the store answers {status}{f' ({phrase})' if phrase else ''}"
    is_transient = status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _AGAIN or code in _TRANSIENT_CODES
    return Failure(words, is_transient) if is_transient else Failure(words, remedy="check the address and the store")
