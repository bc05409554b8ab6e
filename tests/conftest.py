"""What holds for every test: no greetings from TensorFlow's C++ side, no GPU, absl flags usable under pytest.

With TFPIPE_TEST_ISA, such as AVX2, XLA uses no newer instructions, here and in the processes that tests start: so the
suite runs as on an older processor. The product never sets XLA_FLAGS.
"""

import os
import signal

# Those of XLA, which lets a name that it does not know pass for none.
ISAS = ("SSE4_2", "AVX", "AVX2", "AVX512", "AVX512_VNNI", "AVX512_BF16", "AMX", "AMX_FP16")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
if isa := os.environ.get("TFPIPE_TEST_ISA"):
    if isa not in ISAS:
        raise SystemExit(f"TFPIPE_TEST_ISA={isa}: expected one of {', '.join(ISAS)}")
    max_isa = f"--xla_cpu_max_isa={isa}"
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag != max_isa]
    os.environ["XLA_FLAGS"] = " ".join([*others, max_isa])  # The last one holds.

# As a shell has them for what it runs in the background: processes that the tests start would ignore them too.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

import joblib  # noqa: E402
import pytest  # noqa: E402
import scipy.linalg  # noqa: E402, F401  # It and NumPy each bring an OpenBLAS, whose threads are limited below.
import threadpoolctl  # noqa: E402
from absl import flags, logging  # noqa: E402

# Several processes share the cores: OpenBLAS's threads would wait for each other, busily.
threadpoolctl.threadpool_limits(1, user_api="blas")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    # One more than the cores that this process may use, as tests wait for processes that they start: 196 s on two
    # cores, where two workers took 206. xdist itself counts the cores of the machine.
    return joblib.cpu_count() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A method of tf.test.TestCase that only looks like a test, and skips itself.
    items[:] = [item for item in items if item.name != "test_session"]


@pytest.fixture(autouse=True, scope="session")
def _absl() -> None:
    flags.FLAGS.mark_as_parsed()  # tf.test's create_tempdir reads flags.
    logging.set_verbosity(logging.INFO)
