"""A workdir on an object store: the folder on this machine in which the run lies while it goes on."""

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tfpipe.disk import lock
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import WorkdirError
from tfpipe.stores import address as addresses
from tfpipe.stores import home


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
    from tfpipe.disk.mirror import Mirror  # Not for runs that lie on the disk.
    from tfpipe.stores.access import Store

    address = str(workdir).rstrip("/")
    addresses.check("workdir", address, writes=True)
    folder = home.home() / "runs" / hashlib.sha256(address.encode()).hexdigest()[:32]
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
            with contextlib.suppress(OSError):
                if mirror.holds_all():
                    shutil.rmtree(folder)


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
    with tempfile.TemporaryDirectory(prefix="tfpipe-") as folder:
        there = pathlib.Path(folder, "run")
        fetch(Store(address), there, wanted)
        yield Workdir(there, name=address)
