"""What a program finds after it has used tfpipe: what it had before, and nothing on its standard error."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl.testing import absltest, parameterized

REPOSITORY = pathlib.Path(__file__).parent.parent


def run(program, **variables):
    """The finished process of a program in Python, in an environment that says nothing of TensorFlow's log."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env=environment | {"PYTHONPATH": str(REPOSITORY)} | variables,
    )  # fmt: skip


LOOK = """
import gc, json, logging, os, pathlib, signal, sys, threading, warnings
import absl.logging

def look():
    files = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            files[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # By which the folder was read.
            pass
    files = {number: path for number, path in files.items() if not path.endswith(".ttf")}  # Matplotlib keeps them.
    found = {
        "files": files,
        "environment": dict(os.environ),
        "signals": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
        "levels": [absl.logging.get_verbosity(), absl.logging.get_absl_logger().level, logging.root.level],
        "handlers": [str(handler) for handler in logging.root.handlers],
        "warnings": [str(entry) for entry in warnings.filters],
        "hooks": [id(sys.stdin), id(sys.stdout), id(sys.stderr), id(sys.excepthook), id(warnings.showwarning)],
        "threads": [thread.name for thread in threading.enumerate()],
        "garbage": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "folder": os.getcwd(),
    }
    if "tensorflow" in sys.modules:
        import tensorflow as tf
        found["tensorflow"] = [
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
            tf.config.experimental.tensor_float_32_execution_enabled(),
            tf.config.get_soft_device_placement(),
            tf.config.optimizer.get_jit(),
            tf.executing_eagerly(),
            [tf.config.experimental.get_memory_growth(gpu) for gpu in tf.config.list_physical_devices("GPU")],
            tf.get_logger().level,
        ]
    return found
"""


def differences(before, after):
    return {name: (before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)}


class HostTest(parameterized.TestCase):
    @pytest.mark.exhaustive
    def test_a_program_that_trains_finds_everything_as_it_was(self):
        folder = self.create_tempdir().full_path
        process = run(f"""{LOOK}
seen = [look()]
import tfpipe
splits = tfpipe.load("digits")
result = tfpipe.train(tfpipe.TrainConfig(epochs=2), splits, "{folder}/first")
seen.append(look())
assert 0 < result.report["test_error"] < 0.5
assert "keras" not in sys.modules  # To import it would take a second.
assert {{"h5py", "joblib", "matplotlib.figure", "tensorboard"}} <= sys.modules.keys()  # Some set variables.

# And what a program set for itself.
import tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)
tf.config.set_soft_device_placement(False)
tf.get_logger().setLevel("ERROR")
absl.logging.set_verbosity(absl.logging.ERROR)
logging.root.setLevel(logging.CRITICAL)
warnings.simplefilter("error")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="2", TF_USE_LEGACY_KERAS="0")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
seen.append(look())
tfpipe.train(tfpipe.TrainConfig(epochs=2), tfpipe.load("digits"), "{folder}/second")
seen.append(look())

# TensorFlow is its second version also without the variables that its import set.
from tfpipe.model import artifact, export
export.saved_model(artifact.load("{folder}/first/model.npz"), pathlib.Path("{folder}/saved"))
images = splits.test.images
served = tf.saved_model.load("{folder}/saved").signatures["serving_default"](tf.constant(images, tf.float32))
assert (served["numbers"].numpy() == result.model.predict(images).numpy()).all()
assert tf.__internal__.tf2.enabled() and tf.executing_eagerly()
assert tf.keras.layers.Dense(3)(tf.zeros([2, 4])).shape == (2, 3)
print(json.dumps(seen))
""")
        said = [line for line in process.stderr.splitlines() if "was still falling" not in line]
        self.assertEqual((process.returncode, said), (0, []))
        before, after, set_by_the_program, after_that = json.loads(process.stdout)
        self.assertEqual(differences(set_by_the_program, after_that), {})
        # Of a package that is imported for the first time it is the package that decides.
        self.assertEqual(after.pop("tensorflow"), [0, 0, True, True, "", True, [], 0])
        self.assertEqual(differences(before, after), {})


class ImportsTest(parameterized.TestCase):
    def test_a_run_imports_nothing_that_it_does_not_use(self):
        folder = self.create_tempdir().full_path
        process = run(f"""
import sys
import numpy as np
import tfpipe
random = np.random.default_rng(0)
np.savez("{folder}/data.npz", images=random.normal(size=(90, 5)), labels=np.arange(90) % 3)
splits = tfpipe.load("{folder}/data.npz")
for options in ({{"solver": "sgd", "epochs": 2, "batch_size": 10}}, {{"solver": "lbfgs", "l2": (0.1,)}}):
    tfpipe.train(tfpipe.TrainConfig(**options), splits, "{folder}/" + options["solver"])
unused = "keras tf_keras sklearn scipy.optimize tensorflow_datasets pandas pyarrow torch onnx rich tfpipe.estimator"
print([name for name in unused.split() if name in sys.modules])
""")
        self.assertEqual((process.returncode, process.stdout), (0, "[]\n"), process.stderr)


