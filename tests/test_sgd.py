"""Steps of gradient descent, by hand and against NumPy.

How far float32 may be from float64: a sum of n terms is rounded n times, each time by 2^-24 of what is summed so far.
That is n 2^-24 at worst, and about sqrt(n) 2^-24 in truth, because roundings go either way. All learning rates here are
so small that the costs fall: then a step does not amplify the error of the step before, and errors of steps add up.
"""

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests import made, minibatches, oracle
from tests.minibatches import group, objective, sgd, span
from tfpipe import TrainConfig
from tfpipe.data.scaling import Scaling
from tfpipe.exceptions import ConfigError
from tfpipe.solvers.objective import Objective
from tfpipe.solvers.sgd import Sgd

FOREVER = 10**9


def last(*steps):
    return tf.constant(steps, tf.int64)


class AdvanceTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples()
        self.span, self.objective = span(self.x), objective(self.y)

    def advanced(self, heads, part=None, stop=None, *, data=None, on=None, frequency=1):
        stop = last(*[FOREVER] * len(heads.column)) if stop is None else stop
        return sgd(frequency).advance(
            (data or self.span) if part is None else part, on or self.objective, heads, stop, 1
        )

    def test_one_step_by_hand(self):
        # One example x = (1, 2) of class 0: P = (1/2, 1/2), dz = (-1/2, 1/2), dW = dz x, db = dz.
        heads = group([(0.5, 0.0)], 2, 2)
        on = objective([[0]], Scaling(None, np.array(1.0)))
        found = self.advanced(heads, data=span(np.array([[[1.0, 2.0]]], np.float32)), on=on)
        self.assertAllClose(found.costs, [[np.log(2)]])
        self.assertAllClose(found.reports["cost"], [[np.log(2)]])
        self.assertAllClose(found.reports["gradient_norm"], [[np.sqrt(2.5)]])
        self.assertAllEqual(heads.W, [[[0.25, 0.5], [-0.25, -0.5]]])
        self.assertAllEqual(heads.b, [[0.25, -0.25]])

    def test_weight_decay_by_hand(self):
        # W - 0.5 * (g_W + 3 W) with x = 0, so g_W = 0: W becomes -W/2. b has no decay, only its gradient.
        heads = group([(0.5, 3.0)], 2, 2)
        heads.W.assign([[[1.0, 2.0], [3.0, 4.0]]])
        on = objective([[0]], Scaling(None, np.array(1.0)))
        found = self.advanced(heads, data=span(np.zeros((1, 1, 2), np.float32)), on=on)
        self.assertAllEqual(heads.W, [[[-0.5, -1.0], [-1.5, -2.0]]])
        self.assertAllEqual(heads.b, [[0.25, -0.25]])
        self.assertAllClose(found.reports["gradient_norm"], [[3 * np.sqrt(1 + 4 + 9 + 16)]])

    @parameterized.parameters((20, np.uint8, "float32"), (20, np.uint8, "int8"))
    def test_the_first_three_steps_on_24_x_48_images_against_numpy(self, batch_size, dtype, arithmetic):
        self.assert_first_steps_are_numpys(batch_size, dtype, arithmetic)

    # 229 are more than 1 MiB of float32, so in three parts.
    @parameterized.parameters((20, np.float32, "float32"), (229, np.uint8, "float32"), (229, np.uint8, "int8"))
    @pytest.mark.exhaustive
    def test_the_first_three_steps_of_other_forms_against_numpy(self, batch_size, dtype, arithmetic):
        self.assert_first_steps_are_numpys(batch_size, dtype, arithmetic)

    def assert_first_steps_are_numpys(self, batch_size, dtype, arithmetic):
        x, y = minibatches.examples(3, batch_size, (48, 24), n_classes=10)
        self.assertTrue((x > 0).any(axis=(0, 1)).all())  # Every pixel is in use.
        heads = group([(0.013, 0.01)], 24 * 48, 10)
        found = self.advanced(heads, data=span(x.astype(dtype)), on=objective(y, arithmetic=arithmetic))
        costs, _, after = oracle.path(x / 255.0, y, 0.013, 0.01)
        W, b = after[-1]
        self.assertLess(np.abs(W).max(), 0.004)
        # A logit sums 1,152 products, of magnitudes that add up to less than 2: it is off by 1152 2^-24 2 = 1.4e-4 at
        # worst, so its softmax by 0.7e-4, and a gradient by as much. After three steps W is off by 3 * 0.013 * 0.7e-4 =
        # 3e-6 at worst, and by 1e-7 if roundings go either way.
        self.assertAllClose(heads.W[0], W.T, rtol=0, atol=1e-7)
        self.assertAllClose(heads.b[0], b, rtol=0, atol=1e-7)
        # So, a logit is off by sqrt(1152) 2^-24 = 2e-6, and the mean of 20 losses or more by 5e-7.
        self.assertAllClose(found.costs[:, 0], costs, rtol=0, atol=1e-6)

    def test_places_that_no_example_fills_do_not_count(self):
        heads, others = group([(0.13, 0.0)]), group([(0.13, 0.0)])
        garbage = self.x.copy()
        garbage[0, 3:] = 255 - garbage[0, 3:]
        found, found_beside_garbage = (
            self.advanced(part, data=span(x, counts=[3, 10, 10, 10]).part(0, 1))
            for part, x in ((heads, self.x), (others, garbage))
        )
        for ours, theirs in (
            (found.costs, found_beside_garbage.costs), (heads.W, others.W), (heads.b, others.b)
        ):  # fmt: skip
            self.assertAllEqual(ours, theirs)
        costs, _, ((W, b),) = oracle.path(self.x[:1, :3] / 255.0, self.y[:1, :3], 0.13)
        # From zero on the logits are exact: what is rounded are the softmax and sums of three terms, below 0.13.
        self.assertAllClose(found.costs[:1, 0], costs, rtol=1e-6)
        self.assertAllClose(heads.W[0], W.T, rtol=0, atol=1e-7)
        self.assertAllClose(heads.b[0], b, rtol=0, atol=1e-7)

    @pytest.mark.exhaustive
    def test_parts_of_a_minibatch_change_nothing(self):
        # Of 229 rows, a single head trains in three parts, and so many that W has more than 40 rows as a whole.
        x, y = minibatches.examples(3, 229, (48, 24), n_classes=10)
        data, on = span(x, counts=[229, 228, 1]), objective(y)
        whole, in_parts = group([(0.013, 0.01)] * 5, 24 * 48, 10), group([(0.013, 0.01)], 24 * 48, 10)
        costs = self.advanced(whole, data=data, on=on).costs
        self.assertAllClose(self.advanced(in_parts, data=data, on=on).costs, costs[:, :1], rtol=1e-6)
        self.assertAllClose(in_parts.W[0], whole.W[0], rtol=0, atol=1e-7)
        self.assertAllClose(in_parts.b[0], whole.b[0], rtol=0, atol=1e-7)
        self.assertGreater(np.abs(in_parts.W).max(), 1e-3)

    def test_heads_side_by_side_train_as_each_would_alone(self):
        settings = [(0.1, 0.0), (0.5, 0.0), (0.1, 0.1)]
        together = group(settings)
        costs = self.advanced(together).costs
        for number, setting in enumerate(settings):
            alone = group([setting])
            self.assertAllClose(self.advanced(alone).costs[:, 0], costs[:, number], rtol=1e-6)
            self.assertAllClose(alone.W[0], together.W[number], rtol=0, atol=1e-7)
            self.assertAllClose(alone.b[0], together.b[number], rtol=0, atol=1e-7)
        self.assertNotAllClose(together.W[0], together.W[1], atol=1e-2)
        self.assertNotAllClose(together.W[0], together.W[2], atol=1e-4)

    def test_a_head_stands_still_after_its_last_step(self):
        heads, stopped = group([(0.1, 0.1)] * 3), group([(0.1, 0.1)])
        self.advanced(heads, span(self.x, first=100), last(102, FOREVER, FOREVER))
        self.advanced(stopped, self.span.part(0, 2))
        self.assertAllClose(heads.W[0], stopped.W[0], rtol=0, atol=1e-8)
        frozen = heads.W.numpy()[0], heads.b.numpy()[0], heads.slots["cost_sum"].numpy()[0]
        self.assertNotAllClose(heads.W[1], frozen[0])
        self.advanced(heads, span(self.x, first=104), last(102, FOREVER, FOREVER))
        for now, then in zip((heads.W, heads.b, heads.slots["cost_sum"]), frozen, strict=True):
            self.assertAllEqual(now[0], then)  # To the bit.

    @parameterized.parameters("float32", "int8")
    def test_a_head_that_overflows_leaves_the_others_alone(self, arithmetic):
        on = objective(self.y, arithmetic=arithmetic)
        heads, alone = group([(1e38, 1.0), (0.1, 0.0), (0.1, 0.0)]), group([(0.1, 0.0)] * 3)
        costs = self.advanced(heads, on=on).costs
        self.assertFalse(np.isfinite(costs[:, 0]).all())
        # The same program, so to the bit.
        self.assertAllEqual(self.advanced(alone, on=on).costs[:, 1:], costs[:, 1:])
        self.assertAllEqual(alone.W[1:], heads.W[1:])
        self.assertAllEqual(alone.b[1:], heads.b[1:])

    def test_only_the_minibatches_of_a_span_that_count(self):
        heads = group([(0.1, 0.0)])
        for begin, end in ((0, 0), (0, 3), (1, 2), (4, 4), (3, 4)):
            found = self.advanced(heads, self.span.part(begin, end))
            self.assertEqual(found.costs.shape, (4, 1))
        order = [0, 1, 2, 1, 3]
        _, _, after = oracle.path(self.x[order] / 255.0, self.y[order], 0.1)
        # W is below 0.1, and the product of a step with 24 columns in [0, 1] off by sqrt(24) 2^-24: 5 steps, 0.1.
        self.assertAllClose(heads.W[0], after[-1][0].T, rtol=0, atol=1e-6)
        self.assertAllEqual(heads.slots["cost_steps"], [0.0])  # A validation after each step: none since then.

    def test_a_program_is_made_once_whatever_the_data_the_scale_and_the_settings(self):
        traces = []

        class Traced(Objective):
            """Its cost is asked for when a program is traced, and not when it runs."""

            def cost(self, *arguments):
                traces.append(arguments)
                return super().cost(*arguments)

        solvers = sgd(1), sgd(3)
        for number, (rate, l2) in enumerate([(0.1, 0.0), (0.5, 0.01), (0.2, 0.1)]):
            x, y = minibatches.examples(seed=number)
            y = (y + number) % 3
            heads, factor = group([(rate, l2)]), np.array(1 / (100 + 50 * number))
            on = Traced(*objective(y, Scaling(None, factor)))
            data = span(x, first=7 * number)
            found = solvers[number % 2].advance(data.part(0, 4 - number), on, heads, last(FOREVER), 1)
            costs, _, after = oracle.path(x[: 4 - number] * factor, y[: 4 - number], rate, l2)
            self.assertAllClose(found.costs[: 4 - number, 0], costs, rtol=1e-6)
            self.assertAllClose(heads.W[0], after[-1][0].T, rtol=0, atol=1e-6)
        self.assertLen(traces, 2)  # In one program: the last step before a validation is apart.

    def test_parameters_that_were_read_stay_as_they_were(self):
        heads = group([(0.1, 0.0)])
        read = [tf.convert_to_tensor(heads.W)]
        for _ in range(3):
            self.advanced(heads)
            read.append(tf.convert_to_tensor(heads.W))
        copies = [W.numpy().copy() for W in read]
        self.advanced(heads)
        self.assertAllEqual(read[0], np.zeros((1, 3, 24)))
        for W, copy, following in zip(read, copies, [*copies[1:], heads.W.numpy()], strict=True):
            self.assertAllEqual(W, copy)
            self.assertNotAllClose(copy, following)

    def test_cost_and_gradient_norm_at_validations(self):
        x, y = np.tile(self.x, (3, 1, 1)), np.tile(self.y, (3, 1))
        settings = [(0.1, 0.0), (0.3, 0.2), (0.1, 0.1)]
        heads, stop = group(settings), last(FOREVER, FOREVER, 5)
        expected = [oracle.path(x / 255.0, y, *setting) for setting in settings]
        found = {}
        # A validation every 5 steps, on both sides of the borders of spans.
        for first, begin, end in ((0, 0, 4), (4, 0, 2), (4, 2, 4), (8, 0, 3)):
            advance = self.advanced(heads, span(self.x, first=first).part(begin, end), stop, frequency=5)
            for i in range(begin, end):
                found[first + i + 1] = {name: column[i].numpy() for name, column in advance.reports.items()}
            seen = (first + end) // 5 * 5
            self.assertAllEqual(
                heads.slots["cost_steps"], [first + end - seen] * 2 + [max(0, 5 - seen) and end + first]
            )
            for head, (costs, _, _) in enumerate(expected[:2]):
                self.assertAllClose(heads.slots["cost_sum"][head], costs[seen : first + end].sum(), rtol=1e-6)
        for steps in (5, 10):
            for head, (costs, norms, _) in enumerate(expected[:2]):
                self.assertAllClose(found[steps]["cost"][head], costs[steps - 5 : steps].mean(), rtol=1e-6)
                # Off by sqrt(24) 2^-24 of about 1, as the gradients are.
                self.assertAllClose(found[steps]["gradient_norm"][head], norms[steps - 1], rtol=3e-6)
        self.assertAllClose(found[5]["cost"][2], expected[2][0][:5].mean(), rtol=1e-6)
        self.assertTrue(np.isnan(found[10]["cost"][2]))  # It did no step since the last one.


class PrecisionTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x, self.y = minibatches.examples(3, 20, (9, 5), n_classes=10)

    def test_float64_against_numpy(self):
        scaling = Scaling(np.linspace(0, 90, 45), np.linspace(0.001, 0.009, 45))
        settings = [(0.13, 0.0), (0.7, 0.01)]
        heads = group(settings, 45, 10, np.float64)
        found = sgd().advance(
            span(self.x), objective(self.y, scaling, "float64"), heads, last(FOREVER, FOREVER), 1
        )  # fmt: skip
        self.assertEqual(found.costs.dtype, tf.float64)
        x = (self.x - scaling.shift) * scaling.factor
        for number, setting in enumerate(settings):
            costs, norms, after = oracle.path(x, self.y, *setting)
            self.assertAllClose(found.costs[:, number], costs, rtol=1e-14)
            self.assertAllClose(found.reports["gradient_norm"][:, number], norms, rtol=1e-13)
            self.assertAllClose(heads.W[number], after[-1][0].T, rtol=0, atol=1e-15)
            self.assertAllClose(heads.b[number], after[-1][1], rtol=0, atol=1e-15)

    @parameterized.parameters((np.uint8, None), (np.float32, None), (np.uint8, np.linspace(0, 90, 45)))
    def test_bfloat16_rounds_what_is_multiplied_and_sums_in_float32(self, dtype, shift):
        def rounded(values):
            return tf.cast(tf.cast(values, tf.bfloat16), tf.float64).numpy()

        images = self.x[0] if dtype == np.uint8 else (self.x[0] * 1.01).astype(dtype)
        start = np.random.default_rng(0).normal(size=(10, 45)).astype(np.float32)
        heads = group([(0.13, 0.01)], 45, 10)
        heads.W.assign(start[np.newaxis])
        on = objective(self.y, Scaling(shift, np.array(1 / 255)), "bfloat16")
        cost = sgd().advance(span(images[np.newaxis]), on, heads, last(FOREVER), 1).costs[0, 0]
        # Without a shift images are as they are stored, and W is scaled in their place: bytes are exact.
        factor, exact, y = np.float32(1 / 255), (images - (0 if shift is None else shift)) / 255, self.y[0]
        x = rounded(images) * factor if shift is None else rounded(exact)
        W = rounded(start * factor) / factor if shift is None else rounded(start)
        log_p = oracle.log_probabilities(W.T, np.zeros(10), x)
        self.assertAllClose(cost, -log_p[np.arange(20), y].mean(), rtol=1e-6)
        dz = (np.exp(log_p) - np.eye(10)[y]) / 20

        # 2e-8 is float32's part. An error that lies halfway between two values of bfloat16 may go either way: few do.
        def off(by):
            return np.abs(heads.W[0] - (start - 0.13 * (by + 0.01 * start)))

        self.assertLess(off(rounded(dz).T @ x).max(), 2e-5)
        self.assertLess(off(rounded(dz).T @ x).mean(), 1e-7)
        self.assertGreater(off(dz.T @ x).mean(), 3e-6)
        self.assertEqual(off(rounded(dz).T @ exact).mean() < 1e-7, dtype == np.uint8 and shift is None)


