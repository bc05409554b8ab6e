"""Which columns carry each class: by hand, and against scikit-learn's coefficients of standardized columns."""

import dataclasses
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from sklearn.linear_model import LogisticRegression

import tfpipe
from tests import made
from tfpipe import TrainConfig
from tfpipe.config import Column
from tfpipe.model import coefficients
from tfpipe.model.artifact import TrainedModel
from tfpipe.monitor import tables
from tfpipe.training import report

W = np.array([[1.0, -1.0, 0.0], [0.5, 0.0, -0.5], [-3.0, 1.0, 2.0]])


def model(weights=W, columns=None):
    d, k = weights.shape
    return TrainedModel(weights, np.zeros(k), tuple(map(str, range(k))), (d,), 1.0, {}, columns=columns)


def optimum(data, l2, unit):
    """scikit-learn's coefficients of columns that are measured in units, on training and validation rows: [K, D]."""
    pool = data.train.joined(data.validation)
    found = LogisticRegression(C=1 / (l2 * len(pool)), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return found.fit(pool.images.astype(np.float64) / unit, pool.labels).coef_


class ByHandTest(absltest.TestCase):
    def test_of_classes(self):
        columns = Column("age"), Column("colour", "red"), Column("height")
        found = coefficients.of_classes(model(columns=columns), np.array([2.0, 1.0, 0.1]))
        self.assertEqual([one["class"] for one in found], ["0", "1", "2"])
        self.assertEqual(found[0]["for"], [["age", 2.0], ["colour=red", 0.5]])
        self.assertEqual([name for name, _ in found[0]["against"]], ["height"])
        self.assertAlmostEqual(found[0]["against"][0][1], -0.3)
        self.assertEqual((found[1]["for"][0][0], found[1]["against"]), ("height", [["age", -2.0]]))
        self.assertEqual(found[2]["against"], [["colour=red", -0.5]])

    def test_a_few_of_many(self):
        found = coefficients.of_classes(model(np.random.default_rng(0).normal(size=(40, 25))), np.array(1.0))
        self.assertLen(found, 20)
        for one in found:
            for pairs in (one["for"], one["against"]):
                self.assertLen(pairs, 5)
                self.assertEqual(pairs, sorted(pairs, key=lambda pair: -abs(pair[1])))
        self.assertStartsWith(found[0]["for"][0][0], "column ")

    def test_along_the_path(self):
        norms = np.array([[1.0, 2.0, 0.0], [np.nan] * 3, [3.0, 2.5, 0.5], [4.0, 2.0, 9.0]])
        found = coefficients.along_path(model(), [1.0, 0.3, 0.1, 0.0], norms, 2)
        expected = {"l2": [1.0, 0.1], "columns": ["column 0", "column 1", "column 2"], "taken": 0.1}
        self.assertEqual(found, expected | {"norms": [[1.0, 2.0, 0.0], [3.0, 2.5, 0.5]]})
        self.assertIsNone(coefficients.along_path(model(), [1.0, 0.3, 0.1, 0.0], norms, 1))
        self.assertIsNone(coefficients.along_path(model(), [1.0], norms[:1], 0))


class ReportTest(parameterized.TestCase):
    @parameterized.parameters("none", "columns")
    def test_of_a_search(self, scale):
        data = made.rare_classes()
        data = dataclasses.replace(data, config=tfpipe.config.DataConfig(standardize=scale))
        config = TrainConfig(l2=(1e-1, 1e-2, 1e-3), folds=2, tolerance=1e-10, precision="float64")
        workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        content = tfpipe.train(config, data, workdir).report
        found, pool = content["coefficients"], data.train.joined(data.validation)
        deviations = pool.images.astype(np.float64).std(axis=0)
        unit = deviations if scale == "columns" else 1.0
        expected = optimum(data, content["l2"], unit) * (deviations / unit)
        self.assertEqual(found["unit"], "standard deviation")
        for k, one in enumerate(found["classes"]):
            pairs = [*one["for"], *one["against"]]
            self.assertLen(pairs, 6)
            for name, value in pairs:
                self.assertAlmostEqual(value, expected[k, int(name.removeprefix("column "))], delta=1e-4)
        along_path = found["path"]
        self.assertEqual((along_path["l2"], along_path["taken"]), ([1e-1, 1e-2, 1e-3], content["l2"]))
        # Heads of folds had half of the rows: near those of all.
        for l2, norms in zip(along_path["l2"], along_path["norms"], strict=True):
            of_all = np.linalg.norm(optimum(data, l2, unit) * (deviations / unit), axis=0)
            numbers = [int(name.removeprefix("column ")) for name in along_path["columns"]]
            np.testing.assert_allclose(norms, of_all[numbers], rtol=0.4, atol=0.05)
        rows = report.tables(content)["coefficients"]
        self.assertEqual(rows[0], ("class", "for it, per standard deviation", "against it, per standard deviation"))
        self.assertIn(f"{found['classes'][0]['for'][0][0]} {found['classes'][0]['for'][0][1]:+.3g}", rows[1][1])
        page = (workdir / "report.html").read_text()
        self.assertIn("What carries each class", page)
        self.assertIn('alt="The largest coefficients over l2', page)

    def test_more_classes_than_are_shown(self):
        content = {"class_names": ["k"] * 30, "coefficients": {"unit": "1", "classes": [], "path": None}}
        content["coefficients"]["classes"] = coefficients.of_classes(model(np.eye(30)), np.array(1.0))
        rows = tables.coefficients(content)
        self.assertLen(rows, 22)
        self.assertEqual(rows[-1][0], "the first 20 of 30 classes")

    def test_of_sgd(self):
        self.assert_of_sgd("columns", "standard deviation")

    @pytest.mark.exhaustive
    def test_of_sgd_that_knows_no_deviations(self):
        self.assert_of_sgd("none", "1")

    def assert_of_sgd(self, scale, unit):
        data = made.rare_classes()
        if scale == "columns":
            mean, deviation = tfpipe.data.scaling.moments(data.train.blocks())
            data = dataclasses.replace(data, standardization=tfpipe.data.scaling.by_moments(mean, deviation))
        result = tfpipe.train(TrainConfig(epochs=5, learning_rate=0.1), data)
        found = result.report["coefficients"]
        self.assertEqual((found["unit"], found["path"]), (unit, None))
        own = result.model.W.numpy() * np.reshape(deviation if scale == "columns" else 1.0, (-1, 1))
        pairs = [*found["classes"][0]["for"], *found["classes"][0]["against"]]
        self.assertLen(pairs, 6)
        for name, value in pairs:
            self.assertAlmostEqual(value, own[int(name.removeprefix("column ")), 0], delta=1e-5)

    def test_pictures_have_templates_instead(self):
        content = tfpipe.train(TrainConfig(l2=1e-2, folds=0), made.splits()).report
        self.assertNotIn("coefficients", content)
        self.assertNotIn("coefficients", report.tables(content))


if __name__ == "__main__":
    absltest.main()