GREETINGS = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795734322.785194    2775 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795734322.785195    2775 computation_placer.cc:177] computation placer already registered",
    "E0000 00:00:1795734322.785622    2775 cuda_dnn.cc:8579] Unable to register cuDNN factory",
]
OTHERS = ["of another thread", "I0102 03:04:05.678901 140234 served.py:12] of a log in Python", "a last line"]
# Stands for TensorFlow: it greets as that does, while others write.
STAND_IN = f"""
import os, subprocess, sys
os.write(2, {chr(10).join([*GREETINGS, *OTHERS]).encode()})
level, keras = os.environ.get("TF_CPP_MIN_LOG_LEVEL"), os.environ["TF_USE_LEGACY_KERAS"]
import gc
garbage_is_collected = gc.isenabled()
"""
CHILD = "import sys; input(); print('of a process', file=sys.stderr)"
WITH_A_CHILD = f"""{STAND_IN}
os.write(2, b"\\n")
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, text=True)
"""
IMPORT = """
import gc, os, sys
from absl import logging
from tfpipe.compute import startup

def look():
    of_files = sorted(os.listdir("/proc/self/fd")), os.readlink("/proc/self/fd/1")
    return dict(os.environ), *of_files, gc.isenabled(), gc.get_freeze_count()

before = look()
startup.import_tensorflow()
assert look() == before
import tensorflow
print(tensorflow.level, tensorflow.keras)
assert not tensorflow.garbage_is_collected
"""


class GreetingsTest(parameterized.TestCase):
    def run_with(self, stand_in, program, **variables):
        folder = self.create_tempdir()
        folder.create_file("tensorflow.py", content=stand_in)
        return run(program, **variables, PYTHONPATH=f"{folder.full_path}:{REPOSITORY}")

    @parameterized.parameters(
        ({}, "3", []),
        ({"TF_CPP_MIN_LOG_LEVEL": "1"}, "1", GREETINGS[2:]),
        ({"TF_CPP_MIN_LOG_LEVEL": "0", "TF_USE_LEGACY_KERAS": "0"}, "0", GREETINGS),
    )
    def test_greetings_that_nobody_asked_for_are_kept_back_and_nothing_else(self, variables, level, shown):
        process = self.run_with(STAND_IN, IMPORT, **variables)
        self.assertEqual(process.stdout, f"{level} 1\n", process.stderr)
        self.assertEqual(process.stderr.splitlines(), [*shown, *OTHERS])

    @parameterized.parameters("train", "SoftmaxRegression")
    def test_so_are_they_where_a_program_uses_what_needs_tensorflow(self, name):
        process = self.run_with(
            STAND_IN, f"import tfpipe\ntry: tfpipe.{name}\nexcept AttributeError: print('no function')"
        )
        self.assertEqual(process.stdout, "no function\n")  # Of the real one: it was imported.
        self.assertEqual(process.stderr.splitlines(), OTHERS)

    def test_they_are_shown_where_the_log_shows_everything(self):
        process = self.run_with(STAND_IN, IMPORT.replace("before =", "logging.set_verbosity(logging.DEBUG); before ="))
        self.assertEqual(process.stdout, "None 1\n", process.stderr)
        self.assertEqual(process.stderr.splitlines(), [*GREETINGS, *OTHERS])

    def test_they_are_shown_after_all_where_the_import_fails(self):
        process = self.run_with(f"{STAND_IN}\nraise ImportError('no library')", IMPORT)
        self.assertEqual(process.returncode, 1)
        for line in (*GREETINGS, *OTHERS, "ImportError: no library"):
            self.assertIn(line, process.stderr)

    def test_a_process_that_is_started_meanwhile_is_heard_to_its_end(self):
        program = f"{IMPORT}print('between', file=sys.stderr)\ntensorflow.child.communicate('now')\n"
        process = self.run_with(WITH_A_CHILD, program.replace("assert look()", "look()"))
        self.assertEqual(process.stdout, "3 1\n", process.stderr)
        self.assertEqual(process.stderr.splitlines(), [*OTHERS, "between", "of a process"])

    @parameterized.parameters("", "raise ImportError('no library')")
    def test_the_collector_of_garbage_is_as_it_was(self, end):
        for state in (True, False):
            process = self.run_with(
                f"{STAND_IN}\n{end}",
                f"import gc\nif not {state}: gc.disable()\nfrom tfpipe.compute import startup\n"
                "try: startup.import_tensorflow()\nexcept ImportError: pass\nprint(gc.isenabled())",
            )
            self.assertEqual(process.stdout, f"{state}\n", process.stderr)

    def test_a_program_without_standard_error(self):
        program = f"import os; os.close(2)\n{IMPORT}"
        process = self.run_with(STAND_IN.replace("os.write(2,", "bytes("), program)
        self.assertEqual((process.returncode, process.stdout), (0, "3 1\n"))


if __name__ == "__main__":
    absltest.main()
