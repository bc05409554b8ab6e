import dataclasses
import itertools
import json
import math
import pathlib
import re
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, oracle, problems
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute.device import Device
from tfpipe.compute.workers import Workers
from tfpipe.exceptions import ConfigError, DeviceError, DivergedError, WorkdirError
from tfpipe.model import artifact
from tfpipe.pipeline import residency
from tfpipe.pipeline.sampler import Sampler
from tfpipe.solvers.objective import Objective
from tfpipe.training import loop
from tfpipe.training import report as table
from tfpipe.training.evaluation import Evaluation
from tfpipe.training.heads import Parameters
from tfpipe.training.measurement import Points

# Validations beside the training, one at a time, as of large splits.
BESIDE = loop.Pace(span_validations=1)


def config(**options):
    default = {
        "batch_size": 10, "learning_rate": 0.13, "epochs": 5, "shuffle": False, "select": "error", "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**(default | options))


def by_oracle(splits, **options):
    parts = (made.as_float64(part, splits.pixel_max) for part in (splits.train, splits.validation, splits.test))
    return oracle.train(*parts, splits.n_out, **options)


class AgainstTheOracleTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_example_counts_whatever_the_batch_size(self):
        self.assert_every_example_counts(64, (97, 11, 53))

    @parameterized.product(batch_size=[7, 10, 64, 1000], sizes=[(100, 40, 30), (97, 11, 53)])
    @pytest.mark.exhaustive
    def test_every_example_counts_for_all_these_sizes(self, batch_size, sizes):
        self.assert_every_example_counts(batch_size, sizes)

    def assert_every_example_counts(self, batch_size, sizes):
        splits = made.splits(*sizes)
        result = loop.train(config(batch_size=batch_size, epochs=7), splits)
        expected = by_oracle(splits, batch_size=batch_size, learning_rate=0.13, epochs=7)
        self.assert_same(result, expected, splits, batch_size=batch_size)

    def test_stopping_as_in_the_tutorial(self):
        # Validations that are not at the end of an epoch.
        self.assert_stops_as_in_the_tutorial(patience=40, validation_frequency=17, improvement_threshold=1.0)

    @pytest.mark.exhaustive
    def test_stopping_by_the_cost(self):
        # A rate at which the cost rises again while the error still falls.
        options = {"patience": 5, "improvement_threshold": 0.9, "learning_rate": 1.0}
        by_cost = self.assert_stops_as_in_the_tutorial(select="cost", **options)
        by_error = by_oracle(made.splits(95, 41, 30), batch_size=10, **options)
        self.assertEqual((by_cost.iterations, by_cost.best_iteration), (6, 1))
        self.assertEqual((by_error.iterations, by_error.best_iteration), (7, 3))

    @pytest.mark.exhaustive
    def test_stopping_by_the_balanced_error(self):
        options = {"patience": 12, "improvement_threshold": 0.9, "learning_rate": 0.05}
        found = self.assert_stops_as_in_the_tutorial(select="balanced_error", **options)
        by_error = by_oracle(made.splits(95, 41, 30), batch_size=10, epochs=30, **options)
        self.assertEqual((found.iterations, found.best_iteration), (191, 95))
        self.assertEqual((by_error.iterations, by_error.best_iteration), (35, 23))

    @parameterized.parameters(
        {"patience": 23, "patience_increase": 1.0},  # Ends inside an epoch.
        {"patience": 12, "validation_frequency": 4},
        {"patience": 30, "drop_remainder": True, "batch_size": 9},
        {"l2": 0.05},
    )
    @pytest.mark.exhaustive
    def test_every_way_of_stopping_as_in_the_tutorial(self, **options):
        self.assert_stops_as_in_the_tutorial(**options)

    def assert_stops_as_in_the_tutorial(self, **options):
        splits = made.splits(95, 41, 30)
        options = {"epochs": 30, "batch_size": 10, "learning_rate": 0.13} | options
        expected = by_oracle(splits, **options)
        # In spans of many validations, of few, and of one.
        few = [loop.Pace(span_bytes=2 * 17 * 16 * 10)] if "patience" in options else []
        for pace in (loop.Pace(), *few, BESIDE):
            result = loop.train(config(**options), splits, pace=pace)
            self.assert_same(result, expected, splits, learning_rate=options["learning_rate"])
        if "patience" in options:
            self.assertLess(expected.iterations, 30 * 9)
        return expected

    # The second is trained on bytes, where the processor has them. Its rate is a third of 2 / 260, the most that does
    # not diverge for 784 values with a mean square of 1/3: a rate that diverges amplifies rounding.
    @parameterized.parameters(((4, 6), 0.13), ((28, 28), 0.0025))
    def test_balanced_classes_as_scikit_learn_weighs_them(self, shape, learning_rate):
        from sklearn.utils.class_weight import compute_class_weight

        splits = made.splits(605, 41, 30, shape=shape)
        rare = np.flatnonzero(splits.train.labels == 1)[:150]
        keep = np.setdiff1d(np.arange(605), rare)
        train = Examples(splits.train.images[keep], splits.train.labels[keep])
        splits = dataclasses.replace(splits, train=train)
        weights = compute_class_weight("balanced", classes=np.arange(3), y=train.labels)
        self.assertGreater(weights.max() / weights.min(), 2)
        options = {"batch_size": 140, "epochs": 6, "learning_rate": learning_rate}
        result = loop.train(config(class_weight="balanced", **options), splits)
        expected = by_oracle(splits, class_weight=weights, **options)
        self.assert_same(result, expected, splits, batch_size=140, learning_rate=learning_rate)
        unweighted = by_oracle(splits, **options)
        self.assertNotAllClose(result.model.W * 255.0, unweighted.W, rtol=0, atol=1e-2 * learning_rate)

    @parameterized.parameters(False, True)
    @pytest.mark.exhaustive
    def test_balanced_classes_where_minibatches_are_left_out(self, shuffle):
        # Sorted by class: the rows of the last, which are left out in order, weigh more than the others.
        images, labels = made.images(119)
        labels = np.sort(np.minimum(labels, 1))
        labels[-19:] = 2
        train = Examples(images, labels)
        splits = dataclasses.replace(made.splits(), train=train)
        options = {
            "class_weight": "balanced",
            "batch_size": 50,
            "drop_remainder": True,
            "epochs": 1,
        }
        splits = dataclasses.replace(splits, validation=train, test=train)
        history = loop.train(config(learning_rate=1e-9, shuffle=shuffle, **options), splits).history
        weights = 119 / (3 * np.bincount(labels))
        order = np.random.Generator(np.random.Philox(key=[0, 0])).permutation(119) if shuffle else np.arange(119)
        expected = np.log(3) * weights[labels[order[:100]]].mean()
        self.assertAllClose(history[0].reports["cost"], [expected], rtol=1e-6)

    def test_a_class_without_examples_is_not_counted(self):
        from sklearn.utils.class_weight import compute_class_weight

        splits = made.splits()
        weights = compute_class_weight("balanced", classes=np.arange(3), y=splits.train.labels)
        splits = dataclasses.replace(splits, class_names=("0", "1", "2", "none"))
        result = loop.train(config(class_weight="balanced"), splits)
        parts = (made.as_float64(part, 255.0) for part in (splits.train, splits.validation, splits.test))
        options = {"batch_size": 10, "epochs": 5, "learning_rate": 0.13, "class_weight": weights}
        expected = oracle.train(*parts, 3, **options)
        W, b = expected.W, expected.b
        left_out = dataclasses.replace(
            expected, W=np.pad(W, ((0, 0), (0, 1))), b=np.append(b, result.model.b.numpy()[3])
        )
        self.assert_same(result, left_out, splits)

    @parameterized.parameters({}, {"pace": BESIDE})
    def test_a_class_of_the_validation_alone_is_wrong_and_in_no_cost(self, **options):
        whole = made.splits()
        splits = dataclasses.replace(whole, train=whole.train.take(np.flatnonzero(whole.train.labels != 1)))
        result = loop.train(config(l2=(1e-2,)), splits, **options)
        x, y = made.as_float64(whole.validation, 255.0)
        W, b = result.model.W.numpy(), result.model.b.numpy()
        log_p = oracle.log_probabilities(W.astype(np.float64) * 255, b.astype(np.float64), x)
        self.assertEqual(np.exp(log_p[:, 1]).max(), 0)
        self.assertEqual(np.abs(W[:, 1]).max(), 0)
        known = y != 1
        report = result.report
        self.assertAlmostEqual(report["validation_error"], (log_p.argmax(axis=1) != y).mean(), places=12)
        self.assertAlmostEqual(report["validation_cost"], -log_p[known, y[known]].mean(), places=5)
        said = "no training example: '1'; such classes are wrong in validation, beside its cost"
        self.assertIn(said, report["warnings"])
        # The certificate is that of the softmax of the others.
        train, labels = made.as_float64(splits.train, 255.0)
        data = problems.Data(train, labels, np.ones(len(labels)), 3)
        F = problems.cost(data, 1e-2, None, 255 * W.T.astype(np.float64), b.astype(np.float64))
        self.assertGreaterEqual(report["certificate"] * (1 + 1e-6), F - problems.least(data, 1e-2, None))
        self.assertLess(report["certificate"], 10.0)

    def assert_same(self, result, expected, splits, *, batch_size=10, learning_rate=0.13):
        """The run is the oracle's, but for rounding.

        float32 rounds each of D + B products and sums of a step by up to u = 2^-24. Such errors behave as independent
        ones, of which 6 deviations are not exceeded (Higham and Mary, 2019, "A new approach to probabilistic rounding
        error analysis"); a rate that does not diverge adds them up and amplifies none.
        """
        u, n_in, steps = 2.0**-24, splits.n_in, expected.iterations
        of_W = 6 * u * learning_rate * np.sqrt(steps * (n_in + min(batch_size, len(splits.train))))
        of_z = np.sqrt(n_in) * (of_W + 6 * u * np.abs(expected.W).max())
        of_W, of_cost = max(of_W, 2 * u * np.abs(expected.W).max()), 2 * of_z
        report = result.report
        self.assertEqual(report["iterations"], expected.iterations)
        self.assertEqual(report["best_iteration"], expected.best_iteration)
        self.assertEqual(
            [event.iteration for event in result.history], [iteration for iteration, _, _ in expected.path]
        )
        validation_examples = report["validation_examples"]
        for event, (_, wrong, cost) in zip(result.history, expected.path, strict=True):
            self.assertEqual(round(event.validation_error[0] * validation_examples), wrong)
            self.assertAllClose(event.validation_cost[0], cost, rtol=2e-7, atol=of_cost)
        self.assertEqual(report["validation_error"], expected.best_wrong / validation_examples)
        self.assertEqual(report["test_error"], expected.test_wrong / report["test_examples"])
        self.assertAllClose(report["validation_cost"], expected.best_cost, rtol=2e-7, atol=of_cost)
        self.assertAllClose(result.model.W * splits.pixel_max, expected.W, rtol=0, atol=of_W)
        self.assertAllClose(result.model.b, expected.b, rtol=0, atol=of_W)
        # The mean cost of the minibatches between validations.
        first = 0
        for event in result.history:
            mean = np.mean(expected.costs[first : event.iteration + 1])
            self.assertAllClose(event.reports["cost"][0], mean, rtol=2e-7, atol=of_cost)
            first = event.iteration + 1


class WordsTest(parameterized.TestCase):
    """What a run of SGD says of its answer, besides what a search says too."""

    def test_the_end_of_a_list_is_taken(self):
        report = loop.train(config(learning_rate=(0.1, 0.2), l2=(1e-3, 1e-2)), made.splits()).report
        for name, which, other in (("learning_rate", "largest", "larger"), ("l2", "smallest", "smaller")):
            line = f"{name}={report[name]:g} is the {which} that was tried: {other} ones may be better; give a list"
            self.assertIn(line, " ".join(report["warnings"]))

    def test_no_better_than_one_class(self):
        whole = made.splits()
        others = Examples(whole.train.images, (whole.train.labels + 1) % 3)
        report = loop.train(config(), dataclasses.replace(whole, train=others)).report
        self.assertIn("the model is no better than to name the largest class always", " ".join(report["warnings"]))

    def test_a_head_that_diverged_stands_in_the_report(self):
        report = loop.train(config(learning_rate=(0.1, 1e37)), made.splits()).report
        said = [line for line in report["warnings"] if line.startswith("a head diverged, its cost is no longer finite")]
        self.assertLen(said, 1)
        self.assertIn("learning_rate=1e+37, l2=0 at iteration ", said[0])

    def test_one_epoch_is_far_from_rest(self):
        report = loop.train(config(epochs=1, l2=(1e-3,)), made.splits()).report
        certificate = f"its training cost may be {report['certificate']:.2g} above the least"
        self.assertIn("was still falling when the epochs ended (" + certificate, report["warnings"][0])


class SelectTest(tf.test.TestCase, parameterized.TestCase):
    """Classes of 200, 40 and 10 examples, for which each figure would have another model."""

    def test_each_figure_takes_the_model_that_is_best_by_it(self):
        self.assert_each_figure_takes_its_best(loop.Pace(), drop_remainder=False)

    # By `drop_remainder` 240 of the 250 validation examples count.
    @parameterized.product(pace=[loop.Pace(), BESIDE], drop_remainder=[False, True])
    @pytest.mark.exhaustive
    def test_each_figure_takes_its_best_in_every_way(self, pace, drop_remainder):
        self.assert_each_figure_takes_its_best(pace, drop_remainder=drop_remainder)

    def assert_each_figure_takes_its_best(self, pace, *, drop_remainder):
        splits = made.rare_classes()
        options = {
            "batch_size": 60, "learning_rate": (0.003, 0.03, 0.3), "l2": (0.0, 0.05), "epochs": 20,
            "drop_remainder": drop_remainder,
        }  # fmt: skip
        n = 240 if drop_remainder else 250
        x, y = splits.validation.images[:n].astype(np.float64), splits.validation.labels[:n]
        found = {}
        for select in ("cost", "error", "balanced_error"):
            result = loop.train(config(select=select, **options), splits, pace=pace)
            W, b = (part.numpy().astype(np.float64) for part in (result.model.W, result.model.b))
            wrong, cost = oracle.measure(W, b, x, y)
            balanced = oracle.balanced_error((x @ W + b).argmax(axis=1), y)
            found[select] = {"cost": cost, "error": wrong / n, "balanced_error": balanced}
            report = result.report
            self.assertEqual(report["validation_examples"], n)
            self.assertEqual(report["validation_error"], wrong / n)
            self.assertAllClose(report["validation_cost"], cost, rtol=1e-6)
            head, heads = report["grid"][report["selected"]], report["grid"]
            if select != "balanced_error":
                self.assertEqual({one["balanced_error"] for one in heads}, {None})
                self.assertTrue(all(event.balanced_error is None for event in result.history))
                self.assertNotIn("balanced", table.table(report) + table.summary(report))
                continue
            self.assertAllClose([report["balanced_error"], head["balanced_error"]], [balanced] * 2, rtol=0, atol=1e-12)
            least = np.nanmin([event.balanced_error for event in result.history], axis=0)
            self.assertAllEqual([one["balanced_error"] for one in heads], least)
            self.assertEqual(report["balanced_error"], least.min())
            self.assertIn(f"{balanced:.2%}", table.table(report).splitlines()[1])
            self.assertEqual(json.loads(table.summary(report))["balanced_error"], report["balanced_error"])
        for select, other in itertools.permutations(found, 2):
            self.assertLess(found[select][select], found[other][select])

    @pytest.mark.exhaustive
    def test_of_classes_alike_it_is_the_error(self):
        splits = made.rare_classes((30, 30, 30))
        by_error, balanced = (
            loop.train(config(select=select, learning_rate=(0.01, 0.3)), splits)
            for select in ("error", "balanced_error")
        )
        for one, other in zip(by_error.history, balanced.history, strict=True):
            self.assertAllEqual(one.validation_error, other.balanced_error)
        self.assertEqual(by_error.model.W.numpy().tobytes(), balanced.model.W.numpy().tobytes())


class RunTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path) / "run"

    def model_arrays(self, name, **options):
        loop.train(config(shuffle=True, **options), made.splits(), self.workdir / name)
        model = artifact.load(self.workdir / name / "model.npz")
        return model.W.tobytes() + model.b.tobytes()

    def test_the_seed_decides(self):
        first = self.model_arrays("first")
        self.assertEqual(self.model_arrays("again"), first)
        self.assertNotEqual(self.model_arrays("other", seed=1), first)

    def test_the_kept_model_takes_images_as_they_are_stored(self):
        splits = made.splits()
        result = loop.train(config(), splits, self.workdir)
        model = artifact.load(self.workdir / "model.npz")
        self.assertEqual((model.class_names, model.image_shape), (("0", "1", "2"), (4, 6)))
        z = splits.test.images.reshape(30, -1) @ model.W + model.b
        self.assertAllEqual(result.model.predict(splits.test.images), z.argmax(axis=1))
        self.assertEqual(np.mean(z.argmax(axis=1) != splits.test.labels), result.report["test_error"])
        self.assertAllClose(result.model.errors(splits.test.images, splits.test.labels), result.report["test_error"])

    def test_float64_all_the_way(self):
        splits = made.splits()
        result = loop.train(config(precision="float64", learning_rate=(0.13, 0.5)), splits, self.workdir)
        model = artifact.load(self.workdir / "model.npz")
        learning_rate = result.report["learning_rate"]
        expected = by_oracle(splits, batch_size=10, learning_rate=learning_rate, epochs=5)
        for W, b in ((model.W, model.b), (result.model.W.numpy(), result.model.b.numpy())):
            self.assertEqual((W.dtype, b.dtype), (np.float64, np.float64))
            self.assertAllClose(W * splits.pixel_max, expected.W, rtol=0, atol=1e-14)
            self.assertAllClose(b, expected.b, rtol=0, atol=1e-14)
        self.assertAllClose(result.report["validation_cost"], expected.best_cost, rtol=1e-14)
        self.assertEqual(result.report["precision"], "float64")
        self.assertEqual(result.model.errors(splits.test.images, splits.test.labels), result.report["test_error"])

    def test_bfloat16_is_refused_where_it_has_no_use(self):
        with self.assertRaisesRegex(DeviceError, "^precision=bfloat16: is for GPUs and processors with AVX512_BF16"):
            loop.train(config(precision="bfloat16"), made.splits(), self.workdir, device=Device("/CPU:0", "cpu"))
        self.assertFalse(self.workdir.exists())

    @parameterized.parameters((loop.Pace(),), (BESIDE,))
    def test_what_trains_in_bfloat16_is_measured_in_float32(self, pace):
        # Scaled by a power of two, W is in the model what it was in training.
        splits = made.splits(pixel_max=256.0)
        device = Device("/CPU:0", "cpu", multiplies_bfloat16=True)  # Any processor can, if slowly.
        options = {"precision": "bfloat16", "learning_rate": 1.0, "epochs": 1, "select": "cost"}
        result = loop.train(config(**options), splits, self.workdir, device=device, pace=pace)
        self.assertEqual((result.report["precision"], result.report["products"]), ("bfloat16", "bfloat16"))
        model = artifact.load(self.workdir / "model.npz")
        self.assertEqual((model.W.dtype, model.b.dtype), (np.float32, np.float32))
        W, b = (model.W.T * np.float32(256))[np.newaxis], model.b[np.newaxis]

        def measured(arithmetic):
            (split,) = residency.place([splits.validation])
            sampler = Sampler(len(split.labels), 10, drop_remainder=False)
            column = np.ones((1, len(split.labels)), np.float32)
            objective = Objective.of(splits.scaling, split.labels, column, len(split.labels), arithmetic)
            with Workers(device) as workers:
                parameters = Parameters(tf.constant(W), tf.constant(b), tf.constant([0]), 1)
                return Evaluation(split, objective, sampler, 4, workers).measure([parameters])[:, 0].tolist()

        found = [result.report["validation_error"], result.report["validation_cost"]]
        self.assertEqual(found, measured("float32"))
        self.assertNotAllClose(found[1], measured("bfloat16")[1], rtol=1e-5)

    def test_bfloat16_trains_as_numpy_but_for_its_rounding(self):
        splits = made.splits()
        device = Device("/CPU:0", "cpu", multiplies_bfloat16=True)
        options = {"batch_size": 10, "learning_rate": 0.13, "epochs": 5}
        result = loop.train(config(precision="bfloat16", **options), splits, device=device)
        expected = by_oracle(splits, **options)
        # 2^-8 of W, of about 0.1, and of the errors, at most, of which most cancel; and no less than float32 would be.
        difference = np.abs(result.model.W * splits.pixel_max - expected.W).max()
        self.assertBetween(difference, 1e-5, 2e-3)

    def test_the_files_of_a_run(self):
        result = loop.train(config(learning_rate=(0.1, 0.2)), made.splits(), self.workdir)
        self.assertEqual(
            sorted(path.name for path in self.workdir.iterdir()),
            ["checkpoints", "flags.txt", "metrics.jsonl", "model.npz", "report.html", "report.json", "tensorboard"],
        )
        self.assertEqual(json.loads((self.workdir / "report.json").read_text()), result.report)
        lines = (self.workdir / "flags.txt").read_text().splitlines()
        self.assertIn("--learning_rate=0.1,0.2", lines)
        self.assertIn("--noshuffle", lines)
        self.assertIn(f"--workdir={self.workdir}", lines)
        self.assertIn("--dataset=", lines)  # The data was not loaded: to take another set must not go unnoticed.

    def test_the_confusion_matrix_is_that_of_the_test_split(self):
        from sklearn.metrics import confusion_matrix

        splits = made.splits()
        result = loop.train(config(batch_size=7, learning_rate=(0.01, 0.13)), splits)
        expected = confusion_matrix(splits.test.labels, result.model.predict(splits.test.images))
        self.assertAllEqual(result.report["confusion_matrix"], expected)
        wrong = np.sum(expected) - np.trace(expected)
        self.assertEqual(wrong / 30, result.report["test_error"])

    def test_a_grid_selects_the_head_with_the_best_validation_error(self):
        splits = made.splits()
        grid = config(learning_rate=(1e-4, 0.13, 0.02), l2=(0.0, 0.01), patience=30, epochs=20)
        report = loop.train(grid, splits).report
        self.assertEqual(report["heads"], 6)
        pairs = itertools.product(grid.learning_rate, grid.l2)
        for (learning_rate, l2), row in zip(pairs, report["grid"], strict=True):
            self.assertEqual((row["learning_rate"], row["l2"]), (learning_rate, l2))
            alone = by_oracle(splits, batch_size=10, learning_rate=learning_rate, l2=l2, patience=30, epochs=20)
            self.assertEqual(
                (row["validation_error"], row["test_error"], row["iterations"], row["best_iteration"]),
                (alone.best_wrong / 40, alone.test_wrong / 30, alone.iterations, alone.best_iteration),
            )
            self.assertAllClose(row["validation_cost"], alone.best_cost, rtol=1e-6)
        best = min(report["grid"], key=lambda row: (row["validation_error"], row["validation_cost"]))
        self.assertEqual(report["grid"][report["selected"]], best)
        self.assertEqual(report["learning_rate"], best["learning_rate"])
        self.assertEqual(report["iterations"], best["iterations"])
        self.assertGreater(len({row["iterations"] for row in report["grid"]}), 1)

    def test_heads_that_stopped_leave_the_others_and_nothing_else_changes(self):
        self.assert_heads_leave(1, {"shuffle": True})

    @parameterized.parameters((3, {"shuffle": False}), (2, {"validation_frequency": 3, "patience": 17}))
    @pytest.mark.exhaustive
    def test_heads_leave_again_and_again(self, times, options):
        self.assert_heads_leave(times, options)

    def assert_heads_leave(self, times, options):
        splits = made.splits()
        grid = config(
            learning_rate=(1e38, 1e-4, 0.13, 0.02, 0.3), l2=(0.0, 0.01), **({"patience": 30, "epochs": 40} | options)
        )
        whole = loop.train(grid, splits, pace=BESIDE)
        with self.assertLogs("absl", "INFO") as log:
            compacted = loop.train(grid, splits, pace=BESIDE._replace(flops_worth_leaving=1.0))
        self.assertLen(self.leavings(log), times)
        self.assert_compacted(compacted, whole)
        # Measured by the core that trains as long as there is a head for each, then beside.
        pace = loop.Pace(flops_worth_leaving=1.0, span_validations=1)
        with self.assertLogs("absl", "INFO") as log:
            compacted = loop.train(grid, splits, pace=pace, device=Device("/CPU:0", "cpu", programs=2))
        self.assertNotEmpty(self.leavings(log))
        self.assert_compacted(compacted, whole)

    def leavings(self, log):
        """Of how many of the 10 heads it was said that they have stopped, each time."""
        said = re.findall(r"(\d+) of (\d+) heads have stopped: the others go on", "\n".join(log.output))
        left = 10
        for stopped, before in said:
            self.assertEqual(int(before), left)
            left -= int(stopped)
            self.assertLessEqual(2 * left, int(before))
        return said

    def assert_compacted(self, compacted, whole):
        """The figures of a run that some heads left are those of `whole`, which none left."""
        for row, expected in zip(compacted.report["grid"], whole.report["grid"], strict=True):
            row, expected = dict(row), dict(expected)
            self.assertAllClose(row.pop("validation_cost") or 0, expected.pop("validation_cost") or 0, rtol=1e-6)
            self.assertEqual(row, expected)
        for name in ("selected", "confusion_matrix", "iterations", "validation_error", "test_error"):
            self.assertEqual(compacted.report[name], whole.report[name])
        self.assertAllClose(compacted.model.W, whole.model.W, rtol=0, atol=1e-7)
        for event, expected in zip(compacted.history, whole.history, strict=True):
            self.assertEqual((event.iteration, event.leader), (expected.iteration, expected.leader))
            np.testing.assert_allclose(event.reports["cost"], expected.reports["cost"], rtol=1e-6)
            for name in ("validation_error", "validation_cost", "test_error"):
                np.testing.assert_allclose(getattr(event, name), getattr(expected, name), rtol=1e-6)

    @parameterized.parameters((1, True), (2, False))
    def test_heads_are_validated_beside_where_a_core_is_left(self, heads, is_beside):
        device = Device("/CPU:0", "cpu", programs=2)
        with made.told_of_validations() as are_beside:
            result = loop.train(config(learning_rate=(0.1, 0.2)[:heads]), made.splits(), device=device)
        self.assertEqual(any(are_beside), is_beside)
        self.assertLen(result.history, 5)

    @parameterized.parameters((1, 1), (2, 2), (1, 8), (2, 8))
    def test_heads_are_measured_where_a_validation_is_due_and_nowhere_else(self, heads, programs):
        counts, measured = [], Points.measured

        def count(points, by):
            counts.append(int(points.kept.count))
            return measured(points, by)

        device = Device("/CPU:0", "cpu", programs=programs)
        # An epoch of 10 minibatches in spans of 4, 4 and 2.
        pace = loop.Pace(span_flops=4 * 10 * 4 * 24 * 3 * heads, span_validations=1)
        with mock.patch.object(Points, "measured", count):
            result = loop.train(config(learning_rate=(0.1, 0.2)[:heads]), made.splits(), device=device, pace=pace)
        groups = min(heads, programs)
        self.assertEqual([number for number in counts if number], [1] * len(result.history) * groups)
        self.assertLen(result.history, 5)

    def test_training_goes_on_while_the_heads_are_validated(self):
        splits = made.splits()
        expected = loop.train(config(), splits, pace=BESIDE)
        asked = [threading.Event() for _ in range(5)]  # Before each epoch.
        answers = iter(asked)
        following = iter(asked[1:])
        went_on = []
        measured = Points.measured

        def wait_for_the_next_epoch(points, by):
            if points.kept.count == 1:  # Not to compile the program.
                went_on.extend(event.wait(timeout=600) for event in itertools.islice(following, 1))
            return measured(points, by)

        with mock.patch.object(Points, "measured", wait_for_the_next_epoch):
            result = loop.train(
                config(), splits, should_stop=lambda: next(answers, threading.Event()).set(), pace=BESIDE
            )
        self.assertEqual(went_on, [True] * 4)
        self.assertEqual(result.report["grid"], expected.report["grid"])

    def test_what_goes_wrong_while_the_heads_are_validated_ends_the_run(self):
        measured = Points.measured

        def fail(points, by):
            if points.kept.count > 0:
                raise MemoryError("of the validation")
            return measured(points, by)

        for programs in (1, 8):  # In turn, and beside.
            device = Device("/CPU:0", "cpu", programs=programs)
            with mock.patch.object(Points, "measured", fail), self.assertRaisesRegex(MemoryError, "of the validation"):
                loop.train(config(), made.splits(), device=device)

    def test_a_diverged_head_is_marked_and_the_others_go_on(self):
        splits = made.splits()
        with self.assertLogs("absl", "WARNING") as log:
            result = loop.train(config(learning_rate=(1e38, 0.13)), splits)
        self.assertLen(log.output, 2)
        self.assertRegex(log.output[1], "the validation cost of the selected head was still falling when the epochs")
        self.assertRegex(log.output[0], r"a head diverged, .*: learning_rate=1e\+38, l2=0 at iteration 1$")
        self.assertEqual([row["diverged"] for row in result.report["grid"]], [True, False])
        alone = loop.train(config(), splits).report
        self.assertEqual(result.report["grid"][1], alone["grid"][0])
        self.assertEqual(result.report["selected"], 1)
        self.assertTrue(all(math.isnan(event.validation_error[0]) for event in result.history))
        json.dumps(result.report, allow_nan=False)

    def test_if_every_head_diverges_the_run_fails_and_says_how(self):
        message = r"every head diverged.*learning_rate=1e\+38, l2=0 at iteration \d.*learning_rate \(such as 0.27,"
        with self.assertRaisesRegex(DivergedError, message):
            loop.train(config(learning_rate=(1e38,)), made.splits(), self.workdir)

    def test_a_head_that_only_the_validation_finds_diverged(self):
        # The single step overflows W; the cost before it was finite.
        images, labels = np.full((4, 2), 3e38, np.float32), np.array([0, 1, 0, 1])
        images[labels == 1] *= -1
        examples = Examples(images, labels)
        splits = Splits(examples, examples, examples, ("a", "b"))
        with self.assertRaisesRegex(DivergedError, "at iteration 0"):
            loop.train(config(epochs=1, learning_rate=(10.0,)), splits)

    def test_an_interrupted_run_keeps_what_it_has(self):
        asked = iter([False, False, True])
        result = loop.train(config(), made.splits(), self.workdir, should_stop=lambda: next(asked), pace=BESIDE)
        report = json.loads((self.workdir / "report.json").read_text())
        self.assertTrue(report["interrupted"])
        self.assertEqual(report["iterations"], 20)
        self.assertLen(result.history, 2)
        self.assertTrue((self.workdir / "model.npz").exists())

    def test_a_run_that_is_interrupted_before_its_first_validation_has_no_model(self):
        result = loop.train(config(), made.splits(), self.workdir, should_stop=lambda: True)
        self.assertIsNone(result.model)
        self.assertIsNone(result.report["validation_error"])
        self.assertIsNone(result.report["iterations"])
        self.assertEqual((result.report["grid"][0]["iterations"], result.report["grid"][0]["epochs"]), (0, 0))
        self.assertFalse((self.workdir / "model.npz").exists())
        json.loads((self.workdir / "report.json").read_text())

    def test_the_kept_model_follows_the_best_one(self):
        splits = made.splits()
        seconds = itertools.count()  # A clock that goes on by a second whenever it is looked at.
        kept = []

        def look():
            if (self.workdir / "model.npz").exists():
                model = artifact.load(self.workdir / "model.npz")
                z = splits.validation.images.reshape(40, -1) @ model.W + model.b
                kept.append(float(np.mean(z.argmax(axis=1) != splits.validation.labels)))
            return False

        pace = BESIDE._replace(clock=lambda: float(next(seconds)))
        options = {"epochs": 40, "learning_rate": (0.02,), "checkpoint_every": 1e9}
        result = loop.train(config(**options), splits, self.workdir, should_stop=look, pace=pace)
        # It is whole whenever it is looked at, and at the best of some validation, soon that of the last.
        bests = list(np.minimum.accumulate([event.validation_error[0] for event in result.history]))
        self.assertContainsSubset(kept, bests)
        self.assertEqual(kept, sorted(kept, reverse=True))
        self.assertGreater(len(set(kept)), 5)

    def test_a_workdir_with_a_run_is_never_overwritten(self):
        loop.train(config(), made.splits(), self.workdir)
        before = {path: path.read_bytes() for path in self.workdir.iterdir() if path.is_file()}
        with self.assertRaisesRegex(WorkdirError, "holds a run with seed=0, not 1; give another workdir"):
            loop.train(config(seed=1), made.splits(), self.workdir)
        self.assertEqual({path: path.read_bytes() for path in before}, before)

    def test_hyper_parameters_that_do_not_fit_the_data(self):
        with self.assertRaisesRegex(ConfigError, "batch_size=50: 40 validation examples fill no minibatch"):
            loop.train(config(batch_size=50, drop_remainder=True), made.splits())
        with self.assertRaisesRegex(ConfigError, "patience=3: ends the run after 4 iterations, .* 10;"):
            loop.train(config(patience=3, validation_frequency=10), made.splits())
        with self.assertRaisesRegex(ConfigError, "validation_frequency=51: the run has 50 iterations"):
            loop.train(config(validation_frequency=51), made.splits())

    def test_colour_images_and_plain_vectors(self):
        for shape in ((3, 2, 3), (5,)):
            splits = made.splits(shape=shape)
            result = loop.train(config(), splits)
            expected = by_oracle(splits, batch_size=10, learning_rate=0.13, epochs=5)
            self.assertEqual(result.report["validation_error"], expected.best_wrong / 40)


if __name__ == "__main__":
    tf.test.main()
