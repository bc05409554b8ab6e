"""`init`: an older model as a start. What is found is the same, in fewer evaluations."""

import dataclasses
import itertools
import pathlib
import shutil

import numpy as np
import pytest
from absl.testing import absltest, parameterized

import tfpipe
from tests import made
from tests.test_search import SCALES, splits
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.config import Column, DataConfig
from tfpipe.exceptions import ConfigError, DataError, TfpipeError, WorkdirError
from tfpipe.model import artifact

L2 = 1e-3


def permuted(data, places):
    """The same data with its classes in another order."""
    back = np.argsort(places).astype(np.int32)
    parts = (Examples(part.images, back[part.labels]) for part in (data.train, data.validation, data.test))
    return Splits(*parts, class_names=tuple(data.class_names[place] for place in places), config=data.config)


class WarmStartTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def config(self, **options):
        default = {"solver": "lbfgs", "l2": L2, "folds": 0, "tolerance": 1e-6, "tensorboard": False, "device": "cpu"}
        return TrainConfig(**default | options)

    def old(self, data, **options):
        """The file of a model of this data."""
        tfpipe.train(self.config(**options), data, self.folder / "old")
        return str(self.folder / "old" / "model.npz")

    def evaluations(self, data, **options):
        return tfpipe.train(self.config(**options), data).report["evaluations"]

    def test_what_is_found_is_the_same_with_fewer_evaluations(self):
        data = tfpipe.load("digits", validation_split=200)
        fewer = dataclasses.replace(data, train=data.train.take(np.arange(900)))
        init = self.old(fewer)
        config = self.config(l2=(1e-3, 3e-4, 1e-4), tolerance=1e-7)
        cold, warm = (tfpipe.train(dataclasses.replace(config, init=of), data).report for of in (None, init))
        self.assertLess(warm["evaluations"], 0.75 * cold["evaluations"])
        self.assertEqual((warm["l2"], warm["selected"]), (cold["l2"], cold["selected"]))
        self.assertTrue(warm["converged"])
        difference = warm["train_cost"] - cold["train_cost"]
        self.assertLessEqual(difference, warm["certificate"])
        self.assertLessEqual(-difference, cold["certificate"])
        for one, other in zip(warm["grid"], cold["grid"], strict=True):
            self.assertAlmostEqual(one["validation_cost"], other["validation_cost"], delta=1e-4)

    @parameterized.parameters("none", "columns")
    def test_at_its_own_optimum_nothing_is_left_to_do(self, scale):
        data = splits(config=DataConfig(standardize=(scale,)))
        init = self.old(data, refit=False)
        self.assertGreater(self.evaluations(data, refit=False), 10)
        self.assertLessEqual(self.evaluations(data, refit=False, init=init), 2)

    @parameterized.parameters(False, True)
    def test_classes_by_their_names(self, is_calibrated):
        data = splits(config=DataConfig(standardize=("columns",)))
        init = self.old(data, refit=False, calibrate=is_calibrated)
        self.assertEqual(artifact.load(init).temperature is not None, is_calibrated)
        other = permuted(data, (2, 0, 1))
        self.assertLessEqual(self.evaluations(other, refit=False, init=init), 2)

    def test_columns_by_their_names(self):
        data, order = splits(), np.array([5, 2, 0, 1, 4, 3])
        init = self.old(dataclasses.replace(data, columns=tuple(map(Column, "abcdef"))), refit=False)
        new = np.random.default_rng(0).normal(size=(160, 1))

        def taken(part):
            x = np.concatenate([part.images[:, order], new[: len(part)]], axis=1).astype(np.float32)
            return Examples(x, part.labels)

        parts = [taken(part) for part in (data.train, data.validation, data.test)]
        other = Splits(
            *parts, class_names=data.class_names, columns=(*(Column("abcdef"[i]) for i in order), Column("g"))
        )
        cold = self.evaluations(other, refit=False)
        with self.assertLogs("absl", "INFO") as log:
            warm = self.evaluations(other, refit=False, init=init)
        self.assertLess(warm, 0.6 * cold)
        self.assertIn(f"init={init}: 1 columns are new, and begin at 0: g", "\n".join(log.output))
        message = "lacks the columns f, which the model takes"
        parts = [Examples(part.images[:, :5], part.labels) for part in (data.train, data.validation, data.test)]
        with self.assertRaisesRegex(DataError, message):
            fewer = Splits(*parts, class_names=data.class_names, columns=tuple(map(Column, "abcde")))
            tfpipe.train(self.config(init=init), fewer)

    def test_classes_that_are_new_or_gone_are_said(self):
        data = splits()
        init = self.old(data)
        kept = [part.take(np.flatnonzero(part.labels > 0)) for part in (data.train, data.validation, data.test)]
        parts = [Examples(part.images, part.labels - 1) for part in kept]
        x = np.random.default_rng(9).normal(size=(20, 6)) * SCALES
        d = Examples(x.astype(np.float32), np.full(20, 2, np.int32))
        both = Splits(parts[0].joined(d), *parts[1:], class_names=("b", "c", "d"))
        with self.assertLogs("absl", "INFO") as log:
            warm = tfpipe.train(self.config(init=init), both).report
        cold = tfpipe.train(self.config(), both).report
        lines = "\n".join(log.output)
        self.assertIn("1 classes are gone, and left out: a", lines)
        self.assertIn("1 classes are new, and begin at 0: d", lines)
        self.assertNotIn("begin at W = 0", lines)
        self.assertLess(warm["evaluations"], cold["evaluations"])
        self.assertAlmostEqual(warm["train_cost"], cold["train_cost"], delta=warm["certificate"] + cold["certificate"])

    @parameterized.parameters({}, {"solver": "sgd", "epochs": 20})
    def test_a_class_that_the_model_left_out_is_new(self, **options):
        data = splits()
        without = [part.take(np.flatnonzero(part.labels != 1)) for part in (data.train, data.validation)]
        options = options or {"refit": False}
        both = Splits(*without, data.test, class_names=data.class_names)
        tfpipe.train(
            TrainConfig(**{"tensorboard": False, "device": "cpu", "l2": L2} | options), both, self.folder / "m"
        )
        with self.assertLogs("absl", "INFO") as log:
            warm = self.evaluations(data, init=str(self.folder / "m" / "model.npz"))
        lines = "\n".join(log.output)
        self.assertIn("1 classes are new, and begin at 0: b", lines)
        self.assertNotIn("begin at W = 0", lines)
        self.assertLessEqual(warm, self.evaluations(data))

    def test_a_new_class_begins_with_the_intercept_of_its_share(self):
        # Where l2 lets images say nothing, the shares of the classes are all that there is: no evaluation is left.
        data = made.splits(n_train=100)
        counts = np.bincount(data.train.labels)
        names = ("0", "1")
        parts = (part.take(np.flatnonzero(part.labels < 2)) for part in (data.train, data.validation, data.test))
        init = self.old(Splits(*parts, class_names=names), l2=1e6, refit=False)
        result = tfpipe.train(self.config(l2=1e6, init=init, max_iter=1, refit=False), data)
        shares = counts / counts.sum()
        # The gradient in the intercepts is 0 at the start.
        self.assertLessEqual(result.report["evaluations"], 2)
        np.testing.assert_allclose(result.model.predict_proba(data.train.images[:1])[0], shares, rtol=1e-4)

    def test_where_it_costs_more_than_nothing_it_is_left(self):
        data = splits()
        init = self.old(permuted(data, (0, 1, 2)), l2=1e-6)
        wrong = permuted(data, (1, 2, 0))
        wrong = dataclasses.replace(wrong, class_names=("a", "b", "c"))  # Names that say something else now.
        with self.assertLogs("absl", "INFO") as log:
            found = tfpipe.train(self.config(init=init), wrong).report
        self.assertIn("init: 1 of 1 heads begin at W = 0", "\n".join(log.output))
        self.assertEqual(found["evaluations"], self.evaluations(wrong))

    def test_what_cannot_be(self):
        data = splits()
        init = self.old(data)
        for other, message in (
            (made.splits(), "takes images from 0 to 1, and these are from 0 to 255; give a model"),
            (dataclasses.replace(data, class_names=("x", "y", "z")), "knows the classes a, b, c, and none of x, y, z$"),
        ):
            with self.assertRaisesRegex(ConfigError, f"^init={init}: {message}"):
                tfpipe.train(self.config(init=init), other)
        narrow = [Examples(part.images[:, :5], part.labels) for part in (data.train, data.validation, data.test)]
        with self.assertRaisesRegex(ConfigError, "takes 6, and the data has 5$"):
            tfpipe.train(self.config(init=init), Splits(*narrow, class_names=data.class_names))
        with self.assertRaisesRegex(ConfigError, "none.npz: cannot be read: No such file"):
            tfpipe.train(self.config(init=str(self.folder / "none.npz")), data)
        (self.folder / "bad.npz").write_bytes(b"PK\3\4")
        with self.assertRaisesRegex(TfpipeError, "bad.npz"):
            tfpipe.train(self.config(init=str(self.folder / "bad.npz")), data)
        with self.assertRaisesRegex(ConfigError, "^init=x.npz: goes with l2"):
            TrainConfig(init="x.npz")
        with self.assertRaisesRegex(ConfigError, "^init=x.npz: is an option of lbfgs"):
            TrainConfig(init="x.npz", l2=0.1, solver="sgd")

    def test_another_model_is_another_run(self):
        data, workdir, calls = splits(), self.folder / "run", itertools.count()
        init = self.old(data)
        config = self.config(init=init)
        tfpipe.train(config, data, workdir, should_stop=lambda: next(calls) == 2)
        with self.assertRaisesRegex(WorkdirError, "holds a run with init=[0-9a-f]{16}, not None"):
            tfpipe.train(self.config(), data, workdir)
        moved = shutil.copy(init, self.folder / "moved.npz")
        self.assertFalse(tfpipe.train(self.config(init=str(moved)), data, workdir).report["interrupted"])
        self.assertIn(f"--init={moved}", (workdir / "flags.txt").read_text())
        model = artifact.load(init)
        artifact.save(pathlib.Path(init), model._replace(b=model.b + 1))
        with self.assertRaisesRegex(WorkdirError, "init=[0-9a-f]{16}, not [0-9a-f]{16}"):
            tfpipe.train(config, data, workdir)

    @pytest.mark.exhaustive
    def test_it_goes_on_to_the_same_bits(self):
        data = splits()
        config = self.config(init=self.old(data), l2=1e-2, folds=2, checkpoint_every=0.0)
        whole = tfpipe.train(config, data, self.folder / "whole").report
        for _ in range(whole["evaluations"] * 2):
            calls = itertools.count()
            if (
                not tfpipe.train(config, data, self.folder / "parts", should_stop=lambda: next(calls) >= 1).report[  # noqa: B023
                    "interrupted"
                ]
            ):
                break
        contents = ((self.folder / name / "model.npz").read_bytes() for name in ("whole", "parts"))
        self.assertEqual(*contents)


if __name__ == "__main__":
    absltest.main()