class RunTest(parameterized.TestCase):
    """What follows from the hyper-parameters."""

    def test_every_learning_rate_with_every_l2(self):
        solver = Sgd(TrainConfig(learning_rate=(0.1, 0.3), l2=(0.0, 0.01)), made.splits())
        pairs = [(0.1, 0.0), (0.1, 0.01), (0.3, 0.0), (0.3, 0.01)]
        self.assertEqual(solver.settings, [{"learning_rate": rate, "l2": l2} for rate, l2 in pairs])

    @parameterized.parameters(
        # options -> minibatches an epoch, examples, steps, frequency
        ({"batch_size": 30}, 4, 100, 400, 4),
        ({"batch_size": 30, "drop_remainder": True}, 3, 90, 300, 3),
        ({"batch_size": 600}, 1, 100, 100, 1),
        ({"batch_size": 30, "patience": 5}, 4, 100, 400, 2),  # min(n_train_batches, patience / 2)
        ({"batch_size": 30, "patience": 1}, 4, 100, 400, 1),
        ({"batch_size": 30, "validation_frequency": 7}, 4, 100, 400, 7),
    )
    def test_how_long_it_takes(self, options, per_epoch, examples, steps, frequency):
        solver = Sgd(TrainConfig(epochs=100, **options), made.splits(n_train=100))
        self.assertEqual(
            (solver.per_epoch, solver.examples, solver.steps, solver.frequency), (per_epoch, examples, steps, frequency)
        )
        epochs = [solver.epoch(count) for count in (0, 1, per_epoch, per_epoch + 1)]
        self.assertEqual(epochs, [0, 1, 1, 2])

    def test_what_does_not_fit_the_examples(self):
        with self.assertRaisesRegex(ConfigError, "batch_size=50: 40 training examples fill no minibatch, and drop_"):
            Sgd(TrainConfig(batch_size=50, drop_remainder=True), made.splits(n_train=40))
        with self.assertRaisesRegex(ConfigError, "validation_frequency=51: the run has 50 iterations"):
            Sgd(TrainConfig(batch_size=10, epochs=5, validation_frequency=51), made.splits(n_train=100))

    def test_what_to_try_where_every_head_diverged(self):
        splits = made.splits()
        x = np.append(splits.train.images.reshape(100, -1) / 255.0, np.ones((100, 1)), axis=1)
        by_data = f"{2 / np.linalg.eigvalsh(x.T @ x / 100)[-1]:.2g}"
        for rates, tried in (((5.0, 9.0), f"{by_data}, the default for this data"), ((0.01, 0.13), "0.001")):
            advice = Sgd(TrainConfig(learning_rate=rates), splits).advice()
            self.assertStartsWith(advice, f"a smaller learning_rate (such as {tried}), or a pixel_max that")


if __name__ == "__main__":
    tf.test.main()
