"""Choices by figures of the probabilities of all examples; against scikit-learn's on out-of-fold predictions."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score, top_k_accuracy_score

import tfpipe
from tests import made
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.data.folds import folds
from tfpipe.disk.checkpoints import Checkpoints
from tfpipe.exceptions import ConfigError, DataError, WorkdirError
from tfpipe.training import report

L2 = 1e-2
RULE = "sample_weights_count_in"


def problem(n_out, sizes=(180, 90, 30), seed=0, weights=None):
    """Rows of features `[n, 5]` around one mean for each class; of the first two splits with weights, if there are."""
    random = np.random.default_rng(seed)
    means, parts = random.normal(size=(n_out, 5)), []
    for number, n in enumerate(sizes):
        labels = (random.random(n) ** 2 * n_out).astype(np.int32)
        labels[:n_out] = np.arange(n_out)
        x = means[labels] + random.normal(0, 1.3, (n, 5))
        of_these = None if weights is None or number == 2 else weights(random, n)
        parts.append(Examples(x.astype(np.float32), labels, weights=of_these))
    return Splits(*parts, class_names=tuple(map(str, range(n_out))))


def integers(random, n):
    return random.integers(0, 4, n)


def out_of_fold(data, fold, unit=1.0):
    """scikit-learn's probabilities for the pool of training and validation examples, each without its fold: [n, K]."""
    pool = data.train.joined(data.validation)
    x, y = pool.images.astype(np.float64), pool.labels
    w = np.ones(len(y)) if pool.weights is None else pool.weights
    p = np.empty((len(y), data.n_out))
    for number in np.unique(fold):
        rows, rest = (fold != number) & (w > 0), fold == number
        model = LogisticRegression(C=1 / (L2 * w[rows].sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000)
        p[rest] = model.fit(x[rows] / unit, y[rows], w[rows]).predict_proba(x[rest] / unit)
    return p, y, w


def scores(p, y, w):
    of_classes = [roc_auc_score(y == k, p[:, k], sample_weight=w) for k in np.unique(y[w > 0])]
    loss = -np.log(p[np.arange(len(y)), y])
    return {
        "macro_f1": f1_score(y, p.argmax(axis=1), average="macro", labels=np.unique(y[w > 0]), sample_weight=w),
        "auc": np.mean(of_classes),
        "validation_cost": np.average(loss, weights=w),
        "validation_error": np.average(p.argmax(axis=1) != y, weights=w),
        "balanced_error": np.mean([
            np.average(p.argmax(axis=1)[y == k] != k, weights=w[y == k]) for k in np.unique(y[w > 0])
        ]),
    }  # fmt: skip


class AgainstScikitLearnTest(parameterized.TestCase):
    @parameterized.product(select=("macro_f1", "auc"), weights=(None, integers))
    def test_out_of_fold(self, select, weights):
        data = problem(4, weights=weights)
        config = TrainConfig(l2=L2, folds=3, select=select, tolerance=1e-11, precision="float64")
        found = tfpipe.train(config, data).report
        pool = data.train.joined(data.validation)
        expected = scores(*out_of_fold(data, folds(pool.labels, 3, 0)))
        (head,) = (one for one in found["grid"] if one["standardize"] == "none")
        for name in (select, "validation_cost", "validation_error", "balanced_error"):
            self.assertAlmostEqual(head[name], expected[name], delta=1e-6, msg=name)
        self.assertEqual(found[select], max(one[select] for one in found["grid"]))

    def test_top5_of_a_validation_split(self):
        data = problem(12, weights=integers)
        config = TrainConfig(l2=L2, folds=0, select="top5", tolerance=1e-11, precision="float64", refit=False)
        found = tfpipe.train(config, data).report
        train, rest, w = data.train, data.validation, data.validation.weights
        rows = np.flatnonzero(train.weights)
        model = LogisticRegression(
            C=1 / (L2 * train.weights.sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000
        ).fit(train.images[rows].astype(np.float64), train.labels[rows], train.weights[rows])
        share = top_k_accuracy_score(
            rest.labels, model.predict_proba(rest.images), k=5, sample_weight=w, labels=np.arange(12)
        )
        (head,) = (one for one in found["grid"] if one["standardize"] == "none")
        self.assertAlmostEqual(head["top5_error"], 1 - share, delta=1e-9)
        self.assertEqual(found["select"], "top5")
        self.assertIn("the least validation top5 error of 2 settings", found["why"])


class ChoiceTest(parameterized.TestCase):
    def test_each_figure_takes_another_setting_and_is_shown(self):
        data, found = made.rare_classes(), {}
        for select in ("cost", "macro_f1", "auc"):
            config = TrainConfig(solver="lbfgs", select=select, folds=0, refit=False)
            found[select] = tfpipe.train(config, data)
        self.assertLen({result.report["selected"] for result in found.values()}, 3)
        # Where the paths end is decided by the cost.
        paths = {
            tuple((head["standardize"], head["l2"]) for head in result.report["grid"]) for result in found.values()
        }
        self.assertLen(paths, 1)
        for select in ("macro_f1", "auc"):
            content, history = found[select].report, found[select].history
            value = content[select]
            self.assertEqual(value, max(head[select] for head in content["grid"]))
            self.assertIn(f"the largest validation {select.replace('_', ' ')} of", content["why"])
            self.assertIn(f"{value:.4g}", content["why"])
            self.assertIn(select, content["columns"])
            self.assertIn(select.replace("_", " "), report.table(content))
            self.assertEqual(json.loads(report.summary(content))[select], value)
            self.assertEqual(np.nanmax([event.reports[select] for event in history]), value)
        plain = found["cost"].report
        self.assertNotIn("auc", plain["grid"][0])
        self.assertNotIn("macro_f1", found["auc"].report)
        self.assertNotIn("auc", json.loads(report.summary(plain)))

    @parameterized.parameters(("macro_f1", "macro f1 is 0.2963"), ("auc", "auc is 0.5"))
    def test_no_better_than_the_shares(self, select, words):
        data = made.rare_classes()
        config = TrainConfig(l2=1e9, solver="lbfgs", select=select, folds=0, precision="float64", tolerance=1e-11)
        told = [line for line in tfpipe.train(config, data).report["warnings"] if "no better" in line]
        if select == "macro_f1":  # 2 * 0.8 / 1.8 of one class of three; a model so small still ranks.
            self.assertLen(told, 1)
            self.assertIn(f"the shares of the classes, whose {words}: its own is 0.2963", told[0])
        else:
            self.assertEmpty(told)


class RefusalTest(parameterized.TestCase):
    @parameterized.parameters("macro_f1", "auc", "top5")
    def test_sgd(self, select):
        words = f"^select={select}: goes with solver=lbfgs; .* take cost, error or balanced_error$"
        with self.assertRaisesRegex(ConfigError, words):
            TrainConfig(select=select, epochs=3)

    def test_few_classes(self):
        with self.assertRaisesRegex(ConfigError, "^select=top5: takes at least 11 classes, .* of 10 .*; take error$"):
            tfpipe.train(TrainConfig(select="top5"), problem(10))

    def test_validation_of_one_class(self):
        data = problem(3)
        labels = data.validation.labels
        rest = Examples(data.validation.images, labels, weights=labels == 1)
        data = Splits(data.train, rest, data.test, data.class_names)
        with self.assertRaisesRegex(ConfigError, "^select=auc: takes validation examples of two classes"):
            tfpipe.train(TrainConfig(select="auc", folds=0), data)

    @parameterized.parameters({"solver": "lbfgs", "folds": 0}, {"solver": "sgd"})
    def test_no_validation_example_has_weight(self, **options):
        data = problem(3, weights=lambda random, n: np.arange(n) >= 60)
        rest = data.train.take(np.arange(60))
        data = Splits(data.train.take(np.arange(60, 180)), rest, data.test, data.class_names)
        with self.assertRaisesRegex(DataError, "the weight of every validation example is 0; expected one above 0"):
            tfpipe.train(TrainConfig(**options), data)


class WeightsTest(parameterized.TestCase):
    @parameterized.parameters(
        {"l2": (1e-1, 1e-3), "solver": "lbfgs", "folds": 0, "refit": False},
        {"l2": 1e-2, "solver": "sgd", "epochs": 20, "select": "balanced_error"},
    )
    def test_an_integer_weight_is_a_repeated_row_and_0_one_that_is_not_there(self, **options):
        data = problem(3, weights=integers)
        # The last class is left out of the softmax: wrong, and not in the cost.
        train = Examples(data.train.images, data.train.labels, weights=data.train.weights * (data.train.labels < 2))
        data = Splits(train, data.validation, data.test, data.class_names)
        w = data.validation.weights.astype(int)
        self.assertIn(0, w)
        rows = np.repeat(np.arange(len(w)), w)
        again = Examples(data.validation.images[rows], data.validation.labels[rows], groups=rows + 1000)
        repeated = Splits(data.train, again, data.test, data.class_names)
        config = TrainConfig(class_weight="balanced", **options)
        found, other = (tfpipe.train(config, one).report for one in (data, repeated))
        self.assertEqual(found["selected"], other["selected"])
        for head, expected in zip(found["grid"], other["grid"], strict=True):
            self.assertAlmostEqual(head["validation_error"], expected["validation_error"], delta=1e-12)
            self.assertAlmostEqual(head["balanced_error"], expected["balanced_error"], delta=1e-12)
            self.assertAlmostEqual(head["validation_cost"], expected["validation_cost"], delta=1e-6)
            self.assertAlmostEqual(head.get("standard_error", 0), expected.get("standard_error", 0), delta=1e-6)
        plain = Examples(data.validation.images, data.validation.labels)
        plain = tfpipe.train(config, Splits(data.train, plain, data.test, data.class_names)).report
        self.assertNotAlmostEqual(found["validation_cost"], plain["validation_cost"], delta=1e-3)


class RuleTest(parameterized.TestCase):
    """Runs from before sample weights counted in validation."""

    def of_before(self, config, data, *, is_finished):
        """The workdir of such a run, and its report."""
        workdir = pathlib.Path(self.create_tempdir().full_path) / "run"
        result = tfpipe.train(config, data, workdir, should_stop=lambda: not is_finished)
        self.assertEqual(result.report["interrupted"], not is_finished)
        states = Checkpoints(workdir / "checkpoints")
        saved = states.load()
        identity = saved.facts["identity"]
        self.assertEqual(RULE in identity["settings"], data.train.weights is not None)
        settings = {name: value for name, value in identity["settings"].items() if name != RULE}
        facts = saved.facts | {"identity": identity | {"settings": settings}}
        states.save(saved.facts["steps"], saved._replace(facts=facts))
        return workdir, result.report

    def test_a_search_that_goes_on_is_refused_where_there_are_weights(self):
        self.assert_refused(l2=1e-1, folds=2, solver="lbfgs")

    @pytest.mark.exhaustive
    def test_a_run_of_sgd_that_goes_on_is_refused_where_there_are_weights(self):
        self.assert_refused(epochs=4, learning_rate=0.1)

    def assert_refused(self, **options):
        config = TrainConfig(checkpoint_every=0.0, tensorboard=False, **options)
        weighted = problem(3, weights=integers)
        workdir, _ = self.of_before(config, weighted, is_finished=False)
        with self.assertRaisesRegex(WorkdirError, f"holds a run with {RULE}=training, not training,validation;"):
            tfpipe.train(config, weighted, workdir)
        # What is finished stays as it is, unless it is to go on.
        workdir, expected = self.of_before(config, weighted, is_finished=True)
        self.assertEqual(tfpipe.train(config, weighted, workdir).report, expected)
        if "epochs" in options:
            with self.assertRaisesRegex(WorkdirError, f"holds a run with .*{RULE}=training, not training,validation;"):
                tfpipe.train(dataclasses.replace(config, epochs=5), weighted, workdir)


if __name__ == "__main__":
    absltest.main()
