"""How a run begins in its workdir: anew, or from the state that is there. NumPy only."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from tfpipe.disk import files
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import DataError
from tfpipe.log import log
from tfpipe.training.identity import Resumable, RunIdentity, identity_of, pack, unpack

_State = TypeVar("_State", bound=Resumable)
OTHERWISE = "give another workdir, or --noresume --overwrite to begin anew and lose what is there"


def restore_or_begin(
    workdir: Workdir,
    identity: RunIdentity,
    flag_lines: list[str],
    *,
    begin: _State,
    check_fits: Callable[[_State], None],
    resume: bool,
    overwrite: bool,
) -> _State:
    """Finds the state from which a run goes on in `workdir`, or begins a new one there; and writes `flags.txt`.

    Args:
      workdir: this process must own it.
      identity: of the run that is wanted.
      flag_lines: it as the lines of a flagfile, without the workdir.
      begin: the state of a new run.
      check_fits: raises DataError for a state whose arrays are not those of the run.
      resume: whether to go on from a state that is there, rather than to begin anew.
      overwrite: whether what is there may be removed for that.

    Raises:
      WorkdirError: it holds another run, or one that may not be overwritten, or its state is damaged; it cannot be
        written.
    """
    checkpoints = Checkpoints(workdir.checkpoints)
    if not resume:
        _make_room(workdir, checkpoints, overwrite=overwrite)
    state = _state_there(workdir, checkpoints, identity, begin)
    if state is not None:
        try:
            check_fits(state)
        except DataError as error:
            raise workdir.error(f"{error}; {OTHERWISE}") from error
    if state is None:
        # Before all else, so that a run without a state is one whose state was lost.
        state = begin
        with workdir.writing("the state"):
            checkpoints.save(0, pack(state, identity))
    with workdir.writing(workdir.flags.name):
        if not state.finished:  # The result of before, perhaps of an interrupted run, is not that of the run to come.
            workdir.report.unlink(missing_ok=True)
            workdir.page.unlink(missing_ok=True)
        text = "".join(f"{line}\n" for line in sorted([*flag_lines, f"--workdir={workdir.full_name}"])).encode()
        if not workdir.flags.exists() or workdir.flags.read_bytes() != text:
            files.write_whole(workdir.flags, text)
    return state


def _make_room(workdir: Workdir, checkpoints: Checkpoints, *, overwrite: bool) -> None:
    there = [*workdir.name_files(), *checkpoints.names()]
    if there and not overwrite:
        raise workdir.error(
            f"holds a run ({there[0]}), and --noresume would begin anew; give another workdir, or add --overwrite to "
            "lose what is there"
        )
    with workdir.writing("the run before"):
        checkpoints.clear()  # First: what is left without a state is refused, not taken for a run.
        workdir.clear()


def _state_there(workdir: Workdir, checkpoints: Checkpoints, identity: RunIdentity, begin: _State) -> _State | None:
    try:
        saved = checkpoints.load()
        if saved is None:
            if there := workdir.name_files():
                raise workdir.error(f"holds a run ({there[0]}) without its state; {OTHERWISE}")
            return None
        before = identity_of(saved)
        if obstacles := identity.obstacles(before, has_ended=saved.facts.get("finished") is True):
            raise workdir.error(f"holds a run with {'; '.join(obstacles)}; {OTHERWISE}")
        state = unpack(saved, begin)
    except DataError as error:
        raise workdir.error(f"{error}; {OTHERWISE}") from error
    except OSError as error:
        raise workdir.error(f"{error.filename or 'a state'} cannot be read: {error.strerror}") from error
    if state.finished and identity.length() != before.length():
        state = dataclasses.replace(state, finished=False)  # type: ignore[type-var]
    differences = identity.differences(before)
    if differences and not state.finished:
        log.warning(
            "the run goes on with %s: its figures will be as good, but not the same to the bit", ", ".join(differences)
        )
    return state
