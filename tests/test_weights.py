"""Training on examples that count more or less than others."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle
from tfpipe import Examples, TrainConfig, train
from tfpipe.solvers.sgd import Sgd
from tfpipe.solvers.weights import example_weights

SPLITS = made.splits(60, 40, 30)


def trained(images, labels, weights=None, **options):
    """W `[D, K]`, b and the report of a run on these training examples, a step an epoch."""
    splits = dataclasses.replace(SPLITS, train=Examples(images, labels, weights=weights))
    default = {"learning_rate": 0.3, "epochs": 30, "l2": 0.01, "device": "cpu"}
    result = train(TrainConfig(**default | options), splits)
    return result.model.W.numpy() * 255.0, result.model.b.numpy(), result.report


class WeightsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = SPLITS.train.images, SPLITS.train.labels
        self.weights = np.random.default_rng(0).integers(0, 4, 60)
        self.weights[:2] = 0, 3

    def assert_same(self, first, second):
        """Costs fall, so a step amplifies no error of the one before; each is rounded by 1e-7 of what is below 1."""
        self.assertAllClose(first[0], second[0], rtol=0, atol=1e-6)
        self.assertAllClose(first[1], second[1], rtol=0, atol=1e-6)
        self.assertGreater(np.abs(first[0]).max(), 0.1)
        self.assertEqual(first[2]["validation_error"], second[2]["validation_error"])
        self.assertAllClose(first[2]["validation_cost"], second[2]["validation_cost"], rtol=1e-5)

    @parameterized.parameters(None, "balanced")
    @pytest.mark.exhaustive
    def test_an_integer_weight_is_a_repeated_row_and_0_one_that_is_not_there(self, class_weight):
        weighted = trained(self.images, self.labels, self.weights, class_weight=class_weight)
        rows = np.repeat(np.arange(60), self.weights)
        repeated = trained(self.images[rows], self.labels[rows], class_weight=class_weight)
        self.assert_same(weighted, repeated)
        self.assertNotAllClose(weighted[0], trained(self.images, self.labels, class_weight=class_weight)[0], atol=1e-3)

    def test_rows_of_weight_0_are_left_out_whatever_they_hold(self):
        images, labels = self.images.copy(), self.labels.copy()
        images[::3], labels[::3] = 255, 2
        there = np.arange(60) % 3 > 0
        self.assert_same(trained(images, labels, there), trained(images[there], labels[there]))

    def test_only_their_ratios_count(self):
        self.assert_only_their_ratios_count(0.3)

    @parameterized.parameters(1.0, 1e-300, 1e300)
    @pytest.mark.exhaustive
    def test_only_their_ratios_count_at_any_scale(self, factor):
        self.assert_only_their_ratios_count(factor)

    def assert_only_their_ratios_count(self, factor):
        found, expected = (trained(self.images, self.labels, w) for w in (factor * self.weights, self.weights))
        self.assert_same(found, expected)
        self.assertAllClose(trained(self.images, self.labels, [factor] * 60)[0], trained(self.images, self.labels)[0])

    @pytest.mark.exhaustive
    def test_minibatches_by_numpy(self):
        # The cost of a minibatch of n examples is the sum of weight times loss, by n times the mean weight of all.
        weights = np.random.default_rng(1).uniform(0, 2, 60)
        options = {"batch_size": 7, "shuffle": False, "epochs": 3, "l2": 0.0}
        found = trained(self.images, self.labels, weights, **options)
        W, b, x = np.zeros((24, 3)), np.zeros(3), self.images.reshape(60, -1) / 255.0
        after = []
        for _ in range(3):
            for begin in range(0, 60, 7):
                rows = slice(begin, begin + 7)
                delta = np.exp(oracle.log_probabilities(W, b, x[rows])) - np.eye(3)[self.labels[rows]]
                delta *= (weights[rows] / (len(delta) * weights.mean()))[:, np.newaxis]
                W, b = W - 0.3 * x[rows].T @ delta, b - 0.3 * delta.sum(axis=0)
                after.append((W, b))
        W, b = after[found[2]["best_iteration"]]
        self.assertAllClose(found[0], W, rtol=0, atol=1e-6)
        self.assertAllClose(found[1], b, rtol=0, atol=1e-6)

    def test_a_cost_by_hand(self):
        # At W = 0, b = 0 every loss is log 2, and so is the weighted mean. A step with rate 1 on x = 1 and x = 2, of
        # classes 0 and 1, with weights 3 and 1: by their mean 3/2 and 1/2, P - Y = (-1/2, 1/2) and (1/2, -1/2), so
        # g_W = (-3/4 + 1/2, ...) / 2 = (-1/8, 1/8), g_b = (-3/4 + 1/4, ...) / 2 = (-1/4, 1/4). Then z = x/8 + 1/4 for
        # class 0, and -z for class 1: differences of 3/4 and 1.
        examples = Examples(np.array([[1.0], [2.0]]), [0, 1], weights=[3, 1])
        others = Examples(np.array([[1.0], [2.0]]), [0, 1])
        splits = dataclasses.replace(
            SPLITS, train=examples, validation=others, test=others, class_names=("a", "b"), pixel_max=1.0
        )
        result = train(TrainConfig(learning_rate=1.0, epochs=2, device="cpu"), splits)
        costs = [validated.reports["cost"][0] for validated in result.history]
        expected = (3 * np.log1p(np.exp(-3 / 4)) + np.log1p(np.exp(1.0))) / 4
        self.assertAllClose(costs, [np.log(2), expected], rtol=1e-6)
        # On validation each counts once.
        unweighted = (np.log1p(np.exp(-3 / 4)) + np.log1p(np.exp(1.0))) / 2
        self.assertAllClose(result.history[0].validation_cost, [unweighted], rtol=1e-6)

    def test_balanced_classes_by_the_sums_of_their_weights(self):
        examples = Examples(np.zeros((5, 1)), [0, 0, 1, 1, 2], weights=[2, 0, 1, 3, 6])
        # Sums 2, 4, 6 of 12: times 12 / (3 * sum), that is 2, 1 and 2/3; by the largest weight, 6.
        expected = np.array([4, 0, 1, 3, 4]) / 6
        self.assertAllClose(example_weights(examples, "balanced", 3), expected.astype(np.float32))
        self.assertAllClose(example_weights(examples, None, 3), np.array([2, 0, 1, 3, 6]) / 6)
        # A class of no weight is none: the others have sums of 2 and 4 of 6.
        nothing = Examples(np.zeros((5, 1)), [0, 0, 1, 1, 2], weights=[2, 0, 1, 3, 0])
        expected = np.array([2 * 6 / 4, 0, 6 / 8, 3 * 6 / 8, 0]) / 3
        self.assertAllClose(example_weights(nothing, "balanced", 3), expected.astype(np.float32))

    def test_the_learning_rate_by_the_data_is_safe_for_the_weights(self):
        weights = np.where(np.arange(60) == 5, 30.0, 0.1)
        weighted = dataclasses.replace(SPLITS, train=Examples(self.images, self.labels, weights=weights))
        rates = [Sgd(TrainConfig(batch_size=5), splits).safe_rate for splits in (SPLITS, weighted)]
        self.assertLess(rates[1], 0.5 * rates[0])

    def test_the_log_tells_of_them(self):
        for weights, words in ((self.weights, "3 classes; by sample weights"), (None, "3 classes")):
            with self.assertLogs("absl", "INFO") as logged:
                trained(self.images, self.labels, weights)
            self.assertRegex(logged.output[0], f"{words}$")


if __name__ == "__main__":
    tf.test.main()
