"""What holds for every test: no greetings from TensorFlow's C++ side, no GPU, absl flags usable under pytest."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
from absl import flags, logging


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A method of tf.test.TestCase that only looks like a test, and skips itself.
    items[:] = [item for item in items if item.name != "test_session"]


@pytest.fixture(autouse=True, scope="session")
def _absl() -> None:
    flags.FLAGS.mark_as_parsed()  # tf.test's create_tempdir reads flags.
    logging.set_verbosity(logging.INFO)
