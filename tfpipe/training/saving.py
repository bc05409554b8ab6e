"""What is kept of a run while it goes on, in its workdir: the state to go on from, and the best model so far."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future

from tfpipe.compute.workers import Workers
from tfpipe.disk import checkpoints, files
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import StoreError
from tfpipe.model import artifact
from tfpipe.model.artifact import TrainedModel
from tfpipe.monitor import warn
from tfpipe.stores import background
from tfpipe.training.identity import Resumable, RunIdentity, pack

# A write that is whole waits for the disk.
_SECONDS_BETWEEN_MODELS = 2.0
_SECONDS_BETWEEN_TRIES = 60.0


class CheckpointManager:
    """Brings state and model to the disk beside the training, one of each at a time.

    Args:
      workdir: this process must own it.
      identity: of the run.
      every: seconds between two states.
      workers: who do it.
      clock: seconds, from any time on.
    """

    def __init__(
        self, workdir: Workdir, identity: RunIdentity, every: float, workers: Workers, clock: Callable[[], float]
    ):
        self._workdir = workdir
        self._clock = clock
        self._checkpoints = Checkpoints(workdir.checkpoints)
        self._identity = identity
        self._every = every
        self._workers = workers
        self._under_way: dict[str, Future[None]] = {}
        self._next_state = self._clock() + every
        self._next_model = self._clock()
        self._made: tuple[int, int] | None = None  # Which model is in the file.
        self._publishing: Future[None] | None = None
        self._is_published = True  # Whether no state was written since.

    def save_state_if_due(self, state: Callable[[], Resumable]) -> None:
        """Every few seconds begins to write a state, of which nothing may change any more; then to bring it to a store.

        Raises:
          WorkdirError: the last one could not be written; or another process has written to the store.
        """
        self._publish_if_due()
        if self._is_done_with("state") and self._clock() >= self._next_state:
            self._under_way["state"] = self._workers.start(self._save_state, state())
            self._next_state = self._clock() + self._every

    def save_last_state(self, state: Resumable) -> None:
        """Writes `state`, and returns when it is on the disk. Raises WorkdirError if it does not get there."""
        self.wait()
        self._save_state(state)

    def save_model_if_due(self, made: tuple[int, int] | None, model: Callable[[], TrainedModel]) -> None:
        """Every few seconds begins to write the best model, if there is another one.

        If it cannot be written now, there may be room again before the end.

        Args:
          made: its head, and the iteration after which it was made; None: there is none yet.
          model: gives it.
        """
        if made and made != self._made and self._is_done_with("model") and self._clock() >= self._next_model:
            self._under_way["model"] = self._workers.start(self._try_to_save_model, made, model())

    def save_last_model(self, model: TrainedModel) -> None:
        """Writes `model`, and returns when it is on the disk. Raises WorkdirError if it does not get there."""
        self.wait()
        with self._workdir.writing(self._workdir.model.name):
            artifact.save(self._workdir.model, model)

    def wait(self) -> None:
        """Returns when nothing is being written to the disk any more. Raises WorkdirError if that failed."""
        while self._under_way:
            self._under_way.popitem()[1].result()

    def _is_done_with(self, what: str) -> bool:
        """Whether nothing of the kind is being written. Raises WorkdirError if the last one could not be."""
        if what in self._under_way and self._under_way[what].done():
            self._under_way.pop(what).result()
        return what not in self._under_way

    def _save_state(self, state: Resumable) -> None:
        for path in (self._workdir.metrics, *(self._workdir.tensorboard / name for name in state.written.events)):
            if path.is_file():
                with contextlib.suppress(OSError):  # Only what watches the run would miss something.
                    files.sync(path)
        saved = pack(state, self._identity)
        with self._workdir.writing(f"the state ({checkpoints.size(saved)})"):
            self._checkpoints.save(state.steps, saved)
        self._is_published = False

    def _publish_if_due(self) -> None:
        """Nobody waits for it, not at the end either: a state gets to the disk however long a store takes."""
        if self._publishing and self._publishing.done():
            self._publishing.result()
            self._publishing = None
        if self._publishing is None and not self._is_published:
            self._is_published = True
            self._publishing = background.begun(self._try_to_publish)

    def _try_to_publish(self) -> None:
        try:
            self._workdir.publish()
        except StoreError as error:  # The state is on the disk, and at the end of the run it must get there.
            warn(f"{error}; the run goes on, and tries again after its next state")

    def _try_to_save_model(self, made: tuple[int, int], model: TrainedModel) -> None:
        try:
            artifact.save(self._workdir.model, model)
        except OSError as error:
            self._next_model = self._clock() + _SECONDS_BETWEEN_TRIES
            again = f"tried again in {_SECONDS_BETWEEN_TRIES:.0f} s"
            warn(f"model.npz cannot be written now: {error.strerror or error}; {again}")
        else:
            self._made = made
            self._next_model = self._clock() + _SECONDS_BETWEEN_MODELS
