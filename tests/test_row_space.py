"""Rows of far more columns: the search in their span is the search in all columns."""

import json
import pathlib

import numpy as np
from absl.testing import absltest, parameterized
from sklearn.linear_model import LogisticRegression

import tfpipe
from tests import problems
from tests.problems import Data
from tfpipe import Examples, Splits, TrainConfig
from tfpipe.solvers import row_space
from tfpipe.solvers.moments import Moments
from tfpipe.solvers.optimum import Exactness
from tfpipe.solvers.problem import Problems
from tfpipe.solvers.row_space import RowSpace

L2 = (1e-1, 3e-3, 1e-4)


def drawn(seed, n=40, n_in=200, n_out=3, most=1.0):
    """Rows of columns of scales from 1 / most to most, with two columns of weights, of which some are 0."""
    random = np.random.default_rng(seed)
    y = (np.arange(n) % n_out).astype(np.int32)
    x = random.normal(size=(n, n_in)) + random.normal(size=(n_out, n_in))[y] / 2
    x *= most ** random.uniform(-1, 1, n_in)
    x[:, 3] = 7.0
    x[5] = x[2]
    weights = np.stack([np.ones(n), random.choice([0.0, 1.0, 2.5], n)])
    weights[1, :n_out] = 1.0
    return x, y, weights


def heads_of(x, y, weights, l2s, columns, scale):
    moments = Moments.of([x], y, weights, y.max() + 1)
    deviations = moments.deviations([x], weights) if scale == "columns" else np.ones_like(moments.x)
    return Problems.of(moments, np.array(l2s), np.array(columns, np.int32), deviations[list(columns)])


class RowSpaceTest(parameterized.TestCase):
    @parameterized.product(scale=["none", "columns"], most=[1.0, 1e3], seed=[0, 1])
    def test_heads_have_the_optimum_of_all_columns(self, scale, most, seed):
        x, y, weights = drawn(seed, most=most)
        l2s, columns = (1e-1, 1e-3, 1e-1, 1e-3), (0, 0, 1, 1)
        of = heads_of(x, y, weights, l2s, columns, scale)
        way = RowSpace(lambda part: x[:, part].copy(), x.shape[1], y, weights).descent(
            of, of.start(), Exactness(1e-6, 1000), pairs=10
        )
        while way.active.size:
            way.step()
        found = way.optimum()
        self.assertTrue(found.converged.all())
        W, b = of.parameters(found.v)
        for head, (l2, column) in enumerate(zip(l2s, columns, strict=True)):
            one = of.take(np.array([head]))
            data = Data(x, y, weights[column], 3)
            # In all columns: F, its gradient and its certificate at what was found; and the least F, by NumPy's sums.
            sums = problems.sums(data, W[head], b[head])
            cost, gradient = one.cost_and_gradient(found.v[[head]], sums)
            certificate, _ = one.certificate(found.v[[head]], sums, np.zeros(1))
            np.testing.assert_allclose(cost, found.cost[head], rtol=1e-9)
            np.testing.assert_allclose(certificate, found.certificate[head], rtol=1e-3, atol=1e-12)
            target = 1.01 * one.target(cost, 1e-6)[0]
            self.assertLessEqual(certificate[0], target)
            self.assertLess(np.abs(gradient).max(), 1e-2)
            s, m = one.scale[0], one.mean[0]
            sklearn = LogisticRegression(C=1 / (l2 * weights[column].sum()), solver="lbfgs", tol=1e-12, max_iter=20_000)
            sklearn.fit((x - m) / s, y, weights[column])
            least, _ = one.cost_and_gradient(
                np.concatenate([sklearn.coef_, sklearn.intercept_[:, np.newaxis]], axis=1)[np.newaxis],
                problems.sums(data, sklearn.coef_ / s, sklearn.intercept_ - sklearn.coef_ / s @ m),
            )
            self.assertLess(cost[0] - least[0], target)  # scikit-learn's is no less than the least.

    def test_there_and_back(self):
        x, y, weights = drawn(2)
        of = heads_of(x, y, weights, (1e-2, 1e-2), (0, 1), "columns")
        space = RowSpace(lambda part: x[:, part].copy(), x.shape[1], y, weights)
        random = np.random.default_rng(0)
        v = random.normal(size=(2, 3, 201))
        within = space.within(of, v)
        self.assertEqual(within.shape, (2, 3, 41))
        projected = space.beyond(of, within)
        for head in range(2):
            counted = weights[head] > 0
            rows = ((x - of.mean[head]) / of.scale[head])[counted]
            # An orthogonal projection onto what the rows span: the logits stay, and what is left is orthogonal to them.
            expected = v[head, :, :-1] @ np.linalg.pinv(rows, rcond=1e-10) @ rows
            np.testing.assert_allclose(projected[head, :, :-1], expected, atol=1e-9)
            np.testing.assert_array_equal(projected[head, :, -1], v[head, :, -1])
            norms = (np.square(part[head, :, :-1]).sum() for part in (within, projected))
            np.testing.assert_allclose(*norms, rtol=1e-9)
        np.testing.assert_allclose(space.within(of, projected), within, atol=1e-9)

    def test_where_it_pays(self):
        found = [row_space.pays(*of) for of in ((50, 200), (50, 199), (2500, 10_000), (2501, 100_000))]
        self.assertEqual(found, [True, False, True, False])


