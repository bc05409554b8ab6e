"""What is kept of a run while it goes on, in its workdir: the state to go on from, and the best model so far."""

import contextlib
import time
from concurrent.futures import Future

from tfpipe.compute.device import Workers
from tfpipe.disk import checkpoints, files
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.disk.workdir import Workdir
from tfpipe.model import artifact
from tfpipe.model.artifact import TrainedModel
from tfpipe.monitor import warn
from tfpipe.training.state import Origin, State, pack

# A write that is whole waits for the disk.
_SECONDS_BETWEEN_MODELS = 2.0
_SECONDS_BETWEEN_TRIES = 60.0


class Keeper:
    """Brings state and model to the disk beside the training, one at a time.

    Args:
      workdir: this process must own it.
      origin: of the run.
      every: seconds between two states.
      workers: who do it.
    """

    def __init__(self, workdir: Workdir, origin: Origin, every: float, workers: Workers):
        self._workdir = workdir
        self._checkpoints = Checkpoints(workdir.checkpoints)
        self._origin = origin
        self._every = every
        self._workers = workers
        self._under_way: Future[None] | None = None
        self._next_state = time.monotonic() + every
        self._next_model = 0.0
        self._made: tuple[int, int] | None = None  # Of which head, after which iteration, the model in the file is.

    def wants_state(self) -> bool:
        """Whether it is time for a state.

        Raises:
          WorkdirError: the last one could not be written.
        """
        return self._is_free() and time.monotonic() >= self._next_state

    def keep_state(self, state: State) -> None:
        """Begins to write `state`, of which nothing may change any more."""
        self._under_way = self._workers.start(self._save_state, state)
        self._next_state = time.monotonic() + self._every

    def keep_last_state(self, state: State) -> None:
        """Writes `state`, and returns when it is on the disk. Raises WorkdirError if it does not get there."""
        self.wait()
        self._save_state(state)

    def wants_model(self, made: tuple[int, int]) -> bool:
        """Whether it is time to keep the model of this head, after this iteration."""
        return made != self._made and self._is_free() and time.monotonic() >= self._next_model

    def keep_model(self, made: tuple[int, int], model: TrainedModel) -> None:
        """Begins to write `model`. If it cannot be written now, there may be room again before the end."""
        self._under_way = self._workers.start(self._try_to_save_model, made, model)

    def keep_last_model(self, model: TrainedModel) -> None:
        """Writes `model`, and returns when it is on the disk. Raises WorkdirError if it does not get there."""
        self.wait()
        with self._workdir.writing(self._workdir.model.name):
            artifact.save(self._workdir.model, model)

    def wait(self) -> None:
        """Returns when nothing is being written any more. Raises WorkdirError if that failed."""
        if self._under_way:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def _is_free(self) -> bool:
        if self._under_way and self._under_way.done():
            self.wait()
        return self._under_way is None

    def _save_state(self, state: State) -> None:
        for path in (self._workdir.metrics, *(self._workdir.tensorboard / name for name in state.written.events)):
            if path.is_file():
                with contextlib.suppress(OSError):  # Only what watches the run would miss something.
                    files.sync(path)
        saved = pack(state, self._origin)
        with self._workdir.writing(f"the state ({checkpoints.size(saved)})"):
            self._checkpoints.save(state.iteration + 1, saved)

    def _try_to_save_model(self, made: tuple[int, int], model: TrainedModel) -> None:
        try:
            artifact.save(self._workdir.model, model)
        except OSError as error:
            self._next_model = time.monotonic() + _SECONDS_BETWEEN_TRIES
            again = f"tried again in {_SECONDS_BETWEEN_TRIES:.0f} s"
            warn(f"model.npz cannot be written now: {error.strerror or error}; {again}")
        else:
            self._made = made
            self._next_model = time.monotonic() + _SECONDS_BETWEEN_MODELS
