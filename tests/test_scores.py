import dataclasses
import pathlib

import numpy as np
from absl.testing import absltest, parameterized
from sklearn import metrics

from tests import made
from tfpipe import load
from tfpipe.config import Column
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
            (
                dataclasses.replace(splits, white=1.0),
                "white is 1 in these images, and 255 in those of the model; --pixel_max says",
            ),
            (
                dataclasses.replace(splits, class_names=("0", "one", "2")),
                "has the classes one, and the model knows 0, 1, 2",
            ),
        ):
            with self.assertRaisesRegex(DataError, message):
                scores.predict(model(splits), other, other.test)


class ColumnsTest(parameterized.TestCase):
    """The model takes a number, three values of a column, and another number."""

    COLUMNS = (Column("size"), Column("kind", "a"), Column("kind", "b"), Column("kind", "c"), Column("age"))
    # The table, and its rows as the model takes them.
    TABLE = "y,age,kind,size\n0,1,b,10\n1,2,a,20\n0,3,b,30\n1,4,b,40\n"
    ROWS = ((10, 0, 1, 0, 1), (20, 1, 0, 0, 2), (30, 0, 1, 0, 3), (40, 0, 1, 0, 4))

    def model(self, columns=COLUMNS):
        W = np.random.default_rng(0).normal(0, 0.1, (len(columns), 2)).astype(np.float32)
        b = np.array([0.5, -0.5], np.float32)
        return artifact.TrainedModel(W, b, ("0", "1"), (len(columns),), 1.0, {}, columns=columns)

    def predict(self, text, columns=COLUMNS, categorical=("kind",)):
        """What the model says of all rows of a table, in their order."""
        path = pathlib.Path(self.create_tempdir().full_path, "table.csv")
        path.write_text(text)
        splits = load(path, categorical=categorical, split_order="end", validation_split=1, test_split=1)
        parts = [scores.predict(self.model(columns), splits, e) for e in (splits.train, splits.validation, splits.test)]
        return np.concatenate([part.probabilities for part in parts])

    def assert_predicts(self, text, rows, **options):
        model = self.model()
        z = np.array(rows, np.float64) @ model.W + model.b
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(self.predict(text, **options), p, rtol=1e-12)

    def test_columns_are_found_by_their_names_and_values(self):
        self.assert_predicts(self.TABLE, self.ROWS)
        more = "id,y,age,kind,size\n7,0,1,b,10\n6,1,2,a,20\n5,0,3,b,30\n4,1,4,b,40\n"
        with self.assertLogs("absl", "INFO") as logged:
            self.assert_predicts(more, self.ROWS)
        self.assertIn("table.csv: the model does not take the columns id", logged.output[1])

    def test_plain_numbers_too(self):
        columns = tuple(map(Column, "abc"))
        text = "y,c,b,a\n0,1,2,3\n1,4,5,6\n1,7,8,9\n0,1,1,2\n"
        rows = np.array([[3, 2, 1], [6, 5, 4], [9, 8, 7], [2, 1, 1]])
        expected = self.model(columns).probabilities(rows)
        np.testing.assert_array_equal(self.predict(text, columns, ()), expected)
        np.testing.assert_array_equal(
            self.predict("y,a,b,c\n0,3,2,1\n1,6,5,4\n1,9,8,7\n0,2,1,1\n", columns, ()), expected
        )
        with self.assertRaisesRegex(
            DataError, "table.csv: lacks the columns a, which the model takes; it has c, b, A$"
        ):
            self.predict(text.replace("a", "A"), columns, ())

    def test_a_value_that_the_model_has_not_seen_is_none_of_its_values(self):
        rows = [(10, 0, 0, 0, 1), (20, 1, 0, 0, 2), (30, 0, 1, 0, 3), (40, 0, 0, 0, 4)]
        with self.assertLogs("absl", "WARNING") as logged:
            self.assert_predicts("y,age,kind,size\n0,1,new,10\n1,2,a,20\n0,3,b,30\n1,4,,40\n", rows)
        unseen = "have values in the column 'kind' that the model has not seen, and count as none of its values"
        self.assertEqual(
            [line.split("table.csv: ")[1] for line in logged.output],
            [f"1 of 2 rows {unseen}: 'new'", f"1 of 1 rows {unseen}: ''"],
        )

    def test_numbers_and_categories_are_not_mixed(self):
        text = "y,age,kind,size\n0,1,1,10\n1,2,2,20\n0,3,1,30\n"
        with self.assertRaisesRegex(
            DataError, "the model takes categories in the column 'kind', not numbers; with --categorical=kind it is as"
        ):
            self.predict(text, categorical=())
        with self.assertRaisesRegex(
            DataError, "takes numbers in the column 'age', not categories; leave out the flag$"
        ):
            self.predict(text, categorical=("kind", "age"))

    def test_where_one_has_no_names_the_places_count(self):
        splits = made.splits(shape=(5,))
        trained = model(splits)
        expected = scores.predict(trained, splits, splits.test).probabilities
        for ours, theirs in ((self.COLUMNS, None), (None, self.COLUMNS)):
            named = dataclasses.replace(splits, columns=theirs)
            found = scores.predict(trained._replace(columns=ours), named, named.test)
            np.testing.assert_array_equal(found.probabilities, expected)


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

    def test_of_many_classes_there_is_no_matrix(self):
        p = np.full((2, 1001), 1 / 1001)
        found = scores.scores(Predictions(np.array([0, 1]), p), tuple(map(str, range(1001))), 1)
        self.assertIsNone(found["confusion_matrix"])
        self.assertEqual([one["recall"] for one in found["classes"][:3]], [1.0, 0.0, None])

    def test_what_is_impossible_costs_no_number(self):
        found = scores.scores(Predictions(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])), ("a", "b"), 1)
        self.assertIsNone(found["cost"])


if __name__ == "__main__":
    absltest.main()
