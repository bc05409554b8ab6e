from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tfpipe.compute import int8
from tfpipe.compute.device import Device, Workers
from tfpipe.data.scaling import by_pixel_max
from tfpipe.pipeline import residency
from tfpipe.pipeline.inputs import MinibatchRows
from tfpipe.solvers.steps import Evaluator, Inputs
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.grid import Parameters


class EvaluationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(sizes=[(5,), (2, 2, 1), (1, 4)], chunk=[2, 9], multiplies_int8=[False, True])
    def test_groups_of_all_sizes_against_numpy(self, sizes, chunk, multiplies_int8):
        self.enter_context(mock.patch.object(int8, "_LEAST_SIZE", 0))
        splits = made.splits(n_validation=40)
        (stored,) = residency.store([splits.validation])
        workers = self.enter_context(Workers(Device("/CPU:0", "cpu", programs=len(sizes))))
        evaluator = Evaluator(Inputs(by_pixel_max(255.0), multiplies_int8=multiplies_int8))
        # Minibatches of 9, of which the last has 4.
        evaluation = Evaluation(evaluator, stored, MinibatchRows(40, 9, drop_remainder=False), chunk, workers)
        random = np.random.default_rng(0)
        W, b = random.normal(size=(5, 3, 24)).astype(np.float32), random.normal(size=(5, 3)).astype(np.float32)
        bounds = np.cumsum(sizes)[:-1]
        groups = [
            Parameters(*map(tf.constant, part)) for part in zip(np.split(W, bounds), np.split(b, bounds), strict=True)
        ]
        evaluation.compile(groups, groups)
        x, y = made.as_float64(splits.validation, 255.0)
        expected = [oracle.measure(W[head].T, b[head], x, y) for head in range(5)]
        for _ in range(2):
            errors, costs = evaluation.measure(groups)
            self.assertAllEqual(np.round(errors * 40), [wrong for wrong, _ in expected])
            self.assertAllClose(costs, [cost for _, cost in expected], rtol=1e-5)
            for head in range(5):
                found = evaluation.diagnose(Parameters(tf.constant(W[[head]]), tf.constant(b[[head]])))
                expected_log = oracle.log_probabilities(W[head].T, b[head], x)
                self.assertAllEqual(found.labels, y)
                self.assertAllEqual(found.predicted, expected_log.argmax(axis=1))
                self.assertAllClose(found.confidence, np.exp(expected_log.max(axis=1)), rtol=1e-5)
                self.assertEqual(found.n_out, 3)
        self.assertLen(set(np.round(costs, 3)), 5)  # No two heads could be exchanged.


if __name__ == "__main__":
    tf.test.main()
