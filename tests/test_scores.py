import dataclasses

import numpy as np
from absl.testing import absltest, parameterized
from sklearn import metrics

from tests import made
from tfpipe.exceptions import DataError
from tfpipe.model import artifact, scores
from tfpipe.model.scores import Predictions


def model(splits, **changes):
    W = np.random.default_rng(0).normal(0, 0.01, (splits.n_in, splits.n_out)).astype(np.float32)
    values = {
        "W": W, "b": np.zeros(splits.n_out, np.float32), "class_names": splits.class_names,
        "image_shape": splits.image_shape, "white": 255.0, "summary": {},
    }  # fmt: skip
    return artifact.TrainedModel(**(values | changes))


class PredictTest(absltest.TestCase):
    def test_labels_are_brought_to_the_numbers_of_the_model(self):
        splits = made.splits()
        trained = model(splits, class_names=("2", "0", "1"))
        found = scores.predict(trained, splits, splits.test)
        np.testing.assert_array_equal(found.labels, (splits.test.labels + 1) % 3)
        np.testing.assert_array_equal(found.probabilities, trained.probabilities(splits.test.images))

    def test_data_may_have_fewer_classes(self):
        splits = made.splits()
        W = np.zeros((24, 4), np.float32)
        trained = model(splits, W=W, b=np.zeros(4, np.float32), class_names=("zero", "1", "0", "2"))
        found = scores.predict(trained, splits, splits.test)
        np.testing.assert_array_equal(found.labels, np.array([2, 1, 3])[splits.test.labels])

    def test_data_that_does_not_fit_is_refused(self):
        splits = made.splits()
        for other, message in (
            (made.splits(shape=(6, 4)), "images of 6 x 4, and the model takes 4 x 6"),
            (dataclasses.replace(splits, white=1.0), "images from 0 to 1, and the model takes them from 0 to 255"),
            (
                dataclasses.replace(splits, class_names=("0", "one", "2")),
                "has the classes one, and the model knows 0, 1, 2",
            ),
        ):
            with self.assertRaisesRegex(DataError, message):
                scores.predict(model(splits), other, other.test)


class ScoresTest(parameterized.TestCase):
    def test_by_hand(self):
        labels = np.array([0, 0, 1, 1, 1])
        p = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.5, 0.2, 0.3], [0.25, 0.5, 0.25]])
        found = scores.scores(Predictions(labels, p), ("a", "b", "c"), top_k=2)
        self.assertEqual((found["examples"], found["error"]), (5, 0.4))
        self.assertAlmostEqual(found["cost"], -np.log([0.7, 0.3, 0.8, 0.2, 0.5]).mean(), places=15)
        self.assertEqual(found["top_k_error"], 0.2)  # b is the third of the fourth.
        # Sure by 0.7, 0.6, 0.8, 0.5, 0.5; right: 1, 0, 1, 0, 1. The last two are in one bin.
        self.assertAlmostEqual(found["calibration_error"], (0.3 + 0.6 + 0.2 + 2 * 0.0) / 5, places=15)
        self.assertEqual(found["confusion_matrix"], [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
        a, b, c = found["classes"]
        self.assertEqual(a, {"class": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "examples": 2})
        self.assertEqual((b["precision"], b["recall"], b["examples"]), (2 / 3, 2 / 3, 3))
        self.assertEqual((c["precision"], c["recall"], c["examples"]), (None, None, 0))

    @parameterized.parameters(1, 3, 7)
    def test_against_scikit_learn(self, top_k):
        random = np.random.default_rng(0)
        p = random.dirichlet(np.ones(7), 500)
        labels = random.integers(0, 7, 500)
        found = scores.scores(Predictions(labels, p), tuple("abcdefg"), top_k)
        self.assertAlmostEqual(found["cost"], metrics.log_loss(labels, p), places=12)
        accuracy = metrics.top_k_accuracy_score(labels, p, k=top_k) if top_k < 7 else 1.0
        self.assertAlmostEqual(found["top_k_error"], 1 - accuracy, places=12)
        np.testing.assert_array_equal(found["confusion_matrix"], metrics.confusion_matrix(labels, p.argmax(axis=1)))

    def test_what_is_impossible_costs_no_number(self):
        found = scores.scores(Predictions(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])), ("a", "b"), 1)
        self.assertIsNone(found["cost"])


if __name__ == "__main__":
    absltest.main()
