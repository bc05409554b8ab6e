"""The examples of the README and of docs/from_theano.md run."""

import os
import pathlib

import numpy as np
import tensorflow as tf

import tfpipe
from experiments.check_exports import PROGRAMS
from tests import made
from tfpipe.model import artifact

REPOSITORY = pathlib.Path(__file__).parent.parent


def python_blocks(name):
    """The examples on a page."""
    return [rest.split("```")[0] for rest in (REPOSITORY / name).read_text("utf-8").split("```python\n")[1:]]


class ReadmeTest(tf.test.TestCase):
    def test_the_model_needs_numpy_alone(self):
        block = next(b for b in python_blocks("README.md") if "np.load" in b)
        self.assertNotIn("tfpipe", block)
        folder = pathlib.Path(self.create_tempdir().full_path)
        tfpipe.train(tfpipe.TrainConfig(batch_size=10, epochs=1, device="cpu"), made.splits(), folder / "run")
        before = pathlib.Path.cwd()
        os.chdir(folder / "run")
        self.addCleanup(os.chdir, before)
        names = {}
        exec(block, names)
        expected = artifact.load("model.npz").probabilities(np.zeros((1, 24)))
        self.assertAllClose(names["p"], expected, rtol=1e-12)
        # And it is the program that is asked for all test images of MNIST.
        model, *program = PROGRAMS["numpy"].strip().splitlines()
        self.assertEqual(model, "model = np.load(model)")
        self.assertLen(program, 3)
        self.assertIn("\n".join(program), block)

    def test_the_python_interface(self):
        block = next(b for b in python_blocks("README.md") if "tfpipe.train(" in b)
        names = {}
        exec(block, names)
        self.assertLess(names["result"].report["test_error"], 0.15)
        self.assertEqual(names["model"].W.shape, (64, 10))

    def test_the_step_of_the_page_for_theanos_readers(self):
        block = next(b for b in python_blocks("docs/from_theano.md") if "tf.GradientTape" in b)
        images, labels = made.images(10)
        names = {"tf": tf, "model": tfpipe.SoftmaxRegression(24, 3), "images": images, "labels": labels}
        exec(block, names | {"learning_rate": 1e-5})
        cost = names["model"].negative_log_likelihood(images, labels)
        self.assertLess(cost, tf.math.log(3.0))


if __name__ == "__main__":
    tf.test.main()
