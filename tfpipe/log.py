"""The log: absl's logger, which the command line shows and a program configures as it likes.

By its logger rather than by `absl.logging.info`, which would give the root logger of the program a handler.
"""

from absl import logging

log = logging.get_absl_logger()
