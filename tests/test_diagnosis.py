import numpy as np
from absl.testing import absltest

from tfpipe.model import diagnosis
from tfpipe.model.diagnosis import Diagnosis


class DiagnosisTest(absltest.TestCase):
    def test_calibration_by_hand(self):
        # In (0.4, 0.6]: 0.5 right, 0.6 wrong; in (0.8, 1]: 0.9 right, 1.0 right, 0.85 wrong. None elsewhere.
        found = Diagnosis(np.array([0, 0, 0, 0, 0]), np.array([0, 1, 0, 0, 1]), np.array([0.5, 0.6, 0.9, 1.0, 0.85]), 2)
        calibration = found.calibration(bins=5)
        np.testing.assert_allclose(calibration.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
        np.testing.assert_array_equal(calibration.examples, [0, 0, 2, 0, 3])
        np.testing.assert_allclose(calibration.accuracy, [np.nan, np.nan, 1 / 2, np.nan, 2 / 3])
        np.testing.assert_allclose(calibration.confidence, [np.nan, np.nan, 0.55, np.nan, 2.75 / 3])
        # 2/5 |0.5 - 0.55| + 3/5 |2/3 - 2.75/3| = 0.02 + 0.15.
        self.assertAlmostEqual(calibration.error, 0.17)

    def test_the_borders_of_bins(self):
        found = Diagnosis(np.zeros(3, int), np.zeros(3, int), np.array([0.0, 0.5, 1.0]), 2)
        np.testing.assert_array_equal(found.calibration(bins=2).examples, [2, 1])

    def test_confusion_matrix_against_scikit_learn(self):
        from sklearn.metrics import confusion_matrix

        random = np.random.default_rng(0)
        labels, predicted = random.integers(0, 5, (2, 200))
        labels[labels == 3] = 0  # A class without examples.
        found = Diagnosis(labels, predicted, np.ones(200), 5)
        np.testing.assert_array_equal(found.confusion_matrix(), confusion_matrix(labels, predicted, labels=range(5)))

    def test_of_many_classes_there_is_no_matrix(self):
        for n_out, expected in ((1000, True), (1001, False)):
            self.assertEqual(Diagnosis(np.zeros(3, int), np.zeros(3, int), np.ones(3), n_out).has_matrix, expected)

    def test_the_most_confident_mistakes_come_first(self):
        confidence = np.array([0.9, 0.5, 0.8, 0.8, 0.99])
        found = Diagnosis(np.array([0, 0, 1, 1, 1]), np.array([1, 1, 0, 0, 1]), confidence, 2)
        self.assertEqual(found.mistakes(10).tolist(), [0, 2, 3, 1])
        self.assertEqual(found.mistakes(2).tolist(), [0, 2])

    def test_the_worst_classes(self):
        counts = np.array([[8, 2, 0], [0, 0, 0], [3, 1, 1]])
        labels, predicted = (np.repeat(of_each, counts.ravel()) for of_each in np.indices(counts.shape).reshape(2, -1))
        found = Diagnosis(labels, predicted, np.ones(len(labels)), 3)
        figures = diagnosis.worst_classes(found, most=3)
        self.assertEqual(diagnosis.worst_classes(found, most=1), figures[:1])
        self.assertEqual([one[:2] for one in figures], [(2, 5), (0, 10), (1, 0)])
        self.assertEqual([one.taken_for for one in figures], [0, 1, None])
        np.testing.assert_allclose([one.error for one in figures], [0.8, 0.2, np.nan])


if __name__ == "__main__":
    absltest.main()
