"""Event files on disk, without TensorBoard: what a run that goes on will live through again is cut off."""

import os
import pathlib
from collections.abc import Mapping

from tfpipe.monitor.progress import warn

PREFIX = "events.out.tfevents"  # So TensorBoard wants their names to begin.


def cut(folder: pathlib.Path, held: Mapping[str, int]) -> None:
    """Brings the event files below `folder` to what they held.

    Args:
      folder: of the run.
      held: bytes of each file, by its path below `folder`; other event files are removed.

    Raises:
      OSError: a file cannot be changed.
    """
    there = {str(path.relative_to(folder)): path for path in folder.rglob(f"{PREFIX}.*")}
    for name, path in there.items():
        if path.suffix == ".profile-empty":  # The profiler's, by which TensorBoard finds what it recorded.
            continue
        if name not in held:
            path.unlink()
        elif held[name] < path.stat().st_size:
            os.truncate(path, held[name])
    short = [name for name, size in held.items() if name not in there or there[name].stat().st_size < size]
    if short:
        warn(f"{folder / short[0]}: holds less than it did: the curves of the time before have gaps")
