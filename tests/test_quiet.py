import subprocess
import sys

from absl.testing import absltest, parameterized


class ImportTest(parameterized.TestCase):
    @parameterized.parameters(("INFO", None), ("DEBUG", None), ("INFO", "0"))
    def test_keras_is_imported_when_it_is_used_and_not_before(self, verbosity, variable):
        program = f"""
import os, sys
from absl import logging
from tfpipe.compute import startup
if {variable!r} is not None:
    os.environ["TF_USE_LEGACY_KERAS"] = {variable!r}
logging.set_verbosity(logging.{verbosity})
startup.import_tensorflow()
import tfpipe.training.loop  # With all that a run needs.
assert "tensorflow" in sys.modules and "keras" not in sys.modules
assert os.environ.get("TF_USE_LEGACY_KERAS") == {variable!r}
import tensorflow as tf
print(tf.keras.layers.Dense(3)(tf.zeros([2, 4])).shape, tf.keras.__version__)
"""
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertStartsWith(run.stdout, "(2, 3) 3.")


if __name__ == "__main__":
    absltest.main()
