"""A grid that is screened: two runs, one after the other, of which the second is that in float32."""

import json
import pathlib

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from absl.testing import parameterized

from tests import made
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.compute.device import Device
from tfpipe.disk.workdir import Workdir
from tfpipe.exceptions import ConfigError, DeviceError, WorkdirError
from tfpipe.model import artifact
from tfpipe.training import loop

DEVICE = Device("/CPU:0", "cpu", programs=2, multiplies_bfloat16=True)  # Any processor can, if slowly.
RATES = (0.01, 1.0, 2.0, 3.0, 5.0, 8.0)
TIMES = ("seconds", "epochs_per_second", "examples_per_second", "workdir")
BESIDE = loop.Pace(span_bytes=3 * 10 * 16, span_validations=1)


class Died(BaseException):
    """Stands for the end of the process."""


def die():
    raise Died


def after(spans, end=lambda: True):
    """For `should_stop`: asks for an end when it was asked so often."""
    calls = iter(range(10**6))
    return lambda: next(calls) == spans and end()


def without_times(content):
    return {
        name: without_times(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if name not in TIMES
    }


class ScreenTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.workdir = self.folder / "run"
        self.splits = made.splits(n_validation=60)

    def config(self, **options):
        default = {
            "batch_size": 10, "learning_rate": RATES, "epochs": 8, "select": "cost", "device": "cpu",
            "checkpoint_every": 0.0, "precision": "screen", "solver": "sgd", "tensorboard": False,
        }  # fmt: skip
        return TrainConfig(**(default | options))

    def train(self, workdir=None, should_stop=lambda: False, **options):
        return loop.train(
            self.config(**options), self.splits, workdir or self.workdir, should_stop=should_stop, device=DEVICE,
            pace=BESIDE,
        )  # fmt: skip

    @parameterized.parameters("cost", "error")
    def test_the_same_head_and_figures_as_in_float32(self, select):
        self.assert_as_in_float32(select)

    @pytest.mark.exhaustive
    def test_by_balanced_errors_of_weighted_examples(self):
        validation, random = self.splits.validation, np.random.default_rng(0)
        weights = random.integers(0, 4, len(validation)).astype(np.float64)
        weighted = Examples(validation.images, validation.labels, weights=weights)
        train, test, names = self.splits.train, self.splits.test, self.splits.class_names
        self.splits = Splits(train, weighted, test, class_names=names, pixel_max=255.0)
        self.assert_as_in_float32("balanced_error")

    def assert_as_in_float32(self, select):
        whole = self.train(self.folder / "whole", precision="float32", select=select).report
        found = self.train(select=select).report
        self.assertEqual(found["selected"], whole["selected"])
        screen = found["screen"]
        self.assertEqual((found["precision"], found["products"]), ("screen", "float32"))
        self.assertEqual((screen["precision"], screen["products"]), ("bfloat16", "bfloat16"))
        near = self.within_reach(select)
        self.assertEqual(screen["within_reach"], near)
        self.assertBetween(len(near), 2, len(RATES) - 1)
        for head, (ours, theirs) in enumerate(zip(found["grid"], whole["grid"], strict=True)):
            if head in near:
                for name in ("validation_error", "test_error", "epochs", "iterations", "best_iteration"):
                    self.assertEqual(ours[name], theirs[name])
                # Products of other shapes are summed in another order: by 24 2^-24 of a logit, at most.
                self.assertAllClose(ours["validation_cost"], theirs["validation_cost"], rtol=2e-6)
            else:
                self.assertEqual((ours["validation_cost"], ours["iterations"]), (None, 0))
            self.assertNotAllClose(screen["grid"][head]["validation_cost"], theirs["validation_cost"], rtol=1e-7)
        models = [artifact.load(self.folder / name / "model.npz") for name in ("run", "whole")]
        self.assertAllClose(models[0].W, models[1].W, rtol=0, atol=1e-8)

    def within_reach(self, select):
        """By SciPy's paired t interval, of each head as a run in bfloat16 of its own leaves it."""
        examples, values, costs = self.splits.validation, [], []
        for rate in RATES:
            workdir = self.folder / f"alone-{rate}"
            self.train(workdir, precision="bfloat16", learning_rate=rate, select=select)
            p = artifact.load(workdir / "model.npz").probabilities(examples.images)
            loss = -np.log(p[np.arange(len(p)), examples.labels])
            costs.append(loss.mean())
            values.append(loss if select == "cost" else (p.argmax(axis=1) != examples.labels).astype(float))
        values = np.array(values)
        if select == "balanced_error":
            per_class = np.bincount(examples.labels, examples.weights)
            # w b (d - mean) by hand, as the interval of a ratio: b is the same for a class.
            w, b = examples.weights, (1 / per_class)[examples.labels] * per_class.sum() / len(per_class)
            figures = (values * w * b).sum(axis=1) / w.sum()
            best = np.lexsort((costs, figures))[0]
            d = (values - values[best]) * b
            mean = (d * w).sum(axis=1) / w.sum()
            units = np.count_nonzero(w)
            error = np.sqrt(((w * (d - mean[:, np.newaxis])) ** 2).sum(axis=1) * units / (units - 1)) / w.sum()
            return np.flatnonzero(~(mean - scipy.stats.t.ppf(0.975, units - 1) * error > 0)).tolist()
        best = np.lexsort((costs, values.mean(axis=1)))[0]
        near = [best]
        for head in range(len(RATES)):
            if head != best and (values[head] != values[best]).any():
                low, _ = scipy.stats.ttest_rel(values[head], values[best]).confidence_interval(0.95)
                near += [head] * bool(low <= 0)
            elif head != best:
                near.append(head)
        return sorted(int(head) for head in near)

    # Nine looks, one before each of eight spans and one at the end, are the first run's; then come the second's.
    @parameterized.parameters(4, 13)
    def test_a_run_that_dies_ends_with_the_same_bits(self, looks):
        self.assert_ends_with_the_same_bits(looks, die)

    @parameterized.product(looks=[*range(18)], end=(die, lambda: True))
    @pytest.mark.exhaustive
    def test_a_run_that_ends_anywhere_ends_with_the_same_bits(self, looks, end):
        self.assert_ends_with_the_same_bits(looks, end)

    def assert_ends_with_the_same_bits(self, looks, end):
        options = {"epochs": 2, "learning_rate": (0.01, 3.0, 5.0)}
        expected = self.train(self.folder / "whole", **options)
        if end is die:
            with self.assertRaises(Died):
                self.train(should_stop=after(looks, end), **options)
        else:
            part = self.train(should_stop=after(looks, end), **options)
            self.assertTrue(part.report["interrupted"])
            self.assertEqual(part.report["workdir"], str(self.workdir))
        result = self.train(**options)
        for name in ("model.npz", "screen/model.npz"):
            self.assertEqual(*((self.folder / run / name).read_bytes() for run in ("run", "whole")))
        self.assertEqual(*(without_times(one.report) for one in (result, expected)))
        lines = (
            [without_times(json.loads(line)) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]
            for run in ("run", "whole")
        )
        self.assertEqual(*lines)

    def test_in_memory_and_once_it_is_finished(self):
        expected = loop.train(self.config(), self.splits, device=DEVICE, pace=BESIDE).report
        self.assertEqual(without_times(self.train().report), without_times(expected))
        with self.assertLogs("absl", "INFO") as log:
            again = self.train().report
        self.assertEqual(without_times(again), without_times(expected))
        self.assertRegex(log.output[-1], "run: the run is finished$")
        with self.assertRaisesRegex(WorkdirError, "holds a run with epochs=8, not 9;"):
            self.train(epochs=9)
        loop.train(self.config(precision="float32"), self.splits, self.workdir, resume=False, overwrite=True)
        self.assertFalse((self.workdir / "screen").exists())

    def test_another_run_in_its_folder_is_refused(self):
        self.train(self.workdir / "screen", precision="bfloat16")
        with self.assertRaisesRegex(WorkdirError, "holds a run .* without its state"):
            self.train()
        with Workdir(self.workdir).owned(), self.assertRaisesRegex(WorkdirError, "is in use"):
            self.train()

    def test_what_it_does_not_go_with(self):
        with self.assertRaisesRegex(ConfigError, "precision=screen: is for grids, and this is a single head"):
            self.train(learning_rate=0.1)
        with self.assertRaisesRegex(ConfigError, "precision=screen: goes with solver=sgd"):
            self.train(learning_rate=None, solver="lbfgs", batch_size=None, epochs=None)
        with self.assertRaisesRegex(DeviceError, "precision=screen: is for GPUs and processors with AVX512_BF16"):
            loop.train(self.config(), self.splits, device=Device("/CPU:0", "cpu"))
        self.assertFalse(self.workdir.exists())


if __name__ == "__main__":
    tf.test.main()
