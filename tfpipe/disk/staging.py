"""A workdir on an object store: the folder on this machine in which the run lies while it goes on."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping

from tfpipe.disk import lock
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError
from tfpipe.stores import address as addresses
from tfpipe.stores import home

# Of each kind of store, the variables that name another server. Two servers may have buckets of one name.
_SERVERS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",),
}  # fmt: skip


@contextlib.contextmanager
def opened(workdir: pathlib.Path | str | Workdir) -> Iterator[Workdir]:
    """The workdir that a path or an address names; one on a store is fetched to a folder of this machine.

    That folder is gone in the end if the store has all of it. Else it stays: the next run of the same address here goes
    on from it.

    Args:
      workdir: the path or address; or a workdir that is open already.

    Raises:
      ConfigError: no run can be at the address.
      StoreError: the store cannot be read.
      WorkdirError: what is there is no valid run, or another process of this machine has it.
    """
    if isinstance(workdir, Workdir):
        yield workdir
        return
    if not addresses.is_address(str(workdir)):
        yield Workdir(workdir)
        return
    from tfpipe.disk.mirror import Mirror, discard  # Not for runs that lie on the disk.
    from tfpipe.stores.access import Store

    address = str(workdir).rstrip("/")
    addresses.check("workdir", address, writes=True)
    address = addresses.one_name(address)
    key = "\0".join([address, *_servers(addresses.scheme(address), os.environ)])
    folder = home.home() / "runs" / hashlib.sha256(key.encode()).hexdigest()[:32]
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.held(folder.with_suffix(".lock"), address))
            mirror = Mirror(Store(address), folder)
            mirror.fetch()
        except lock.HeldError as error:
            raise WorkdirError(
                "workdir", address, f"is in use by {error}; wait for its end, or give another workdir"
            ) from None
        except OSError as error:
            problem = f"needs the folder {folder.parent}, which cannot be written: {error.strerror}"
            raise WorkdirError("workdir", address, f"{problem}; {home.VARIABLE} names another") from error
        try:
            yield Workdir(folder, mirror)
        finally:
            mirror.leave()
            with contextlib.suppress(OSError):
                if mirror.holds_all():
                    discard(folder)


def _servers(scheme: str, environ: Mapping[str, str]) -> list[str]:
    """What in the environment says which server has the buckets, if that is not the usual one."""
    found = [environ.get(variable) for variable in _SERVERS.get(scheme, ())]
    with contextlib.suppress(ValueError, AttributeError):  # What fsspec takes from there may be no object of JSON.
        of_fsspec = json.loads(environ.get(f"FSSPEC_{scheme.upper()}", "{}"))
        found += [of_fsspec.get("endpoint_url"), of_fsspec.get("client_kwargs", {}).get("endpoint_url")]
    return [str(server) for server in found if server]


@contextlib.contextmanager
def fetched(workdir: str, wanted: tuple[str, ...]) -> Iterator[Workdir]:
    """The workdir of a run, to be read; of one on a store those files that are `wanted`, in a folder of their own.

    Raises:
      ConfigError, StoreError, WorkdirError: as `opened`.
    """
    if not addresses.is_address(workdir):
        yield Workdir(workdir)
        return
    from tfpipe.disk.mirror import fetch
    from tfpipe.stores.access import Store

    addresses.check("workdir", workdir)
    address = workdir.rstrip("/")
    if addresses.scheme(address) not in addresses.READ_ONLY:
        address = addresses.one_name(address)
    with tempfile.TemporaryDirectory(prefix="tfpipe-") as folder:
        there = pathlib.Path(folder, "run")
        fetch(Store(address), there, wanted)
        yield Workdir(there, name=address)
