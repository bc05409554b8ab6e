"""Validations of a span, in one program, against NumPy and against the same run that is validated step by step."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tests import minibatches, oracle
from tests.minibatches import group, objective, sgd, span
from tfpipe.compute.programs import Program
from tfpipe.solvers.objective import Objective
from tfpipe.training.measurement import Measurement, Points

FOREVER = 10**9


def last(*steps):
    return tf.constant(steps, tf.int64)


sums_of = Program(Objective.sums)


class MeasurementTest(tf.test.TestCase, parameterized.TestCase):
    """Validations of a span: after every second step of eight, on masks of twelve examples."""

    MASKS = np.array([[1] * 12, [0, 1, 1] * 4])

    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples(8, 5)
        self.validation = minibatches.examples(3, 4, seed=4)
        self.test = minibatches.examples(2, 4, seed=2)

    def by(self, to_beat, figure=0):
        return Measurement(
            span(self.validation[0]),
            objective(self.validation[1], weights=self.MASKS),
            span(self.test[0]),
            objective(self.test[1]),
            tf.constant(figure),
            np.array(to_beat),
        )

    def advanced(self, heads, stop=(FOREVER,) * 3, begin=0, end=8, room=4):
        return sgd(2).advance(span(self.x).part(begin, end), objective(self.y), heads, last(*stop), room)

    def measured(self, heads, stop, by, column=(0, 0, 0)):
        found = self.advanced(heads, stop)
        return found, Points(found.kept, tf.constant(column), np.arange(3)).measured(by)

    def test_as_the_same_run_validated_step_by_step(self):
        settings, column = [(0.02, 0.0), (0.1, 0.1), (0.5, 0.0)], tf.zeros(3, tf.int32)
        stop = (FOREVER, FOREVER, 5)
        heads, beside = group(settings), group(settings)
        by = self.by([np.inf, 0.6, np.inf])
        best_error, expected = by.to_beat, {}
        advance, found = self.measured(heads, stop, by)
        for steps in (2, 4, 6, 8):
            reports = self.advanced(beside, stop, steps - 2, steps, room=1).reports
            W, b = tf.convert_to_tensor(beside.W), tf.convert_to_tensor(beside.b)
            sums = sums_of(by.of_validation, by.validation, W, b, column).numpy()
            test_sums = sums_of(by.of_test, by.test, W, b, column).numpy()
            better = (sums[0] / 12 < best_error) & (steps <= np.array(stop))
            best_error = np.where(better, sums[0] / 12, best_error)
            expected |= {head: (W[head], b[head]) for head in np.flatnonzero(better)}
            row = steps // 2 - 1
            self.assertAllEqual(found.sums[row, 0], sums[0])
            self.assertAllClose(found.sums[row, 1], sums[1], rtol=1e-6)
            test_sums = test_sums if better.any() else np.full((2, 3), np.nan)
            self.assertAllEqual(found.test_sums[row, 0], test_sums[0])
            self.assertAllClose(found.test_sums[row, 1], test_sums[1], rtol=1e-6)
            self.assertAllClose(found.norm[row], np.linalg.norm(W.numpy().reshape(3, -1), axis=1), rtol=1e-6)
            for name in ("cost", "gradient_norm"):
                self.assertAllClose(advance.reports[name][steps - 1], reports[name][steps - 1], rtol=1e-6)
        self.assertAllClose(heads.W, beside.W, rtol=0, atol=1e-7)
        self.assertAllClose(heads.slots["cost_sum"], beside.slots["cost_sum"], rtol=1e-6)
        self.assertNotEmpty(expected)
        for head, (W, b) in expected.items():
            self.assertAllClose(found.best_W[head], W, rtol=0, atol=1e-7)
            self.assertAllClose(found.best_b[head], b, rtol=0, atol=1e-7)

    def test_against_numpy_with_masks(self):
        settings, column = [(0.02, 0.0), (0.1, 0.1), (0.5, 0.0)], (1, 0, 1)
        by = self.by([np.inf, np.inf, 0.0])
        _, found = self.measured(group(settings), (FOREVER, 4, FOREVER), by, column)
        x, y = self.validation[0].reshape(12, -1) / 255.0, self.validation[1].ravel()
        test = self.test[0].reshape(8, -1) / 255.0, self.test[1].ravel()
        bests = []
        for head, setting in enumerate(settings):
            mask, best_error = self.MASKS[column[head]] == 1, np.inf
            _, _, after = oracle.path(self.x / 255.0, self.y, *setting)
            for steps in (2, 4, 6, 8):
                W, b = after[(min(steps, 4) if head == 1 else steps) - 1]
                wrong, cost = oracle.measure(W, b, x[mask], y[mask])
                self.assertEqual(found.sums[steps // 2 - 1, 0, head].numpy(), wrong)
                # Sums of 24 products: see above.
                self.assertAllClose(found.sums[steps // 2 - 1, 1, head], cost * mask.sum(), rtol=1e-6)
                self.assertAllClose(found.norm[steps // 2 - 1, head], np.linalg.norm(W), rtol=1e-6)
                if wrong / mask.sum() < best_error and head < 2 and steps <= (8, 4)[head]:
                    best_error = wrong / mask.sum()
                    bests.append((steps, head))
                    best = W, b
            if head < 2:
                self.assertAllClose(found.best_W[head], best[0].T, rtol=0, atol=1e-6)
                self.assertAllClose(found.best_b[head], best[1], rtol=0, atol=1e-6)
        tested = {steps for steps, _ in bests}
        self.assertGreater(len(bests), 2)
        for steps in (2, 4, 6, 8):
            for head, setting in enumerate(settings):
                W, b = oracle.path(self.x / 255.0, self.y, *setting)[2][(min(steps, 4) if head == 1 else steps) - 1]
                wrong = oracle.measure(W, b, *test)[0] if steps in tested else np.nan
                self.assertAllEqual(found.test_sums[steps // 2 - 1, 0, head], wrong)

    def test_by_costs(self):
        # The first has no cost yet, the second a smaller one than it will have, the third had one that it falls below.
        begin = [np.inf, 0.2, 1.05]
        heads = group([(0.1, 0.0)] * 3)
        _, found = self.measured(heads, (FOREVER,) * 3, self.by(begin, figure=1))
        costs = found.sums[:, 1].numpy() / 12
        path = np.minimum.accumulate(np.vstack([begin, costs]))
        better = costs < path[:-1]
        self.assertEqual(better.any(axis=0).tolist(), [True, False, True])
        self.assertFalse(better.all(axis=1).any())
        self.assertAllEqual(np.isfinite(found.test_sums[:, 0]).all(axis=1), better.any(axis=1))
        for head in (0, 2):
            steps = 2 * (int(np.flatnonzero(better[:, head])[-1]) + 1)
            alone = group([(0.1, 0.0)] * 3)
            self.advanced(alone, end=steps)
            self.assertAllClose(found.best_W[head], alone.W[head], rtol=0, atol=1e-7)

    def test_a_head_that_has_ended_or_is_as_good_as_ever_is_not_better(self):
        heads = group([(0.1, 0.0)] * 3)
        # The first ends before the first validation, the second is known to have ended, the third is as good as ever.
        _, found = self.measured(heads, (1, FOREVER, FOREVER), self.by([np.inf, -np.inf, 0.5]))
        self.assertAllEqual(found.sums[:, 0, 2], [10, 8, 6, 10])
        self.assertAllEqual(np.isnan(found.test_sums[:]), np.ones((4, 2, 3), bool))

    def test_a_head_that_diverged_in_the_span_is_never_better_afterwards(self):
        # The losses of a minibatch, about 1e38 each, add up to infinity; then the decay, 0.125 * 8 W, takes all of W
        # away, and the head trains like any other.
        settings = [(0.125, 8.0), (0.125, 8.0), (0.125, 8.0)]
        start = np.zeros((3, 3, 24), np.float32)
        start[0, 0] = 1e37
        for first, is_better in ((start, False), (np.zeros_like(start), True)):
            heads = group(settings)
            heads.W.assign(first)
            advance, found = self.measured(heads, (FOREVER,) * 3, self.by([np.inf, 0.0, 0.0]))
            self.assertAllEqual(np.isfinite(advance.costs[:, 0]), [is_better] + [True] * 7)
            self.assertAllLess(found.sums[:, 0, 0], 12)
            self.assertEqual(np.isfinite(found.test_sums[:]).any(), is_better)


if __name__ == "__main__":
    tf.test.main()
