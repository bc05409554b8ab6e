"""The best model so far, looked at on the test examples, for those who watch the run."""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import tensorflow as tf

from tfpipe.compute.workers import Workers
from tfpipe.monitor import Monitor, Selected
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Parameters
from tfpipe.training.plan import Plan
from tfpipe.training.record import Record


class Pictures:
    """Has the monitor draw the best model, when it wants to: in the background, one after the other."""

    def __init__(self, plan: Plan, test: Evaluation, monitor: Monitor, workers: Workers):
        self._examples = plan.splits.test
        self._test = test
        self._monitor = monitor
        self._workers = workers
        self._under_way: Future[None] | None = None

    def draw_if_due(self, record: Record, steps: int) -> None:
        """Begins to draw the best model, if it is another one and its time has come."""
        if record.made is not None and self._monitor.wants_model(record.made):
            self._monitor.selecting(record.made)
            look = self._looker(record, steps)
            self._under_way = self._workers.start(self._monitor.selected, look)

    def wait(self) -> None:
        """Returns when nothing is drawn any more."""
        if self._under_way:
            self._under_way.result()

    def _looker(self, record: Record, steps: int) -> Callable[[], Selected]:
        made, model = record.made, record.model()
        assert made is not None
        head, _ = made
        W, b = record.best.W[head][np.newaxis].copy(), record.best.b[head][np.newaxis].copy()

        def look() -> Selected:
            diagnosis = self._test.diagnose(Parameters(tf.constant(W), tf.constant(b), tf.zeros(1, tf.int32), 1))
            return Selected(max(0, steps - 1), made, model, diagnosis, self._examples)

        return look
