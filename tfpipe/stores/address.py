"""Addresses of object stores: `SCHEME://HOST/PATH`, where a path on the disk may stand too. Imports no store."""

import re
import urllib.parse
from collections.abc import Sequence

from tfpipe.exceptions import ConfigError
from tfpipe.text import is_one_line, one_line

# What fsspec needs beside itself for each; None: nothing.
PACKAGES = {
    "gs": "gcsfs", "s3": "s3fs", "hdfs": "pyarrow", "http": "aiohttp", "https": "aiohttp", "memory": None,
}  # fmt: skip
READ_ONLY = ("http", "https")
_LASTING = tuple(name for name in PACKAGES if name != "memory")  # The memory of a process ends with it.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_LOST_SLASH = re.compile(rf"({'|'.join(PACKAGES)}):/(?!/)(.*)", re.DOTALL | re.IGNORECASE)
# Between `//` and the next `/`: `USER:PASSWORD@HOST:PORT`. A password that holds a `/` would end it early.
_PLACE = re.compile(r"(?:[^@/]*@)?(?P<host>[^@:/\[\]]*|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]*)?")


def is_address(text: str) -> bool:
    """Whether it is an address, of a store that is known or not, rather than a path or the name of a data set."""
    return _ADDRESS.fullmatch(text) is not None


def scheme(address: str) -> str:
    """Such as `s3`."""
    return address.partition("://")[0].lower()


def one_name(address: str) -> str:
    """The same place by one name, whichever way it was written: the scheme in small letters, and no slash twice."""
    return f"{scheme(address)}://{re.sub('/+', '/', address.partition('://')[2]).strip('/')}"


def check_path(option: str, path: str) -> None:
    """Raises ConfigError if a path is an address that lost a slash, as `pathlib.Path` makes it."""
    if found := _LOST_SLASH.fullmatch(path):
        name, rest = found.groups()
        where = one_line(shown(f"{name}://{rest}"))
        problem = f"has one slash where an address has two; give {where}, as text"
        raise ConfigError(option, where.replace("://", ":/", 1), problem)


def check(option: str, address: str, *, writes: bool = False, outlasts: bool = False) -> None:
    """Raises ConfigError unless the address, which `option` names, is one of a store that is known.

    Args:
      option: its name.
      address: its value.
      writes: whether objects are to be written there, too.
      outlasts: whether they are to be there when this process has ended.
    """
    found, rest = scheme(address), address.partition("://")[2]
    where = one_line(shown(address))
    if found == "file":
        raise ConfigError(option, where, f"give the path as it is: {one_line(urllib.parse.urlsplit(address).path)}")
    if found not in PACKAGES:
        raise ConfigError(option, where, f"no such kind of store; known are {', '.join(f'{x}://' for x in _LASTING)}")
    if outlasts and found not in _LASTING:
        raise ConfigError(
            option, where, "is gone when the command ends; give a folder, or an address of gs, s3 or hdfs"
        )
    place, _, path = rest.partition("/")
    if not is_one_line(address) or address != address.strip() or not _PLACE.fullmatch(_before(place, "?#")):
        raise ConfigError(option, where, f"is no address; give one such as {found}://{_EXAMPLES[found]}")
    if not (place or path.strip("/")) or (found != "memory" and not (place and path.strip("/"))):
        raise ConfigError(option, where, f"names no object; give an address such as {found}://{_EXAMPLES[found]}")
    if found in _CREDENTIALS and "@" in place:
        raise ConfigError(option, where, f"holds a user or a password; {_CREDENTIALS[found]}")
    if writes and found in READ_ONLY:
        raise ConfigError(option, where, "can be read, and not written; give a folder, or an address of gs, s3 or hdfs")
    if writes and set("?#*[]") & set(address):
        raise ConfigError(option, where, "has one of ? # * [ ], which stores take for more than a name; leave it out")


def joined(address: str, parts: Sequence[str] | str) -> str:
    """The address of what lies below another; what follows `?`, of HTTP, stays where it was: at the end."""
    parts = [parts] if isinstance(parts, str) else parts
    base, query = address, ""
    if scheme(address) in READ_ONLY:
        base = _before(address, "?#")
        query = address[len(base) :]
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))]) + query


def shown(address: str) -> str:
    """The address for people, logs and files: without user and password, and without what follows `?` or `#`.

    Signatures and keys stand there.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return address
    name, rest = match.groups()
    place, slash, path = _before(rest, "?#").partition("/")
    parts = _PLACE.fullmatch(place)
    if parts is None:  # Perhaps the half of a password.
        return f"{name}://..."
    return f"{name}://{parts['host']}{parts['port'] or ''}{slash}{path}"


def _before(text: str, marks: str) -> str:
    return re.split(f"[{re.escape(marks)}]", text, maxsplit=1)[0]


_EXAMPLES = {
    "gs": "BUCKET/NAME", "s3": "BUCKET/NAME", "hdfs": "HOST:PORT/PATH", "http": "HOST/PATH", "https": "HOST/PATH",
    "memory": "NAME",
}  # fmt: skip
_CREDENTIALS = {
    "s3": "give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws",
    "gs": "give them by GOOGLE_APPLICATION_CREDENTIALS, or by gcloud auth application-default login",
    "hdfs": "HADOOP_USER_NAME names the user",
    "memory": "it needs none",
}
