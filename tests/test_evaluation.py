import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tests.minibatches import BY_255
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.pipeline import residency
from tfpipe.pipeline.sampler import Sampler
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.weights import balance
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Parameters


class EvaluationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.examples = made.splits(n_validation=40).validation
        self.x, self.y = made.as_float64(self.examples, 255.0)
        random = np.random.default_rng(0)
        self.W = random.normal(size=(5, 3, 24)).astype(np.float32)
        self.b = random.normal(size=(5, 3)).astype(np.float32)
        self.column = np.zeros(5, np.int32)
        self.masks = np.ones((1, 40), np.float32)
        self.balance = None

    def evaluation(
        self, length, programs=1, *, batch_size=9, arithmetic="float32", drop_remainder=False, is_resident=True
    ):
        workers = self.enter_context(Workers(Device("/CPU:0", "cpu", programs=programs)))
        (split,) = residency.place([self.examples])
        # By default minibatches of 9, of which the last has 4.
        sampler = Sampler(40, batch_size, drop_remainder=drop_remainder)
        objective = Objective.of(BY_255, split.labels, self.masks, sampler.examples, arithmetic, balance=self.balance)
        return Evaluation(split._replace(is_resident=is_resident), objective, sampler, length, workers)

    def groups(self, sizes, padding=0):
        """Groups of so many heads; in the last one others fill up."""
        ends = np.cumsum(sizes)
        places = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        padded = [*places[:-1], np.append(places[-1], np.zeros(padding, np.int64))]
        return [
            Parameters(tf.constant(self.W[rows]), tf.constant(self.b[rows]), tf.constant(self.column[rows]), size)
            for rows, size in zip(padded, sizes, strict=True)
        ]

    def assert_measures(self, found, n_examples=40):
        errors, costs = found
        x, y = self.x[:n_examples], self.y[:n_examples]
        expected = [oracle.measure(W.T, b, x, y) for W, b in zip(self.W, self.b, strict=True)]
        self.assertAllEqual(np.round(errors * n_examples), [wrong for wrong, _ in expected])
        # A logit sums 24 products, and is below 10: in float32 off by 24 2^-24 10 = 1.4e-5 at worst, with bytes by
        # 4e-6; the mean of 40 losses by sqrt(40) less.
        self.assertAllClose(costs, [cost for _, cost in expected], rtol=1e-5)
        self.assertLen(set(np.round(costs, 3)), 5)  # No two heads could be exchanged.

    @parameterized.parameters(((2, 2, 1), 0, 2, "float32"), ((1, 4), 2, 9, "int8"))
    def test_groups_against_numpy(self, sizes, padding, length, arithmetic):
        self.assert_measures_as_numpy(sizes, padding, length, arithmetic)

    @parameterized.parameters(((5,), 1, 9, "float32"), ((5,), 1, 2, "float32"))
    @pytest.mark.exhaustive
    def test_one_group_against_numpy(self, sizes, padding, length, arithmetic):
        self.assert_measures_as_numpy(sizes, padding, length, arithmetic)

    def assert_measures_as_numpy(self, sizes, padding, length, arithmetic):
        groups = self.groups(sizes, padding)
        evaluation = self.evaluation(length, len(sizes), arithmetic=arithmetic)
        self.assertEqual(evaluation.whole is None, length == 2)
        evaluation.compile(groups)
        for _ in range(2):
            self.assert_measures(evaluation.measure(groups))

    # All in one span; in three; in two, with room for a sixth minibatch in each.
    @parameterized.parameters((9, 9, "float32"), (2, 9, "float32"), (5, 4, "int8"))
    def test_what_a_head_does_on_each_example(self, length, batch_size, arithmetic):
        evaluation = self.evaluation(length, batch_size=batch_size, arithmetic=arithmetic)
        for W, b in zip(self.W, self.b, strict=True):
            found = evaluation.diagnose(
                Parameters(tf.constant(W[np.newaxis]), tf.constant(b[np.newaxis]), tf.zeros(1, tf.int32), 1)
            )
            expected = oracle.log_probabilities(W.T, b, self.x)
            self.assertAllEqual(found.labels, self.y)
            self.assertAllEqual(found.predicted, expected.argmax(axis=1))
            self.assertAllClose(found.confidence, np.exp(expected.max(axis=1)), rtol=1e-5)
            self.assertEqual(found.n_out, 3)

    @parameterized.parameters(9, 2)
    def test_full_minibatches_only(self, length):
        evaluation, groups = self.evaluation(length, drop_remainder=True), self.groups((5,), 1)
        self.assert_measures(evaluation.measure(groups), 36)
        self.assertAllEqual(evaluation.labels, self.y[:36])
        found = evaluation.diagnose(Parameters(groups[0].W[:1], groups[0].b[:1], groups[0].column[:1], 1))
        self.assertAllEqual(
            found.predicted, oracle.log_probabilities(self.W[0].T, self.b[0], self.x[:36]).argmax(axis=1)
        )

    # All in one span, and in three; of the second 36 examples count.
    @parameterized.parameters((9, False), (2, True))
    def test_balanced_errors(self, length, drop_remainder):
        self.balance = balance(self.y[:36] if drop_remainder else self.y)
        found = self.evaluation(length, 2, drop_remainder=drop_remainder).measure(self.groups((3, 2), 1))
        n = 36 if drop_remainder else 40
        self.assert_measures(found[:2], n)
        x, y = self.x[:n], self.y[:n]
        self.assertGreater(len(set(np.bincount(y))), 1)
        expected = [oracle.balanced_error((x @ W.T + b).argmax(axis=1), y) for W, b in zip(self.W, self.b, strict=True)]
        self.assertAllClose(found[2], expected, rtol=0, atol=1e-13)

    def test_images_that_come_with_each_span(self):
        self.assert_measures(self.evaluation(2, is_resident=False).measure(self.groups((5,), 1)))

    def test_each_head_is_measured_on_the_rows_of_its_column(self):
        self.masks = (np.arange(40) % np.array([[1], [2], [3]]) == 0).astype(np.float32)  # 40, 20 and 14 rows.
        self.column = np.array([2, 0, 1, 1, 2], np.int32)
        errors, costs = self.evaluation(2, programs=2).measure(self.groups((3, 2), 1))
        for head, column in enumerate(self.column):
            rows = np.flatnonzero(self.masks[column])
            wrong, cost = oracle.measure(self.W[head].T, self.b[head], self.x[rows], self.y[rows])
            self.assertEqual(round(errors[head] * len(rows), 9), wrong)
            self.assertAllClose(costs[head], cost, rtol=1e-5)
        self.assertLen(set(np.round(costs, 3)), 5)

    def test_after_a_failure_the_next_pass_begins_at_the_beginning(self):
        evaluation, groups = self.evaluation(2), self.groups((5,), 1)
        with self.assertRaisesRegex(ValueError, "Dimensions must be equal"):
            evaluation.measure([groups[0]._replace(W=groups[0].W[:, :, :3])])
        found = evaluation.diagnose(Parameters(groups[0].W[:1], groups[0].b[:1], groups[0].column[:1], 1))
        expected = np.exp(oracle.log_probabilities(self.W[0].T, self.b[0], self.x).max(axis=1))
        self.assertAllClose(found.confidence, expected, rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()
