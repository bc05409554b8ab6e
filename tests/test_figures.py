import numpy as np
import sklearn.metrics
from absl.testing import absltest, parameterized

from tfpipe.statistics import figures
from tfpipe.statistics.figures import Outcomes


def made(n, n_out, seed=0, ties=False, absent=()):
    """Labels `[n]` and probabilities `[n, K]` that tell something of them."""
    random = np.random.default_rng(seed)
    labels = random.choice(np.setdiff1d(np.arange(n_out), absent), n)
    scores = random.normal(size=(n, n_out)) + 1.5 * (np.arange(n_out) == labels[:, np.newaxis])
    p = np.exp(np.round(scores) if ties else scores)
    return labels, p / p.sum(axis=1, keepdims=True)


class FiguresTest(parameterized.TestCase):
    @parameterized.product(n_out=[3, 12], ties=[False, True], absent=[(), (1,)], weighted=[False, True])
    def test_as_scikit_learn(self, n_out, ties, absent, weighted):
        labels, p = made(200, n_out, ties=ties, absent=absent)
        weights = np.random.default_rng(1).integers(0, 4, 200) / 2 if weighted else None
        found = Outcomes(labels, p).figures(weights)
        counted = np.ones(200) if weights is None else weights
        there = np.unique(labels[counted > 0])
        predicted = p.argmax(axis=1)
        aucs = [sklearn.metrics.roc_auc_score(labels == k, p[:, k], sample_weight=weights) for k in there]
        f1 = sklearn.metrics.f1_score(
            labels, predicted, labels=there, average="macro", sample_weight=weights, zero_division=0
        )
        recall = sklearn.metrics.recall_score(labels, predicted, labels=there, average="macro", sample_weight=weights)
        expected = {
            "cost": sklearn.metrics.log_loss(labels, p, labels=np.arange(n_out), sample_weight=weights),
            "error": 1 - sklearn.metrics.accuracy_score(labels, predicted, sample_weight=weights),
            "balanced_error": 1 - recall,
            "macro_f1": f1,
            "auc": np.mean(aucs),
        }
        if n_out > 10:
            top = sklearn.metrics.top_k_accuracy_score(labels, p, k=5, labels=np.arange(n_out), sample_weight=weights)
            if not ties:  # Of equals scikit-learn takes the last classes.
                expected["top5_error"] = 1 - top
            else:
                found.pop("top5_error")
        self.assertEqual(list(found), list(expected))
        for name, value in expected.items():
            self.assertAlmostEqual(found[name], value, delta=1e-10, msg=name)
            self.assertEqual(Outcomes(labels, p).figure(name, weights), found[name])

    def test_two_classes(self):
        labels, p = made(50, 2)
        found = Outcomes(labels, p).figures()
        self.assertAlmostEqual(found["auc"], sklearn.metrics.roc_auc_score(labels, p[:, 1]), delta=1e-12)

    def test_by_hand(self):
        p = np.array([[0.6, 0.4, 0], [0.5, 0.5, 0], [0.2, 0.8, 0], [0.7, 0.3, 0]])
        labels = np.array([0, 1, 1, 1])
        found = Outcomes(labels, p).figures()
        self.assertEqual(found["error"], 0.5)  # Of 0.5 and 0.5 the first is taken.
        self.assertAlmostEqual(found["balanced_error"], (0 + 2 / 3) / 2)
        self.assertAlmostEqual(found["macro_f1"], (2 / 4 + 2 / 4) / 2)
        self.assertAlmostEqual(found["auc"], 2 / 3)
        self.assertAlmostEqual(found["cost"], -np.log([0.6, 0.5, 0.8, 0.3]).mean())
        self.assertNotIn("top5_error", found)

    def test_the_five_most_probable_of_equals_the_first(self):
        p = np.full((2, 12), 1 / 12)
        found = Outcomes(np.array([4, 5]), p).figures()
        self.assertEqual(found["top5_error"], 0.5)

    def test_weightings_are_repeated_rows(self):
        labels, p = made(40, 12)
        counts = np.random.default_rng(2).integers(0, 4, (30, 40))
        drawn = Outcomes(labels, p).drawn(counts)
        self.assertEqual(list(drawn), list(figures.names(12)))
        for number, row in enumerate(counts):
            repeated = np.repeat(np.arange(40), row)
            found = Outcomes(labels[repeated], p[repeated]).figures()
            for name, value in found.items():
                self.assertAlmostEqual(drawn[name][number], value, delta=1e-12, msg=name)
        some = Outcomes(labels, p).drawn(counts, ("cost", "auc"))
        self.assertEqual(list(some), ["cost", "auc"])
        np.testing.assert_array_equal(some["auc"], drawn["auc"])

    def test_what_has_no_part_in_the_cost(self):
        labels, p = made(20, 3)
        loss = -np.log(p[np.arange(20), labels])
        loss[3] = np.nan
        found = Outcomes(labels, p, loss).figures()
        self.assertAlmostEqual(found["cost"], np.nanmean(loss))
        self.assertAlmostEqual(found["error"], (p.argmax(axis=1) != labels).mean())

    def test_what_is_not_known(self):
        labels, p = made(6, 3, absent=(1, 2))
        found = Outcomes(labels, p).figures()
        self.assertTrue(np.isnan(found["auc"]))
        self.assertEqual(found["balanced_error"], found["error"])
        p[:] = [0, 0.5, 0.5]
        self.assertEqual(Outcomes(labels, p).figures()["cost"], np.inf)
        nothing = Outcomes(labels, p).drawn(np.zeros((1, 6)))
        self.assertTrue(all(np.isnan(values[0]) for values in nothing.values()))


if __name__ == "__main__":
    absltest.main()