def splits(kind, sizes=(36, 12, 12), n_in=300):
    random, parts = np.random.default_rng(5), []
    for n in sizes:
        y = np.sort(np.arange(n) ** 2 % 7 % 3)  # The classes are not alike.
        signal = np.arange(n_in) % 3 == y[:, np.newaxis]
        if kind == "bytes":
            x = (random.integers(0, 150, (n, n_in)) + 25 * signal).astype(np.uint8).reshape(n, 10, -1)
        else:
            x = ((random.normal(size=(n, n_in)) + 0.3 * signal) * 10 ** (np.arange(n_in) / 150 - 1)).astype(np.float32)
        parts.append(Examples(x, y.astype(np.int32)))
    return Splits(*parts, ("a", "b", "c"))


class SearchTest(parameterized.TestCase):
    def config(self, **options):
        return TrainConfig(l2=L2, device="cpu", tensorboard=False, checkpoint_every=0.0, **options)

    @parameterized.parameters(
        ("floats", 5, None), ("floats", 0, "balanced"), ("bytes", 5, "balanced"), ("bytes", 0, None)
    )
    def test_what_is_tried_and_taken_is_what_scikit_learn_finds(self, kind, n_folds, class_weight):
        data = splits(kind)
        report = tfpipe.train(self.config(folds=n_folds, class_weight=class_weight), data).report
        self.assertLen(report["grid"], 3 if kind == "bytes" else 6)
        self.assertTrue(all(trial["converged"] for trial in report["grid"]))
        train, other = data.train, data.validation
        if n_folds:
            train = train.joined(other)
            fold = tfpipe.data.folds.folds(train.labels, n_folds, 0, None)
            parts = [(fold != number, train, fold == number) for number in range(n_folds)]
        else:
            parts = [(np.ones(len(train), bool), other, np.ones(len(other), bool))]
        costs = []
        for trial in report["grid"]:
            least, losses = [], []
            for trained, validating, validated in parts:
                x, y = (part[trained] for part in (train.images.reshape(len(train), -1), train.labels))
                x = x.astype(np.float64)
                w = np.ones(len(y)) if class_weight is None else (len(y) / (3 * np.bincount(y)))[y]
                mean = w @ x / w.sum()
                s = np.sqrt(w @ np.square(x - mean) / w.sum()) if trial["standardize"] == "columns" else data.pixel_max
                C = 1 / (trial["l2"] * w.sum())
                model = LogisticRegression(C=C, tol=1e-10, max_iter=20_000).fit((x - mean) / s, y, w)
                p = model.predict_proba((x - mean) / s)
                loss = w @ -np.log(p[np.arange(len(y)), y]) / w.sum()
                least.append(loss + trial["l2"] / 2 * np.square(model.coef_).sum())
                x = validating.images.reshape(len(validating), -1)[validated].astype(np.float64)
                y = validating.labels[validated]
                losses.append(-np.log(model.predict_proba((x - mean) / s)[np.arange(len(y)), y]))
            self.assertLess(abs(trial["train_cost"] - np.mean(least)), trial["certificate"] + 1e-6 * np.mean(least))
            costs.append(np.concatenate(losses).mean())
            self.assertLess(abs(trial["validation_cost"] - costs[-1]), 0.01 * costs[-1])
        best = report["grid"][int(np.argmin(costs))]
        self.assertEqual((report["standardize"], report["l2"]), (best["standardize"], best["l2"]))
        self.assertLess(report["certificate"], 1e-4 * report["train_cost"])

    def run_(self, workdir, after=None):
        asked = iter(range(10_000))
        stop = None if after is None else lambda: next(asked) >= after
        return tfpipe.train(
            self.config(folds=5), splits("floats"), workdir, **({} if stop is None else {"should_stop": stop})
        )

    def left(self, workdir):
        report = json.loads((workdir / "report.json").read_text())
        times = ("seconds", "epochs_per_second", "workdir")
        with np.load(workdir / "model.npz") as model:
            return {k: v for k, v in report.items() if k not in times}, model["W"].tobytes(), model["b"].tobytes()

    def test_it_goes_on_to_the_same_bits(self):
        whole, parts = (pathlib.Path(self.create_tempdir().full_path) / name for name in ("whole", "parts"))
        self.run_(whole)
        for after in (2, 4, 7):
            self.assertTrue(self.run_(parts, after).report["interrupted"])
        self.run_(parts)
        self.assertEqual(self.left(parts), self.left(whole))


if __name__ == "__main__":
    absltest.main()
