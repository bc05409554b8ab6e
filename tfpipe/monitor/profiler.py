"""`--profile`: a few spans as TensorFlow's profiler sees them, for TensorBoard's tab Profile."""

import pathlib

import tensorflow as tf

from tfpipe.log import log

# The first span is left out: threads and memory are still being made ready. Of one that is measured beside the next it
# is told while that trains: then three of them are whole.
_FIRST_SPAN, _SPANS = 1, 4


class Profiler:
    """Records about spans 1 to 4, from 0, into `folder`."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._trained = 0
        self._records = False

    def trained(self) -> None:
        """A span was trained."""
        self._trained += 1
        if self._trained == _FIRST_SPAN:
            tf.profiler.experimental.start(str(self._folder))
            self._records = True
        elif self._trained == _FIRST_SPAN + _SPANS:
            self.close()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._records:
            self._records = False
            # One that holds no span would be an empty tab.
            is_empty = self._trained == _FIRST_SPAN
            tf.profiler.experimental.stop(save=not is_empty)
            if is_empty:
                log.warning("--profile: the run ended after its first span, which is not recorded")
                return
            log.info("a profile is in %s; to open it in TensorBoard: pip install xprof", self._folder)
